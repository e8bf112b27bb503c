package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/machineflags"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// known are the flags about the machine. Each is one field of [upgrade.Machine], or says where some
// are read.
type known struct {
	machineflags.Known
	offline bool
	copied  string
}

func (k *known) flags(set *flag.FlagSet) {
	set.BoolVar(&k.offline, "offline", false, "the machine is switched off, or the disk is in none: nothing runs from it")
	set.StringVar(&k.copied, "machine", "", "`directory` with a copy of the files by which a machine that runs is read (default: this machine)")
	k.Known.Flags(set)
}

// check refuses what makes no sense together.
func (k *known) check() error {
	if k.offline && k.copied != "" {
		return cli.Usagef("-offline and -machine: a machine whose files were read was on")
	}
	return k.Check()
}

// read reads a machine that runs.
func (k *known) read(c *cli.Call, s *subject) (m upgrade.Machine, err error) {
	if k.Vars != "" || k.NoLoaderVariables {
		return m, cli.Usagef("-vars and -no-loader-variables are for a machine that is off (-offline), and this one is read")
	}
	root := cmp.Or(k.copied, "/")
	var o upgrade.ReadMachineOptions
	if root == "/" {
		o.Verity = dm.Active
	}
	read, err := upgrade.ReadMachine(os.DirFS(root), o)
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no machine that EFI firmware has started: there is nothing of it in %s", root, filepath.Join(root, machineflags.EFIVarFS))
	}
	if err != nil {
		return m, err
	}
	for _, err := range read.Unread {
		fmt.Fprintf(c.Stderr, "upgrade: not known of the machine: %v\n", err)
		s.Unread = append(s.Unread, err.Error())
	}
	return read.Machine, k.Add(&read.Machine)
}
