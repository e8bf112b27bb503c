package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// PartialSuffix is appended to the name of a file while it is written, where a file cannot be
// written atomically: in a directory, new content goes to a file with this suffix, is synced, and
// renamed. It identifies the remains of a power cut. A [FileChange] that package fat, or package
// upgrade on a mounted ESP, carries out does not use it: a rename on a mounted ESP is not safe by
// itself.
const PartialSuffix = ".osmith-partial"

// maxLoader bounds how much of a program is read. Loaders of systemd have up to 200 KiB.
const maxLoader = 16 << 20

// How many bytes systemd-boot writes as a random seed and requires at least; it ignores a file of
// more than maxSeed bytes (systemd 262, src/boot/random-seed.c, RANDOM_MAX_SIZE_MIN and
// RANDOM_MAX_SIZE_MAX).
const (
	seedSize = 32
	maxSeed  = 32 << 10
)

// InstallationOptions say what else to install on the ESP, and what may be replaced. With the zero
// value, a newer loader stays.
type InstallationOptions struct {
	// RandomSeed is 32 random bytes for loader/random-seed; nil: none is written. An existing file
	// with a valid seed is kept, unless RefreshRandomSeed is set.
	RandomSeed        []byte
	RefreshRandomSeed bool

	// EditConfig changes an existing loader.conf, which is never replaced.
	EditConfig ConfigEdit

	// ReplaceNewerLoader installs a loader that is older than the one on the ESP. Features and
	// fixes of the newer loader are then lost.
	ReplaceNewerLoader bool

	// AcceptLowerSBATGeneration installs a loader that has a lower generation of a component than
	// the one on the ESP, or one that cannot be compared: if shim's SbatLevel was raised meanwhile,
	// shim will not start it.
	AcceptLowerSBATGeneration bool
}

// ChangeKind is what happens to a file.
type ChangeKind uint8

// The kinds of changes. The zero value is none.
const (
	// the file does not exist; missing parent directories are made
	ChangeCreate ChangeKind = iota + 1
	// the file exists, and its content is replaced atomically ([PartialSuffix], or
	// fat.FS.ReplaceFile)
	ChangeReplace
	ChangeRemove // a file, or an empty directory
)

// String is "create", "replace" or "remove".
func (k ChangeKind) String() string {
	names := [...]string{ChangeCreate: "create", ChangeReplace: "replace", ChangeRemove: "remove"}
	if k == 0 || int(k) >= len(names) {
		return fmt.Sprintf("ChangeKind(%d)", uint8(k))
	}
	return names[k]
}

// FileChange is one step of an [InstallationPlan].
type FileChange struct {
	Path    string // as it is spelled on the ESP
	Kind    ChangeKind
	Content osmith.Source // new content of the file; nil for ChangeRemove
	Reason  string

	// Before and After are the versions of systemd-boot in the file, empty if it is not
	// systemd-boot.
	Before, After osmith.Version
}

// KeptFile is a file of the installation that stays as it is.
type KeptFile struct {
	Path    string
	Version osmith.Version // of a systemd-boot
	Reason  string
}

// InstallationPlan is the list of changes to an ESP, in an order that survives a power cut
// anywhere.
type InstallationPlan struct {
	Changes []FileChange

	// Kept are the other files of the installation.
	Kept []KeptFile

	// Findings are files that stay although they differ from the installation
	// ([*LoaderDowngradeError], [*SBATDowngradeError]), other programs that firmware may start
	// ([*OtherLoaderError]), and settings of the installation that an existing loader.conf lacks.
	Findings []Finding
}

// LoaderDowngradeError says that the loader on the ESP stays, because it is newer than the loader
// to be installed.
type LoaderDowngradeError struct {
	Have, Want osmith.Version
}

func (e *LoaderDowngradeError) Error() string {
	return fmt.Sprintf("systemd-boot %s is not replaced, because %s is older: install a newer systemd-boot, or set ReplaceNewerLoader", e.Have, e.Want)
}

// SBATDowngradeError says that the loader on the ESP stays, because the loader to be installed has
// a lower generation of a component.
type SBATDowngradeError struct {
	Component  string
	Have, Want uint16 // Want is 0 if the loader to be installed does not have the component
}

func (e *SBATDowngradeError) Error() string {
	return fmt.Sprintf("the loader is not replaced, because it has generation %d of SBAT component %q and the new loader has %d: install a loader with at least this generation, or set AcceptLowerSBATGeneration",
		e.Have, e.Component, e.Want)
}

// OtherLoaderError says that a program on the ESP, which firmware may start, is not part of the
// installation and stays.
type OtherLoaderError struct {
	// version of a systemd-boot in a place that the installation does not use; empty: any other
	// program
	Version osmith.Version
	Err     error // why it is not systemd-boot
}

func (e *OtherLoaderError) Error() string {
	if e.Version != "" {
		return fmt.Sprintf("systemd-boot %s, which is not part of the installation, is not replaced: if firmware or a shim starts it, update it with the tool that installed it", e.Version)
	}
	return fmt.Sprintf("a program that is not systemd-boot is not replaced, and firmware may start it: what that program starts next is unknown (%v)", e.Err)
}

func (e *OtherLoaderError) Unwrap() error { return e.Err }

// PlanInstallation plans the changes that install this systemd-boot on an ESP, which may already
// have one. It reads the ESP and writes nothing: the caller carries out Changes, in their order. On
// an empty ESP they create the files that [Installation.Files] lists. After a power cut, make a new
// plan for the rest.
//
// # What is replaced
//
// A loader in EFI/systemd is replaced unless it is newer, by [CompareVersions], or has a higher
// SBAT generation of a component; the same version with different bytes, as after a new signature,
// is replaced. Before that, the old loader is copied to EFI/systemd/systemd-boot-fallback*.efi, as
// bootctl 262 does when it updates to a newer version. If a file in these two places is not
// systemd-boot, the error is [ErrNotLoader]. EFI/BOOT is replaced by the same rules if it holds a
// systemd-boot; a shim or any other program stays there. If only EFI/BOOT has a loader, and that
// loader stays, no loader is put into EFI/systemd, because firmware would prefer it.
//
// A missing loader.conf is created; an existing one is only edited. A missing loader/entries.srel
// is created. A random seed with fewer than 32 bytes, or more than 32 KiB, is replaced. One that is
// marked read-only stays, as systemd-boot 262 leaves it alone: its [fs.FileMode] has no bit for
// writing, which is how package fat and a mounted ESP on Linux show the attribute. A set of keys
// that differs is replaced.
//
// # The order, and a cut
//
// Each change must be atomic, and on the medium before the next one begins. Then, after a power cut
// at any point:
//
//   - Firmware starts EFI/systemd by its Boot####, and EFI/BOOT where that fails or is gone. The
//     two are changed one after the other, so one of them is intact even if a non-atomic writer
//     tore the other. EFI/BOOT is changed last, as with bootctl: it has no fallback, so it stays
//     the old loader until the new one is in EFI/systemd.
//   - The copy of the old loader exists before the old loader is replaced.
//   - systemd-boot enrols a set of keys only if PK, KEK and db all exist (systemd 262,
//     src/boot/secure-boot.c, secure_boot_enroll_at). So PK.auth of a set that changes is removed
//     first and written last: sets are never mixed, and a new key is not enrolled while a loader
//     that it does not verify has yet to be replaced.
//   - A new ESP gets loader.conf before the first loader, which therefore never runs without its
//     settings. On an ESP with a loader, loader.conf changes after the loaders, since it can order
//     an enrolment (secure-boot-enroll force).
func PlanInstallation(esp fs.FS, want *Installation, o InstallationOptions) (plan *InstallationPlan, err error) {
	defer prefix.Add("bootloader", &err)
	if want.Loader == nil {
		return nil, ErrMissingLoader
	}
	if o.RandomSeed != nil && len(o.RandomSeed) != seedSize {
		return nil, fmt.Errorf("random seed of %d bytes: want %d", len(o.RandomSeed), seedSize)
	}
	if o.RefreshRandomSeed && o.RandomSeed == nil {
		return nil, errors.New("RandomSeed is empty, but the random seed is to be refreshed: want 32 random bytes")
	}
	loader, err := readSource(want.Loader, maxLoader)
	if err != nil {
		return nil, fmt.Errorf("boot loader: %w", err)
	}
	in := *want
	in.Loader = bytes.NewReader(loader) // what was judged is what is written
	if want.Shim != nil {
		shim, err := readSource(want.Shim, maxLoader)
		if err != nil {
			return nil, fmt.Errorf("shim: %w", err)
		}
		in.Shim = bytes.NewReader(shim)
	}
	files, front, err := in.files()
	if err != nil {
		return nil, err
	}
	ours, err := readProgram(loader)
	if err != nil {
		return nil, err
	}
	if !o.AcceptLowerSBATGeneration && ours.sbatErr != nil {
		return nil, fmt.Errorf("boot loader: %w: shim will not start it", ours.sbatErr)
	}
	p := &planner{esp: esp, o: o, plan: new(InstallationPlan), ours: ours, front: front}
	if err := p.planFiles(files, &in); err != nil {
		return nil, err
	}
	if err := p.otherLoaders(); err != nil {
		return nil, err
	}
	return p.plan, nil
}

// A planner collects the changes of a plan.
type planner struct {
	esp  fs.FS
	o    InstallationOptions
	plan *InstallationPlan

	ours  *program // systemd-boot
	front *program // shim in front of it; nil: none
}

func (p *planner) planFiles(files []osmith.ESPFile, in *Installation) error {
	written := []string{loaderDir + p.ours.arch.SystemdBoot(), loaderDir + p.ours.arch.SystemdBootFallback()}
	for _, at := range in.places(p.ours.arch) {
		for _, name := range []string{at.Loader, at.Shim} {
			if name != "" && !slices.Contains(written, name) {
				written = append(written, name)
			}
		}
	}
	if err := p.leftovers(append(written, configPath, srelPath, seedPath)...); err != nil {
		return err
	}
	keys, err := p.keySets(in.Keys)
	if err != nil {
		return err
	}
	for _, s := range keys {
		p.plan.Changes = append(p.plan.Changes, s.disarm...)
	}

	places, err := p.planPlaces(in)
	if err != nil {
		return err
	}
	running := slices.ContainsFunc(places, func(l loaderPlace) bool { return l.running })

	i := slices.IndexFunc(files, func(f osmith.ESPFile) bool { return f.Path == configPath })
	config, err := p.config(files[i], in.Config)
	if err != nil {
		return err
	}
	if !running {
		p.plan.Changes = append(p.plan.Changes, config...)
	}
	if err := p.srel(files); err != nil {
		return err
	}
	if err := p.seed(); err != nil {
		return err
	}
	for _, l := range places {
		p.plan.Changes = append(p.plan.Changes, l.changes...)
	}
	if running {
		p.plan.Changes = append(p.plan.Changes, config...)
	}
	for _, s := range keys {
		p.plan.Changes = append(p.plan.Changes, s.write...)
	}
	return nil
}

func (p *planner) keep(name string, v osmith.Version, reason string) {
	p.plan.Kept = append(p.plan.Kept, KeptFile{name, v, reason})
}

func (p *planner) find(name string, err error) {
	p.plan.Findings = append(p.plan.Findings, Finding{Path: name, Err: err})
}

// leftovers removes what was being written when an update was cut off.
func (p *planner) leftovers(names ...string) error {
	for _, name := range names {
		f, err := findFile(p.esp, name+PartialSuffix)
		if err != nil {
			return err
		}
		if f.there {
			p.plan.Changes = append(p.plan.Changes, FileChange{Path: f.path, Kind: ChangeRemove, Reason: "left over from an interrupted update"})
		}
	}
	return nil
}

// planPlaces plans the places of the loader, in the order in which they change.
func (p *planner) planPlaces(in *Installation) (places []loaderPlace, err error) {
	copies := true
	if in.Shim != nil {
		// A loader that firmware starts stays beside the one behind shim, and a Boot#### may lead
		// there.
		direct := loaderDir + p.ours.arch.SystemdBoot()
		f, err := findFile(p.esp, direct)
		if err != nil {
			return nil, err
		}
		if f.there {
			l, err := p.loader(osmith.ESPFile{Path: direct, Content: in.Loader}, true, true)
			if err != nil {
				return nil, err
			}
			places, copies = append(places, l), false
		}
	}
	begins := len(places)
	for i, at := range in.places(p.ours.arch) {
		// OmitFallback: otherLoaders says what is in EFI/BOOT
		var l loaderPlace
		if first := i == 0; at.Shim != "" {
			l, err = p.chain(at, in, first, first && copies)
		} else {
			l, err = p.loader(osmith.ESPFile{Path: at.Loader, Content: in.Loader}, first, first && copies)
		}
		if err != nil {
			return nil, err
		}
		places = append(places, l)
	}
	if l := places[len(places)-1]; l.refused != nil && !places[begins].running {
		// A Boot#### that leads to EFI/systemd would start the older loader in place of the one in
		// EFI/BOOT.
		p.find(places[begins].path, fmt.Errorf("is not created, because firmware would prefer it to %s: %w", l.path, l.refused))
		places[begins].changes = nil
	}
	return places, nil
}

// A loaderPlace is one of the places of the loader.
type loaderPlace struct {
	path    string
	running bool  // a systemd-boot is there
	foreign bool  // another program is there, and stays
	refused error // why it stays
	changes []FileChange
}

// loader plans the loader of one place. The first one is all ours, and what was there is kept as
// the fallback if copies is set.
func (p *planner) loader(want osmith.ESPFile, first, copies bool) (l loaderPlace, err error) {
	f, err := findFile(p.esp, want.Path)
	if err != nil {
		return l, err
	}
	l.path = f.path
	change := FileChange{Path: f.path, Kind: ChangeCreate, Content: want.Content, Reason: "missing", After: p.ours.version}
	if !f.there {
		l.changes = []FileChange{change}
		return l, nil
	}
	old, why, err := f.program(p.esp)
	switch {
	case err != nil:
		return l, err
	case why != nil && first:
		return l, f.unknownVersion(why)
	case why != nil:
		p.keep(f.path, "", "not systemd-boot")
		p.find(f.path, &OtherLoaderError{Err: why})
		l.foreign = true
		return l, nil
	}
	l.running = true
	if bytes.Equal(old.content, p.ours.content) {
		p.keep(f.path, old.version, "the same bytes")
		return l, nil
	}
	l.refused, err = p.refuses(old)
	if err != nil {
		return l, fmt.Errorf("%s: %w", f.path, err)
	}
	if l.refused != nil {
		p.keep(f.path, old.version, "replacing it would be a step back")
		p.find(f.path, l.refused)
		return l, nil
	}
	change.Kind, change.Before, change.Reason = ChangeReplace, old.version, "an older version"
	switch c := CompareVersions(string(old.version), string(p.ours.version)); {
	case c > 0:
		change.Reason = "a newer version, and ReplaceNewerLoader is set"
	case c == 0:
		change.Reason = "the same version with different content, such as a new signature"
	}
	if copies {
		if l.changes, err = p.fallback(old); err != nil {
			return l, err
		}
	}
	l.changes = append(l.changes, change)
	return l, nil
}

// fallback keeps the loader that is about to be replaced.
func (p *planner) fallback(old *program) ([]FileChange, error) {
	f, err := findFile(p.esp, loaderDir+p.ours.arch.SystemdBootFallback())
	if err != nil {
		return nil, err
	}
	c := FileChange{Path: f.path, Kind: ChangeCreate, Content: bytes.NewReader(old.content), Reason: "keeps the replaced loader", After: old.version}
	if !f.there {
		return []FileChange{c}, nil
	}
	before, why, err := f.program(p.esp)
	switch {
	case err != nil:
		return nil, err
	case why != nil:
		return nil, f.unknownVersion(why)
	case bytes.Equal(before.content, old.content):
		p.keep(f.path, old.version, "the loader that is replaced")
		return nil, nil
	}
	c.Kind, c.Before = ChangeReplace, before.version
	return []FileChange{c}, nil
}

// refuses says why the loader does not replace an old one. The error is that this cannot be told.
func (p *planner) refuses(old *program) (refused, err error) {
	if CompareVersions(string(old.version), string(p.ours.version)) > 0 && !p.o.ReplaceNewerLoader {
		return &LoaderDowngradeError{Have: old.version, Want: p.ours.version}, nil
	}
	return p.lowers(old, p.ours)
}

// lowers says which generation of the old program the new one does not have. The error is that this
// cannot be told.
func (p *planner) lowers(old, with *program) (refused, err error) {
	if p.o.AcceptLowerSBATGeneration {
		return nil, nil
	}
	if old.sbatErr != nil {
		return nil, fmt.Errorf("cannot compare SBAT generations: %w: remove the file, or set AcceptLowerSBATGeneration", old.sbatErr)
	}
	if r := (&sbat.Level{Entries: old.sbat}).Revokes(with.sbat); r != nil {
		return &SBATDowngradeError{Component: r.Component, Have: r.Least, Want: r.Generation}, nil
	}
	for _, e := range old.sbat {
		// Components with a dot are those of a vendor (SBAT.md, "Vendor-specific"): another one's
		// program does not have them.
		if !strings.Contains(e.Component, ".") && !slices.ContainsFunc(with.sbat, func(o sbat.Entry) bool { return o.Component == e.Component }) {
			return &SBATDowngradeError{Component: e.Component, Have: e.Generation}, nil
		}
	}
	return nil, nil
}

// config plans loader.conf: made if there is none, and else edited.
func (p *planner) config(want osmith.ESPFile, settings *Config) ([]FileChange, error) {
	f, err := findFile(p.esp, configPath)
	if err != nil {
		return nil, err
	}
	var text []byte
	if f.there {
		text, err = f.read(p.esp, maxConfigLen)
	} else {
		text, err = readSource(want.Content, maxConfigLen)
	}
	if err != nil {
		return nil, err
	}
	edited, err := editConfig(text, p.o.EditConfig)
	if err != nil {
		return nil, err
	}
	if !f.there {
		return []FileChange{{Path: f.path, Kind: ChangeCreate, Content: bytes.NewReader(edited), Reason: "missing"}}, nil
	}
	if settings != nil {
		var differ []string
		has := ParseConfig(edited)
		for _, k := range configKeys {
			if !k.same(settings, new(Config)) && !k.same(settings, has) {
				differ = append(differ, k.name)
			}
		}
		if len(differ) > 0 {
			p.find(f.path, fmt.Errorf("exists and is not replaced, although its settings differ from the installation's: %s: set them with EditConfig", strings.Join(differ, ", ")))
		}
	}
	if bytes.Equal(edited, text) {
		p.keep(f.path, "", "it is there")
		return nil, nil
	}
	return []FileChange{{Path: f.path, Kind: ChangeReplace, Content: bytes.NewReader(edited), Reason: "edited"}}, nil
}

func (p *planner) srel(files []osmith.ESPFile) error {
	f, err := findFile(p.esp, srelPath)
	if err != nil {
		return err
	}
	if f.there {
		p.keep(f.path, "", "it is there")
		return nil
	}
	i := slices.IndexFunc(files, func(f osmith.ESPFile) bool { return f.Path == srelPath })
	p.plan.Changes = append(p.plan.Changes, FileChange{Path: f.path, Kind: ChangeCreate, Content: files[i].Content, Reason: "missing"})
	return nil
}

func (p *planner) seed() error {
	f, err := findFile(p.esp, seedPath)
	if err != nil || p.o.RandomSeed == nil {
		return err
	}
	c := FileChange{Path: f.path, Kind: ChangeCreate, Content: bytes.NewReader(bytes.Clone(p.o.RandomSeed)), Reason: "missing"}
	if f.there {
		has, err := f.read(p.esp, maxSeed)
		if err != nil && !errors.Is(err, errTooLong) {
			return err
		}
		switch c.Kind = ChangeReplace; {
		case f.readOnly:
			p.keep(f.path, "", "it is marked read-only")
			return nil
		case bytes.Equal(has, p.o.RandomSeed):
			p.keep(f.path, "", "the same bytes")
			return nil
		case p.o.RefreshRandomSeed:
			c.Reason = "refreshed"
		case len(has) < seedSize || len(has) > maxSeed:
			c.Reason = fmt.Sprintf("systemd-boot ignores a seed of this size: want %d to %d bytes", seedSize, maxSeed)
		default:
			p.keep(f.path, "", "it is there")
			return nil
		}
	}
	p.plan.Changes = append(p.plan.Changes, c)
	return nil
}

// A keySet is what is to be done for one set of keys, before and after everything else.
type keySet struct{ disarm, write []FileChange }

// keySets plans the sets of keys, in the order in which they are first named.
func (p *planner) keySets(files []osmith.ESPFile) (sets []keySet, err error) {
	byDir := map[string][]osmith.ESPFile{}
	var dirs []string
	for _, f := range files {
		dir := lower(path.Dir(f.Path))
		if byDir[dir] == nil {
			dirs = append(dirs, dir)
		}
		byDir[dir] = append(byDir[dir], f)
	}
	for _, dir := range dirs {
		s, err := p.keySet(byDir[dir])
		if err != nil {
			return nil, err
		}
		sets = append(sets, s)
	}
	return sets, nil
}

func (p *planner) keySet(files []osmith.ESPFile) (s keySet, err error) {
	dir := path.Dir(files[0].Path)
	var write, kept []FileChange // PK last
	var pk *FileChange
	changed := false
	for _, name := range append(slices.Clone(keyFiles[1:]), keyFiles[0]) {
		if err := p.leftovers(path.Join(dir, name)); err != nil {
			return s, err
		}
		f, err := findFile(p.esp, path.Join(dir, name))
		if err != nil {
			return s, err
		}
		c := FileChange{Path: f.path, Kind: ChangeCreate, Reason: "missing"}
		var has []byte
		if f.there {
			c.Kind, c.Reason = ChangeReplace, "a different key"
			if has, err = f.read(p.esp, maxConfigLen); err != nil {
				return s, err
			}
		}
		i := slices.IndexFunc(files, func(f osmith.ESPFile) bool { return path.Base(f.Path) == name })
		if i < 0 {
			if f.there {
				c.Kind, c.Reason = ChangeRemove, "not in the new set of keys"
				write, changed = append(write, c), true
			}
			continue
		}
		content, err := readSource(files[i].Content, maxConfigLen)
		if err != nil {
			return s, fmt.Errorf("enrolment keys: %s: %w", files[i].Path, err)
		}
		c.Content = bytes.NewReader(content)
		differs := !f.there || !bytes.Equal(has, content)
		changed = changed || differs
		switch {
		case name == keyFiles[0]:
			pk = &c
		case differs:
			write = append(write, c)
		default:
			kept = append(kept, c)
		}
	}
	if !changed {
		kept, pk = append(kept, *pk), nil
	}
	for _, c := range kept {
		p.keep(c.Path, "", "the same bytes")
	}
	if pk == nil {
		return s, nil
	}
	if pk.Kind == ChangeReplace {
		s.disarm = []FileChange{{Path: pk.Path, Kind: ChangeRemove, Reason: "the set of keys changes, and systemd-boot enrols nothing from an incomplete set"}}
	}
	pk.Kind, pk.Reason = ChangeCreate, "the set of keys is complete"
	s.write = append(write, *pk)
	return s, nil
}

// otherLoaders notes programs in the directories of EFI where firmware, or a shim, may start them.
func (p *planner) otherLoaders() error {
	efi, err := lookup(p.esp, "EFI")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	dirs, err := fs.ReadDir(p.esp, efi)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		dir := path.Join(efi, d.Name())
		if !d.IsDir() || equalFold(dir, path.Clean(loaderDir)) || equalFold(dir, type2Dir) {
			continue
		}
		list, err := fs.ReadDir(p.esp, dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			name := path.Join(dir, e.Name())
			if e.IsDir() || !hasSuffixFold(name, ".efi") || p.judged(name) {
				continue
			}
			other, why, err := (espFile{path: name}).program(p.esp)
			if err != nil {
				return err
			}
			found := &OtherLoaderError{Err: why}
			if why == nil {
				found.Version = other.version
			}
			p.find(name, found)
		}
	}
	return nil
}

// judged reports whether a file in a directory of EFI is one that the plan has looked at, or that
// machines of this architecture do not start.
func (p *planner) judged(name string) bool {
	if slices.ContainsFunc(p.plan.Changes, func(c FileChange) bool { return c.Path == name }) ||
		slices.ContainsFunc(p.plan.Kept, func(k KeptFile) bool { return k.Path == name }) {
		return true
	}
	return !equalFold(name, p.ours.arch.Loader()) && slices.ContainsFunc(arch.Table, func(a arch.Architecture) bool { return a.EFI != "" && equalFold(name, a.Loader()) })
}
