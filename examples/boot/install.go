package main

import (
	"crypto/rand"
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/examples/internal/loaderfiles"
)

// installation are the flags of install.
type installation struct {
	espvolume.Place
	vars, loader, shim, keys         string
	conf                             cli.List
	seed, noFallback, dryRun, option bool
	replaceNewer, acceptLowerSBAT    bool
}

func installFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := new(installation)
	f.Place.Flags(set)
	set.StringVar(&f.vars, "vars", "", "`file` of a variable store, copy of efivarfs, or efivarfs for this machine, for -boot-option and -random-seed")
	set.StringVar(&f.loader, "loader", "", "`file` of systemd-boot, signed if Secure Boot is to take it")
	set.StringVar(&f.shim, "shim", "", "`file` of the shim that firmware is to start, and that starts the loader")
	set.Var(&f.conf, "conf", "`KEY=VALUE` of loader.conf, KEY= to remove a key; may be given several times")
	set.StringVar(&f.keys, "keys", "", "`directory` with PK.auth, KEK.auth and db.auth, for the set auto, or with directories of sets")
	set.BoolVar(&f.seed, "random-seed", false, "write a random seed if there is none, and with -vars a system token")
	set.BoolVar(&f.noFallback, "no-fallback", false, "leave EFI/BOOT alone")
	set.BoolVar(&f.dryRun, "dry-run", false, "show what would be done, and write nothing")
	set.BoolVar(&f.option, "boot-option", false, "have firmware start the loader, by an option in -vars")
	set.BoolVar(&f.replaceNewer, "replace-newer-loader", false, "install over a loader that is newer")
	set.BoolVar(&f.acceptLowerSBAT, "accept-lower-sbat-generation", false, "install over a loader with a higher SBAT generation: shim may refuse the new one")
	return func(c *cli.Call, _ []string) error { return f.install(c) }
}

func (f *installation) install(c *cli.Call) error {
	if err := cli.Required("loader", f.loader); err != nil {
		return err
	}
	if f.option && f.vars == "" {
		return cli.Usagef("-vars is missing: -boot-option is written there")
	}
	set, remove, err := loaderfiles.Config(f.conf)
	if err != nil {
		return err
	}
	loader, err := c.Open(f.loader)
	if err != nil {
		return err
	}
	in := &bootloader.Installation{Loader: loader, Config: set, OmitFallback: f.noFallback}
	if f.shim != "" {
		if in.Shim, err = c.Open(f.shim); err != nil {
			return err
		}
	}
	if f.keys != "" {
		if in.Keys, err = loaderfiles.Keys(f.keys); err != nil {
			return err
		}
	}
	o := bootloader.InstallationOptions{EditConfig: bootloader.ConfigEdit{Set: set, Remove: remove}, ReplaceNewerLoader: f.replaceNewer, AcceptLowerSBATGeneration: f.acceptLowerSBAT}
	if f.seed {
		o.RandomSeed = make([]byte, 32)
		rand.Read(o.RandomSeed) // it never fails
	}
	if _, err := in.Files(); err != nil {
		return fmt.Errorf("%s: %w", f.loader, err)
	}
	volumes, err := f.Place.Open(c, !f.dryRun)
	if err != nil {
		return err
	}
	plan, err := bootloader.PlanInstallation(volumes.ESP, in, o)
	if err != nil {
		return fmt.Errorf("%s: %w", f.ESP, err)
	}
	vars, err := readVariables(c, f.vars)
	if err != nil {
		return err
	}
	out := installResult{Header: c.Header(), DryRun: f.dryRun}
	option, err := f.planOption(c, volumes, vars, in, &out)
	if err != nil {
		return err
	}
	text := out.take(plan)
	if !c.JSON {
		if _, err := fmt.Fprint(c.Stdout, text); err != nil {
			return err
		}
	}
	if !f.dryRun {
		for _, change := range plan.Changes {
			if err := carryOut(volumes.ESP, change); err != nil {
				return fmt.Errorf("%s %s: %w; what was done before stays, and the same call does the rest", change.Kind, change.Path, err)
			}
		}
		if err := f.writeVariables(c, vars, option, &out); err != nil {
			return err
		}
	}
	if err := c.Answer(out, out.end()); err != nil {
		return err
	}
	if out.NewerStays {
		return cli.No{Err: fmt.Errorf("%s is not installed everywhere, since that would be a step back", f.loader)}
	}
	return nil
}

// carryOut makes one change, which is on the medium then.
func carryOut(esp espvolume.Volume, c bootloader.FileChange) error {
	if c.Kind == bootloader.ChangeRemove {
		return esp.Remove(c.Path)
	}
	return esp.Put(c.Path, c.Content)
}

// asFlags has the names of flags in the place of those of options.
var asFlags = strings.NewReplacer("set ReplaceNewerLoader", "say -replace-newer-loader", "set AcceptLowerSBATGeneration", "say -accept-lower-sbat-generation")

// take takes a plan into the answer, and tells it.
func (out *installResult) take(plan *bootloader.InstallationPlan) string {
	out.Changes, out.Kept, out.Findings = []changeObject{}, []keptObject{}, []findingObject{}
	var b strings.Builder
	for _, c := range plan.Changes {
		out.Changes = append(out.Changes, changeObject{c.Kind.String(), c.Path, string(c.Before), string(c.After), c.Reason})
		fmt.Fprintf(&b, "%-7s %s", c.Kind, c.Path)
		switch {
		case c.Before != "" && c.After != "":
			fmt.Fprintf(&b, "  %s -> %s", c.Before, c.After)
		case c.After != "":
			fmt.Fprintf(&b, "  %s", c.After)
		}
		fmt.Fprintf(&b, "  (%s)\n", c.Reason)
	}
	for _, k := range plan.Kept {
		out.Kept = append(out.Kept, keptObject{k.Path, string(k.Version), k.Reason})
		fmt.Fprintf(&b, "keep    %s  (%s)\n", k.Path, k.Reason)
	}
	for _, f := range plan.Findings {
		says := asFlags.Replace(f.Err.Error())
		out.Findings = append(out.Findings, findingObject{f.Path, f.XBOOTLDR, says})
		out.NewerStays = out.NewerStays || has[*bootloader.LoaderDowngradeError](f.Err) || has[*bootloader.SBATDowngradeError](f.Err)
		fmt.Fprintf(&b, "! %s: %s\n", f.Path, says)
	}
	if o := out.Option; o != nil {
		for _, change := range o.Changes {
			fmt.Fprintf(&b, "%s\n", change)
		}
		if o.Inactive {
			fmt.Fprintf(&b, "! Boot%04X: it is switched off, and is left so\n", o.Number)
		}
	}
	return b.String()
}

// end is the last line.
func (out *installResult) end() string {
	writes := len(out.Changes)
	if out.Option != nil {
		writes += len(out.Option.Changes)
	}
	switch {
	case writes == 0:
		return "nothing to do\n"
	case out.DryRun:
		return "a dry run: nothing was written\n"
	}
	return "done\n"
}
