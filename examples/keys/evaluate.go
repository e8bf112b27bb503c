package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// pending are updates in the order of the command line, appends or not.
type pending struct {
	names *[]string
	add   bool
}

func (p pending) String() string { return "" }

func (p pending) Set(s string) error {
	mark := "="
	if p.add {
		mark = "+"
	}
	*p.names = append(*p.names, mark+s)
	return nil
}

func evaluateFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	vars := set.String("vars", "", "`directory` of efivarfs or variable store")
	var updates []string
	set.Var(pending{&updates, false}, "pending", "`VAR=AUTH`: tell also what would be after this update; may be repeated")
	set.Var(pending{&updates, true}, "pending-append", "`VAR=AUTH`: the same for an update that appends")
	level := set.String("sbat-level", "", "`file` with shim's SbatLevel, instead of the machine's")
	shim := addShimFlags(set)
	firmware := firmwareFlag(set)
	when := timeFlag(set)
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("vars", *vars); err != nil {
			return err
		}
		v, err := readVariables(*vars)
		if err != nil {
			return err
		}
		if *level != "" {
			if v.SbatLevel, err = cli.ReadFile(*level, 64<<10); err != nil {
				return err
			}
		}
		var o secureboot.EvaluateSetOptions
		if err := shim.apply(c, &v, &o); err != nil {
			return err
		}
		if o.Firmware, err = firmware(); err != nil {
			return err
		}
		if o.At, err = when(); err != nil {
			return err
		}
		if o.Pending, err = readPending(updates); err != nil {
			return err
		}
		images, err := readImages(c, append(operands, shim.byProgram...))
		if err != nil {
			return err
		}
		e := secureboot.EvaluateSet(v, images, o)
		text := fmt.Sprintf("Secure Boot %s, Setup Mode %s\n%s", onOff(isSet(v.SecureBoot)), onOff(isSet(v.SetupMode)), e)
		r := evaluateResult{Header: c.Header(), SecureBoot: isSet(v.SecureBoot), SetupMode: isSet(v.SetupMode), Evaluation: e}
		if err := c.Answer(r, text); err != nil {
			return err
		}
		if e.Refused != nil {
			return e.Refused
		}
		if !e.Allowed() {
			return cli.No{Err: errors.New("not every image boots")}
		}
		return nil
	}
}

// isSet reads the content of SecureBoot or SetupMode.
func isSet(content []byte) bool { return bytes.Equal(content, []byte{1}) }

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func readPending(updates []string) (all []secureboot.Pending, err error) {
	for _, u := range updates {
		name, file, ok := strings.Cut(u[1:], "=")
		if !ok || name == "" || file == "" {
			return nil, cli.Usagef("-pending %q: want VAR=AUTH, such as dbx=dbx.auth", u[1:])
		}
		b, err := cli.ReadFile(file, 1<<20)
		if err != nil {
			return nil, err
		}
		all = append(all, secureboot.Pending{Variable: name, Auth: b, Append: u[0] == '+', Name: file})
	}
	return all, nil
}
