package upgrade_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/vfat"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

var when = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Keys are slow to make and any will do.
var (
	keys    = sync.OnceValues(func() (*acmeos.Keys, error) { return acmeos.GenerateKeys(when) })
	foreign = sync.OnceValues(func() (*acmeos.Keys, error) { return acmeos.GenerateKeys(when) })
)

// system is Acme OS on a disk in memory.
type system struct {
	t       *testing.T
	dir     string
	builder *acmeos.Builder
	machine upgrade.Machine
	disk    *faultio.Disk
	alone   bool // its sets are UKIs alone
	mounts  bool // the kernel has mounted the boot partitions

	policies func(*policy.Signature) // changes what a UKI's policies say; nil: nothing
}

// newSystem installs version 1, made of stand-ins.
func newSystem(t *testing.T, loaderVersion string) *system {
	t.Helper()
	return newSystemOf(t, loaderVersion, 2)
}

// newSystemWith has a partition for state.
func newSystemWith(t *testing.T, state osmith.Source) *system {
	t.Helper()
	return newSystemOn(t, "", acmeos.DiskOptions{Slots: 2, State: state})
}

// newSystemOf has that many slots.
func newSystemOf(t *testing.T, loaderVersion string, slots int) *system {
	t.Helper()
	return newSystemOn(t, loaderVersion, acmeos.DiskOptions{Slots: slots})
}

func newSystemOn(t *testing.T, loaderVersion string, o acmeos.DiskOptions) *system {
	t.Helper()
	k, err := keys()
	require.NoError(t, err)
	parts := acmeos.StandIns()
	if loaderVersion != "" {
		parts.Loader = source(petest.Loader(loaderVersion))
	}
	return newSystemOfParts(t, parts, k, make([]byte, 100_000), o)
}

// newSystemOfParts installs version 1, whose root file system has some data.
func newSystemOfParts(t *testing.T, parts *acmeos.Parts, k *acmeos.Keys, data []byte, o acmeos.DiskOptions) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir(), builder: &acmeos.Builder{Keys: k, Parts: parts, Seed: [16]byte{1}, Time: when}}
	var err error
	s.machine, err = s.builder.Machine()
	require.NoError(t, err)
	o.RootSize = max(o.RootSize, 1<<20)
	image, err := s.builder.Disk(s.buildWith("1", data), o)
	require.NoError(t, err)
	s.disk = faultio.NewDisk(image.Size)
	require.NoError(t, partition.WriteImage(s.disk, image, partition.WriteOptions{TargetIsZero: true}))
	return s
}

func (s *system) build(version string) *acmeos.Set {
	s.t.Helper()
	return s.buildWith(version, make([]byte, 100_000))
}

// buildWith makes a version whose root file system has some data.
func (s *system) buildWith(version string, data []byte) *acmeos.Set {
	s.t.Helper()
	root := filepath.Join(s.dir, version+".root.raw")
	require.NoError(s.t, acmeos.WriteRoot(root, version, map[string][]byte{"/data": data}))
	set, err := s.builder.Build(context.Background(), s.dir, version, root)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, set.Close()) })
	return set
}

// on is the same system with another disk.
func (s *system) on(disk *faultio.Disk) *system {
	other := *s
	other.disk = disk
	if s.mounts {
		other.mount()
	}
	return &other
}

// mount has the boot partitions mounted from now on, as the vfat driver of Linux would have them.
func (s *system) mount() {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	s.mounts, s.machine.Mounted = true, map[osmith.GUID]upgrade.MountedVolume{}
	for i, p := range table.Partitions {
		if p.Type == partition.ESP || p.Type == partition.XBOOTLDR {
			s.machine.Mounted[p.ID], err = vfat.Mount(table.Window(s.disk, i))
			require.NoError(s.t, err)
		}
	}
}

// fsck repairs the boot partitions, as a machine does before it mounts them.
func (s *system) fsck() {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	for i, p := range table.Partitions {
		if p.Type == partition.ESP || p.Type == partition.XBOOTLDR {
			f, err := fat.OpenWith(table.Window(s.disk, i), fat.OpenOptions{SectorSize: table.SectorSize})
			require.NoError(s.t, err)
			_, err = f.RepairWith(fat.RepairOptions{Discard: func(name string) bool { return strings.HasSuffix(name, ".osmith-staged") }})
			require.NoError(s.t, err)
		}
	}
	s.mount()
}

func (s *system) plan(set *acmeos.Set, o upgrade.PlanOptions) *upgrade.Plan {
	s.t.Helper()
	p, err := upgrade.NewPlan(context.Background(), s.disk, set.Release(), s.machine, o)
	require.NoError(s.t, err)
	return p
}

// install upgrades, boots and commits.
func (s *system) install(set *acmeos.Set) {
	s.t.Helper()
	p := s.plan(set, upgrade.PlanOptions{})
	require.NoError(s.t, p.Apply(context.Background(), nil))
	b := s.boot()
	require.Equal(s.t, set.Version, b.Version)
	require.NoError(s.t, s.commit(b))
}

// running is the machine when that boot is up.
func (s *system) running(b *upgradetest.Boot) upgrade.Machine {
	m := s.machine
	m.Offline, m.Running = false, b.Running
	return m
}

// commit finds a boot good.
func (s *system) commit(b *upgradetest.Boot) error {
	return commit(s.disk, s.running(b), b.Entry)
}

// bootAndRun boots; from then on the machine is one that runs.
func (s *system) bootAndRun() *upgradetest.Boot {
	s.t.Helper()
	b := s.boot()
	s.machine = s.running(b)
	return b
}

// machineUnderTest is the machine that boots the disk.
func (s *system) machineUnderTest() *upgradetest.Machine {
	return &upgradetest.Machine{Disk: s.disk, Machine: s.machine, UKIAlone: s.alone}
}

// boot switches the machine on until something runs.
func (s *system) boot() *upgradetest.Boot {
	s.t.Helper()
	m := s.machineUnderTest()
	boots, err := m.BootUntilUp(context.Background(), 10)
	require.NoError(s.t, err)
	last := boots[len(boots)-1]
	require.Equal(s.t, upgradetest.Up, last.Outcome, "%s", last)
	return last
}

// verdict returns one of a plan's.
func verdict(t *testing.T, p *upgrade.Plan, v upgrade.Proof) upgrade.Verdict {
	t.Helper()
	for _, j := range p.Verdicts {
		if j.Proof == v {
			return j
		}
	}
	t.Fatalf("no verdict %s in the plan", v)
	return upgrade.Verdict{}
}

// stripCertificates cuts the signature off a PE image.
func stripCertificates(t *testing.T, b []byte) []byte {
	t.Helper()
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.NotZero(t, f.Certificates.Size)
	clear(b[f.Fields.CertificateDirectory:][:8])
	return b[:f.Certificates.Offset]
}

// contentOf is the content of a source.
func contentOf(t *testing.T, src osmith.Source) []byte {
	t.Helper()
	b := make([]byte, src.Size())
	_, err := src.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

// commit and rollback are without the path that the entry has then.
func commit(disk osmith.Disk, m upgrade.Machine, entry string) error {
	_, err := upgrade.Commit(disk, m, entry)
	return err
}

func rollback(disk osmith.Disk, m upgrade.Machine, entry string) error {
	_, err := upgrade.Rollback(disk, m, entry)
	return err
}
