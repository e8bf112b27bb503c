package upgrade

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// ChangedError says that something is not what it was when the plan was made.
type ChangedError struct {
	What string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s has changed since the plan was made: make a new one", e.What)
}

// snapshot is what a disk held when a plan was made: the partition table, and the files of the ESP by their sizes, those that were judged by their content as well.
type snapshot struct {
	table [sha256.Size]byte
	files map[string]fileState // by path
}

type fileState struct {
	size   int64
	digest [sha256.Size]byte // zero: it was not judged
}

// takeSnapshot reads a disk anew. judged says of which files the content counts.
func takeSnapshot(disk osmith.Disk, judged func(name string) bool) (s snapshot, err error) {
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return s, err
	}
	header, entries, err := table.MarshalPrimary()
	if err != nil {
		return s, err
	}
	s.table = sha256.Sum256(append(header, entries...))
	window, err := findESP(disk, table)
	if err != nil {
		return s, err
	}
	esp, err := fat.Open(window)
	if err != nil {
		return s, err
	}
	s.files = map[string]fileState{}
	err = fs.WalkDir(esp, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		state := fileState{size: info.Size()}
		if judged(name) {
			src, err := openFile(esp, name)
			if err != nil {
				return err
			}
			if state.digest, err = digest(src); err != nil {
				return err
			}
		}
		s.files[name] = state
		return nil
	})
	return s, err
}

// changed is what differs from an earlier snapshot; nil if nothing does.
func (s snapshot) changed(before snapshot) error {
	if s.table != before.table {
		return &ChangedError{"the partition table"}
	}
	for _, name := range slices.Sorted(maps.Keys(before.files)) {
		if s.files[name] != before.files[name] {
			return &ChangedError{name + " on the ESP"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if _, there := before.files[name]; !there {
			return &ChangedError{name + " on the ESP"}
		}
	}
	return nil
}

// judged reports whether a verdict depends on the content of a file on the ESP: loaders, their configuration and entries, add-ons, what is remembered, and the
// UKIs of what runs and of what the machine returns to. Others only have to be of the same size.
func (p *Plan) judged(name string) bool {
	for _, l := range p.state.loaders {
		if fat.SameName(l.path, name) {
			return true
		}
	}
	for _, e := range []*Entry{p.from, p.state.Started, p.fallback} {
		if e != nil && (fat.SameName(uncounted(e.Path), uncounted(name)) || fat.SameName(uncounted(e.Loader), uncounted(name))) {
			return true
		}
	}
	dir := path.Dir(name)
	return fat.SameName(name, configPath) || fat.SameName(name, failedPath) || fat.SameName(dir, "loader/entries") || fat.SameName(dir, "loader/addons") ||
		strings.HasSuffix(strings.ToLower(dir), ".extra.d")
}

// releaseDigests are SHA-256 digests of what a release puts on the ESP. The root hash stands for the rest.
type releaseDigests struct {
	uki    [sha256.Size]byte
	addons map[string][sha256.Size]byte // by name
}

func (d releaseDigests) equal(other releaseDigests) bool {
	return d.uki == other.uki && maps.Equal(d.addons, other.addons)
}

func digestRelease(r *release.Release) (d releaseDigests, err error) {
	if d.uki, err = digest(r.UKI); err != nil {
		return d, err
	}
	d.addons = map[string][sha256.Size]byte{}
	for _, a := range r.Addons {
		if d.addons[a.Name], err = digest(a.Content); err != nil {
			return d, err
		}
	}
	return d, nil
}
