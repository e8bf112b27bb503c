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
)

// statesResult is the object of states.
type statesResult struct {
	cli.Header
	Bank   string  `json:"bank"`
	States []state `json:"states"`
}

// state is one of the states that the machine may be in.
type state struct {
	Values  map[int]string `json:"values"`
	Sets    []string       `json:"sets"`    // the files that lead to it
	Changed []int          `json:"changed"` // PCRs that are not as in the first state
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
		var sets []tpm.PendingSet
		for _, name := range operands {
			all, err := predictFile(c, name, userspaceFlags{})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			sets = append(sets, tpm.PendingSet{Name: name, Boots: all})
		}
		states, err := tpm.PendingStates(h, pcrs, sets...)
		if err != nil {
			return err
		}
		r := statesResult{Header: c.Header(), Bank: tpm.BankName(h)}
		var text strings.Builder
		for _, s := range states {
			o := state{Values: map[int]string{}, Sets: s.Sets, Changed: append([]int{}, s.Changed...)}
			fmt.Fprintln(&text, s)
			for _, n := range slices.Sorted(slices.Values(pcrs)) {
				o.Values[n] = hex.EncodeToString(s.Values[n])
				fmt.Fprintf(&text, "  %s %2d %s\n", tpm.BankName(h), n, o.Values[n])
			}
			r.States = append(r.States, o)
		}
		return c.Answer(r, text.String())
	}
}
