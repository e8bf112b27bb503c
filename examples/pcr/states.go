package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// statesResult is the object of states.
type statesResult struct {
	cli.Header
	Bank   string  `json:"bank"`
	States []state `json:"states"`
}

// state is one of the states that the machine may be in.
type state struct {
	Values map[int]string `json:"values"`
	// the files that lead to it; "FILE, way 2" where a boot may go several ways
	Names   []string `json:"names"`
	Differs []int    `json:"differs"` // PCRs that are not as in the first state
}

// statesFlags lists the states that a secret has to be sealed to, for all boots that may come.
func statesFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	list := set.String("pcrs", "", "`list` of PCRs, as 4,7,11")
	bank := set.String("bank", "sha256", "bank, by `name`")
	return func(c *cli.Call, operands []string) error {
		h, err := tpm.BankByName(*bank)
		if err != nil {
			return cli.Usagef("-bank: %v", err)
		}
		var pcrs []int
		for _, text := range strings.Split(*list, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 || n >= tpm.PCRCount || slices.Contains(pcrs, n) {
				return cli.Usagef("-pcrs %q: want numbers from 0 to %d with commas between them, each once", *list, tpm.PCRCount-1)
			}
			pcrs = append(pcrs, n)
		}
		slices.Sort(pcrs)
		var states []policy.NamedState
		for _, name := range operands {
			all, err := predictFile(c, name, userspaceFlags{})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for i, l := range all {
				values, err := l.Values(h)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				state := policy.NamedState{Name: name, Values: values}
				if len(all) > 1 {
					state.Name = fmt.Sprintf("%s, way %d", name, i+1)
				}
				states = append(states, state)
			}
		}
		union, err := policy.NewUnion(h, pcrs, states...)
		if err != nil {
			return err
		}
		r := statesResult{Header: c.Header(), Bank: tpm.BankName(h)}
		for _, s := range union.States {
			o := state{Values: map[int]string{}, Names: s.Names, Differs: append([]int{}, s.Differs...)}
			for n, v := range s.Values {
				o.Values[n] = hex.EncodeToString(v)
			}
			r.States = append(r.States, o)
		}
		return c.Answer(r, union.String())
	}
}
