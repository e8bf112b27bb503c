package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/erofsfs"
	"github.com/osmith-dev/osmith/examples/internal/layoutfile"
	"github.com/osmith-dev/osmith/examples/internal/loaderfiles"
	"github.com/osmith-dev/osmith/examples/internal/machineflags"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// installing are the flags of install.
type installing struct {
	known                                 known
	from                                  source
	disk, layout, seed                    string
	loader, shim, keys, recovery          string
	conf                                  cli.List
	randomSeed, bootOption, dryRun, begun bool
	options                               upgrade.InstallOptions
}

func installFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := new(installing)
	f.known.flags(set)
	f.from.flags(set)
	set.StringVar(&f.disk, "disk", "", "image `file` or block device that is installed")
	set.StringVar(&f.layout, "layout", "", "layout `file` (osmith.layout/1) or directory with definitions of systemd-repart")
	set.StringVar(&f.seed, "seed", "", "`UUID` that all identifiers of the disk are derived from (default: a random one)")
	set.IntVar(&f.options.SectorSize, "sector-size", 0, "512 or 4096 `bytes` (default: what the device says, or 512)")
	set.StringVar(&f.options.EraseForEverTheDiskWithThisDigest, "erase-for-ever", "", "`digest` of what is on the disk and may be lost")
	set.StringVar(&f.loader, "loader", "", "`file` of systemd-boot (default: that of the release)")
	set.Var(&f.conf, "conf", "`KEY=VALUE` of loader.conf; may be repeated")
	set.StringVar(&f.shim, "shim", "", "`file` of the shim that firmware is to start, and that starts the loader")
	set.StringVar(&f.keys, "keys", "", "`directory` with PK.auth, KEK.auth, db.auth and perhaps dbx.auth, which the loader may enrol, for the set auto, or with directories of sets")
	set.BoolVar(&f.randomSeed, "random-seed", false, "give the loader a random seed")
	set.StringVar(&f.recovery, "recovery", "", "`file` with the UKI of a recovery system, which no upgrade touches")
	set.IntVar(&f.options.Tries, "tries", 0, "`starts` without a commit before the recovery system is started, 1 to 99 (default: they are not counted)")
	set.BoolVar(&f.bootOption, "boot-option", false, "have firmware start the loader by an option in -vars")
	set.BoolVar(&f.dryRun, "dry-run", false, "show what would be done, and write nothing")
	set.Func("override", fmt.Sprintf("`verdict` whose failure is ignored: one of %v; may be repeated", upgrade.Proofs()), func(name string) (err error) {
		proof, err := upgrade.ParseProof(name)
		f.options.Override = append(f.options.Override, proof)
		return err
	})
	return func(c *cli.Call, _ []string) error { return f.run(c) }
}

func (f *installing) run(c *cli.Call) error {
	if err := cli.Required("disk", f.disk, "layout", f.layout); err != nil {
		return err
	}
	switch {
	case f.known.copied != "":
		return cli.Usagef("-machine is for a disk that a machine runs from: -vars has the variables of the one that will boot this one")
	case f.bootOption && f.known.Vars == "":
		return cli.Usagef("-vars is missing: -boot-option is written there")
	}
	if err := errors.Join(f.from.check(), f.known.check()); err != nil {
		return err
	}
	machine, err := f.known.Off()
	if err != nil {
		return err
	}
	keep, err := f.fill(c)
	if err != nil {
		return err
	}
	disk, isDevice, err := openNamed(c, f.disk, !f.dryRun)
	if err != nil {
		return err
	}
	r, signers, err := f.from.open(c, release.PullOptions{Hashes: machine.UKIHashes()})
	if err != nil {
		return err
	}
	result := installResult{head: head{c.Header(), f.disk, true, []string{}}, Release: releaseObject{r.Descriptor.Digest.String(), r.Version, signers}, Seed: f.options.Seed.String()}
	return f.install(c, disk, isDevice, r, machine, keep, result)
}

// install plans, tells and writes.
func (f *installing) install(c *cli.Call, disk *osmith.Device, isDevice bool, r *release.Release, machine upgrade.Machine, keep func() error, result installResult) (err error) {
	f.options.At, f.options.Progress, f.options.ExtensionFileSystem = time.Now(), c.Progress(), erofsfs.Open
	if result.Plan, err = upgrade.PlanInstall(c, disk, r, machine, f.options); err != nil {
		return err
	}
	if !c.JSON {
		if err := c.Answer(nil, planText(result.Plan)); err != nil {
			return err
		}
	}
	if f.dryRun {
		if c.JSON {
			err = c.Answer(result, "")
		}
		return errors.Join(err, result.Plan.Refused())
	}
	show := c.Progress()
	done, err := result.Plan.Apply(c, func(_ int, done, total int64) {
		if f.begun = true; show != nil {
			show(done, total)
		}
	})
	if err != nil && f.begun {
		err = fmt.Errorf("%w\nupgrade: to go on, give the same command with -seed %s", err, f.options.Seed)
	}
	if err == nil {
		if result.Applied = true; done.BootOptionErr != nil {
			result.BootOption = done.BootOptionErr.Error()
			fmt.Fprintf(c.Stderr, "upgrade: warning: no boot option: %v; firmware starts the loader as the fallback of the ESP\n", done.BootOptionErr)
		}
		if err = keep(); err == nil && isDevice {
			err = tellKernel(disk)
		}
	}
	switch {
	case c.JSON:
		return errors.Join(c.Answer(result, ""), err)
	case err != nil:
		return err
	}
	return c.Answer(nil, fmt.Sprintf("installed: %s, with the seed %s\n", result.Plan.Entry, f.options.Seed))
}

// fill reads what the flags name into the options. keep writes the variables to where they are.
func (f *installing) fill(c *cli.Call) (keep func() error, err error) {
	o := &f.options
	keep = func() error { return nil }
	if o.Layout, err = layoutfile.Read(f.layout); err != nil {
		return nil, err
	}
	if o.Time, err = cli.SourceDate(time.Time{}); err != nil {
		return nil, err
	}
	if f.seed == "" {
		rand.Read(o.Seed[:]) // it never fails
	} else if o.Seed, err = osmith.ParseGUID(f.seed); err != nil {
		return nil, cli.Usagef("-seed: %v", err)
	}
	if f.randomSeed {
		o.RandomSeed = make([]byte, 32)
		rand.Read(o.RandomSeed)
	}
	if f.recovery != "" {
		name := strings.TrimSuffix(filepath.Base(f.recovery), ".efi")
		image, err := c.Open(f.recovery)
		if err != nil {
			return nil, err
		}
		o.Recovery = &upgrade.RecoverySystem{Name: name, UKI: image}
	}
	if f.bootOption {
		if o.Variables, keep, err = writableVariables(f.known.Vars); err != nil {
			return nil, fmt.Errorf("-vars %s: %w", f.known.Vars, err)
		}
	}
	return keep, f.fillLoader(c)
}

// fillLoader makes the installation of the boot loader; none of its flags leaves it to the release.
func (f *installing) fillLoader(c *cli.Call) error {
	if f.loader == "" {
		if f.conf != nil || f.keys != "" || f.shim != "" {
			return cli.Usagef("-conf, -keys and -shim go with -loader")
		}
		return nil
	}
	program, err := c.Open(f.loader)
	if err != nil {
		return err
	}
	set, remove, err := loaderfiles.Config(f.conf)
	if err != nil {
		return err
	}
	if remove != nil {
		return cli.Usagef("-conf %s=: the loader.conf of a new disk has no such key to remove", remove[0])
	}
	in := &bootloader.Installation{Loader: program, Config: set}
	if f.keys != "" {
		if in.Keys, err = loaderfiles.Keys(f.keys); err != nil {
			return err
		}
	}
	if f.shim != "" {
		if in.Shim, err = c.Open(f.shim); err != nil {
			return err
		}
	}
	f.options.Loader = in
	return nil
}

// writableVariables opens a variable store, a copy of efivarfs, or efivarfs, for a boot option.
func writableVariables(name string) (store bootloader.VariableStore, keep func() error, err error) {
	keep = func() error { return nil }
	if name == "efivarfs" {
		store, err = openEFIVars("")
		return store, keep, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() {
		store, err = openEFIVars(name)
		return store, keep, err
	}
	before, err := cli.ReadFile(name, machineflags.MaxStore)
	if err != nil {
		return nil, nil, err
	}
	image, err := bootloader.ParseVariableImage(before)
	if err != nil {
		return nil, nil, err
	}
	return image, func() error {
		if after := image.Bytes(); !bytes.Equal(after, before) {
			return cli.WriteFile(name, after)
		}
		return nil
	}, nil
}

// resetFlags are those of factory-reset.
func resetFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := newCommon(set)
	var states cli.List
	set.Var(&states, "state", "`partition` that is nothing but state: its PARTUUID, or its type and its label as TYPE/LABEL; may be repeated")
	return func(c *cli.Call, _ []string) error {
		var declared []upgrade.StatePartition
		for _, s := range states {
			one, err := declaredState(s)
			if err != nil {
				return err
			}
			declared = append(declared, one)
		}
		if declared == nil {
			return cli.Usagef("-state is missing: which partitions are state")
		}
		s, err := f.open(c, true)
		if err != nil {
			return err
		}
		done, err := upgrade.FactoryReset(s.disk, s.machine, declared)
		result, text := resetResult{head: s.head, Reset: []resetObject{}}, ""
		for _, r := range done {
			result.Reset = append(result.Reset, resetObject{r.Number, r.ID.String(), r.Name, r.Held})
			text += fmt.Sprintf("reset: partition %d (%s)\n", r.Number, strings.Join(nonEmpty(r.Name, r.Held), ": "))
		}
		if err != nil {
			return err
		}
		return c.Answer(result, text)
	}
}

// declaredState reads a PARTUUID, or TYPE/LABEL.
func declaredState(s string) (p upgrade.StatePartition, err error) {
	kind, label, both := strings.Cut(s, "/")
	if !both {
		if p.ID, err = osmith.ParseGUID(s); err != nil {
			err = cli.Usagef("-state %s: want a PARTUUID, or TYPE/LABEL as in var/state", s)
		}
		return p, err
	}
	var known bool
	if p.Type, known = partition.TypeByName(kind); !known {
		if p.Type, err = osmith.ParseGUID(kind); err != nil {
			return p, cli.Usagef("-state %s: %s is neither the name of a type nor a GUID", s, kind)
		}
	}
	p.Name = label
	return p, nil
}

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
