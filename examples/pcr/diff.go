package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

// readExpected reads what a boot is checked against: the boots of a BOOT.json, a predicted log, or
// the log of another boot.
func readExpected(c *cli.Call, name string, userspace userspaceFlags) (tpm.Alternatives, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if isJSON(raw) {
		return predictFile(c, name, userspace)
	}
	l, err := tpm.ParseExpected(raw)
	if err != nil || userspace.log == "" {
		return tpm.Alternatives{l}, err
	}
	if l.Coverage != nil {
		return nil, cli.Usagef("%s is a prediction, which says itself what userspace measures: -expected-userspace is for a BOOT.json or the log of a boot", name)
	}
	u, err := readUserspaceLog(userspace.log)
	if err == nil && userspace.until != "" {
		u, err = u.Until(userspace.until)
	}
	if err != nil {
		return nil, err
	}
	return tpm.Alternatives{l.WithUserspace(u)}, nil
}

func diffFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	userspace := set.String("userspace", "", "systemd's log of measurements of ACTUAL, a `file`")
	var expected userspaceFlags
	set.StringVar(&expected.log, "expected-userspace", "", "systemd's log of measurements to expect, a `file`, in the place of what BOOT.json says of userspace")
	set.StringVar(&expected.until, "until", "", "`word` that was measured last in both of systemd's logs at the moment of interest")
	expected.words = true
	var contents cli.List
	set.Var(&contents, "contents", "a `file` whose text was perhaps measured, such as loader.conf, os-release or /proc/cmdline: with it differences are told in words")
	return func(c *cli.Call, operands []string) error {
		if expected.until != "" && *userspace == "" {
			return cli.Usagef("-until needs -userspace")
		}
		actual, err := readLog(operands[1], *userspace, expected.until)
		if err != nil {
			return err
		}
		all, err := readExpected(c, operands[0], expected)
		if err != nil {
			return err
		}
		r := diffResult{Header: c.Header(), Causes: []tpm.Difference{}, Differences: []tpm.Difference{}, Compared: []int{}, NotCompared: []uncompared{}}
		texts, err := readContents(c, contents, operands[0])
		if err != nil {
			return err
		}
		r.Boot, _ = all.Diff(actual)
		compared, err := tpm.Compare(all[r.Boot].WithContents(texts...), actual.WithContents(texts...))
		if err != nil {
			return err
		}
		if len(compared.PCRs) == 0 {
			return fmt.Errorf("%s claims no PCR that %s holds: there is nothing to compare", operands[0], operands[1])
		}
		r.Equal, r.Compared = len(compared.Differences) == 0, compared.PCRs
		r.Differences = append(r.Differences, compared.Differences...)
		r.Causes = append(r.Causes, compared.Causes()...)
		var text strings.Builder
		parts := 0
		for _, d := range r.Causes {
			fmt.Fprintln(&text, d)
			for _, p := range d.Parts {
				fmt.Fprintf(&text, "  %v\n", p)
			}
			parts += len(d.Parts)
		}
		if more := len(r.Differences) - len(r.Causes) - parts; more > 0 {
			fmt.Fprintf(&text, "and %d that follow from that\n", more)
		}
		if r.Equal {
			fmt.Fprintf(&text, "the boot is the expected one in %s\n", registers(actual.Registers, compared.PCRs))
		}
		var lines pcrLines
		for _, u := range compared.NotCompared {
			r.NotCompared = append(r.NotCompared, uncompared{u.PCR, u.Userspace, u.Reason, u.Want, u.Got})
			lines.add(u.PCR, "not compared: "+u.String())
		}
		lines.write(&text)
		if err := c.Answer(r, text.String()); err != nil || r.Equal {
			return err
		}
		if len(r.Differences) == 1 {
			return cli.No{Err: errors.New("the boot differs in 1 event")}
		}
		return cli.No{Err: fmt.Errorf("the boot differs in %d events", len(r.Differences))}
	}
}

// registers names those that were compared.
func registers(kind tpm.Registers, numbers []int) string {
	if kind == tpm.RegistersPCR {
		return "PCRs " + ranges(numbers)
	}
	names := make([]string, 0, len(numbers))
	for _, n := range numbers {
		names = append(names, kind.Name(n))
	}
	return strings.Join(names, ", ")
}

// pcrLines are lines about PCRs. Those that say the same of several become one.
type pcrLines struct {
	pcrs  [][]int
	about [][2]string // what is before the number of the PCR, and behind it
}

// add takes a line that names a PCR.
func (l *pcrLines) add(pcr int, line string) {
	before, behind, _ := strings.Cut(line, fmt.Sprintf("PCR %d", pcr))
	about := [2]string{before, behind}
	i := slices.Index(l.about, about)
	if i < 0 {
		i = len(l.about)
		l.pcrs, l.about = append(l.pcrs, nil), append(l.about, about)
	}
	l.pcrs[i] = append(l.pcrs[i], pcr)
}

func (l *pcrLines) write(to *strings.Builder) {
	for i, about := range l.about {
		name := "PCR"
		if len(l.pcrs[i]) > 1 {
			name = "PCRs"
		}
		fmt.Fprintf(to, "%s%s %s%s\n", about[0], name, ranges(l.pcrs[i]), about[1])
	}
}

// ranges writes ascending numbers as "0-9, 11".
func ranges(ns []int) string {
	var out []string
	for i := 0; i < len(ns); {
		last := i
		for last+1 < len(ns) && ns[last+1] == ns[last]+1 {
			last++
		}
		text := fmt.Sprint(ns[i])
		if last > i {
			text = fmt.Sprintf("%d-%d", ns[i], ns[last])
		}
		out = append(out, text)
		i = last + 1
	}
	return strings.Join(out, ", ")
}
