package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// collection are the flags of gc. Nothing on a machine vouches for the last of them.
type collection struct {
	esp, vars, machine   string
	keep                 cli.List
	loaderAs             int
	dryRun, offline      bool
	noSecureBoot, noShim bool
}

func gcFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := new(collection)
	set.StringVar(&f.esp, "esp", "", "`directory` on which the ESP of this machine is mounted, or image or device, or an ESP in it (IMG:PART)")
	set.StringVar(&f.vars, "vars", "", "of a machine that is off: `file` of its variable store, copy of efivarfs, or none")
	set.StringVar(&f.machine, "machine", "", "`directory` with a copy of the files by which a machine that runs is read (default: this one's)")
	set.Var(&f.keep, "keep", "`entry` that stays, by its id or path; may be given several times")
	set.IntVar(&f.loaderAs, "loader-as", 0, "treat a systemd-boot of an unknown release as the one of this `release`")
	set.BoolVar(&f.dryRun, "dry-run", false, "show what would go, and remove nothing")
	set.BoolVar(&f.offline, "offline", false, "the device is of a machine that is off")
	set.BoolVar(&f.noSecureBoot, "no-secure-boot", false, "firmware verifies nothing")
	set.BoolVar(&f.noShim, "no-shim", false, "firmware starts the loader itself, without shim")
	return func(c *cli.Call, _ []string) error { return f.collect(c) }
}

func (f *collection) collect(c *cli.Call) error {
	disk, m, err := f.open(c)
	if err != nil {
		return err
	}
	m.Keep, m.AssumeLoader, m.NoSecureBoot, m.NoShim = f.keep, f.loaderAs, f.noSecureBoot, f.noShim
	if m.Loader == nil && !f.dryRun {
		return cli.Usagef("-vars is missing: which variables choose an entry is not known; none: there is none")
	}
	state, err := upgrade.Inspect(disk, m)
	if err != nil {
		return err
	}
	out := gcResult{Header: c.Header(), DryRun: f.dryRun, Garbage: []garbageObject{}, Problems: []string{}}
	if state.GarbageErr != nil {
		out.Problems = append(out.Problems, state.GarbageErr.Error())
	}
	for _, problem := range state.Problems {
		out.Problems = append(out.Problems, problem.Error())
	}
	list := state.Garbage
	if !f.dryRun {
		if list, err = upgrade.Collect(disk, m); err != nil {
			if len(list) > 0 {
				err = fmt.Errorf("%w; already gone: %d files, %s the last of them", err, len(list), list[len(list)-1].Path)
			}
			return err
		}
	}
	var b strings.Builder
	for _, g := range list {
		out.Garbage = append(out.Garbage, garbageObject{g.Path, g.Size, g.Reason})
		out.Size += g.Size
		fmt.Fprintf(&b, "%s  %d bytes  (%s)\n", g.Path, g.Size, g.Reason)
	}
	for _, problem := range out.Problems {
		fmt.Fprintf(&b, "! %s\n", problem)
	}
	switch {
	case len(list) == 0:
		b.WriteString("no garbage\n")
	case f.dryRun:
		fmt.Fprintf(&b, "a dry run: nothing was removed; %d bytes would be\n", out.Size)
	default:
		fmt.Fprintf(&b, "removed: %d bytes\n", out.Size)
	}
	return c.Answer(out, strings.ToValidUTF8(b.String(), "?"))
}

// open opens the disk, and finds out what is known of its machine.
func (f *collection) open(c *cli.Call) (disk *osmith.Device, m upgrade.Machine, err error) {
	if err := cli.Required("esp", f.esp); err != nil {
		return nil, m, err
	}
	file, part := espvolume.CutPart(f.esp)
	info, err := os.Stat(file)
	if err != nil {
		return nil, m, err
	}
	off := f.offline || info.Mode().IsRegular() && f.machine == ""
	switch {
	case f.offline && (info.IsDir() || f.machine != ""):
		return nil, m, cli.Usagef("-offline: the ESP of a machine that is off is in an image or a device")
	case !off && f.vars != "":
		return nil, m, cli.Usagef("-vars is for a machine that is off, and this one is read")
	case off:
		err = f.off(c, &m)
	default:
		m, err = f.read(c)
	}
	if err != nil {
		return nil, m, err
	}
	if info.IsDir() {
		var at *espvolume.Mounted
		if at, err = espvolume.FindMounted(c, file); err == nil {
			disk, m.Mounted, m.ESP = at.Disk, at.Mounted, at.ID
		}
		return disk, m, err
	}
	use := os.O_RDWR
	if f.dryRun {
		use = os.O_RDONLY
	}
	in, err := c.OpenFile(file, use)
	if err != nil || part == "" {
		return deviceOf(in), m, err
	}
	table, err := partition.Read(in, partition.ReadOptions{})
	if err != nil {
		return nil, m, fmt.Errorf("%s: %w", file, err)
	}
	i, err := espvolume.Choose(table, part, partition.ESP)
	if err != nil {
		return nil, m, cli.No{Err: fmt.Errorf("%s: %w", file, err)}
	}
	m.ESP = table.Partitions[i].ID
	return in.Device, m, nil
}

func deviceOf(in *cli.Input) *osmith.Device {
	if in == nil {
		return nil
	}
	return in.Device
}

// off is a machine that is off: what its variables say.
func (f *collection) off(c *cli.Call, m *upgrade.Machine) error {
	m.Offline = true
	vars, err := readVariables(c, f.vars)
	if err != nil || f.vars == "" {
		return err
	}
	m.Loader = &vars.Variables
	if vars.store == nil || f.noSecureBoot {
		return nil
	}
	var firmware osmith.FirmwareVariables
	if image, ok := vars.store.(*bootloader.VariableImage); ok {
		// whether firmware verifies is in no variable of it
		firmware, err = secureboot.ParseStore(image.Bytes())
	} else {
		firmware, err = secureboot.ReadVariables(vars.store)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no machine was started with it
	}
	if err != nil {
		return fmt.Errorf("-vars %s: %v", f.vars, err)
	}
	m.Firmware = &firmware
	return nil
}

// read is a machine that runs: this one, or one of whose files there is a copy.
func (f *collection) read(c *cli.Call) (upgrade.Machine, error) {
	var o upgrade.ReadMachineOptions
	if f.machine == "" {
		o.Verity = dm.Active
	}
	read, err := upgrade.ReadMachine(os.DirFS(cmp.Or(f.machine, "/")), o)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: firmware has not started this machine by EFI; use -offline for a device of a different machine", err)
	}
	if err != nil {
		return upgrade.Machine{}, err
	}
	for _, unread := range read.Unread {
		fmt.Fprintf(c.Stderr, "boot: not known of the machine: %v\n", unread)
	}
	return read.Machine, nil
}
