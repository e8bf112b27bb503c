package partition

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// RepartOptions are inputs that definition files of systemd-repart do not contain.
type RepartOptions struct {
	// Architecture is the local architecture, to which types such as "root" refer: "x86-64" (also
	// ""), "arm64" and so on, as systemd names it.
	Architecture string
	// ForceArchitecture replaces the architecture of every type that has one, as --architecture of
	// systemd-repart does.
	ForceArchitecture string
	// Specifiers are the replacements of specifiers such as %M and %A, by letter: those of
	// repart.d(5), "Specifiers". "%%" is always a percent sign, %a the architecture unless it is
	// given here. If a file has a specifier that is not given, reading fails.
	Specifiers map[byte]string
}

// Repart is the content of the definition files of a repart.d directory, as data.
type Repart struct {
	// Layout has the partitions, in the order of the names of their files, and what each is to be
	// filled with as [Spec.Fill]. The caller sets Seed, Size, SectorSize and FileSystemSectorSize:
	// systemd-repart takes 4096 for an image file unless it is called with --sector-size.
	Layout Layout
	// Definitions have the other settings, one for each partition of the layout.
	Definitions []RepartDefinition
	// Warnings are about settings without effect, which systemd-repart also ignores with a warning.
	Warnings []*RepartError
}

// RepartDefinition says where a partition was defined, and has the other settings of its
// definition.
type RepartDefinition struct {
	File    string   // "10-esp.conf"
	DropIns []string // "10-esp.conf.d/50-size.conf", in the order in which they were read

	// as written, with its specifiers, since they depend on the plan; "" if it is not given
	SplitName          string
	FactoryReset       bool     // a factory reset removes the partition and makes it again
	MountPoints        []string // as they are written
	BlockDeviceReplace string   // mount point of a btrfs that is moved to the partition
}

// RepartError is about a line of a definition file that cannot be carried out, or that has no
// effect ([Repart.Warnings]).
type RepartError struct {
	File string
	Line int // from 1; 0: the file as a whole
	Err  error
}

func (e *RepartError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *RepartError) Unwrap() error { return e.Err }

// ErrSpecifier: a definition file has a specifier that is not in [RepartOptions]. It is inside of a
// [*RepartError].
var ErrSpecifier = errors.New("the text for a specifier is not given")

// ErrRepartKey: a section, key or value of a definition file that is not supported here. It is
// inside of a [*RepartError].
var ErrRepartKey = errors.New("unsupported")

// ReadRepart reads the definition files (*.conf, in the order of their names, each with its
// drop-ins NAME.conf.d/*.conf) of a repart.d directory, as systemd-repart 262 reads them
// (https://www.freedesktop.org/software/systemd/man/latest/repart.d.html). With the same Seed, Size
// and SectorSize, [Plan] places the partitions of the layout where systemd-repart --empty=create
// places them, and [PlanOnto] those of a disk in use.
//
// All keys are supported. Settings beyond placement (file systems and their files, dm-verity,
// encryption) are in [Spec.Fill]; if a different program fills the partitions, plan the layout with
// [Layout.LayoutOnly]. Files whose names begin with a dot are ignored, empty files and links to
// /dev/null mask a definition, sections and keys that begin with "X-" are ignored.
//
// For a line that systemd-repart ignores with a message (an unknown key, a value that it cannot
// read), the error is a [*RepartError], so that no setting is lost; only lines that cannot have an
// effect are warnings. A UUID of zeros and a dangling link are errors, too. Paths that are not
// absolute, which systemd-repart ignores, are kept as written: the program that opens the content
// interprets them ([Fill]).
func ReadRepart(fsys fs.FS, o RepartOptions) (r *Repart, err error) {
	defer prefix.Add("partition", &err)
	if err := o.check(); err != nil {
		return nil, err
	}
	names, err := unitfile.Names(fsys, ".", maxRepartFiles, ".conf")
	if err != nil {
		return nil, err
	}
	r = &Repart{Layout: Layout{Align: grain, Start: 1 << 20, Repart: true}}
	var read []*definition
	for _, name := range names {
		text, state, err := unitfile.Read(fsys, name)
		if err != nil {
			return nil, &RepartError{File: name, Err: err}
		}
		if state != unitfile.There {
			continue
		}
		d := &definition{name: name, o: &o, s: Spec{Weight: 1000, Definition: strings.TrimSuffix(name, ".conf")}, maxBytes: math.MaxInt64, lines: map[string]RepartError{}}
		if err := d.parse(name, text); err != nil {
			return nil, err
		}
		if err := d.dropIns(fsys); err != nil {
			return nil, err
		}
		if err := d.finish(); err != nil {
			return nil, err
		}
		read = append(read, d)
		r.Layout.Partitions = append(r.Layout.Partitions, d.s)
		r.Definitions = append(r.Definitions, d.rest)
		r.Warnings = append(r.Warnings, d.warnings...)
	}
	if len(read) == 0 {
		return nil, fmt.Errorf("no definition files (*.conf): %w", fs.ErrNotExist)
	}
	if err := together(&r.Layout, read); err != nil {
		return nil, err
	}
	r.labelFATs()
	return r, nil
}

// specifierLetters are those of repart.d(5), "Specifiers".
const specifierLetters = "aAbBHlmMoqvwWTV"

func (o *RepartOptions) check() error {
	for _, name := range []string{o.Architecture, o.ForceArchitecture} {
		if _, ok := arch.ByName(name); !ok && name != "" {
			return fmt.Errorf("unknown architecture %q: want a name such as x86-64 or arm64", printable(name))
		}
	}
	for letter := range o.Specifiers {
		if !strings.Contains(specifierLetters, string(rune(letter))) {
			return fmt.Errorf("unknown specifier %q of systemd-repart: want one of %s", printable("%"+string(rune(letter))), specifierLetters)
		}
	}
	return nil
}

func (o *RepartOptions) local() string { return cmp.Or(o.Architecture, "x86-64") }

// typeFor finds a type by the names that systemd-repart takes: with or without architecture, or a
// GUID.
func (o *RepartOptions) typeFor(name string) (osmith.GUID, error) {
	t, err := o.typeNamed(name)
	if err != nil || o.ForceArchitecture == "" {
		return t, err
	}
	_, role, ok := arch.ByType(t)
	if !ok {
		return t, nil
	}
	a, _ := arch.ByName(o.ForceArchitecture) // checked
	if a.Types[role].IsZero() {
		return osmith.GUID{}, fmt.Errorf("%s has no such partition type", o.ForceArchitecture)
	}
	return a.Types[role], nil
}

func (o *RepartOptions) typeNamed(name string) (osmith.GUID, error) {
	return localType(name, o.local())
}

// LocalTypeByName is the type that definition files of systemd-repart and systemd-sysupdate mean by
// a name on a machine of an architecture, as systemd names it ("x86-64", "arm64"): a name of
// repart.d(5), "Type=", of which some depend on the machine ("root", "usr-verity",
// "root-secondary"), or a GUID, with or without dashes.
func LocalTypeByName(name, architecture string) (osmith.GUID, error) {
	if _, ok := arch.ByName(architecture); !ok {
		return osmith.GUID{}, prefix.Error("partition", fmt.Errorf("unknown architecture %q: want a name such as x86-64 or arm64", printable(architecture)))
	}
	t, err := localType(name, architecture)
	return t, prefix.Error("partition", err)
}

func localType(name, architecture string) (osmith.GUID, error) {
	if t, ok := systemTypeByName(name); ok {
		return t, nil
	}
	if kind, rest, _ := strings.Cut(name, "-"); kind == "root" || kind == "usr" {
		a := architecture
		if rest == "secondary" || strings.HasPrefix(rest, "secondary-") {
			rest = strings.TrimPrefix(strings.TrimPrefix(rest, "secondary"), "-")
			local, ok := arch.ByName(a)
			if !ok || local.Secondary == "" {
				return osmith.GUID{}, fmt.Errorf("%s has no secondary architecture", architecture)
			}
			a = local.Secondary
		}
		full := kind + "-" + a
		if rest != "" {
			full += "-" + rest
		}
		if t, ok := systemTypeByName(full); ok {
			return t, nil
		}
	}
	t, err := parseID(name)
	if err != nil || t.IsZero() {
		return osmith.GUID{}, errors.New("no such partition type: want a name of repart.d(5), such as esp or root-x86-64, or a GUID that is not zero")
	}
	return t, nil
}

// together checks what one definition says about others.
func together(l *Layout, read []*definition) error {
	targets, bad, err := l.targets()
	if err != nil {
		return read[bad].fail("SupplementFor", err)
	}
	for i, k := range targets {
		if k < 0 {
			continue
		}
		b, err := read[k].merged(read[i])
		if err != nil {
			return read[i].fail("SupplementFor", err)
		}
		l.Partitions[i].Merged = b
	}
	parts := map[string]map[VerityRole][]*definition{}
	for _, d := range read {
		if f := d.s.Fill; f != nil && f.Verity != nil {
			v := f.Verity
			if parts[v.MatchKey] == nil {
				parts[v.MatchKey] = map[VerityRole][]*definition{}
			}
			parts[v.MatchKey][v.Role] = append(parts[v.MatchKey][v.Role], d)
		}
	}
	for _, d := range read {
		f := d.s.Fill
		if f == nil || f.Verity == nil {
			continue
		}
		of := parts[f.Verity.MatchKey]
		for _, role := range []VerityRole{VerityData, VerityHash} {
			if n := len(of[role]); n != 1 {
				return d.fail("VerityMatchKey", fmt.Errorf("%d definitions have Verity=%s and VerityMatchKey=%s, want one", n, role, printable(f.Verity.MatchKey)))
			}
		}
		if all := of[VeritySignature]; len(all) > 1 {
			return d.fail("VerityMatchKey", fmt.Errorf("%s and %s are both for the signature, want one at most", all[0].name, all[1].name))
		}
		data := of[VerityData][0].s.Fill
		switch {
		case f.Verity.Role != VerityHash:
		case f.File != "" && data.File == "":
			return d.fail("CopyBlocks", fmt.Errorf("%s, which has the data, has no CopyBlocks=", of[VerityData][0].name))
		case f.Minimize != "" && data.Encrypt != nil:
			return d.fail("Minimize", fmt.Errorf("%s, which has the data, is encrypted: a root hash of its ciphertext is not known in advance", of[VerityData][0].name))
		case f.Minimize != "" && data.Minimize == "" && data.File == "":
			return d.fail("Minimize", fmt.Errorf("%s, which has the data, has neither CopyBlocks= nor Minimize=", of[VerityData][0].name))
		}
	}
	return nil
}

// labelFATs gives FAT file systems their volume labels, which come from the names of their
// partitions.
func (r *Repart) labelFATs() {
	for i, name := range r.Layout.Names() {
		if fill := r.Layout.Partitions[i].Fill; fill != nil && fill.FAT != nil {
			fill.FAT.Label = fatLabel(name)
		}
	}
}

// fatLabel makes a volume label of a partition's name as systemd-repart does: capitals, "_" for
// what a FAT cannot have, and eleven characters at most.
func fatLabel(name string) string {
	var out []byte
	for _, r := range name {
		switch {
		case len(out) == 11:
			return string(out)
		case r >= 'a' && r <= 'z':
			out = append(out, byte(r-'a'+'A'))
		case r < ' ' || r > '~' || strings.ContainsRune(`+,;=[]<>|"*?./\:`, r):
			out = append(out, '_')
		default:
			out = append(out, byte(r))
		}
	}
	return string(out)
}
