package upgrade

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// mirrored are the directories of an ESP that firmware, loader and stub look at, and that a mirror
// has as well.
var mirrored = []string{"EFI/Linux", "EFI/BOOT", "EFI/systemd", "loader"}

// ownedByDisk reports whether a file belongs to one ESP alone: what a random seed was used for once
// it must not be used for again.
func ownedByDisk(name string) bool { return fat.SameName(name, "loader/random-seed") }

// MirrorOptions are the choices of [Mirror].
type MirrorOptions struct {
	// ESP is the unique ID of the partition on the other disk, if that disk has several. Zero: the
	// only one.
	ESP osmith.GUID

	// Progress, if not nil, is called with the bytes of files written so far, and the total.
	Progress func(done, total int64)
}

// Mirror copies what the loader finds on the ESP of this disk to the ESP of a second disk: for a
// machine that firmware may start from either disk, as with root file systems on a RAID. Call it
// after each [Plan.Apply], [Commit] and [Rollback], and at each start, since the loader counts
// boots on the ESP from which it was started. Mirror makes the UKIs with the files beside them, the
// loaders and loader/ equal, except the random seed; other directories stay. It returns what was
// changed, if anything.
//
// New files are written first, each atomically, then changed files, then obsolete files are
// removed: a power cut leaves an ESP from which the machine starts a version that was on one of the
// two. Everything is read back. Machine is the machine of the disk; its Mounted may name the other
// ESP. A disk with an extended boot loader partition cannot be mirrored. Both disks may be the
// same. The other disk must have a method Sync and is locked, as by [Plan.Apply]; this one must not
// change meanwhile. If the context ends, the other ESP is left as after a power cut.
func Mirror(ctx context.Context, disk, other osmith.Disk, m Machine, o MirrorOptions) (changes []string, err error) {
	defer prefix.Add("upgrade", &err)
	from, err := m.openESPOf(disk, m.espID())
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if findXBOOTLDR(from.table) >= 0 {
		return nil, errors.New("mirror: the disk has an extended boot loader partition, whose entries an ESP alone cannot have")
	}
	on := checked(other)
	release, err := take(on)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	to, err := m.openESPOf(on, o.ESP)
	if err != nil {
		return nil, fmt.Errorf("mirror: the other ESP: %w", err)
	}
	if id := to.id(); id == from.id() {
		return nil, fmt.Errorf("mirror: %w", &CloneError{id, []string{"this disk", "the other disk"}})
	}
	volume := &bootFS{esp: to}
	held, err := volume.exclusively(on)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	defer func() { err = errors.Join(err, held()) }()
	if l := volume.tryRepair(); l.err != nil {
		return nil, fmt.Errorf("mirror: the other ESP: %w", l.err)
	} else if l.any() {
		if err := volume.Repair(); err != nil {
			return nil, fmt.Errorf("mirror: the other ESP: %w", err)
		}
	}
	r := &reflection{from: from, to: to}
	if err := r.compare(); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	tell := meter{progress: o.Progress}
	for _, c := range r.steps {
		if c.src != nil {
			tell.total += c.src.Size()
		}
	}
	for _, c := range r.steps {
		if err := ctx.Err(); err != nil {
			return changes, fmt.Errorf("mirror: %s: %w", c.what, err)
		}
		if err := c.do(tell.cancelled(ctx, c.src)); err != nil {
			return changes, fmt.Errorf("mirror: %s: %w", c.what, err)
		}
		if err := toMedium(on); err != nil {
			return changes, err
		}
		changes = append(changes, c.what)
	}
	return changes, r.check()
}

// openESPOf opens one ESP of a disk: the one with that ID, or the only one.
func (m *Machine) openESPOf(disk osmith.Disk, id osmith.GUID) (*bootVolume, error) {
	if err := pastCache(disk); err != nil {
		return nil, err
	}
	t, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return nil, err
	}
	i, err := (&Machine{ESP: id}).findESP(t)
	if err != nil {
		return nil, err
	}
	return m.openVolume(disk, t, i)
}

func (v *bootVolume) id() osmith.GUID { return v.table.Partitions[v.index].ID }

// reflection is one ESP that is to be as another is.
type reflection struct {
	from, to *bootVolume
	steps    []reflected
}

type reflected struct {
	what string
	src  osmith.Source // that is written; nil: nothing is
	do   func(src osmith.Source) error
}

// compare works out the steps, in their order.
func (r *reflection) compare() error {
	here, err := filesBelow(r.from, mirrored)
	if err != nil {
		return err
	}
	there, err := filesBelow(r.to, mirrored)
	if err != nil {
		return err
	}
	var added, changed, gone []reflected
	renamed := map[string]bool{}
	for _, name := range here {
		if ownedByDisk(name) || isStagedName(name) {
			continue
		}
		src, err := openFile(r.from, name)
		if err != nil {
			return err
		}
		want, err := digest(src)
		if err != nil {
			return err
		}
		same, found, err := r.holds(name, want)
		switch {
		case err != nil:
			return err
		case same:
			continue
		case found:
			changed = append(changed, reflected{"replace " + name, src, func(src osmith.Source) error { return r.to.ReplaceFile(name, src) }})
			continue
		}
		// One that has another counter by now is renamed.
		old, err := r.counted(name, want, there)
		if err != nil {
			return err
		}
		if old != "" && !renamed[old] {
			renamed[old] = true
			added = append(added, reflected{fmt.Sprintf("rename %s to %s", old, path.Base(name)), nil, func(osmith.Source) error { return r.to.Rename(old, name) }})
			continue
		}
		added = append(added, reflected{"add " + name, src, func(src osmith.Source) error { return r.add(name, src) }})
	}
	for _, name := range there {
		_, err := r.from.Stat(name)
		if err == nil || ownedByDisk(name) || renamed[name] {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		gone = append(gone, reflected{"remove " + name, nil, func(osmith.Source) error { return r.to.Remove(name) }})
	}
	// What lies beside an entry comes before it, and goes behind it.
	beside := func(c reflected) int {
		if strings.Contains(fold(c.what), ".extra.d/") {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(added, func(a, b reflected) int { return beside(a) - beside(b) })
	slices.SortStableFunc(gone, func(a, b reflected) int { return beside(b) - beside(a) })
	r.steps = slices.Concat(added, changed, gone)
	return nil
}

// holds reports whether the mirror has a file of a name, and whether that is the same.
func (r *reflection) holds(name string, want [sha256.Size]byte) (same, found bool, err error) {
	have, err := openFile(r.to, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	got, err := digest(have)
	return got == want, true, err
}

// counted is the same file under a name with another boot counter; "" if there is none.
func (r *reflection) counted(name string, want [sha256.Size]byte, there []string) (string, error) {
	for _, have := range there {
		if fat.SameName(have, name) || !fat.SameName(uncounted(have), uncounted(name)) {
			continue
		}
		switch _, err := r.from.Stat(have); {
		case err == nil:
			continue // it stays
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		if same, _, err := r.holds(have, want); err != nil || same {
			return have, err
		}
	}
	return "", nil
}

// add makes a file that is not there.
func (r *reflection) add(name string, src osmith.Source) error {
	if err := r.to.MkdirAll(path.Dir(name)); err != nil {
		return err
	}
	return r.to.WriteFile(name, src)
}

// check reads the mirror back.
func (r *reflection) check() error {
	if err := pastCache(r.to.window); err != nil {
		return err
	}
	if err := r.to.reload(); err != nil {
		return err
	}
	r.steps = nil
	if err := r.compare(); err != nil {
		return err
	}
	if len(r.steps) > 0 {
		return fmt.Errorf("mirror: the ESPs differ after mirroring: %s: one of them changed meanwhile, or its medium is failing", r.steps[0].what)
	}
	return nil
}

// filesBelow lists the files of directories, sorted.
func filesBelow(v *bootVolume, dirs []string) (names []string, err error) {
	for _, dir := range dirs {
		err := fs.WalkDir(v.FS, dir, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && name == dir {
				return nil
			}
			if err == nil && !d.IsDir() {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}
