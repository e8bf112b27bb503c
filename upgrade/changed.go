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

// ChangedError says that something has changed since the plan was made: make a new plan.
type ChangedError struct {
	What string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changed since the plan was made: make a new plan", e.What)
}

// snapshot is what a disk holds at one time: the partition table, and the files of the ESP by their
// sizes, some by their content as well.
type snapshot struct {
	table [sha256.Size]byte
	// encrypted ones, by the partition's number: what a verdict depends on
	volumes map[int][sha256.Size]byte
	unread  map[int]error        // partitions of which it cannot be read whether they have one
	files   map[string]fileState // by path in one case
}

type fileState struct {
	path   string
	size   int64
	digest [sha256.Size]byte // zero: not read
}

// smallFile is up to what size the content of a file that was judged is compared at every look.
// Larger ones are read before the first write, and before what makes the new entry bootable.
const smallFile = 1 << 20

// takeSnapshot reads a disk anew. judged says of which files the content counts, of those up to
// limit bytes.
func (m *Machine) takeSnapshot(disk osmith.Disk, judged func(name string) bool, limit int64) (s snapshot, esp *bootFS, err error) {
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return s, nil, err
	}
	if s.table, err = tableDigest(table); err != nil {
		return s, nil, err
	}
	// That an extended boot loader partition cannot be read is in the verdicts.
	if esp, _, err = m.openBoot(disk, table); err != nil {
		return s, nil, err
	}
	s.volumes, s.unread = map[int][sha256.Size]byte{}, map[int]error{}
	for _, v := range findVolumes(disk, table) {
		s.volumes[v.Partition] = v.digest()
		if v.unread {
			s.unread[v.Partition] = v.Err
		}
	}
	s.files = map[string]fileState{}
	err = esp.each(func(volume string, v *bootVolume) error { return s.walk(v.FS, volume, judged, limit) })
	return s, esp, err
}

// walk adds the files of a file system.
func (s *snapshot) walk(f *fat.FS, volume string, judged func(name string) bool, limit int64) error {
	return fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		state := fileState{path: volume + name, size: info.Size()}
		if state.size <= limit && judged(volume+name) {
			src, err := openFile(f, name)
			if err != nil {
				return err
			}
			if state.digest, err = digest(src); err != nil {
				return err
			}
		}
		s.put(state)
		return nil
	})
}

func tableDigest(t *partition.Table) (sum [sha256.Size]byte, err error) {
	header, entries, err := t.MarshalPrimary()
	return sha256.Sum256(append(header, entries...)), err
}

func fold(name string) string { return strings.ToLower(name) }

func (s *snapshot) put(f fileState)    { s.files[fold(f.path)] = f }
func (s *snapshot) remove(name string) { delete(s.files, fold(name)) }

func (s *snapshot) removeFunc(gone func(name string) bool) {
	maps.DeleteFunc(s.files, func(name string, _ fileState) bool { return gone(name) })
}

func (s *snapshot) rename(from, to string) {
	f := s.files[fold(from)]
	s.remove(from)
	f.path = to
	s.put(f)
}

func (s snapshot) clone() snapshot {
	s.files = maps.Clone(s.files)
	return s
}

// changed is what differs from an earlier snapshot; nil if nothing does. Contents are compared
// where both have them.
func (s snapshot) changed(before snapshot) error {
	if s.table != before.table {
		return &ChangedError{"the partition table"}
	}
	for _, n := range slices.Sorted(maps.Keys(s.unread)) {
		if before.unread[n] == nil {
			return fmt.Errorf("partition %d: %w", n, s.unread[n])
		}
	}
	for _, n := range slices.Sorted(maps.Keys(before.volumes)) {
		if s.volumes[n] != before.volumes[n] {
			return &ChangedError{fmt.Sprintf("the header of the encrypted volume in partition %d", n)}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(s.volumes)) {
		if _, there := before.volumes[n]; !there {
			return &ChangedError{fmt.Sprintf("partition %d, which has an encrypted volume now,", n)}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before.files)) {
		old := before.files[name]
		now, there := s.files[name]
		unread := [sha256.Size]byte{}
		if !there || now.size != old.size || now.digest != old.digest && now.digest != unread && old.digest != unread {
			return &ChangedError{old.path + " on the ESP"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if _, there := before.files[name]; !there {
			return &ChangedError{s.files[name].path + " on the ESP"}
		}
	}
	return nil
}

// judged reports whether a verdict depends on the content of a file on the ESP: loaders, their
// configuration and entries, add-ons, what is remembered, and the UKIs of what runs and of what the
// machine returns to. Others only have to be of the same size.
func (p *Plan) judged(name string) bool {
	for _, l := range p.state.loaders {
		if fat.SameName(l.path, name) {
			return true
		}
	}
	if p.isStaged && fat.SameName(name, p.staged()) {
		return true
	}
	for _, e := range []*Entry{p.from, p.state.Started, p.fallback} {
		if e != nil && (fat.SameName(uncounted(e.Path), uncounted(name)) || fat.SameName(uncounted(e.Loader), uncounted(name))) {
			return true
		}
	}
	_, rest := splitVolume(name)
	dir := path.Dir(rest)
	return fat.SameName(name, configPath) || fat.SameName(name, failedPath) || fat.SameName(dir, type1Dir) || fat.SameName(dir, "loader/addons") ||
		strings.HasSuffix(strings.ToLower(dir), ".extra.d")
}

// releaseDigests are SHA-256 digests of what a release puts on the ESP. The root hash stands for
// the rest.
type releaseDigests struct {
	uki    [sha256.Size]byte
	addons map[string][sha256.Size]byte // by name, with extensions
}

// digestRelease takes the digest of the UKI as it is known, and those of the add-ons and
// extensions.
func digestRelease(r *release.Release, u *unified) (d releaseDigests, err error) {
	d.uki = u.digest
	d.addons = map[string][sha256.Size]byte{}
	for _, a := range r.Addons {
		if d.addons[a.Name], err = digest(a.Content); err != nil {
			return d, err
		}
	}
	return d, digestExtensions(r, d.addons)
}
