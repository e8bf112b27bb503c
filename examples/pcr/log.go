package main

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

// readLog reads a firmware's log and, if one is named, userspace's, up to a word if that is given.
func readLog(name, userspace, until string) (*tpm.Log, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(raw, []byte{0x1e}) {
		return nil, fmt.Errorf("%s is systemd's log of userspace: want the firmware's, with the other as -userspace", name)
	}
	log, err := tpm.ParseLog(raw)
	if err != nil || userspace == "" {
		return log, err
	}
	u, err := readUserspaceLog(userspace)
	if err == nil && until != "" {
		u, err = u.Until(until)
	}
	if err != nil {
		return nil, err
	}
	out := log.WithUserspace(u)
	for _, f := range u.Findings {
		if f.Event >= 0 {
			f.Event += len(log.Events)
		}
		out.Findings = append(out.Findings, f)
	}
	return out, nil
}

func logFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	userspace := set.String("userspace", "", "systemd's log of measurements, a `file`")
	return func(c *cli.Call, operands []string) error {
		log, err := readLog(operands[0], *userspace, "")
		r := logResult{Header: c.Header(), Events: []event{}, Findings: []finding{}}
		var partial *tpm.PartialError
		switch {
		case errors.As(err, &partial):
			// to be shown, and for nothing else
			log = &tpm.Log{Events: partial.Events, Findings: partial.Findings}
			r.Partial = err.Error()
		case err != nil:
			return err
		}
		var text strings.Builder
		for i := range log.Events {
			e := &log.Events[i]
			r.Events = append(r.Events, event{e.PCR, registerName(log, e.PCR), e.Type.String(), digests(e), e.Describe(), e.Attested()})
			fmt.Fprintln(&text, e)
		}
		for _, f := range log.Findings {
			r.Findings = append(r.Findings, finding{f.Event, f.Offset, f.Text})
			fmt.Fprintf(&text, "finding: %v\n", f)
		}
		r.NVPCRs = []nvpcr{}
		if *userspace != "" {
			u, err := readUserspaceLog(*userspace)
			if err != nil {
				return err
			}
			var lines string
			r.NVPCRs, lines = describeNVPCRs(u.NVPCRs())
			text.WriteString(lines)
		}
		if partial != nil {
			err = fmt.Errorf("%s can be read up to here only: %w", operands[0], err)
		}
		return errors.Join(c.Answer(r, text.String()), err)
	}
}

func replayFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	userspace := set.String("userspace", "", "systemd's log of measurements, a `file`")
	pcrs := set.String("pcrs", "", "values that a TPM has, a JSON `file`")
	bank := set.String("bank", "", "replay this `bank` alone")
	return func(c *cli.Call, operands []string) error {
		log, err := readLog(operands[0], *userspace, "")
		if err != nil {
			return err
		}
		banks, err := parseBanks(*bank)
		if err != nil {
			return cli.Usagef("-bank: %v", err)
		}
		replayed, err := log.Replay(banks...)
		if err != nil {
			return err
		}
		r := replayResult{Header: c.Header(), PCRs: map[string]map[int]string{}}
		var text strings.Builder
		var all []*tpm.Bank
		for _, h := range tpm.Banks() {
			if b, ok := replayed[h]; ok {
				all = append(all, b)
			}
		}
		if sm3, err := log.ReplaySM3(); err == nil && *bank == "" {
			all = append(all, sm3)
		}
		if len(all) == 0 {
			return fmt.Errorf("%s: no bank that every event has a digest of: %w", operands[0], tpm.ErrBank)
		}
		for _, b := range all {
			values := map[int]string{}
			for n := range tpm.PCRCount {
				name := fmt.Sprintf("%2d", n)
				switch {
				case log.Registers == tpm.RegistersPCR:
				case n >= 1 && n <= 4: // MRTD is in no log
					name = log.Registers.Name(n)
				default:
					continue
				}
				values[n] = hex.EncodeToString(b.PCR(n))
				fmt.Fprintf(&text, "%s %s %s\n", b.Name(), name, values[n])
			}
			r.PCRs[b.Name()] = values
		}
		r.Registers = registersJSON(log)
		if *pcrs == "" {
			return c.Answer(r, text.String())
		}
		return compare(c, log, replayed, *pcrs, r, text.String())
	}
}

// compare answers whether a log explains what a TPM has.
func compare(c *cli.Call, log *tpm.Log, replayed map[crypto.Hash]*tpm.Bank, file string, r replayResult, text string) error {
	values, err := readPCRs(file)
	if err != nil {
		return err
	}
	var failures []error
	compared := 0
	for h, pcrs := range values {
		if _, ok := replayed[h]; !ok {
			continue
		}
		compared++
		err := log.Verify(h, pcrs)
		var replay *tpm.ReplayError
		switch {
		case errors.As(err, &replay):
			for _, n := range replay.PCRs {
				if !slices.Contains(r.Wrong, n) {
					r.Wrong = append(r.Wrong, n)
				}
			}
			failures = append(failures, err)
		case err != nil:
			return err
		}
	}
	if compared == 0 {
		return fmt.Errorf("%s: no bank that the log has", file)
	}
	slices.Sort(r.Wrong)
	verified := failures == nil
	r.Verified = &verified
	if verified {
		return c.Answer(r, text+"the log explains the TPM's values\n")
	}
	return errors.Join(cli.No{Err: errors.Join(failures...)}, c.Answer(r, text))
}

// readPCRs reads {"sha256": {"0": "HEX"}}, without the PCRs that no firmware's log explains.
func readPCRs(file string) (map[crypto.Hash]map[int][]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var named map[string]map[int]string
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&named); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := map[crypto.Hash]map[int][]byte{}
	for name, values := range named {
		h, err := tpm.BankByName(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out[h] = map[int][]byte{}
		for n, text := range values {
			v, err := hex.DecodeString(text)
			if err != nil || len(v) != h.Size() {
				return nil, fmt.Errorf("%s: PCR %d: %q is no %s value", file, n, text, name)
			}
			if n != tpm.PCRIMA && n < 16 {
				out[h][n] = v
			}
		}
	}
	return out, nil
}
