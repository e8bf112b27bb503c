package sysupdate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// InstallDatabase is where systemd-sysupdate 262 keeps records of what it has installed
// (systemd-sysupdate(8), "cleanup").
const InstallDatabase = "/var/lib/systemd/sysupdate"

// maxRecords is how many records a component may have.
const maxRecords = 1 << 16

// A Record is one entry of the database: a pattern by which systemd-sysupdate has once installed
// something into a directory. "systemd-sysupdate cleanup" removes what it matches and what no
// transfer has any more.
type Record struct {
	Name    string // of the link in the database: the SHA-256 of its text
	Dir     string // absolute
	Pattern string // as it was written; not every one is a pattern ([ParsePattern])
}

// RecordComponents are the components that the database has records of; "" is the default one.
func RecordComponents(database fs.FS) (names []string, err error) {
	defer prefix.Add("sysupdate", &err)
	entries, err := fs.ReadDir(database, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), "installdb"); ok && e.IsDir() && (name == "" || name[0] == '.' && validComponent(name[1:])) {
			names = append(names, strings.TrimPrefix(name, "."))
		}
	}
	return names, nil
}

// ReadRecords reads the records of a component, "" for the default one. The database is the
// directory [InstallDatabase]. Links that systemd-sysupdate would throw away are not among them,
// and each is a finding; what is no link is passed over. A database that is not there has no
// records.
func ReadRecords(database fs.FS, component string) (records []Record, findings []error, err error) {
	defer prefix.Add("sysupdate", &err)
	dir := "installdb"
	if component != "" {
		if !validComponent(component) {
			return nil, nil, fmt.Errorf("component %q: want a name without slashes and control characters", component)
		}
		dir += "." + component
	}
	entries, err := fs.ReadDir(database, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if len(entries) > maxRecords {
		return nil, nil, fmt.Errorf("%s: %d records, at most %d", dir, len(entries), maxRecords)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		text, err := fs.ReadLink(database, path.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		r, err := parseRecord(e.Name(), text)
		if err != nil {
			findings = append(findings, &osmith.FormatError{Offset: -1, Field: path.Join(dir, e.Name()), Err: err})
			continue
		}
		records = append(records, *r)
	}
	return records, findings, nil
}

// parseRecord reads DIRECTORY/./PATTERN.
func parseRecord(name, text string) (*Record, error) {
	if want := RecordName(text); name != want {
		return nil, fmt.Errorf("the name of the link to %q differs from its SHA-256: want %s", text, want)
	}
	dir, pattern, ok := strings.Cut(text, "/./")
	switch {
	case !ok:
		return nil, fmt.Errorf("the link to %q does not say where the directory ends: want /./ after it", text)
	case !isAbsolute(dir):
		return nil, fmt.Errorf("the link to %q: %q: want an absolute path without \".\" or \"..\"", text, dir)
	}
	return &Record{Name: name, Dir: dir, Pattern: pattern}, nil
}

// RecordName is the name of the link of a record with that text.
func RecordName(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// An Orphan is what "systemd-sysupdate cleanup" removes, with all that is in it.
type Orphan struct {
	Path   string // absolute
	Dir    bool
	Record Record
}

// Cleanup is what systemd-sysupdate cleanup would do.
type Cleanup struct {
	Orphans []Orphan // by path
	// Unknown are records of which it is not known what they match, and transfers of which it is
	// not known what they have: any file may go, or stay, for them.
	Unknown []error
}

// FindOrphans says what "systemd-sysupdate cleanup" of systemd 262 would remove for the records of
// a component, by the definitions of the same component; "systemd-sysupdate update --cleanup=yes"
// does it at the end of an update. Nothing is removed here.
//
// Who removes the definitions of transfers, as on a machine that is not upgraded by
// systemd-sysupdate any more, makes orphans of all that they had: of every UKI, also of the one
// that runs and of those that another program has installed under names of the same pattern.
// ProtectVersion= does not help. Remove the database with them.
func FindOrphans(d *Definitions, records []Record, p Places) (c *Cleanup, err error) {
	defer prefix.Add("sysupdate", &err)
	o, err := p.open()
	if err != nil {
		return nil, err
	}
	c = &Cleanup{}
	owners := c.owners(d, o)
	seen := map[string]bool{}
	for _, r := range records {
		pattern, err := parsePattern(r.Pattern)
		if err != nil {
			continue // it matches nothing
		}
		at, err := o.absolute(r.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			n := 0
			err = walk(at, pattern.slashes(), func(name string, e fs.DirEntry) error {
				if n++; n > maxInstances {
					return fmt.Errorf("more than %d files", maxInstances)
				}
				if !e.IsDir() && !e.Type().IsRegular() {
					return nil // links stay
				}
				full := path.Join(r.Dir, name)
				if _, ok := pattern.Match(name); ok && !seen[full] && !owned(owners, full) {
					seen[full] = true
					c.Orphans = append(c.Orphans, Orphan{Path: full, Dir: e.IsDir(), Record: r})
				}
				return nil
			})
		}
		if err != nil {
			c.Unknown = append(c.Unknown, fmt.Errorf("record %s/./%s: %w", r.Dir, r.Pattern, err))
		}
	}
	slices.SortFunc(c.Orphans, func(a, b Orphan) int { return strings.Compare(a.Path, b.Path) })
	return c, nil
}

// owner is the target of a transfer.
type owner struct {
	dir      string // absolute
	patterns []*Pattern
}

// owners are the targets of the transfers that are made.
func (c *Cleanup) owners(d *Definitions, p *places) (list []owner) {
	for _, t := range d.Transfers {
		if !t.Enabled || t.Target.Type == Partition {
			continue
		}
		at, err := p.find(&t.Target)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && at.mounted == "":
			err = fmt.Errorf("where the %s is mounted: %w", t.Target.Base, ErrNotKnown)
		}
		if err != nil {
			c.Unknown = append(c.Unknown, fmt.Errorf("transfer %s: %w", t.Name, err))
			continue
		}
		list = append(list, owner{at.mounted, t.Target.Patterns})
	}
	return list
}

// owned says whether a transfer has what is at a path.
func owned(owners []owner, full string) bool {
	return slices.ContainsFunc(owners, func(o owner) bool {
		rest, ok := strings.CutPrefix(full, strings.TrimSuffix(o.dir, "/")+"/")
		if !ok {
			return false
		}
		_, ok = match(o.patterns, rest)
		return ok
	})
}
