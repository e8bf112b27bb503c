package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var errMissing = errors.New("not in there")

var program = Program{Name: "box", IsNo: func(err error) bool { return errors.Is(err, errMissing) }, Verbs: []Verb{
	{Name: "open", Usage: "BOX [-wide]", Example: "box open b", Least: 1, Most: 2, Flags: func(set *flag.FlagSet) func(*Call, []string) error {
		wide := set.Bool("wide", false, "")
		return func(c *Call, operands []string) error {
			switch operands[0] {
			case "no":
				return No{errors.New("it is shut")}
			case "missing":
				return errMissing
			case "broken":
				return errors.New("box: broken")
			}
			if show := c.Progress(); show != nil {
				show(5<<20, 10<<20)
				show(10<<20, 10<<20)
			}
			return c.Answer(map[string]any{"wide": *wide}, strings.Join(operands, " ")+"\n")
		}
	}},
	{Name: "lid off", Usage: "BOX", Example: "box lid off b", Most: 1, Flags: func(*flag.FlagSet) func(*Call, []string) error {
		return func(*Call, []string) error { return nil }
	}},
}}

func TestRun(t *testing.T) {
	tests := []struct {
		args           string
		status         int
		stdout, stderr string
	}{
		{"open a", 0, "a\n", ""},
		{"open a b -wide", 0, "a b\n", ""},
		{"open --wide -json a", 0, `{"wide":true}`, ""},
		{"open -- -a", 0, "-a\n", ""},
		{"open a -progress json", 0, "a\n", `{"done":10485760,"total":10485760,"verb":"open"}`},
		{"open a -progress bar", 0, "a\n", "10 / 10 MiB\n"},
		{"lid off", 0, "", ""},
		{"-h", 0, "", "usage: box lid off BOX"},
		{"open -h", 0, "", "example: box open b"},
		{"open no", 1, "", "box: it is shut\n"},
		{"open missing", 1, "", "box: not in there\n"},
		{"open broken", 2, "", "box: broken\n"},
		{"", 2, "", "usage: box open BOX"},
		{"shut", 2, "", `box: no verb "shut"`},
		{"lid", 2, "", "usage: box lid off BOX"},
		{"open", 2, "", "box: 0 operands: want BOX"},
		{"open a b c", 2, "", `box: unexpected argument "c"`},
		{"open a -progress loud", 2, "", "-progress"},
		{"open a -tall", 2, "", "-tall"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, tt.status, program.Run(context.Background(), strings.Fields(tt.args), &stdout, &stderr), stderr.String())
			require.Contains(t, stdout.String(), tt.stdout)
			require.Contains(t, stderr.String(), tt.stderr)
			if tt.status != 0 {
				require.Empty(t, stdout.String())
			}
		})
	}
}
