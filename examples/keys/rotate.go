package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// thisMachine is where the variables of the machine are that the program runs on.
const thisMachine = "/sys/firmware/efi/efivars"

type rotateFlagSet struct {
	plan, vars, old, fresh, bootID, out, signature string
	revoke, nothing                                bool
	room                                           int64
	roms                                           *romFlags
	when                                           func() (time.Time, error)
	firmware                                       func() (secureboot.Firmware, error)
}

func rotateFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var f rotateFlagSet
	set.StringVar(&f.plan, "plan", "", "`file` with the plan")
	set.StringVar(&f.vars, "vars", "", "`directory` of efivarfs or variable store")
	set.StringVar(&f.old, "old", "", "`directory` with the keys that the machine has")
	set.StringVar(&f.fresh, "new", "", "`directory` with the keys that it is to have")
	set.BoolVar(&f.revoke, "revoke", false, "put the old db certificate into dbx at the end")
	set.BoolVar(&f.nothing, "nothing-must-boot", false, "make a plan without images: none is judged before keys are withdrawn")
	set.Int64Var(&f.room, "room", 0, "`bytes` that the machine has for these variables (default: not checked)")
	set.StringVar(&f.bootID, "boot-id", "", "the machine's boot `ID`")
	set.StringVar(&f.out, "o", "", "`file` for the update that is to be written next, or for the digest that is to be signed")
	set.StringVar(&f.signature, "signature", "", "`file` with the bare signature that the next step was waiting for")
	f.firmware = firmwareFlag(set)
	f.roms = addROMFlags(set)
	f.when = timeFlag(set)
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("plan", f.plan); err != nil {
			return err
		}
		named, err := f.firmware()
		if err != nil {
			return err
		}
		switch {
		case f.old != "" || f.fresh != "":
			if err := cli.Required("vars", f.vars, "old", f.old, "new", f.fresh); err != nil {
				return err
			}
			if f.out != "" || f.bootID != "" || f.signature != "" {
				return cli.Usagef("-o, -boot-id and -signature are for a plan that is there: without -old and -new")
			}
			return makePlan(c, &f, named, operands)
		case f.revoke || f.nothing || f.room != 0 || named != "" || f.roms.decided():
			return cli.Usagef("a plan is made with -old and -new: -revoke, -nothing-must-boot, -room, -firmware and the flags about option ROMs are for that")
		case f.vars != "":
			return nextStep(c, &f, operands)
		case len(operands) > 0 || f.out != "" || f.bootID != "" || f.signature != "":
			return cli.Usagef("-vars is missing")
		}
		return showPlan(c, &f)
	}
}

func makePlan(c *cli.Call, f *rotateFlagSet, named secureboot.Firmware, images []string) error {
	if _, err := os.Lstat(f.plan); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s is there already: a plan is not overwritten", f.plan)
		}
		return err
	}
	o := secureboot.RotationOptions{RevokeOld: f.revoke, RoomForVariables: f.room, NothingMustBoot: f.nothing, Firmware: named}
	var err error
	if o.Machine, err = readVariables(f.vars); err != nil {
		return err
	}
	if o.Old, err = readHierarchy(f.old, false); err != nil {
		return err
	}
	if o.New, err = readHierarchy(f.fresh, true); err != nil {
		return err
	}
	if o.Time, err = f.when(); err != nil {
		return err
	}
	if o.OptionROMs, err = f.roms.decision(); err != nil {
		return err
	}
	if o.MustBoot, err = readImages(c, images); err != nil {
		return err
	}
	r, err := secureboot.PlanRotation(o)
	if errors.Is(err, secureboot.ErrNothingMustBoot) {
		return cli.Usagef("no image is given that must boot: name all PE files that the machine starts, or say -nothing-must-boot")
	}
	if err != nil {
		return err
	}
	if err := writePlan(f.plan, r); err != nil {
		return err
	}
	return c.Answer(rotateResult{Header: c.Header(), Rotation: r}, r.String())
}

func showPlan(c *cli.Call, f *rotateFlagSet) error {
	r, err := readPlan(f.plan)
	if err != nil {
		return err
	}
	return c.Answer(rotateResult{Header: c.Header(), Rotation: r}, r.String())
}

func nextStep(c *cli.Call, f *rotateFlagSet, images []string) error {
	r, err := readPlan(f.plan)
	if err != nil {
		return err
	}
	s := secureboot.State{BootID: f.bootID}
	if s.BootID == "" && strings.TrimRight(f.vars, "/") == thisMachine {
		b, err := cli.ReadFile("/proc/sys/kernel/random/boot_id", 100)
		if err != nil {
			return err
		}
		s.BootID = strings.TrimSpace(string(b))
	}
	if s.BootID == "" {
		return cli.Usagef("-boot-id is missing")
	}
	if s.Variables, err = readVariables(f.vars); err != nil {
		return err
	}
	if s.Images, err = readImages(c, images); err != nil {
		return err
	}
	a, err := r.Next(s)
	if err != nil {
		return err
	}
	if f.signature != "" {
		if a.Kind != secureboot.ActionSign {
			return fmt.Errorf("-signature: the next step needs none: %s", a.Text)
		}
		b, err := cli.ReadFile(f.signature, 64<<10)
		if err != nil {
			return err
		}
		if err := a.Step.Join(b); err != nil {
			return fmt.Errorf("%s: %w", f.signature, err)
		}
		if a, err = r.Next(s); err != nil {
			return err
		}
	}
	result := rotateResult{Header: c.Header(), Rotation: r, Action: a.Kind, Text: a.Text, Images: a.Images}
	text := a.Kind + ": " + a.Text + "\n"
	if a.Kind == secureboot.ActionWrite {
		result.Variable, result.Append = a.Step.Variable, a.Step.Append
		if f.out != "" {
			if err := cli.WriteFile(f.out, a.Step.Auth); err != nil {
				return err
			}
			mode := "replace"
			if a.Step.Append {
				mode = "append"
			}
			text += fmt.Sprintf("%s: write it to %s (%s), then ask again\n", f.out, a.Step.Variable, mode)
		}
	}
	if a.Kind == secureboot.ActionSign {
		digest, err := a.Step.Digest()
		if err != nil {
			return err
		}
		result.Digest = hex.EncodeToString(digest)
		text += "SHA-256 digest: " + result.Digest + "\n"
		if f.out != "" {
			if err := cli.WriteFile(f.out, digest); err != nil {
				return err
			}
		}
	}
	if err := writePlan(f.plan, r); err != nil {
		return err
	}
	return c.Answer(result, text)
}

func readPlan(name string) (*secureboot.Rotation, error) {
	b, err := cli.ReadFile(name, 16<<20)
	if err != nil {
		return nil, err
	}
	r := new(secureboot.Rotation)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func writePlan(name string, r *secureboot.Rotation) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, b, "", "  "); err != nil {
		return err
	}
	text.WriteByte('\n')
	return cli.WriteFile(name, text.Bytes())
}
