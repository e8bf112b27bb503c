package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

// predictFile predicts all boots of a BOOT.json.
func predictFile(c *cli.Call, name string, userspace userspaceFlags) (tpm.Alternatives, error) {
	_, boots, err := composeFile(c, name, userspace)
	if err != nil {
		return nil, err
	}
	return tpm.PredictAll(boots...)
}

// composeFile reads all boots of a BOOT.json, and what they name.
func composeFile(c *cli.Call, name string, userspace userspaceFlags) (described []bootJSON, boots []tpm.Boot, err error) {
	if described, err = readBoots(name); err != nil {
		return nil, nil, err
	}
	for i := range described {
		if err := userspace.apply(&described[i]); err != nil {
			return nil, nil, err
		}
		b, err := compose(c, described[i])
		if err != nil {
			return nil, nil, fmt.Errorf("boot %d: %w", i, err)
		}
		boots = append(boots, b)
	}
	return described, boots, nil
}

func predictFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	out := set.String("log", "", "write the predicted log to `OUT`")
	var userspace userspaceFlags
	set.StringVar(&userspace.log, "userspace", "", "systemd's log of measurements of an earlier boot, a `file`, in the place of what BOOT.json says of userspace")
	set.StringVar(&userspace.until, "until", "", "`word` of that log that was measured last at the moment of interest")
	return func(c *cli.Call, operands []string) error {
		described, boots, err := composeFile(c, operands[0], userspace)
		if err != nil {
			return err
		}
		all, err := tpm.PredictAll(boots...)
		if err != nil {
			return err
		}
		r := predictResult{Header: c.Header(), PCRs: map[string]map[int][]string{}}
		var text, later strings.Builder
		for i := range boots {
			list, err := boots[i].NVPCRs()
			if err != nil {
				return err
			}
			out, lines := describeNVPCRs(list)
			r.Moments = append(r.Moments, predictedMoment{boots[i].Phases, out})
			if i == 0 {
				fmt.Fprintln(&text, moment(described[i], boots[i]))
				later.WriteString(lines)
			}
		}
		var lines pcrLines
		for i, l := range all {
			var b predictedBoot
			for _, x := range l.Coverage {
				b.Coverage = append(b.Coverage, coverage{x.PCR, x.Prediction.String(), x.Evidence.String(), x.Note, ""})
				if x.BeforeUserspace != tpm.PredictionNone {
					b.Coverage[len(b.Coverage)-1].Before = x.BeforeUserspace.String()
				}
				if i == 0 {
					lines.add(x.PCR, x.String())
				}
			}
			r.Boots = append(r.Boots, b)
		}
		lines.write(&text)
		for _, h := range all[0].Banks() {
			values, err := all.Values(h)
			if err != nil {
				return err
			}
			r.PCRs[tpm.BankName(h)] = map[int][]string{}
			for n := range tpm.PCRCount {
				for _, v := range values[n] {
					r.PCRs[tpm.BankName(h)][n] = append(r.PCRs[tpm.BankName(h)][n], hex.EncodeToString(v))
					if n < 16 {
						fmt.Fprintf(&text, "%s %2d %x\n", tpm.BankName(h), n, v)
					}
				}
			}
		}
		if *out != "" {
			if len(all) != 1 {
				return cli.Usagef("-log: the boot may go %d ways; describe one", len(all))
			}
			if err := writeLog(*out, all[0]); err != nil {
				return err
			}
		}
		return c.Answer(r, text.String()+later.String())
	}
}

// writeLog writes a predicted log, with what it says of each PCR.
func writeLog(name string, l *tpm.Log) error {
	raw, err := l.MarshalPrediction()
	if err != nil {
		return err
	}
	return cli.WriteFile(name, raw)
}

func pcrlockFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	dir := set.String("o", "", "`directory` to write the files to, as /var/lib/pcrlock.d")
	return func(c *cli.Call, operands []string) error {
		if *dir == "" {
			return cli.Usagef("-o is missing")
		}
		all, err := predictFile(c, operands[0], userspaceFlags{})
		if err != nil {
			return err
		}
		components, err := all.Components()
		if err != nil {
			return err
		}
		r := pcrlockResult{Header: c.Header(), Files: []string{}}
		for _, component := range components {
			files, err := component.Files()
			if err != nil {
				return err
			}
			for name, content := range files {
				target := filepath.Join(*dir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
					return err
				}
				if err := cli.WriteFile(target, content); err != nil {
					return err
				}
				r.Files = append(r.Files, name)
			}
		}
		slices.Sort(r.Files)
		return c.Answer(r, strings.Join(r.Files, "\n")+"\n")
	}
}
