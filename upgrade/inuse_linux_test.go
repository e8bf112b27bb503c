package upgrade_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// loopDisk is the system's disk as a block device with partitions. It skips where the kernel makes
// none.
func loopDisk(t *testing.T, s *system) (disk *osmith.Device, parts []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root and a loop device")
	}
	name := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, s.disk.Save(name))
	out, err := testtools.Try(t, "losetup", "--find", "--show", name)
	if err != nil {
		t.Skipf("no loop device: %v: %s", err, out)
	}
	loop := strings.TrimSpace(out)
	t.Cleanup(func() { testtools.Run(t, "losetup", "--detach", loop) })
	f, err := os.OpenFile(loop, os.O_RDWR, 0)
	require.NoError(t, err)
	disk, err = osmith.NewDevice(f)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, disk.Close()) })
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	if err := partition.UpdateKernel(f, table); err != nil {
		t.Skipf("the loop device takes no partitions: %v", err)
	}
	t.Cleanup(func() {
		none := *table
		none.Partitions = nil
		require.NoError(t, partition.UpdateKernel(f, &none))
	})
	for i := range table.Partitions {
		parts = append(parts, loop+"p"+string(rune('1'+i)))
	}
	if _, err := os.Stat(parts[0]); err != nil {
		t.Skipf("no device nodes for partitions: %v", err)
	}
	return disk, parts
}

// A partition that the kernel uses is not written: what is mounted is named, before the first write
// and in the plan. A partition that is not in use cannot be mounted while the plan is applied.
func TestPartitionInUse(t *testing.T) {
	s := newSystem(t, "")
	disk, parts := loopDisk(t, s)
	release := s.build("2").Release()
	content := func() [sha256.Size]byte {
		t.Helper()
		require.NoError(t, disk.Sync())
		_, err := sparse.DropCache(disk, 0, disk.Size()) // the partitions have caches of their own
		require.NoError(t, err)
		return sha256.Sum256(contentOf(t, disk))
	}
	before := content()
	plan := func() *upgrade.Plan {
		p, err := upgrade.NewPlan(t.Context(), disk, release, s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		return p
	}
	requireRefused := func(err error, name, mount string) {
		t.Helper()
		var used *upgrade.InUseError
		require.ErrorAs(t, err, &used)
		require.Equal(t, upgrade.InUseError{Name: name, MountPoint: mount}, *used)
		require.Equal(t, before, content())
	}

	// The ESP, by a program that has it alone.
	ready := plan()
	require.NoError(t, ready.Refused())
	esp, err := os.OpenFile(parts[0], os.O_RDONLY|syscall.O_EXCL, 0)
	require.NoError(t, err)
	requireRefused(plan().Refused(), parts[0], "")
	requireRefused(ready.Apply(t.Context(), nil), parts[0], "")
	_, err = upgrade.Rollback(disk, s.machine, "acme_1")
	requireRefused(err, parts[0], "")
	require.NoError(t, esp.Close())

	// The free slot, by a mount.
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	free := -1
	for i, p := range table.Partitions {
		if p.Type == partition.RootX8664 && p.Name == partition.EmptyName {
			free = i
		}
	}
	testtools.Run(t, "mkfs.ext4", "-q", parts[free])
	dir := filepath.Join(t.TempDir(), "a mount")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount(parts[free], dir, "ext4", syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	before = content()
	err = plan().Refused()
	require.NoError(t, syscall.Unmount(dir, 0))
	requireRefused(err, parts[free], dir)

	// It cannot be mounted in the middle.
	ready = plan()
	tried := 0
	require.NoError(t, ready.Apply(context.Background(), func(int, int64, int64) {
		if tried++; tried == 1 {
			require.ErrorIs(t, syscall.Mount(parts[free], dir, "ext4", syscall.MS_RDONLY, ""), syscall.EBUSY)
		}
	}))
	again, err := os.OpenFile(parts[0], os.O_RDONLY|syscall.O_EXCL, 0)
	require.NoError(t, err, "what was held is not held any more")
	require.NoError(t, again.Close())
}

// The boot partition of a disk is found where it is mounted, and the disk by the directory.
func TestFindMounted(t *testing.T) {
	s := newSystem(t, "")
	disk, _ := loopDisk(t, s)
	mounted, err := upgrade.FindMounted(disk)
	require.NoError(t, err)
	require.Empty(t, mounted)

	f, err := osmith.OpenFile("doc.go")
	require.NoError(t, err)
	defer f.Close()
	mounted, err = upgrade.FindMounted(f)
	require.NoError(t, err)
	require.Empty(t, mounted)

	var where *upgrade.MountError
	_, err = upgrade.OpenDiskOf("/proc")
	require.ErrorAs(t, err, &where)
}
