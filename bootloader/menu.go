package bootloader

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// The places where systemd-boot looks, relative to the file system.
const (
	configPath   = "loader/loader.conf"
	srelPath     = "loader/entries.srel"
	seedPath     = "loader/random-seed"
	keysDir      = "loader/keys/"
	loaderDir    = arch.SystemdDir
	type1Dir     = "loader/entries"
	type2Dir     = "EFI/Linux"
	maxConfigLen = 1 << 20
)

// MenuOptions are facts that [ReadMenu] cannot read from the ESP. The zero value is an x86-64
// machine without an extended boot loader partition, and systemd-boot 262.
type MenuOptions struct {
	XBOOTLDR     fs.FS  // the extended boot loader partition
	Architecture string // EFI name: "x64" if empty, "aa64", "riscv64"...
	Self         string // path of the running loader; Type #1 entries that start it are hidden

	// LoaderVersion is the version of systemd-boot ([LoaderVersion]); "": the newest known version,
	// 262. For a version newer than all of [Releases] the error is a [*LoaderVersionError], unless
	// AssumeLoader names the release whose behaviour is assumed.
	LoaderVersion osmith.Version
	AssumeLoader  int

	// KeepGoing makes an unreadable file a Finding with [ErrUnreadable], and reading goes on. It is
	// then unknown whether the loader would list that file.
	KeepGoing bool
}

func (o MenuOptions) architecture() string {
	if o.Architecture == "" {
		return arch.X8664.EFI
	}
	return o.Architecture
}

// Menu is what systemd-boot shows, best entry first.
type Menu struct {
	Entries  []*Entry
	Config   *Config   // loader.conf; empty if there is none
	Findings []Finding // files that were left out, and faults of those that are listed
	Release  Release   // the row of [Releases] that was followed; the zero value is the newest
}

// Finding is a remark about a file. Err is an [*EntryError] if the remark is about a line of a Type
// #1 entry.
type Finding struct {
	Path     string
	XBOOTLDR bool
	Err      error
}

// ReadMenu reads the entries and the configuration of an EFI system partition as systemd-boot
// would. Names are looked up without regard to case, on any file system. An ESP that lacks the
// directories has an empty menu; only failure to read is an error, unless the options say to keep
// going.
//
// Files are taken in the order of [fs.ReadDir]; the loader takes them in the order of the FAT
// directory. That matters only for entries that the sorting does not tell apart, such as a counted
// and an uncounted file of one entry, which is a Finding with [ErrTwinExists].
func ReadMenu(esp fs.FS, o MenuOptions) (m *Menu, err error) {
	defer prefix.Add("bootloader", &err)
	m = &Menu{Config: new(Config), Release: newest()}
	if o.LoaderVersion != "" || o.AssumeLoader != 0 {
		if m.Release, err = findRelease(o.LoaderVersion, o.AssumeLoader); err != nil {
			return nil, err
		}
	}
	if b, err := readFile(esp, configPath); err == nil {
		m.Config = parseConfig(b, m.Release)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for i, fsys := range []fs.FS{esp, o.XBOOTLDR} {
		if fsys == nil {
			continue
		}
		if err := m.readType2(fsys, i == 1, o); err != nil {
			return nil, err
		}
		if err := m.readType1(fsys, i == 1, o); err != nil {
			return nil, err
		}
	}
	m.findTwins()
	sortEntries(m.Entries)
	return m, nil
}

func (m *Menu) readType2(fsys fs.FS, xbootldr bool, o MenuOptions) error {
	return m.eachFile(fsys, xbootldr, o, type2Dir, ".efi", func(dir, name string) error {
		p := path.Join(dir, name)
		f, size, err := openAt(fsys, p)
		if err != nil {
			return err
		}
		defer f.Close()
		list, findings := readType2(name, f.(io.ReaderAt), size, o.architecture(), m.Release)
		for _, err := range findings {
			if _, unreadable := errors.AsType[*fs.PathError](err); unreadable {
				return err
			}
			m.Findings = append(m.Findings, Finding{p, xbootldr, err})
		}
		for _, e := range list {
			e.Path, e.Loader, e.XBOOTLDR = p, p, xbootldr
			if e.Damage != "" && e.Profile == 0 {
				m.Findings = append(m.Findings, Finding{p, xbootldr, errors.New(e.Damage)})
			}
			m.Entries = append(m.Entries, e)
		}
		return nil
	})
}

func (m *Menu) readType1(fsys fs.FS, xbootldr bool, o MenuOptions) error {
	if xbootldr {
		o.Self = "" // the loader runs from the ESP
	}
	return m.eachFile(fsys, xbootldr, o, type1Dir, ".conf", func(dir, name string) error {
		p := path.Join(dir, name)
		b, err := readFile(fsys, p)
		if err != nil {
			return err
		}
		e, findings, err := readType1(fsys, name, b, o, m.Release)
		if err != nil {
			return err
		}
		for _, err := range findings {
			m.Findings = append(m.Findings, Finding{p, xbootldr, err})
		}
		if e != nil {
			e.Path, e.XBOOTLDR = p, xbootldr
			m.Entries = append(m.Entries, e)
		}
		return nil
	})
}

// findTwins notes entries of one name of which one is counted and one is not, or both are.
func (m *Menu) findTwins() {
	type key struct {
		id       string
		xbootldr bool
	}
	first := make(map[key]*Entry)
	for _, e := range m.Entries {
		k := key{lower(e.ID), e.XBOOTLDR}
		other := first[k]
		if other == nil {
			first[k] = e
			continue
		}
		if other.Counted || e.Counted {
			m.Findings = append(m.Findings, Finding{e.Path, e.XBOOTLDR, fmt.Errorf("entry %s is also %s: %w", e.ID, other.Path, ErrTwinExists)})
		}
	}
}

// eachFile calls f for the files of a directory that the loader would look at.
func (m *Menu) eachFile(fsys fs.FS, xbootldr bool, o MenuOptions, dir, suffix string, f func(dir, name string) error) error {
	dir, err := lookup(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return err
	}
	for _, d := range list {
		name := d.Name()
		auto := hasPrefixFold(name, "auto-") && (!m.Release.rules.lowerAuto || strings.HasPrefix(name, "auto-"))
		if d.IsDir() || name[0] == '.' || !hasSuffixFold(name, suffix) || auto {
			continue
		}
		if err := f(dir, name); err != nil && o.KeepGoing {
			m.Findings = append(m.Findings, Finding{path.Join(dir, name), xbootldr, fmt.Errorf("%w: %w", ErrUnreadable, err)})
		} else if err != nil {
			return err
		}
	}
	return nil
}

// lookup finds a path without regard to the case of ASCII letters, an exact match first, and
// returns it as it is spelled there. A path that this file system cannot have does not exist.
func lookup(fsys fs.FS, name string) (string, error) {
	missing := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	if !fs.ValidPath(name) {
		return "", missing
	}
	at := "."
	for part := range strings.SplitSeq(name, "/") {
		if at != "." {
			if info, err := fs.Stat(fsys, at); err != nil {
				return "", err
			} else if !info.IsDir() {
				return "", missing
			}
		}
		var err error
		if at, err = lookupIn(fsys, at, part); errors.Is(err, fs.ErrNotExist) {
			return "", missing
		} else if err != nil {
			return "", err
		}
	}
	return at, nil
}

// lookupIn finds a name in a directory in the same way.
func lookupIn(fsys fs.FS, dir, name string) (string, error) {
	next := path.Join(dir, name)
	_, err := fs.Stat(fsys, next)
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
		return next, err
	}
	list, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(list, func(d fs.DirEntry) bool { return equalFold(d.Name(), name) })
	if i < 0 {
		return "", &fs.PathError{Op: "open", Path: next, Err: fs.ErrNotExist}
	}
	return path.Join(dir, list[i].Name()), nil
}

// openAt opens a file for random access.
func openAt(fsys fs.FS, name string) (fs.File, int64, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		if _, ok := f.(io.ReaderAt); !ok {
			err = &fs.PathError{Op: "read", Path: name, Err: errors.New("the files of this file system have no ReadAt")}
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readFile reads a configuration file, up to a size far beyond any real one.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	name, err := lookup(fsys, name)
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigLen+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxConfigLen {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d bytes", maxConfigLen)}
	}
	return b, nil
}
