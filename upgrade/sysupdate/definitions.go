package sysupdate

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// Directories are where systemd-sysupdate looks for definitions, in a root file system. What comes
// first counts.
var Directories = []string{"etc", "run", "usr/local/lib", "usr/lib"}

// maxFiles is how many definition files there may be in one directory.
const maxFiles = 1024

// DefinitionOptions are what definitions leave open.
type DefinitionOptions struct {
	// Specifiers replace %A, %M and the like, by letter: those of sysupdate.d(5), "Specifiers". %A
	// is IMAGE_VERSION of the running system's os-release, "" if it has none. A specifier that is
	// not given is [ErrSpecifier] where a file has it.
	Specifiers map[byte]string
	// Architecture is the local one, meant by types such as "root": "x86-64" (also ""), "arm64" and
	// so on, as systemd names it.
	Architecture string
	// Component is the one to read, as --component= of systemd-sysupdate has it. "": the default
	// one.
	Component string
	// Directory is one directory with all the definitions, as --definitions= has it, in place of
	// [Directories].
	Directory string
}

// Definitions are what the files of one component say.
type Definitions struct {
	Component *Component  // nil: the default one
	Transfers []*Transfer // by the names of their files, which is the order in which they are made
	Features  []*Feature  // by name
	Findings  []*DefinitionError
}

// Component are transfers that are made apart from the others (sysupdate.d(5)).
type Component struct {
	Name          string
	Description   string
	Documentation string
	Disabled      bool      // nothing is installed, but what is installed is listed
	Suggestions   []Setting // Suggest= and the like
	DropIns       []string
}

// Feature is a set of transfers that is switched on and off (sysupdate.features(5)).
type Feature struct {
	Name          string // "devel" of devel.feature
	File          string
	DropIns       []string
	Description   string
	Documentation string
	AppStream     string
	Enabled       bool
	Suggestions   []Setting // Suggest= and the like
}

// Setting is one line of a file.
type Setting struct{ Key, Value string }

// DefinitionError is a line of a definition that cannot be followed, or that systemd-sysupdate
// passes over with a warning ([Definitions].Findings).
type DefinitionError struct {
	File string
	Line int // from 1; 0: the file as a whole
	Err  error
}

func (e *DefinitionError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *DefinitionError) Unwrap() error { return e.Err }

var (
	// ErrSpecifier: a specifier that stands in a definition and is not in [DefinitionOptions].
	ErrSpecifier = errors.New("the text for a specifier is not given")
	// ErrUnknown: a section or a key that systemd-sysupdate 262 does not have, and passes over.
	ErrUnknown = errors.New("unknown to systemd-sysupdate 262")
	// ErrUnsupported: what is not supported here, and cannot be passed over: with it, the
	// definition would say something else.
	ErrUnsupported = errors.New("unsupported")
)

// ReadDefinitions reads the transfers and features of one component, with their drop-ins, as
// systemd-sysupdate 262 reads them from a root file system (sysupdate.d(5), sysupdate.features(5);
// https://www.freedesktop.org/software/systemd/man/latest/sysupdate.d.html). Files *.conf are those
// of systemd before 257: they count where there is no *.transfer. A file of a directory that comes
// first in [Directories] replaces those of its name; an empty file, or a link to /dev/null, takes
// them away.
//
// What systemd-sysupdate passes over with a warning is a finding, with the line, and means here
// what it means there. What makes it fail is an error, as a [*DefinitionError]. No transfers at all
// is not an error.
func ReadDefinitions(root fs.FS, o DefinitionOptions) (d *Definitions, err error) {
	defer prefix.Add("sysupdate", &err)
	r := &reader{fsys: root, o: o, d: &Definitions{}}
	if err := r.o.check(); err != nil {
		return nil, err
	}
	if err := r.component(); err != nil {
		return nil, err
	}
	if err := r.features(); err != nil {
		return nil, err
	}
	if err := r.transfers(); err != nil {
		return nil, err
	}
	return r.d, nil
}

// specifierLetters are those of sysupdate.d(5), "Specifiers".
const specifierLetters = "aAbBHlmMovwWTV"

func (o *DefinitionOptions) check() error {
	if o.Architecture == "" {
		o.Architecture = arch.X8664.Name
	}
	if _, ok := arch.ByName(o.Architecture); !ok {
		return fmt.Errorf("unknown architecture %q: want a name such as x86-64 or arm64", o.Architecture)
	}
	if o.Component != "" && !validComponent(o.Component) {
		return fmt.Errorf("component %q: want a name without slashes and control characters", o.Component)
	}
	if o.Component != "" && o.Directory != "" {
		return fmt.Errorf("component %q, and one directory with all definitions: one or the other", o.Component)
	}
	for letter := range o.Specifiers {
		if letter >= 0x80 || !strings.Contains(specifierLetters, string(rune(letter))) {
			return fmt.Errorf("unknown specifier %q of systemd-sysupdate: want one of the letters %s", "%"+string(rune(letter)), specifierLetters)
		}
	}
	return nil
}

func validComponent(name string) bool {
	return name != "" && len(name) < 256 && name != "." && name != ".." && utf8.ValidString(name) && !strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == '/' || c == 0x7f })
}

// Components are the names of the components that a root file system has definitions of, besides
// the default one.
func Components(root fs.FS) (names []string, err error) {
	defer prefix.Add("sysupdate", &err)
	for _, dir := range Directories {
		entries, err := fs.ReadDir(root, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("components: %w", err)
		}
		for _, e := range entries {
			name, ok := strings.CutPrefix(e.Name(), "sysupdate.")
			if !ok {
				continue
			}
			if name, ok = strings.CutSuffix(name, ".d"); !ok || !e.IsDir() || strings.HasSuffix(name, ".component") || !validComponent(name) || slices.Contains(names, name) {
				continue
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// reader reads the files of one component.
type reader struct {
	fsys fs.FS
	o    DefinitionOptions
	d    *Definitions
}

// directories are where the definitions are.
func (r *reader) directories() []string {
	if r.o.Directory != "" {
		return []string{r.o.Directory}
	}
	name := "sysupdate.d"
	if r.o.Component != "" {
		name = "sysupdate." + r.o.Component + ".d"
	}
	return r.under(name)
}

func (r *reader) under(name string) (dirs []string) {
	for _, dir := range Directories {
		dirs = append(dirs, path.Join(dir, name))
	}
	return dirs
}

// found is a file that counts among those of its name.
type found struct {
	base, name, text string
}

// files are those with a suffix that count, by their names.
func (r *reader) files(dirs []string, suffix string) (list []found, err error) {
	seen := map[string]bool{}
	for _, dir := range dirs {
		names, err := unitfile.Names(r.fsys, dir, maxFiles, suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &DefinitionError{File: dir, Err: err}
		}
		for _, name := range names {
			base := path.Base(name)
			if seen[base] {
				continue
			}
			text, state, err := unitfile.Read(r.fsys, name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				r.finding(name, 0, err)
				continue
			case err != nil:
				return nil, &DefinitionError{File: name, Err: err}
			case state == unitfile.None:
				continue
			}
			if seen[base] = true; state == unitfile.There {
				list = append(list, found{base, name, text})
			}
		}
	}
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.base, b.base) })
	return list, nil
}

// dropIns are what changes a definition.
func (r *reader) dropIns(dirs []string, base string) (list []found, names []string, err error) {
	var all []string
	for _, dir := range dirs {
		all = append(all, path.Join(dir, base+".d"))
	}
	if list, err = r.files(all, ".conf"); err != nil {
		return nil, nil, err
	}
	for _, f := range list {
		names = append(names, f.name)
	}
	return list, names, nil
}

func (r *reader) finding(file string, line int, err error) {
	r.d.Findings = append(r.d.Findings, &DefinitionError{File: file, Line: line, Err: err})
}

// parse reads one file. set follows an assignment: [ignored] for what systemd-sysupdate passes
// over, another error for what it fails on.
func (r *reader) parse(f found, sections []string, set func(section, key, value string, line int) error) error {
	const none, other = "", "?"
	section := none
	for at, s := range unitfile.Lines(f.text) {
		fatal := func(err error) error { return &DefinitionError{File: f.name, Line: at, Err: err} }
		if !utf8.ValidString(s) {
			return fatal(fmt.Errorf("%q: want UTF-8", strings.ToValidUTF8(s, "?")))
		}
		if s[0] == '[' {
			name, ok := strings.CutSuffix(s[1:], "]")
			if !ok {
				return fatal(fmt.Errorf("%q: want a closing bracket at the end", s))
			}
			if section = name; !slices.Contains(sections, name) {
				if section = other; !strings.HasPrefix(name, "X-") {
					r.finding(f.name, at, fmt.Errorf("%w section: [%s], want [%s]", ErrUnknown, name, strings.Join(sections, "], [")))
				}
			}
			continue
		}
		key, value, ok := unitfile.Assignment(s)
		switch {
		case section == other:
			continue
		case section == none:
			r.finding(f.name, at, fmt.Errorf("%q is outside of a section: want [%s] first", s, sections[0]))
			continue
		case !ok:
			r.finding(f.name, at, fmt.Errorf("%q: want KEY=VALUE", s))
			continue
		case strings.HasPrefix(key, "X-"):
			continue
		}
		err := set(section, key, value, at)
		var ignore *ignored
		switch {
		case errors.As(err, &ignore):
			r.finding(f.name, at, fmt.Errorf("%s=%s: %w", key, value, ignore.err))
		case err != nil:
			return fatal(fmt.Errorf("%s=%s: %w", key, value, err))
		}
	}
	return nil
}

// ignored is what systemd-sysupdate passes over.
type ignored struct{ err error }

func (e *ignored) Error() string { return e.err.Error() }

// ignore makes an error one that systemd-sysupdate passes over.
func ignore(err error) error {
	if err == nil {
		return nil
	}
	return &ignored{err}
}

func unknownKey(section string) error {
	return &ignored{fmt.Errorf("%w key in [%s]", ErrUnknown, section)}
}

// errUnset: a specifier that systemd-sysupdate does not have.
var errUnset = errors.New("no specifier")

// expand replaces specifiers.
func (o *DefinitionOptions) expand(value string) (string, error) {
	text, err := unitfile.Expand(value, func(letter byte) (string, error) {
		text, given := o.Specifiers[letter]
		switch {
		case given:
			return text, nil
		case letter == 'a':
			return o.Architecture, nil
		case strings.IndexByte(specifierLetters, letter) >= 0:
			return "", fmt.Errorf("%w: %%%c", ErrSpecifier, letter)
		}
		return "", fmt.Errorf("%q is %w: want one of the letters %s after the percent sign, or %%%%", "%"+string(rune(letter)), errUnset, specifierLetters)
	})
	if errors.Is(err, errUnset) {
		return "", ignore(err)
	}
	return text, err
}

// suggestions are the keys of features and components that say where they are of use: they change
// nothing about what is installed.
func suggestion(key string) bool {
	return key == "Suggest" || strings.HasPrefix(key, "SuggestOn") && slices.Contains(suggestOn, key)
}

var suggestOn = []string{
	"SuggestOnArchitecture", "SuggestOnFirmware", "SuggestOnVirtualization", "SuggestOnHost", "SuggestOnFraction", "SuggestOnKernelCommandLine", "SuggestOnVersion",
	"SuggestOnCredential", "SuggestOnSecurity", "SuggestOnOSRelease", "SuggestOnMachineTag",
}

// component reads whether the component is on.
func (r *reader) component() error {
	if r.o.Component == "" {
		return nil
	}
	c := &Component{Name: r.o.Component}
	r.d.Component = c
	base := "sysupdate." + c.Name + ".component"
	files, err := r.files(Directories, base)
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f found) bool { return f.base != base })
	dropIns, names, err := r.dropIns(Directories, base)
	if err != nil {
		return err
	}
	c.DropIns = names
	for _, f := range append(files, dropIns...) {
		err := r.parse(f, []string{"Component"}, func(section, key, value string, _ int) error {
			switch {
			case key == "Enabled":
				on, err := unitfile.Boolean(value)
				if err == nil {
					c.Disabled = !on
				}
				return ignore(err)
			case key == "Description":
				c.Description = value
			case key == "Documentation":
				return r.url(&c.Documentation, value)
			case suggestion(key):
				c.Suggestions = append(c.Suggestions, Setting{key, value})
			default:
				return unknownKey(section)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// features reads *.feature.
func (r *reader) features() error {
	dirs := r.directories()
	files, err := r.files(dirs, ".feature")
	if err != nil {
		return err
	}
	for _, f := range files {
		feature := &Feature{Name: strings.TrimSuffix(f.base, ".feature"), File: f.name}
		dropIns, names, err := r.dropIns(dirs, f.base)
		if err != nil {
			return err
		}
		feature.DropIns = names
		for _, f := range append([]found{f}, dropIns...) {
			err := r.parse(f, []string{"Feature"}, func(section, key, value string, _ int) (err error) {
				switch {
				case key == "Description":
					feature.Description = value
				case key == "Documentation":
					err = r.url(&feature.Documentation, value)
				case key == "AppStream":
					err = r.url(&feature.AppStream, value)
				case key == "Enabled":
					on, err := unitfile.Boolean(value)
					if err == nil {
						feature.Enabled = on
					}
					return ignore(err)
				case suggestion(key):
					feature.Suggestions = append(feature.Suggestions, Setting{key, value})
				default:
					return unknownKey(section)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		r.d.Features = append(r.d.Features, feature)
	}
	return nil
}

// url reads the address of a document.
func (r *reader) url(to *string, value string) error {
	text, err := r.o.expand(value)
	if err != nil {
		return err
	}
	if text != "" && !isURL(text, webSchemes) {
		return ignore(errURL)
	}
	*to = text
	return nil
}

var errURL = errors.New("want an address that begins with https:// or http://")

var (
	webSchemes    = []string{"https://", "http://"}
	sourceSchemes = append(webSchemes, "file:///")
)

func isURL(text string, schemes []string) bool {
	for _, scheme := range schemes {
		if rest, ok := strings.CutPrefix(text, scheme); ok {
			return rest != "" && !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f })
		}
	}
	return false
}

// enabled says whether a transfer is made, by the features that it belongs to.
func (d *Definitions) enabled(t *Transfer) bool {
	on := func(name string) bool {
		return slices.ContainsFunc(d.Features, func(f *Feature) bool { return f.Name == name && f.Enabled })
	}
	off := func(name string) bool { return !on(name) }
	return (len(t.Features) == 0 || slices.ContainsFunc(t.Features, on)) && !slices.ContainsFunc(t.RequisiteFeatures, off)
}
