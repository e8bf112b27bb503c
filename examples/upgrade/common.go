package main

import (
	"flag"
	"regexp"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

// common are the flags of all verbs: which disk, and what is known of its machine.
type common struct {
	place
	known known
	set   *flag.FlagSet
	own   map[string]bool // names of these flags
}

func newCommon(set *flag.FlagSet) *common {
	f := new(common)
	f.flags(set)
	return f
}

func (f *common) flags(set *flag.FlagSet) {
	before := map[string]bool{}
	set.VisitAll(func(g *flag.Flag) { before[g.Name] = true })
	f.place.flags(set)
	f.known.flags(set)
	f.set, f.own = set, map[string]bool{}
	set.VisitAll(func(g *flag.Flag) { f.own[g.Name] = !before[g.Name] })
}

// command is what to type for another verb about the same disk.
func (f *common) command(verb string) string {
	words := []string{"upgrade", verb}
	f.set.Visit(func(g *flag.Flag) {
		if !f.own[g.Name] {
			return
		}
		values := []string{g.Value.String()}
		if list, ok := g.Value.(*cli.List); ok {
			values = *list
		}
		for _, v := range values {
			if v == "true" {
				words = append(words, "-"+g.Name)
			} else {
				words = append(words, "-"+g.Name, quoted(v))
			}
		}
	})
	return strings.Join(words, " ")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quoted is a word as a shell takes it.
func quoted(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func inspectFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := newCommon(set)
	return func(c *cli.Call, _ []string) error {
		s, err := f.open(c, false)
		if err != nil {
			return err
		}
		state, err := upgrade.Inspect(s.disk, s.machine)
		if err != nil {
			return err
		}
		return c.Answer(inspectResult{s.head, state}, state.String())
	}
}
