//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// examples begins the import paths of the programs that run in the machine: the agent of
// docs/live.md, and what a person calls.
const examples = "github.com/osmith-dev/osmith/examples/"

// TestLive upgrades a machine from inside: the agent of docs/live.md runs on version 1 with the ESP
// mounted, and on version 2, which it commits, with the ESP unmounted; a newer loader is put before
// version 3. Twice, with OSMITH_LONG=1 30 times, power is taken away in the middle of the first
// upgrade, and the machine comes up by itself. Every write and flush of its disk is recorded;
// whatever a power cut could have left at any of them boots the old version or the new one.
func TestLive(t *testing.T) {
	requireVM(t)
	t.Parallel()
	root := testtools.Forky(t)
	s := newSystem(t, root)
	s.Machine.Code, s.Machine.Vars = root.Part(t, "ovmf-code"), root.Part(t, "ovmf-vars")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))
	s.Facts.Unlock.Phases, s.Facts.Userspace = []string{"enter-initrd"}, tpm.PhasesAlone()
	older, err := osmith.OpenFile(testtools.Trixie(t).Part(t, "loader"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, older.Close()) })
	s.Builder.Parts.Loader = older
	own := s.Builder.Cmdline + " osmith.bless=0"
	s.Builder.Cmdline = own + " osmith.run=first"
	v1 := buildVersion(t, s, "1")
	s.Builder.Cmdline = own + " osmith.run=second"
	v2 := buildVersion(t, s, "2")
	s.Builder.Cmdline = own
	v3 := buildVersion(t, s, "3")

	agent, programs := s.agentFiles(t, "agent"), s.agentFiles(t, "agent", "boot", "upgrade")
	first := []guestStep{{Name: "agent", Args: []string{"agent", "-layout", "/run/programs/v2", "-release", "v2", "-key", "/run/programs/release.pem"}, Static: true, ESP: true}}
	second := []guestStep{
		{Name: "inspect", Args: []string{"upgrade", "inspect", "-esp", "/run/esp"}, Static: true, ESP: true},
		{Name: "bless", Args: []string{"boot", "bless", "-esp", "/run/esp", "-vars", "efivarfs"}, Static: true, ESP: true},
		{Name: "list", Args: []string{"boot", "list", "-esp", "/run/esp", "-vars", "efivarfs"}, Static: true, ESP: true},
		{Name: "commit", Args: []string{"agent"}, Static: true, ESP: true},
		{Name: "agent", Args: []string{"agent", "-layout", "/run/programs/v3", "-release", "v3", "-key", "/run/programs/release.pem"}, Static: true},
	}
	files := append(inDirectory(t, "first", first, append(s.layout(t, v2, "v2"), agent...)), inDirectory(t, "second", second, append(s.layout(t, v3, "v3"), programs...))...)
	image, err := s.Builder.Disk(v1, acmeos.DiskOptions{Files: files, ESPSize: 512 << 20})
	require.NoError(t, err)
	disk, err := acmeos.CreateImage(s.Machine.Disk, image.Size)
	require.NoError(t, err)
	require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}))
	require.NoError(t, disk.Close())
	s.Machine.Memory = 1024
	s.Machine.WriteLog = filepath.Join(s.Machine.Dir, "writes.log")
	versions := versionsOf(t, v1, v2, v3)
	rng, long := testtools.Seed(t)

	// Power fails in the middle of the slot, then where the UKI is all but written and not yet an
	// entry, then anywhere. Each machine is the one that the failure before has left: it has come
	// up by itself, and goes on. What a kill leaves is a prefix of the writes, and each of these is
	// tried below: here it is the machine that shows it.
	kills := 2
	if long {
		kills = 30
	}
	for i := range kills {
		slot := s.missing(t, v2)
		staged := v2.UKI.Size()
		switch i {
		case 0:
			s.Machine.CutAfter = slot/4 + rng.Int64N(slot/2)
		case 1:
			s.Machine.CutAfter = slot + staged*3/4 + rng.Int64N(staged/5)
		default:
			s.Machine.CutAfter = 64<<10 + rng.Int64N(slot+staged*9/10)
		}
		boot(t, s.Machine, fmt.Sprintf("1-cut-%d", i), Cut)
		now, err := faultio.Load(s.Machine.Disk)
		require.NoError(t, err)
		up, err := versions.Up(now, now.Size())
		require.NoError(t, err)
		require.Equal(t, []string{"1", "1", "1"}, up, "the entry of version 2 comes last")
		left := s.missing(t, v2)
		t.Logf("power cut %d after %d bytes: %d of %d bytes of the slot are missing", i, s.Machine.CutAfter, left, slot)
		switch i {
		case 0:
			require.Less(t, left, slot)
			require.Positive(t, left)
		case 1:
			require.Zero(t, left)
		}
	}
	s.Machine.CutAfter = 0

	before, err := faultio.Load(s.Machine.Disk)
	require.NoError(t, err)
	one := bootGood(t, s, "1-mounted", v1)
	requireAgentRan(t, one, "agent")
	proveWrites(t, s, before, versions, "1", "2", "1")

	before, err = faultio.Load(s.Machine.Disk)
	require.NoError(t, err)
	two := bootGood(t, s, "2-exclusive", v2)
	inspected, _ := two.Run("inspect")
	require.Contains(t, inspected.Output, "EFI/Linux/acme_2+2-1.efi", "1 of 3 tries is gone: %s", inspected.Output)
	listed, _ := two.Run("list")
	require.Contains(t, listed.Output, "acme_2.efi", listed.Output)
	for _, name := range []string{"inspect", "bless", "list", "commit"} {
		requireAgentRan(t, two, name)
	}
	requireAgentRan(t, two, "agent")
	// The loader has counted the boot, by firmware's FAT driver, whose rename is two writes: a cut
	// between them loses the entry, and the version that it was to replace comes up.
	proveWrites(t, s, before, versions, "2", "3", "1")

	// A loader of another release goes before version 3: what it measures is in the plan, and what
	// it starts as well.
	newer, err := osmith.OpenFile(root.Part(t, "loader"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, newer.Close()) })
	s.Builder.Parts.Loader = newer
	loader, err := s.Builder.SignedLoader()
	require.NoError(t, err)
	opened, err := s.OpenDisk()
	require.NoError(t, err)
	facts := s.Facts
	facts.Offline, facts.Running, facts.Loader = true, nil, &bootloader.Variables{}
	plan, err := upgrade.NewLoaderPlan(t.Context(), opened, &bootloader.Installation{Loader: loader}, facts, upgrade.LoaderOptions{})
	require.NoError(t, err)
	require.NoError(t, plan.Apply(t.Context(), nil), "%s", plan)
	t.Logf("%s", plan)
	require.NoError(t, opened.Close())
	three := bootGood(t, s, "3-upgraded", v3)
	require.Equal(t, "3", three.Version)
	require.Contains(t, three.Variable("LoaderInfo"), "systemd-boot 262")
	banks, err := plan.Predicted.Replay(crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, banks[crypto.SHA256].PCR(4), three.InitrdPCRs["sha256"][4])
}

// missing is how many bytes of a version's file system and hash tree are not yet in the slot that
// nothing runs from: an upgrade goes on there.
func (s *System) missing(t *testing.T, set *acmeos.Set) (n int64) {
	t.Helper()
	disk, state := s.inspect(t)
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	slot := state.Slots[slices.IndexFunc(state.Slots, func(slot *upgrade.Slot) bool { return slot != state.Next.Slot })]
	for i, want := range map[int]osmith.Source{slot.Data: set.Root, slot.Tree: set.Tree} {
		off, _ := table.Extent(i)
		for at := int64(0); at < want.Size(); at += 4096 {
			size := min(4096, want.Size()-at)
			a, b := make([]byte, size), make([]byte, size)
			_, err := want.ReadAt(a, at)
			require.NoError(t, noEOF(err))
			_, err = disk.ReadAt(b, off+at)
			require.NoError(t, noEOF(err))
			if !bytes.Equal(a, b) {
				n += size
			}
		}
	}
	return n
}

func noEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func requireAgentRan(t *testing.T, r *report.Report, name string) {
	t.Helper()
	run, ok := r.Run(name)
	require.True(t, ok, name)
	require.Empty(t, run.Error, run.Output)
	t.Logf("%s: %s", name, run.Output)
}

// agentFiles are the programs and the key of releases.
func (s *System) agentFiles(t *testing.T, programs ...string) []osmith.ESPFile {
	t.Helper()
	var files []osmith.ESPFile
	for _, name := range programs {
		file := filepath.Join(t.TempDir(), name)
		require.NoError(t, buildProgram(t.Context(), file, "amd64", examples+name))
		program, err := os.ReadFile(file)
		require.NoError(t, err)
		files = append(files, osmith.ESPFile{Path: name, Content: bytes.NewReader(program)})
	}
	der, err := x509.MarshalPKIXPublicKey(s.Builder.Keys.Release.Public())
	require.NoError(t, err)
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return append(files, osmith.ESPFile{Path: "release.pem", Content: bytes.NewReader(key)})
}

// layout is a signed release as files below a directory of that name.
func (s *System) layout(t *testing.T, set *acmeos.Set, name string) (files []osmith.ESPFile) {
	t.Helper()
	dir := t.TempDir()
	packed, err := release.Pack(dir, name, set.Release())
	require.NoError(t, err)
	store, err := cosign.OpenDir(dir)
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), store, packed, s.Builder.Keys.Release, cosign.SignOptions{}))
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		files = append(files, osmith.ESPFile{Path: name + "/" + path, Content: bytes.NewReader(b)})
		return err
	}))
	return files
}

// versionsOf is what the oracle knows of the sets.
func versionsOf(t *testing.T, sets ...*acmeos.Set) *oracle.Versions {
	t.Helper()
	v := &oracle.Versions{Sector: 512, UKIs: map[[sha256.Size]byte]string{}, Roots: map[string][]oracle.Content{}}
	content := func(src osmith.Source) []byte {
		b := make([]byte, src.Size())
		_, err := src.ReadAt(b, 0)
		require.NoError(t, noEOF(err))
		return b
	}
	for _, set := range sets {
		v.UKIs[sha256.Sum256(content(set.UKI))] = set.Version
		v.Roots[set.Version] = []oracle.Content{{ID: oracle.GUID(set.RootHash[:16]), Bytes: content(set.Root)}, {ID: oracle.GUID(set.RootHash[16:]), Bytes: content(set.Tree)}}
	}
	return v
}

// proveWrites holds what a power cut could have left at any of the writes of a boot against the
// oracle: each prefix, and samples of what may be lost of the writes since the last flush.
func proveWrites(t *testing.T, s *System, before *faultio.Disk, versions *oracle.Versions, from, to, counting string) {
	t.Helper()
	writes, err := ReadWriteLog(s.Machine.WriteLog)
	require.NoError(t, err)
	disk := before
	disk.Record()
	flushes, bytes := 0, int64(0)
	for _, w := range writes {
		if len(w.Data) > 0 {
			_, err := disk.WriteAt(w.Data, w.Offset)
			require.NoError(t, err)
			bytes += int64(len(w.Data))
		}
		if w.Flush {
			require.NoError(t, disk.Sync())
			flushes++
		}
	}
	now, err := faultio.Load(s.Machine.Disk)
	require.NoError(t, err)
	require.Equal(t, digestOf(t, now), digestOf(t, disk), "the log has all that was written")
	limit := 2
	if os.Getenv("OSMITH_LONG") == "1" {
		limit = 64
	}
	faults, err := disk.Faults(faultio.FaultOptions{Sector: 512, Limit: limit})
	require.NoError(t, err)
	states, came := 0, map[string]int{}
	for state := range faults.States() {
		up, err := versions.Up(state.Disk, state.Disk.Size())
		require.NoError(t, err, "%s to %s, %v after %d flushes", from, to, state.Kind, state.Epoch)
		for _, v := range up {
			if state.Epoch == 0 && v == counting {
				continue // before the kernel's first flush
			}
			require.Contains(t, []string{from, to}, v, "%v after %d flushes", state.Kind, state.Epoch)
			came[v]++
		}
		states++
	}
	require.Positive(t, came[from])
	require.Positive(t, came[to])
	t.Logf("%s to %s: %d writes of %d bytes with %d flushes; %d states, each comes up: %v", from, to, len(writes), bytes, flushes, states, came)
}

func digestOf(t *testing.T, d *faultio.Disk) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(d, 0, d.Size()))
	require.NoError(t, err)
	return [sha256.Size]byte(h.Sum(nil))
}
