package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// neighbours is how many flags or verbs are shown in place of one that is wrong.
const neighbours = 3

// flagName finds the flag that an error of package flag is about.
var flagName = regexp.MustCompile(`(?:not defined:|needs an argument:|for flag|bad flag syntax:|for) -{1,2}([^\s:]+)`)

// wrongFlag says what is wrong with a flag, behind how those like it are used.
func (p *Program) wrongFlag(w io.Writer, v Verb, flags *flag.FlagSet, err error) {
	call := strings.TrimSpace(p.Name + " " + v.Name)
	var names []string
	flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	text := err.Error()
	fmt.Fprintln(w, p.usageOf(v))
	if m := flagName.FindStringSubmatch(text); m != nil {
		given := strings.TrimLeft(m[1], "-")
		given, _, _ = strings.Cut(given, "=")
		shown := nearest(given, names)
		if slices.Contains(names, given) {
			shown = []string{given}
		} else {
			text = fmt.Sprintf("no flag -%s", given)
		}
		alone := flag.NewFlagSet("", flag.ContinueOnError)
		for _, name := range shown {
			f := flags.Lookup(name)
			alone.Var(f.Value, f.Name, f.Usage)
			alone.Lookup(name).DefValue = f.DefValue
		}
		var b bytes.Buffer
		alone.SetOutput(&b)
		alone.PrintDefaults()
		_, _ = b.WriteTo(w)
	}
	fmt.Fprintf(w, "%s: %s; %s -h lists all flags\n", p.Name, strings.ReplaceAll(text, "\n", "; "), call)
}

// nearest are the names that are most like one, the nearest first. Those that have nothing in
// common with it are left out.
func nearest(given string, names []string) []string {
	found := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return distance(given, name) >= max(len(given), len(name)) && !strings.HasPrefix(name, given)
	})
	slices.SortStableFunc(found, func(a, b string) int {
		if one, other := strings.HasPrefix(a, given), strings.HasPrefix(b, given); one != other {
			if one {
				return -1
			}
			return 1
		}
		return distance(given, a) - distance(given, b)
	})
	return found[:min(len(found), neighbours)]
}

// distance is how many characters have to be added, removed or changed to make one word of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := above
			if a[i] != b[j] {
				cost++
			}
			above = row[j+1]
			row[j+1] = min(cost, row[j]+1, above+1)
		}
	}
	return row[len(b)]
}
