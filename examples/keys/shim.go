package main

import (
	"flag"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// maxLists bounds a file of signature lists in bytes.
const maxLists = 1 << 20

// shimFlags say whether shim starts the images, and what it has kept.
type shimFlags struct {
	file, mokList, mokListX string
	none, nothingEnrolled   bool
	byProgram               cli.List
}

func addShimFlags(set *flag.FlagSet) *shimFlags {
	f := new(shimFlags)
	set.StringVar(&f.file, "shim", "", "`PE` of the shim that starts the images; firmware starts it")
	set.BoolVar(&f.none, "no-shim", false, "firmware starts the images, and no shim is involved")
	set.StringVar(&f.mokList, "moklist", "", "`ESL` in place of the machine's MokList")
	set.StringVar(&f.mokListX, "moklistx", "", "`ESL` in place of the machine's MokListX")
	set.BoolVar(&f.nothingEnrolled, "nothing-enrolled", false, "what is not known of shim's variables does not exist")
	set.Var(&f.byProgram, "by-program", "`PE` that a program behind shim loads, such as a kernel by GRUB; may be repeated")
	return f
}

// apply puts what the flags say into the machine and the options.
func (f *shimFlags) apply(c *cli.Call, v *osmith.FirmwareVariables, o *secureboot.EvaluateSetOptions) (err error) {
	if f.file == "" {
		if f.mokList != "" || f.mokListX != "" || f.nothingEnrolled || len(f.byProgram) > 0 {
			return cli.Usagef("-moklist, -moklistx, -nothing-enrolled and -by-program are about a shim: want -shim PE, too")
		}
		o.NoShim = f.none
		return nil
	}
	if f.none {
		return cli.Usagef("-shim and -no-shim: want one of them")
	}
	for _, l := range []struct {
		name       string
		list, copy *[]byte
	}{{f.mokList, &v.MokList, &v.MokListRT}, {f.mokListX, &v.MokListX, &v.MokListXRT}} {
		if l.name == "" {
			continue
		}
		b, err := cli.ReadFile(l.name, maxLists)
		if err != nil {
			return err
		}
		if _, err := secureboot.ParseSignatureLists(b); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		// not nil if it is empty: there is then no such variable
		*l.list, *l.copy = append([]byte{}, b...), nil
	}
	if f.nothingEnrolled {
		assumeNothing(v)
	}
	file, err := c.Open(f.file)
	if err != nil {
		return err
	}
	if o.Shim, err = secureboot.ReadShim(file); err != nil {
		return fmt.Errorf("%s: %w", f.file, err)
	}
	o.Shim.Image.Name = f.file
	o.ByProgram = f.byProgram
	return nil
}

// assumeNothing says of every variable of shim's of which nothing is known that it does not exist.
func assumeNothing(v *osmith.FirmwareVariables) {
	for _, known := range []*[]byte{&v.SbatLevel, &v.SbatPolicy, &v.MokSBState, &v.MokDBState, &v.MokPolicy, &v.MokListTrustedRT} {
		if *known == nil {
			*known = []byte{}
		}
	}
	if v.MokList == nil && v.MokListRT == nil {
		v.MokList = []byte{}
	}
	if v.MokListX == nil && v.MokListXRT == nil {
		v.MokListX = []byte{}
	}
}
