package sysupdate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
)

// maxInstances is how many files or directories are looked at for one transfer.
const maxInstances = 1 << 16

// Prefixes of the names of what is not installed yet.
const (
	PartialPrefix = ".sysupdate.partial." // is being written
	PendingPrefix = ".sysupdate.pending." // is there, and waits for the rest of its version
	OldPrefix     = ".#"                  // is being written, by systemd before 260
)

// InstanceState says how far an instance is. The zero value is none.
type InstanceState string

const (
	InstanceInstalled InstanceState = "installed"
	InstancePending   InstanceState = "pending" // whole, and not to be used yet
	InstancePartial   InstanceState = "partial" // its writing has begun
)

// An Instance is one version of one resource: a file, a directory or a partition.
type Instance struct {
	Transfer *Transfer
	State    InstanceState
	Fields   Fields // that its name has; Fields.Version is always there

	Path      string // of a file or directory, from that of the target
	Partition int    // of a partition, its index in the table; otherwise -1
}

// Wholeness says whether every transfer has an instance of a version. The zero value says that this
// is not known.
type Wholeness string

const (
	WholenessComplete   Wholeness = "complete"
	WholenessIncomplete Wholeness = "incomplete"
)

// A Version is what the targets have of one version.
type Version struct {
	Version   string
	Wholeness Wholeness
	Instances []*Instance // of the transfers that are made, in their order
	// those that have no instance; with WholenessIncomplete, not all of them may be known
	Missing []*Transfer

	// an instance is: the version can neither be used nor gone on with before "systemd-sysupdate
	// vacuum"
	Partial bool
	// an instance is; if none is partial and none is missing, "systemd-sysupdate update --offline"
	// installs the version
	Pending   bool
	Obsolete  bool // it is older than MinVersion= of a transfer
	Protected bool // a transfer has it in ProtectVersion=

	// Ambiguous says that a transfer has several instances of it. Which one systemd-sysupdate means
	// then is a matter of the order of a directory.
	Ambiguous bool
}

// Usable says that the version is installed and whole: it is known that every transfer has it, and
// none has it partial or pending.
func (v *Version) Usable() bool { return v.Wholeness == WholenessComplete && !v.Partial && !v.Pending }

// State is what is installed.
type State struct {
	Versions []*Version // newest first
	Targets  []*TargetState
}

// TargetState is what one target has.
type TargetState struct {
	Transfer  *Transfer
	Instances []*Instance
	// Err is why it is not known what the target has; nil if it is.
	Err error
	// Free are the indexes of the partitions that hold nothing ([partition.EmptyName]).
	Free []int
	// Slots is how many partitions of the target's type there are, in any state. With fewer than
	// two, systemd-sysupdate installs nothing.
	Slots int
	// Leftovers are files and directories of an attempt that did not end, which systemd-sysupdate
	// removes before the next one, unless RemoveTemporary=no.
	Leftovers []string
}

// ReadState says which versions systemd-sysupdate 262 finds installed by these definitions: what
// "systemd-sysupdate list --offline" lists. Transfers that are switched off are in [State].Targets,
// and count for no version. A target of which it is not known what it holds ([Places], or a
// directory that cannot be read) has the reason in TargetState.Err; then no version is known to be
// complete.
func ReadState(d *Definitions, p Places) (s *State, err error) {
	defer prefix.Add("sysupdate", &err)
	o, err := p.open()
	if err != nil {
		return nil, err
	}
	s = &State{}
	for _, t := range d.Transfers {
		ts := &TargetState{Transfer: t}
		if t.Target.Type == Partition {
			ts.Err = o.partitions(ts)
		} else {
			ts.Err = o.files(ts)
		}
		if ts.Err != nil {
			ts.Instances = nil
		}
		s.Targets = append(s.Targets, ts)
	}
	s.join()
	return s, nil
}

// Version is the one with that name, or one that compares as equal; nil if there is none.
func (s *State) Version(version string) *Version {
	for _, v := range s.Versions {
		if bootloader.CompareVersions(v.Version, version) == 0 {
			return v
		}
	}
	return nil
}

// Newest is the newest version there is anything of, which systemd-sysupdate calls the current one;
// nil if there is none.
func (s *State) Newest() *Version {
	if len(s.Versions) == 0 {
		return nil
	}
	return s.Versions[0]
}

// match reads a name by the first pattern that it has.
func match(patterns []*Pattern, name string) (Fields, bool) {
	for _, p := range patterns {
		if f, ok := p.Match(name); ok {
			return f, true
		}
	}
	return Fields{}, false
}

// partitions finds those of a target.
func (p *places) partitions(ts *TargetState) error {
	t := &ts.Transfer.Target
	switch {
	case !p.isDisk(t.Path):
		return fmt.Errorf("the disk %s: %w", t.Path, ErrNotKnown)
	case p.table == nil:
		return p.noDisk
	}
	states := map[InstanceState]osmith.GUID{InstanceInstalled: t.PartitionType, InstancePartial: partition.PartialType(t.PartitionType), InstancePending: partition.PendingType(t.PartitionType)}
	for i, part := range p.table.Partitions {
		for state, id := range states {
			if id != part.Type || part.Type.IsZero() {
				continue
			}
			ts.Slots++
			if part.Name == partition.EmptyName {
				ts.Free = append(ts.Free, i)
			} else if f, ok := match(t.Patterns, part.Name); ok {
				ts.Instances = append(ts.Instances, &Instance{Transfer: ts.Transfer, State: state, Fields: f, Path: part.Name, Partition: i})
			}
		}
	}
	return nil
}

// files finds the files or directories of a target.
func (p *places) files(ts *TargetState) error {
	t := &ts.Transfer.Target
	at, err := p.find(t)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the target is on a partition that is not there
	}
	if err != nil {
		return err
	}
	deep := 0
	for _, pattern := range t.Patterns {
		deep = max(deep, pattern.slashes())
	}
	seen := 0
	return walk(at, deep, func(name string, e fs.DirEntry) error {
		if seen++; seen > maxInstances {
			return fmt.Errorf("%s: more than %d files", at.dir, maxInstances)
		}
		plain, state := stateOf(name)
		if !strings.Contains(name, "/") && (strings.HasPrefix(name, OldPrefix) || strings.HasPrefix(name, PartialPrefix)) {
			ts.Leftovers = append(ts.Leftovers, name)
		}
		if (t.Type == RegularFile) != e.Type().IsRegular() || t.Type != RegularFile && !e.IsDir() {
			return nil
		}
		if f, ok := match(t.Patterns, plain); ok {
			ts.Instances = append(ts.Instances, &Instance{Transfer: ts.Transfer, State: state, Fields: f, Path: name, Partition: -1})
		}
		return nil
	})
}

// stateOf takes the prefixes off the elements of a path, which say how far it is.
func stateOf(name string) (plain string, state InstanceState) {
	state = InstanceInstalled
	elements := strings.Split(name, "/")
	for i, e := range elements {
		for prefix, s := range map[string]InstanceState{PartialPrefix: InstancePartial, PendingPrefix: InstancePending} {
			if rest, ok := strings.CutPrefix(e, prefix); ok {
				if elements[i] = rest; state != InstancePartial {
					state = s
				}
			}
		}
	}
	return strings.Join(elements, "/"), state
}

// walk calls visit for what is in a directory, and in the directories there as far down as it is
// told, by their paths from it. A directory that is not there, or a link in its place, has nothing
// in it.
func walk(at place, deep int, visit func(name string, e fs.DirEntry) error) error {
	info, err := fs.Lstat(at.fsys, at.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeSymlink:
		return nil
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", at.dir)
	}
	var below func(dir string, deep int) error
	below = func(dir string, deep int) error {
		entries, err := fs.ReadDir(at.fsys, path.Join(at.dir, dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			if err := visit(name, e); err != nil {
				return err
			}
			if e.IsDir() && deep > 0 {
				if err := below(name, deep-1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return below(".", deep)
}

// compareInstances orders those of one target: by version from the newest on, then by name.
func compareInstances(a, b *Instance) int {
	number := func(i *Instance) string { return strconv.Itoa(i.Partition + 1) }
	return cmp.Or(bootloader.CompareVersions(b.Fields.Version, a.Fields.Version), cmp.Compare(a.Path, b.Path), cmp.Compare(number(a), number(b)))
}

// join makes versions of the instances.
func (s *State) join() {
	known := true
	var all []*Instance
	for _, ts := range s.Targets {
		slices.SortFunc(ts.Instances, compareInstances)
		if ts.Transfer.Enabled {
			known = known && ts.Err == nil
			all = append(all, ts.Instances...)
		}
	}
	slices.SortStableFunc(all, func(a, b *Instance) int { return bootloader.CompareVersions(b.Fields.Version, a.Fields.Version) })
	for len(all) > 0 {
		name := all[0].Fields.Version
		n := 1
		for n < len(all) && bootloader.CompareVersions(all[n].Fields.Version, name) == 0 {
			n++
		}
		s.Versions = append(s.Versions, s.version(name, all[:n], known))
		all = all[n:]
	}
}

// version is what the targets have of one.
func (s *State) version(name string, instances []*Instance, known bool) *Version {
	v := &Version{Version: name, Instances: instances}
	for _, i := range instances {
		v.Partial = v.Partial || i.State == InstancePartial
		v.Pending = v.Pending || i.State == InstancePending
	}
	for _, ts := range s.Targets {
		t := ts.Transfer
		if !t.Enabled {
			continue
		}
		n := 0
		for _, i := range instances {
			if i.Transfer == t {
				n++
			}
		}
		switch {
		case n > 1:
			v.Ambiguous = true
		case n == 0 && ts.Err == nil:
			v.Missing = append(v.Missing, t)
		}
		v.Obsolete = v.Obsolete || t.MinVersion != "" && bootloader.CompareVersions(name, t.MinVersion) < 0
		v.Protected = v.Protected || slices.Contains(t.ProtectVersions, name)
	}
	switch {
	case len(v.Missing) > 0:
		v.Wholeness = WholenessIncomplete
	case known:
		v.Wholeness = WholenessComplete
	}
	return v
}
