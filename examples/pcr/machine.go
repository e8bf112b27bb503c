package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// machineResult is the object of machine.
type machineResult struct {
	cli.Header
	PCRs []reliance `json:"pcrs"` // 0 to 15
}

type reliance struct {
	PCR      int    `json:"pcr"`
	Reliance string `json:"reliance"` // "predicted", "as in this boot" or "not"
	Note     string `json:"note"`     // what the value follows from, or why it cannot be told
}

// machineFlags says which PCRs of a machine can be relied on, before anything is sealed to them.
func machineFlags(*flag.FlagSet) func(*cli.Call, []string) error {
	return func(c *cli.Call, operands []string) error {
		log, err := readLog(operands[0], "", "")
		if err != nil {
			return err
		}
		all, err := log.Reliances()
		if err != nil {
			return err
		}
		r := machineResult{Header: c.Header()}
		var text strings.Builder
		for _, x := range all {
			r.PCRs = append(r.PCRs, reliance{x.PCR, x.Reliance.String(), x.Note})
			fmt.Fprintln(&text, x)
		}
		return c.Answer(r, text.String())
	}
}
