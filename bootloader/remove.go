package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// RemovalOptions say what else is removed with systemd-boot.
type RemovalOptions struct {
	// KeySets are the names of sets of Secure Boot keys in loader/keys to remove besides "auto",
	// which is always removed.
	KeySets []string
}

// PlanRemoval plans the removal of systemd-boot from an ESP: its copies in EFI/systemd and EFI/BOOT
// for every architecture, with a shim in front of them, loader.conf, random seed, entries.srel,
// keys, and directories that become empty. Entries, UKIs and files of other programs stay. Firmware
// will then start some other program or none. A program that is not systemd-boot in one of these
// places stays, and is an [*OtherLoaderError] among the findings.
//
// The keys are removed first, so that a loader does not enrol an incomplete set, then shims, then
// the loaders, EFI/BOOT last, and then the files that they read: after a power cut there is a
// loader with all its settings or no loader, and no shim without a loader. `bootctl remove` of 262
// also removes everything else in EFI/systemd, and leaves dbx.auth.
func PlanRemoval(esp fs.FS, o RemovalOptions) (plan *InstallationPlan, err error) {
	defer prefix.Add("bootloader", &err)
	p := &planner{esp: esp, plan: new(InstallationPlan)}
	var keys []string
	dirs := []string{}
	for _, set := range append([]string{"auto"}, o.KeySets...) {
		if !isKeySet(set) {
			return nil, fmt.Errorf("set of keys %q: want the name of a directory in loader/keys", set)
		}
		for _, name := range keyFiles { // PK first
			keys = append(keys, keysDir+set+"/"+name)
		}
		dirs = append(dirs, keysDir+set)
	}
	if err := p.removeFiles(keys...); err != nil {
		return nil, err
	}
	var loaders, last []string
	for _, a := range arch.Table {
		if a.EFI == "" {
			continue
		}
		loaders = append(loaders, loaderDir+a.SystemdBoot(), loaderDir+a.SystemdBootFallback())
		last = append(last, a.Loader())
		for _, l := range (&Installation{Shim: bytes.NewReader(nil)}).places(&a) {
			loaders = append(loaders, l.Loader)
			if l.Shim != a.Loader() {
				loaders = append(loaders, l.Shim)
			}
			if err := p.removeShim(l); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range append(loaders, last...) {
		if err := p.removeLoader(name); err != nil {
			return nil, err
		}
	}
	if err := p.removeFiles(configPath, seedPath, srelPath); err != nil {
		return nil, err
	}
	var partial []string
	for _, name := range slices.Concat(keys, loaders, last, []string{configPath, seedPath, srelPath}) {
		partial = append(partial, name+PartialSuffix)
	}
	if err := p.removeFiles(partial...); err != nil {
		return nil, err
	}
	dirs = append(dirs, path.Clean(keysDir), type1Dir, path.Dir(configPath), path.Clean(loaderDir), path.Dir(arch.X8664.Loader()), type2Dir, "EFI")
	for _, dir := range dirs { // from below
		if err := p.removeEmpty(dir); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

func (p *planner) removeFiles(names ...string) error {
	for _, name := range names {
		f, err := findFile(p.esp, name)
		if err != nil {
			return err
		}
		if f.there && !p.removes(f.path) {
			p.plan.Changes = append(p.plan.Changes, FileChange{Path: f.path, Kind: ChangeRemove, Reason: "a file of systemd-boot"})
		}
	}
	return nil
}

// removes reports whether the plan has the removal of a file or directory.
func (p *planner) removes(name string) bool {
	return slices.ContainsFunc(p.plan.Changes, func(c FileChange) bool { return c.Path == name && c.Kind == ChangeRemove })
}

// removeShim removes a shim that starts systemd-boot; what it starts goes behind it.
func (p *planner) removeShim(l arch.LoaderPlace) error {
	behind, err := findFile(p.esp, l.Loader)
	if err != nil || !behind.there {
		return err
	}
	if _, why, err := behind.program(p.esp); err != nil || why != nil {
		return err
	}
	f, err := findFile(p.esp, l.Shim)
	if err != nil || !f.there {
		return err
	}
	content, err := f.read(p.esp, maxLoader)
	if err != nil {
		if errors.Is(err, errTooLong) {
			return nil // no shim
		}
		return err
	}
	if parseShim(content) != nil {
		p.plan.Changes = append(p.plan.Changes, FileChange{Path: f.path, Kind: ChangeRemove, Reason: "a shim that starts systemd-boot"})
	}
	return nil
}

func (p *planner) removeLoader(name string) error {
	f, err := findFile(p.esp, name)
	if err != nil || !f.there || p.removes(f.path) {
		return err
	}
	old, why, err := f.program(p.esp)
	switch {
	case err != nil:
		return err
	case why != nil:
		p.keep(f.path, "", "not systemd-boot")
		p.find(f.path, &OtherLoaderError{Err: why})
	default:
		p.plan.Changes = append(p.plan.Changes, FileChange{Path: f.path, Kind: ChangeRemove, Reason: "a copy of systemd-boot", Before: old.version})
	}
	return nil
}

// removeEmpty removes a directory if the plan removes everything in it.
func (p *planner) removeEmpty(dir string) error {
	dir, err := lookup(p.esp, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := fs.ReadDir(p.esp, dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !p.removes(path.Join(dir, e.Name())) {
			return nil
		}
	}
	if !p.removes(dir) {
		p.plan.Changes = append(p.plan.Changes, FileChange{Path: dir, Kind: ChangeRemove, Reason: "the directory becomes empty"})
	}
	return nil
}
