package partition

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// RepartOptions are what definition files of systemd-repart leave open.
type RepartOptions struct {
	// Architecture is meant by types such as "root": "x86-64" (also ""), "arm64" and so on, as systemd names it.
	Architecture string
	// Specifiers replace %M, %A and the like, by letter. "%%" is always a percent sign.
	Specifiers map[byte]string
}

// RepartError is a line of a definition file that cannot be followed.
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

// ErrRepartKey: a key of a definition file that is not supported here. It is inside of a [*RepartError].
var ErrRepartKey = errors.New("unsupported")

const (
	maxRepartFile  = 1 << 20
	maxRepartFiles = 1024
)

// ReadRepart reads the definition files (*.conf, in the order of their names) of a repart.d directory, as
// systemd-repart 262 reads them
// (https://www.freedesktop.org/software/systemd/man/latest/repart.d.html), and returns the layout that they ask for: with
// the same Seed, Size and contents, [Plan] places the partitions where systemd-repart --empty=create places them.
//
// The keys are Type, Label, UUID, Priority, Weight, PaddingWeight, SizeMinBytes, SizeMaxBytes, PaddingMinBytes,
// PaddingMaxBytes, CopyBlocks with a path, Format=vfat with CopyFiles and MakeDirectories, Format=empty, VolumeLabel,
// Flags, NoAuto, ReadOnly and GrowFileSystem. SplitName, FactoryReset and MountPoint say nothing about the disk and are
// passed over; Encrypt, Verity, Minimize and Integrity may be off. Every other key, and what depends on the machine
// (CopyBlocks=auto, UUID=null), is a [*RepartError] with the line, as is everything that systemd-repart warns about and
// ignores. Paths are taken as they are written: they are for whoever opens the content ([Fill]).
func ReadRepart(fsys fs.FS, o RepartOptions) (l Layout, err error) {
	defer prefix.Add("partition", &err)
	names, err := fs.Glob(fsys, "*.conf")
	if err != nil {
		return Layout{}, fmt.Errorf("definition files: %w", err)
	}
	if len(names) == 0 {
		return Layout{}, fmt.Errorf("no definition files (*.conf): %w", fs.ErrNotExist)
	}
	if len(names) > maxRepartFiles {
		return Layout{}, fmt.Errorf("%d definition files, at most %d", len(names), maxRepartFiles)
	}
	slices.Sort(names)
	l = Layout{Align: grain, Start: 1 << 20}
	labels := map[string]bool{}
	for _, name := range names {
		text, err := readSmall(fsys, name)
		if err != nil {
			return Layout{}, &RepartError{File: name, Err: err}
		}
		d := &definition{name: name, o: o, s: Spec{Weight: 1000}}
		if err := d.parse(text); err != nil {
			return Layout{}, err
		}
		spec, err := d.finish(labels)
		if err != nil {
			return Layout{}, &RepartError{File: name, Err: err}
		}
		labels[spec.Name] = true
		l.Partitions = append(l.Partitions, *spec)
	}
	return l, nil
}

func readSmall(fsys fs.FS, name string) (string, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRepartFile {
		return "", fmt.Errorf("is no regular file of at most %d bytes", maxRepartFile)
	}
	b, err := fs.ReadFile(fsys, name)
	return string(b), err
}

// definition is one file while it is read.
type definition struct {
	name string
	o    RepartOptions
	s    Spec

	format                     string
	typed, labelled, hasMin    bool
	noAuto, readOnly, growFS   *bool
	flags                      *uint64
	copyFiles, makeDirectories bool
	fat                        FATFill
}

func (d *definition) parse(text string) error {
	section, line := "", 0
	lines := strings.Split(text, "\n")
	for line < len(lines) {
		at := line + 1
		s := strings.TrimSpace(lines[line])
		for strings.HasSuffix(s, "\\") && line+1 < len(lines) {
			line++
			next := strings.TrimSpace(lines[line])
			if strings.HasPrefix(next, "#") || strings.HasPrefix(next, ";") {
				continue
			}
			s = strings.TrimSuffix(s, "\\") + " " + next
		}
		line++
		fail := func(err error) error { return &RepartError{File: d.name, Line: at, Err: err} }
		switch {
		case s == "" || s[0] == '#' || s[0] == ';':
			continue
		case s[0] == '[':
			if section = s; section != "[Partition]" {
				return fail(fmt.Errorf("section %s: %w", printable(section), ErrRepartKey))
			}
			continue
		}
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return fail(fmt.Errorf("%q is no assignment", printable(s)))
		}
		if section == "" {
			return fail(errors.New("assignment outside of a section"))
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if err := d.set(key, value); err != nil {
			return fail(fmt.Errorf("%s=%s: %w", printable(key), printable(value), err))
		}
	}
	return nil
}

// finish applies the defaults of systemd-repart.
func (d *definition) finish(labels map[string]bool) (*Spec, error) {
	s := &d.s
	if !d.typed {
		return nil, errors.New("has no Type=")
	}
	if s.Fill != nil && (d.format != "" || d.copyFiles || d.makeDirectories) {
		return nil, errors.New("has CopyBlocks= together with Format=, CopyFiles= or MakeDirectories=")
	}
	if (d.copyFiles || d.makeDirectories) && d.format == "" && s.Type != ESP && s.Type != XBOOTLDR {
		return nil, errors.New("has CopyFiles= or MakeDirectories= without Format=: the default is a file system that is not made here")
	}
	if d.format == "vfat" || d.copyFiles || d.makeDirectories {
		s.Fill = &Fill{FAT: &d.fat}
	}
	if d.format == "empty" && !d.labelled {
		s.Name, d.labelled = EmptyName, true
	}
	if !d.labelled {
		s.Name = TypeName(s.Type)
		for n := 2; labels[s.Name]; n++ {
			s.Name = fmt.Sprintf("%s-%d", TypeName(s.Type), n)
		}
	}
	if !d.hasMin {
		s.MinSize = 10 << 20
	}
	if isVeritySig(s.Type) {
		s.MinSize, s.MaxSize = 16<<10, 16<<10
	}
	if s.MaxSize > 0 && d.hasMin && s.MaxSize < s.MinSize {
		return nil, fmt.Errorf("SizeMaxBytes= (%d) is less than SizeMinBytes= (%d)", s.MaxSize, s.MinSize)
	}
	if s.MaxSize > 0 {
		s.MaxSize = max(s.MaxSize, s.MinSize)
	}
	if s.PaddingMax > 0 && s.PaddingMax < s.PaddingMin {
		return nil, fmt.Errorf("PaddingMaxBytes= (%d) is less than PaddingMinBytes= (%d)", s.PaddingMax, s.PaddingMin)
	}
	if err := d.attributes(); err != nil {
		return nil, err
	}
	return s, nil
}

// attributes are Flags with the bits that a key or a default decides.
func (d *definition) attributes() error {
	s := &d.s
	if d.flags != nil {
		s.Attributes = *d.flags
	}
	yes := true
	kind := kindOf(s.Type)
	if d.format == "empty" && d.noAuto == nil && kind.noAuto {
		d.noAuto = &yes
	}
	if kind.verity && d.readOnly == nil {
		d.readOnly = &yes
	}
	// systemd-repart does not ask for GrowFileSystem= here, so that =no has no effect.
	if kind.growFS && (d.readOnly == nil || !*d.readOnly) {
		d.growFS = &yes
	}
	for _, f := range []struct {
		name  string
		bit   uint64
		value *bool
		known bool
	}{
		{"NoAuto", AttrNoAuto, d.noAuto, kind.noAuto},
		{"ReadOnly", AttrReadOnly, d.readOnly, kind.readOnly},
		{"GrowFileSystem", AttrGrowFileSystem, d.growFS, kind.growFS},
	} {
		switch {
		case f.value == nil:
		case !*f.value:
			s.Attributes &^= f.bit
		case !f.known:
			return fmt.Errorf("%s=yes means nothing for the type %s", f.name, TypeName(s.Type))
		default:
			s.Attributes |= f.bit
		}
	}
	return nil
}

// kind says which attributes a type knows (Discoverable Partitions Specification, "Partition Attribute Flags"; what
// systemd takes for known: src/shared/gpt.c).
type kind struct{ noAuto, readOnly, growFS, verity bool }

func kindOf(t osmith.GUID) kind {
	name := TypeName(t)
	sig, verity := strings.HasSuffix(name, "-verity-sig"), strings.HasSuffix(name, "-verity")
	system := strings.HasPrefix(name, "root-") || strings.HasPrefix(name, "usr-")
	switch {
	case system && sig:
		return kind{readOnly: true, verity: true}
	case system && verity:
		return kind{noAuto: true, readOnly: true, verity: true}
	case system, t == Home, t == Srv, t == Var, t == Tmp, t == XBOOTLDR:
		return kind{noAuto: true, readOnly: true, growFS: true}
	}
	return kind{noAuto: t == Swap}
}

func isVeritySig(t osmith.GUID) bool { return strings.HasSuffix(TypeName(t), "-verity-sig") }

// typeFor finds a type by the names that systemd-repart takes: with or without architecture, or a GUID.
func (o RepartOptions) typeFor(name string) (osmith.GUID, bool) {
	if t, ok := TypeByName(name); ok {
		return t, true
	}
	arch := o.Architecture
	if arch == "" {
		arch = "x86-64"
	}
	if kind, rest, _ := strings.Cut(name, "-"); kind == "root" || kind == "usr" {
		full := kind + "-" + arch
		if rest != "" {
			full += "-" + rest
		}
		if t, ok := TypeByName(full); ok {
			return t, true
		}
	}
	t, err := parseID(name)
	return t, err == nil && !t.IsZero()
}

// cleanTarget is an absolute path in the file system to be made, without the leading slash.
func cleanTarget(p string) (string, error) {
	if !path.IsAbs(p) {
		return "", fmt.Errorf("%q is no absolute path", p)
	}
	return path.Clean(p), nil
}

// set follows one assignment.
func (d *definition) set(key, value string) (err error) {
	s := &d.s
	switch key {
	case "Type":
		var ok bool
		if s.Type, ok = d.o.typeFor(value); !ok {
			return errors.New("no such partition type")
		}
		d.typed = true
	case "Label":
		if s.Name, err = d.expand(value); err == nil && efi.UTF16Len(s.Name) > MaxName {
			return fmt.Errorf("has %d UTF-16 units, at most %d fit", efi.UTF16Len(s.Name), MaxName)
		}
		d.labelled = true
	case "VolumeLabel":
		d.fat.Label, err = d.expand(value)
	case "UUID":
		if s.ID, err = parseID(value); err == nil && s.ID.IsZero() {
			return fmt.Errorf("an ID of zeros is %w", ErrRepartKey)
		}
	case "Priority":
		var n int64
		n, err = strconv.ParseInt(value, 10, 32)
		s.Priority = int32(n)
	case "Weight":
		s.Weight, err = weight(value)
	case "PaddingWeight":
		s.PaddingWeight, err = weight(value)
	case "SizeMinBytes":
		s.MinSize, err = sizeValue(value, true)
		d.hasMin = true
	case "SizeMaxBytes":
		s.MaxSize, err = sizeValue(value, false)
	case "PaddingMinBytes":
		s.PaddingMin, err = sizeValue(value, true)
	case "PaddingMaxBytes":
		s.PaddingMax, err = sizeValue(value, false)
	case "CopyBlocks":
		var name string
		if name, err = d.expand(value); err == nil {
			if name == "" || name == "auto" {
				return fmt.Errorf("without a path: %w", ErrRepartKey)
			}
			s.Fill = &Fill{File: name}
		}
	case "Format":
		if value != "vfat" && value != "empty" {
			return fmt.Errorf("file system: %w", ErrRepartKey)
		}
		d.format = value
	case "CopyFiles":
		err = d.copy(value)
	case "MakeDirectories":
		err = d.directories(value)
	case "Flags":
		var n uint64
		if n, err = strconv.ParseUint(value, 0, 64); err == nil {
			d.flags = &n
		}
	case "NoAuto":
		d.noAuto, err = boolean(value)
	case "ReadOnly":
		d.readOnly, err = boolean(value)
	case "GrowFileSystem":
		d.growFS, err = boolean(value)
	case "SplitName", "FactoryReset", "MountPoint":
	case "Encrypt", "Verity", "Minimize", "Integrity":
		if value != "off" && value != "no" && value != "" {
			return ErrRepartKey
		}
	default:
		return ErrRepartKey
	}
	return err
}

// copy reads SOURCE[:TARGET].
func (d *definition) copy(value string) error {
	value, err := d.expand(value)
	if err != nil {
		return err
	}
	if strings.ContainsAny(value, `"'\`) {
		return fmt.Errorf("quotes and escapes: %w", ErrRepartKey)
	}
	source, target, ok := strings.Cut(value, ":")
	if !ok {
		target = source
	}
	if target, option, ok := strings.Cut(target, ":"); ok || target == "" && option == "" {
		return fmt.Errorf("options of a copy: %w", ErrRepartKey)
	}
	if source == "" {
		return errors.New("has no source")
	}
	if target, err = cleanTarget(target); err != nil {
		return err
	}
	d.copyFiles = true
	d.fat.Files = append(d.fat.Files, Copy{Source: source, Target: target})
	return nil
}

func (d *definition) directories(value string) error {
	value, err := d.expand(value)
	if err != nil {
		return err
	}
	for _, dir := range strings.Fields(value) {
		if dir, err = cleanTarget(dir); err != nil {
			return err
		}
		d.makeDirectories = true
		d.fat.Files = append(d.fat.Files, Copy{Target: dir})
	}
	return nil
}

// expand replaces specifiers.
func (d *definition) expand(value string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			out.WriteByte(value[i])
			continue
		}
		if i++; i == len(value) {
			return "", errors.New("ends with a percent sign")
		}
		text, ok := d.o.Specifiers[value[i]]
		switch {
		case value[i] == '%':
			text = "%"
		case !ok:
			return "", fmt.Errorf("specifier %%%s is not given: %w", printable(string(rune(value[i]))), ErrRepartKey)
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

func weight(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err == nil && n > 1_000_000 {
		err = errors.New("want at most 1000000")
	}
	return uint32(n), err
}

func boolean(value string) (*bool, error) {
	var v bool
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		v = true
	case "0", "no", "n", "false", "f", "off":
	default:
		return nil, errors.New("want yes or no")
	}
	return &v, nil
}

// sizeValue reads a size such as 4096, 512K or 1.5G, to the base of 1024, and rounds it to 4096, up or down.
func sizeValue(value string, roundsUp bool) (int64, error) {
	number, unit := value, uint64(1)
	if i := strings.IndexFunc(value, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }); i >= 0 {
		const units = "BKMGTPE"
		n := strings.Index(units, value[i:])
		if n < 0 || len(value[i:]) != 1 {
			return 0, errors.New("want a number with one of the units K, M, G, T, P and E")
		}
		number, unit = value[:i], 1<<(10*n)
	}
	whole, fraction, _ := strings.Cut(number, ".")
	n, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return 0, errors.New("want a number of bytes")
	}
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 || lo > math.MaxInt64/2 {
		return 0, errors.New("is too large")
	}
	if fraction != "" {
		if len(fraction) > 9 {
			return 0, errors.New("has more than nine decimals")
		}
		f, err := strconv.ParseUint(fraction, 10, 64)
		if err != nil {
			return 0, errors.New("want a number of bytes")
		}
		power := uint64(1)
		for range fraction {
			power *= 10
		}
		hi, part := bits.Mul64(f, unit)
		part, _ = bits.Div64(hi, part, power)
		lo += part
	}
	if lo > largest {
		return 0, errors.New("is too large")
	}
	if roundsUp {
		return up(int64(lo)), nil
	}
	return int64(lo) / grain * grain, nil
}

// parseID reads a GUID with or without dashes.
func parseID(s string) (osmith.GUID, error) {
	if len(s) == 32 && !strings.Contains(s, "-") {
		s = s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	}
	return osmith.ParseGUID(s)
}
