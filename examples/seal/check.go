package main

import (
	"crypto"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/tokens"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// checkFlags are what is known of the machine.
func checkFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var f stateFlags
	set.StringVar(&f.log, "log", "", "event `log` of the machine's firmware, or what pcr predict -log wrote")
	set.StringVar(&f.userspace, "userspace", "", "systemd's log of measurements, a `file`; none: userspace measures nothing before the secret is asked for")
	set.StringVar(&f.until, "until", "", "leave out what userspace measured from the first `word` on that begins so")
	set.StringVar(&f.pcrs, "pcrs", "", "values of PCRs, a JSON `file` as pcr replay -json prints")
	set.StringVar(&f.pcr, "pcr", "", "`list` of values of PCRs, like 7=HEX,11=HEX; they go before those of files")
	set.StringVar(&f.banks, "banks", "", "`list` of the TPM's PCR banks, for tokens that name none; those of the machine's log if not given")
	set.StringVar(&f.pcrsig, "pcrsig", "", "`file` with signed policies, a .pcrsig, or the UKI that has one")
	set.StringVar(&f.pcrlock, "pcrlock", "", "`file` pcrlock.json of systemd-pcrlock")
	set.StringVar(&f.counters, "counter", "", "`list` of values of NV counters, like 0x01800001=5")
	set.BoolVar(&f.pin, "pin", false, "the right PIN is entered")
	set.StringVar(&f.earlier, "earlier", "", "values of PCRs with which the token opened, a JSON `file`: names those that differ")
	return func(c *cli.Call, operands []string) error {
		list, skipped, err := tokens.Read(operands[0])
		if err != nil {
			return err
		}
		state, err := f.state(c)
		if err != nil {
			return err
		}
		r := checkResult{Header: c.Header(), Verdict: sealing.VerdictDoesNotOpen, Tokens: []checkedToken{}, Skipped: skipped}
		var text strings.Builder
		for _, t := range list {
			a, err := t.Token.Check(state)
			if err != nil {
				return err
			}
			o := checkObject(t, a)
			r.Tokens = append(r.Tokens, o)
			text.WriteString(o.text())
			switch {
			case a.Verdict == sealing.VerdictOpens:
				r.Verdict = sealing.VerdictOpens
			case a.Verdict == sealing.VerdictUnknown && r.Verdict != sealing.VerdictOpens:
				r.Verdict = sealing.VerdictUnknown
			}
		}
		for _, s := range skipped {
			fmt.Fprintf(&text, "token %d: %s, not looked at\n", s.ID, s.Type)
		}
		if err := c.Answer(r, text.String()); err != nil {
			return err
		}
		what := "the token"
		if len(list) > 1 {
			what = fmt.Sprintf("one of %d tokens", len(list))
		}
		switch r.Verdict {
		case sealing.VerdictOpens:
			return nil
		case sealing.VerdictUnknown:
			return cli.No{Err: fmt.Errorf("whether %s opens is not known", what)}
		}
		if len(list) > 1 {
			return cli.No{Err: fmt.Errorf("none of %d tokens opens", len(list))}
		}
		return cli.No{Err: errors.New("the token does not open")}
	}
}

// stateFlags are the flags that say what is known of the machine.
type stateFlags struct {
	log, userspace, until, pcrs, pcr, banks, pcrsig, pcrlock, counters, earlier string
	pin                                                                         bool
}

func (f *stateFlags) state(c *cli.Call) (s sealing.State, err error) {
	if s, err = f.logs(); err != nil {
		return s, err
	}
	s.PIN = f.pin
	if s.PCRs == nil {
		s.PCRs = map[crypto.Hash]map[int][]byte{}
	}
	if f.pcrs != "" {
		values, err := readPCRs(f.pcrs)
		if err != nil {
			return s, err
		}
		merge(s.PCRs, values)
	}
	values, err := givenPCRs(f.pcr)
	if err != nil {
		return s, err
	}
	merge(s.PCRs, values)
	if f.earlier != "" {
		if s.Earlier, err = readPCRs(f.earlier); err != nil {
			return s, err
		}
	}
	if f.banks != "" {
		if s.Banks, err = bankList(f.banks); err != nil {
			return s, err
		}
	}
	if f.pcrsig != "" {
		if s.Signatures, err = tokens.ReadSignatures(c, f.pcrsig); err != nil {
			return s, fmt.Errorf("%s: %w", f.pcrsig, err)
		}
	}
	if s.PCRLock, err = readPCRLock(f.pcrlock); err != nil {
		return s, err
	}
	s.Counters, err = counters(f.counters)
	return s, err
}

// logs reads the event logs.
func (f *stateFlags) logs() (s sealing.State, err error) {
	if f.log == "" {
		if f.userspace != "" || f.until != "" {
			return s, cli.Usagef("-userspace and -until belong to a -log")
		}
		return s, nil
	}
	log, err := readLog(f.log, tpm.ParseExpected)
	if err != nil {
		return s, err
	}
	user, err := f.userspaceLog()
	if err != nil {
		return s, err
	}
	if s, err = sealing.StateOf(log, user); err != nil {
		return s, fmt.Errorf("%s: %w", f.log, err)
	}
	if user == nil && log.Coverage == nil {
		for n := range s.Unknown {
			s.Unknown[n] = "want -userspace with what systemd measures before the secret is asked for, or none"
		}
	}
	return s, nil
}

// userspaceLog is systemd's log, until the word.
func (f *stateFlags) userspaceLog() (*tpm.UserspaceLog, error) {
	if f.userspace == "" || f.userspace == "none" {
		if f.until != "" {
			return nil, cli.Usagef("-until %s: want the log that it is in, -userspace", f.until)
		}
		if f.userspace == "none" {
			return &tpm.UserspaceLog{}, nil
		}
		return nil, nil
	}
	raw, err := os.ReadFile(f.userspace)
	if err != nil {
		return nil, err
	}
	u, err := tpm.ParseUserspaceLog(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.userspace, err)
	}
	if f.until == "" {
		return u, nil
	}
	i := slices.IndexFunc(u.Records, func(r tpm.Record) bool { return strings.HasPrefix(r.Word, f.until) })
	if i < 0 {
		return nil, fmt.Errorf("%s: no record with a word that begins with %q", f.userspace, f.until)
	}
	u.Records = u.Records[:i]
	return u, nil
}

func bankList(list string) (banks []crypto.Hash, err error) {
	for _, name := range strings.Split(list, ",") {
		h, err := tpm.BankByName(name)
		if err != nil || slices.Contains(banks, h) {
			return nil, cli.Usagef("-banks %s: want names like sha256, each once", list)
		}
		banks = append(banks, h)
	}
	return banks, nil
}

func merge(into, from map[crypto.Hash]map[int][]byte) {
	for h, values := range from {
		if into[h] == nil {
			into[h] = map[int][]byte{}
		}
		for n, v := range values {
			into[h][n] = v
		}
	}
}

// readPCRs reads {"sha256": {"0": "HEX"}}, or an object that has it as "pcrs".
func readPCRs(name string) (map[crypto.Hash]map[int][]byte, error) {
	text, err := tokens.ReadJSON(name)
	if err != nil {
		return nil, err
	}
	members, err := strictjson.Object(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if i := slices.IndexFunc(members, func(m strictjson.Member) bool { return m.Key == "pcrs" }); i >= 0 {
		text = members[i].Value
	}
	var named map[string]map[string]string
	if err := strictjson.Unmarshal(text, &named); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out := map[crypto.Hash]map[int][]byte{}
	for bank, values := range named {
		h, err := tpm.BankByName(bank)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if out[h], err = decodeValues(h, values); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, bank, err)
		}
	}
	return out, nil
}

func decodeValues(h crypto.Hash, values map[string]string) (map[int][]byte, error) {
	out := map[int][]byte{}
	for key, text := range values {
		n, err := strconv.Atoi(key)
		if err != nil || n < 0 || n >= tpm.PCRCount {
			return nil, fmt.Errorf("PCR %q: want 0 to %d", key, tpm.PCRCount-1)
		}
		v, err := hex.DecodeString(text)
		if err != nil || len(v) != h.Size() {
			return nil, fmt.Errorf("PCR %d: want %d hexadecimal digits", n, 2*h.Size())
		}
		out[n] = v
	}
	return out, nil
}

// givenPCRs reads 7=HEX,11=HEX; how long a value is tells its bank.
func givenPCRs(list string) (map[crypto.Hash]map[int][]byte, error) {
	pcrs, values, err := pcrList("pcr", list)
	if err != nil {
		return nil, err
	}
	out := map[crypto.Hash]map[int][]byte{}
	for _, n := range pcrs {
		i := slices.IndexFunc(tpm.Banks(), func(h crypto.Hash) bool { return h.Size() == len(values[n]) })
		if i < 0 {
			return nil, cli.Usagef("-pcr %s: PCR %d: want a value of 20, 32, 48 or 64 bytes in hexadecimal, as 7=HEX", list, n)
		}
		merge(out, map[crypto.Hash]map[int][]byte{tpm.Banks()[i]: {n: values[n]}})
	}
	return out, nil
}

// counters reads 0x01800001=5.
func counters(list string) (map[uint32]uint64, error) {
	out := map[uint32]uint64{}
	for _, part := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		index, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseUint(index, 0, 32)
		v, err2 := strconv.ParseUint(value, 0, 64)
		if err != nil || err2 != nil {
			return nil, cli.Usagef("-counter %s: want an NV index and a value, like 0x01800001=5", list)
		}
		out[uint32(n)] = v
	}
	return out, nil
}
