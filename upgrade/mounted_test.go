package upgrade_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// mountedSystem runs version 1 with its ESP mounted.
func mountedSystem(t *testing.T) *system {
	t.Helper()
	s := newSystem(t, "")
	s.bootAndRun()
	s.mount()
	return s
}

// espVolume is the mounted ESP, and where its partition lies.
func (s *system) espVolume() (v upgrade.MountedVolume, id osmith.GUID, off, size int64) {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	for i, p := range table.Partitions {
		if p.Type == partition.ESP {
			off, size = table.Extent(i)
			return s.machine.Mounted[p.ID], p.ID, off, size
		}
	}
	s.t.Fatal("no ESP")
	return nil, id, 0, 0
}

// spiedDisk has a cache of its own for what it reads, as the node of a whole disk has, and tells
// what is written through it.
type spiedDisk struct {
	*faultio.Disk
	pages   map[int64][]byte
	written func(off, n int64)
}

const spiedPage = 4096

func (d *spiedDisk) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && off+int64(n) < d.Size() {
		at := (off + int64(n)) / spiedPage * spiedPage
		page := d.pages[at]
		if page == nil {
			page = make([]byte, min(spiedPage, d.Size()-at))
			if _, err := d.Disk.ReadAt(page, at); err != nil {
				return n, err
			}
			d.pages[at] = page
		}
		n += copy(b[n:], page[off+int64(n)-at:])
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (d *spiedDisk) WriteAt(b []byte, off int64) (int, error) {
	d.written(off, int64(len(b)))
	for at := off / spiedPage * spiedPage; at < off+int64(len(b)); at += spiedPage {
		delete(d.pages, at)
	}
	return d.Disk.WriteAt(b, off)
}

func (d *spiedDisk) DropCache(off, n int64) error {
	for at := off / spiedPage * spiedPage; at < off+n; at += spiedPage {
		delete(d.pages, at)
	}
	return nil
}

// What is on a mounted ESP is read from the medium, also where the kernel has changed it behind the
// disk's own cache, and nothing is written there but through the kernel.
func TestMountedThroughTheKernelAlone(t *testing.T) {
	s := mountedSystem(t)
	_, _, off, size := s.espVolume()
	spied := &spiedDisk{Disk: s.disk, pages: map[int64][]byte{}, written: func(at, n int64) {
		require.False(t, at < off+size && off < at+n, "%d bytes at %d, in the mounted partition", n, at)
	}}
	do := func(version string) {
		p, err := upgrade.NewPlan(t.Context(), spied, s.build(version).Release(), s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.NoError(t, p.Apply(t.Context(), nil))
		require.Equal(t, version, s.bootAndRun().Version)
		_, err = upgrade.Commit(spied, s.machine, "")
		require.NoError(t, err)
	}
	do("2")
	do("3")
	_, err := upgrade.Rollback(spied, s.machine, "")
	require.NoError(t, err)
	require.Equal(t, "2", s.bootAndRun().Version)
	p, err := upgrade.NewPlan(t.Context(), spied, s.build("4").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context(), nil))
	_, err = upgrade.Cancel(spied, s.machine)
	require.NoError(t, err)
	require.Equal(t, "2", s.bootAndRun().Version)

	// Another program writes there after the plan was made.
	p, err = upgrade.NewPlan(t.Context(), spied, s.build("4").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	esp, _, _, _ := s.espVolume()
	require.NoError(t, esp.Create("EFI/Linux/other.efi", source([]byte("x"))))
	var changed *upgrade.ChangedError
	require.ErrorAs(t, p.Apply(t.Context(), nil), &changed)
}

// brokenVolume is a kernel that does not do as it is told.
type brokenVolume struct {
	upgrade.MountedVolume
	create func(name string, content osmith.Source) osmith.Source
	sync   error
}

func (v *brokenVolume) Create(name string, content osmith.Source) error {
	return v.MountedVolume.Create(name, v.create(name, content))
}

func (v *brokenVolume) Sync() error {
	if v.sync != nil {
		return v.sync
	}
	return v.MountedVolume.Sync()
}

// The copy by which a commit renames is read back before it takes the name, and so is everything
// else.
func TestMountedReadBack(t *testing.T) {
	s := mountedSystem(t)
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil))
	s.bootAndRun()
	esp, id, _, _ := s.espVolume()
	before := listing(t, s)
	broken := &brokenVolume{MountedVolume: esp, create: func(_ string, content osmith.Source) osmith.Source {
		b := contentOf(t, content)
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		return bytes.NewReader(b)
	}}
	s.machine.Mounted = map[osmith.GUID]upgrade.MountedVolume{id: broken}
	_, err := upgrade.Commit(s.disk, s.machine, "")
	var read *upgrade.ReadBackError
	require.ErrorAs(t, err, &read)
	require.Subset(t, listing(t, s), before)

	broken.create = func(_ string, content osmith.Source) osmith.Source { return content }
	broken.sync = errors.New("input/output error")
	_, err = upgrade.Commit(s.disk, s.machine, "")
	require.ErrorIs(t, err, broken.sync)
	broken.sync = nil
	name, err := upgrade.Commit(s.disk, s.machine, "")
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_2.efi", name)
	require.NotContains(t, fmt.Sprint(listing(t, s)), "staged")
}

func listing(t *testing.T, s *system) (names []string) {
	t.Helper()
	require.NoError(t, fs.WalkDir(s.esp(), ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	}))
	return names
}

// Two names on one chain, which a cut may leave, are not changed through the kernel: what frees one
// damages the other. A caller that has the partition alone repairs it.
func TestMountedDamage(t *testing.T) {
	s := mountedSystem(t)
	require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
	s.bootAndRun()
	s.mount()
	s.disk.Record()
	_, err := upgrade.Commit(s.disk, s.machine, "")
	require.NoError(t, err)
	faults, err := s.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 4096})
	require.NoError(t, err)
	refused := 0
	for state := range faults.States() {
		left := s.on(state.Disk)
		_, err := upgrade.Commit(left.disk, left.machine, "")
		var unrepaired *upgrade.UnrepairedError
		if !errors.As(err, &unrepaired) {
			continue
		}
		refused++
		require.Contains(t, err.Error(), "the ESP is mounted and damaged: ")
		before := contentOf(t, left.disk)
		p, err := upgrade.NewPlan(t.Context(), left.disk, s.build("3").Release(), left.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.ErrorAs(t, p.Refused(), &unrepaired)
		require.Equal(t, before, contentOf(t, left.disk))

		left.machine.Mounted, left.mounts = nil, false
		_, err = upgrade.Commit(left.disk, left.machine, "")
		require.NoError(t, err)
		p, err = upgrade.NewPlan(t.Context(), left.disk, s.build("3").Release(), left.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		require.NoError(t, p.Apply(t.Context(), nil), "%s", p)
		require.Equal(t, "3", left.boot().Version)
		found, err := left.esp().Check()
		require.NoError(t, err)
		require.True(t, found.Clean(), "%s", found)
		if refused == 6 {
			break
		}
	}
	require.Equal(t, 6, refused)
}

// A UKI that fits once, and not twice, could not be committed: the plan says so.
func TestMountedSpace(t *testing.T) {
	s := mountedSystem(t)
	release := s.build("2").Release()
	esp := s.esp()
	filler := esp.Free() - release.UKI.Size()*3/2
	require.NoError(t, esp.MkdirAll("EFI/acme"))
	require.NoError(t, esp.WriteFile("EFI/acme/filler", source(make([]byte, filler))))
	s.mount()
	plan := func() error {
		p, err := upgrade.NewPlan(t.Context(), s.disk, release, s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		return p.Refused()
	}
	var space *upgrade.ESPSpaceError
	require.ErrorAs(t, plan(), &space)
	s.machine.Mounted = nil
	require.NoError(t, plan())
}

// What an interrupted upgrade left beside a file has the name by which that is removed: it goes
// first.
func TestMountedLeftoverBesideAFile(t *testing.T) {
	s := mountedSystem(t)
	s.install(s.build("2"))
	s.bootAndRun()
	esp, _, _, _ := s.espVolume()
	for _, name := range []string{"EFI/Linux/acme_3.efi.extra.d", "EFI/Linux/acme_1.efi.extra.d"} {
		require.NoError(t, esp.Mkdir(name))
		require.NoError(t, esp.Create(name+"/a.addon.efi", source([]byte("an add-on"))))
		require.NoError(t, esp.Create(name+"/a.addon.efi.osmith-staged", source([]byte("a piece"))))
	}
	require.NoError(t, esp.Sync())
	p := s.plan(s.build("3"), upgrade.PlanOptions{})
	require.NoError(t, p.Apply(t.Context(), nil), "%s", p)
	require.Equal(t, "3", s.boot().Version)
	require.NotContains(t, fmt.Sprint(listing(t, s)), "a.addon.efi")
}

// A partition that is not on the disk is of another one.
func TestMountedElsewhere(t *testing.T) {
	s := mountedSystem(t)
	esp, _, _, _ := s.espVolume()
	s.machine.Mounted = map[osmith.GUID]upgrade.MountedVolume{{9}: esp}
	_, err := upgrade.Inspect(s.disk, s.machine)
	var other *upgrade.NotRunningError
	require.ErrorAs(t, err, &other)
	require.ErrorContains(t, err, "the mounted partition 09000000-0000-0000-0000-000000000000")
}

// What an interrupted upgrade has left in any state goes with the next one, without a person's
// help: also a file whose chain is not whole.
func TestStagedFileIsDamaged(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	s.mount()
	s.disk.Record()
	require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Apply(context.Background(), nil))
	faults, err := s.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 64})
	require.NoError(t, err)
	discarded := 0
	for state := range faults.States() {
		left := s.on(state.Disk)
		left.machine.Mounted, left.mounts = nil, false
		_, err := left.esp().Repair()
		if err == nil {
			// Also an empty file, where the new entry was to appear.
			_, err := upgrade.Cancel(left.disk, left.machine)
			require.NoError(t, err)
			require.NotContains(t, fmt.Sprint(listing(t, left)), "acme_2")
			continue
		}
		discarded++
		for _, do := range []func(*system){
			func(l *system) {
				p := l.plan(s.build("2"), upgrade.PlanOptions{})
				require.Contains(t, p.String(), "discarded files")
				require.NoError(t, p.Apply(t.Context(), nil), "%s", p)
				require.Equal(t, "2", l.boot().Version)
			},
			func(l *system) {
				_, err := upgrade.Cancel(l.disk, l.machine)
				require.NoError(t, err)
				require.Equal(t, "1", l.boot().Version)
			},
		} {
			l := s.on(state.Disk.Clone())
			l.machine.Mounted, l.mounts = nil, false
			do(l)
			found, err := l.esp().Check()
			require.NoError(t, err)
			require.True(t, found.Clean(), "%s", found)
			require.NotContains(t, fmt.Sprint(listing(t, l)), "staged")
		}
		if discarded == 8 {
			break
		}
	}
	require.Positive(t, discarded)
}

func TestInUseError(t *testing.T) {
	for want, e := range map[string]upgrade.InUseError{
		"/dev/sda1 is mounted on /efi: unmount it first":                                                    {Name: "/dev/sda1", MountPoint: "/efi", Holders: []string{"dm-0"}},
		"/dev/sda1 is in use by dm-0 and dm-1":                                                              {Name: "/dev/sda1", Holders: []string{"dm-0", "dm-1"}},
		"/dev/sda1 is in use by the kernel or by another program: its mount point is not visible from here": {Name: "/dev/sda1"},
	} {
		require.EqualError(t, &e, want)
	}
}

// usedDisk is one of which the kernel uses a partition.
type usedDisk struct {
	*faultio.Disk
	off, size int64
	held      int
}

func (d *usedDisk) Exclusive(off, n int64) (func() error, error) {
	if off < d.off+d.size && d.off < off+n {
		return nil, &upgrade.InUseError{Name: "/dev/sda9", Holders: []string{"dm-7"}}
	}
	d.held++
	return func() error { d.held--; return nil }, nil
}

// A disk that knows what the kernel uses keeps it from being written: the ESP, and the slot that is
// the target. What is said to be mounted is written through the kernel, and not held.
func TestDiskTellsWhatIsInUse(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	release := s.build("2").Release()
	for i, p := range table.Partitions {
		off, size := table.Extent(i)
		d := &usedDisk{Disk: s.disk.Clone(), off: off, size: size}
		plan, err := upgrade.NewPlan(t.Context(), d, release, s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		var used *upgrade.InUseError
		if written := p.Type == partition.ESP || p.Name == partition.EmptyName; written {
			require.ErrorAs(t, plan.Refused(), &used, p.Name)
			require.Equal(t, contentOf(t, s.disk), contentOf(t, d.Disk))
		} else {
			require.NoError(t, plan.Apply(t.Context(), nil), "%s", p.Name)
		}
		require.Zero(t, d.held)
		if p.Type == partition.ESP {
			m := s.machine
			_, err = upgrade.Rollback(d, m, "acme_1")
			require.ErrorAs(t, err, &used)
			_, err = upgrade.Cancel(d, m)
			require.ErrorAs(t, err, &used)
			loader, err := upgrade.NewLoaderPlan(t.Context(), d, &bootloader.Installation{Loader: s.signedLoader("262.1")}, m, upgrade.LoaderOptions{})
			require.NoError(t, err)
			require.ErrorAs(t, loader.Refused(), &used)
		}
	}
}
