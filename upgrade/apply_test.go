package upgrade_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity"
)

// unsynced is a disk without Sync.
type unsynced struct{ osmith.Disk }

// A disk of which it is not known in what order writes reach the medium is not changed, and can be
// looked at.
func TestNoSync(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	disk := unsynced{s.disk}
	p, err := upgrade.NewPlan(t.Context(), disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Refused())
	s.disk.Record()
	require.ErrorIs(t, p.Apply(t.Context(), nil), upgrade.ErrNoSync)
	_, err = upgrade.Commit(disk, s.machine, "")
	require.ErrorIs(t, err, upgrade.ErrNoSync)
	_, err = upgrade.Rollback(disk, s.machine, "")
	require.ErrorIs(t, err, upgrade.ErrNoSync)
	_, err = upgrade.Cancel(disk, s.machine)
	require.ErrorIs(t, err, upgrade.ErrNoSync)
	_, err = upgrade.Inspect(disk, s.machine)
	require.NoError(t, err)
	require.Empty(t, s.disk.Writes())
}

// onFile is the system on an image in a file.
func (s *system) onFile() (path string, open func() *osmith.Device) {
	s.t.Helper()
	path = filepath.Join(s.t.TempDir(), "disk.img")
	require.NoError(s.t, s.disk.Save(path))
	return path, func() *osmith.Device {
		s.t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(s.t, err)
		d, err := osmith.NewDevice(f)
		require.NoError(s.t, err)
		s.t.Cleanup(func() { d.Close() })
		return d
	}
}

// While a plan is applied, nothing else that locks the disk changes it: neither another plan nor
// Commit, Rollback and Cancel.
func TestLocked(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	_, open := s.onFile()
	first, second := open(), open()
	one, err := upgrade.NewPlan(t.Context(), first, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	tried := 0
	others := func(disk *osmith.Device) {
		two, err := upgrade.NewPlan(t.Context(), disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
		if err == nil { // in the middle of a step the disk may be hard to understand
			require.ErrorAs(t, two.Apply(t.Context(), nil), new(*osmith.LockedError))
		}
		_, err = upgrade.Commit(disk, s.machine, "")
		require.ErrorAs(t, err, new(*osmith.LockedError))
		_, err = upgrade.Rollback(disk, s.machine, "")
		require.ErrorAs(t, err, new(*osmith.LockedError))
		_, err = upgrade.Cancel(disk, s.machine)
		require.ErrorAs(t, err, new(*osmith.LockedError))
		require.ErrorContains(t, err, "disk.img is locked")
		tried++
	}
	require.NoError(t, one.Apply(t.Context(), func(int, int64, int64) {
		if tried < 6 {
			others(second)
			others(first) // the same open file
		}
	}))
	require.NotZero(t, tried)
	_, err = upgrade.Commit(second, s.machine, "")
	require.NoError(t, err, "it is free again")
	release, err := second.Lock()
	require.NoError(t, err)
	require.NoError(t, release())
	require.NoError(t, release(), "twice is once")
}

// Two plans of one state are applied in turns, on a disk that cannot be locked: in front of
// whichever step of the first the second runs, not both succeed, and the machine comes up.
func TestInterleaved(t *testing.T) {
	for _, other := range []string{"2", "3"} {
		s := newSystem(t, "")
		s.bootAndRun()
		steps := len(s.plan(s.build("2"), upgrade.PlanOptions{}).Steps)
		for at := range steps {
			t.Run(fmt.Sprintf("%s before step %d", other, at), func(t *testing.T) {
				s := s.on(s.disk.Clone())
				one, two := s.plan(s.build("2"), upgrade.PlanOptions{}), s.plan(s.build(other), upgrade.PlanOptions{})
				var second error
				ran := false
				first := one.Apply(t.Context(), func(step int, _, _ int64) {
					if step == at && !ran {
						ran = true
						second = two.Apply(t.Context(), nil)
					}
				})
				require.True(t, ran)
				require.False(t, first == nil && second == nil, "both succeeded")
				for _, err := range []error{first, second} {
					if err != nil {
						require.ErrorAs(t, err, new(*upgrade.ChangedError))
					}
				}
				s.requireEntriesWhole()
				s.boot()
				p := s.plan(s.build("4"), upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofReturns}})
				require.NoError(t, p.Apply(t.Context(), nil))
				require.Equal(t, "4", s.boot().Version)
			})
		}
	}
}

// What others write to the ESP between two steps is never written over: what matters ends the
// upgrade, and what does not is kept.
func TestForeignWrites(t *testing.T) {
	writes := []struct {
		name  string
		write func(s *system)
		want  string // of the error; "": it does not matter
	}{
		{"random seed", func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("loader/random-seed", source([]byte("another seed, of the same size!!"))))
		}, ""},
		{"directory", func(s *system) { file(s, s.esp(), "EFI/fwupd/a/b/c.cap", make([]byte, 100_000)) }, "EFI/fwupd/a/b/c.cap on the ESP changed since the plan was made"},
		{"counter", func(s *system) {
			require.NoError(s.t, s.esp().Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1+1.efi"))
		}, "EFI/Linux/acme_1.efi on the ESP changed since the plan was made"},
		{"configuration", func(s *system) {
			require.NoError(s.t, s.esp().ReplaceFile("loader/loader.conf", source([]byte("timeout 1\n"))))
		}, "loader/loader.conf on the ESP changed since the plan was made"},
		{"partition table", func(s *system) {
			table, err := partition.Read(s.disk, partition.ReadOptions{})
			require.NoError(s.t, err)
			table.Partitions[0].Name = "boot"
			require.NoError(s.t, table.Write(s.disk))
		}, "the partition table changed since the plan was made"},
	}
	base := newSystem(t, "")
	file(base, base.esp(), "loader/random-seed", []byte("the seed, which has 32 bytes....."[:32]))
	base.bootAndRun()
	steps := base.plan(base.build("2"), upgrade.PlanOptions{}).Steps
	for _, w := range writes {
		for at := range steps {
			t.Run(fmt.Sprintf("%s before %s", w.name, steps[at].Kind), func(t *testing.T) {
				s := base.on(base.disk.Clone())
				s.t = t
				p := s.plan(s.build("2"), upgrade.PlanOptions{})
				done := false
				err := p.Apply(t.Context(), func(step int, _, _ int64) {
					if step == at && !done {
						done = true
						w.write(s)
					}
				})
				require.True(t, done)
				found, checkErr := s.esp().Check()
				require.NoError(t, checkErr)
				require.True(t, found.Clean(), "%s", found)
				if w.want == "" {
					require.NoError(t, err)
					require.Equal(t, "another seed, of the same size!!", string(read(t, s.esp(), "loader/random-seed")))
					require.Equal(t, "2", s.boot().Version)
					return
				}
				require.ErrorAs(t, err, new(*upgrade.ChangedError))
				require.ErrorContains(t, err, w.want)
				if w.name == "directory" {
					require.Len(t, read(t, s.esp(), "EFI/fwupd/a/b/c.cap"), 100_000)
				}
				require.Equal(t, "1", s.boot().Version)
				if w.name == "counter" {
					return // there is no good set any more to return to
				}
				require.NoError(t, s.plan(s.build("2"), upgrade.PlanOptions{}).Apply(t.Context(), nil), "a new plan goes on")
				require.Equal(t, "2", s.boot().Version)
			})
		}
	}
}

// After any operation has failed, the next plan goes by the medium and not by what the page cache
// shows: whatever it says is installed is there when the power fails.
func TestErrorsOfTheMedium(t *testing.T) {
	base := newSystem(t, "")
	base.bootAndRun()
	release := base.build("2")
	for _, f := range []faultio.Failure{{Op: faultio.OpSync}, {Op: faultio.OpSync, Short: true}, {Op: faultio.OpWrite}, {Op: faultio.OpWrite, Short: true}, {Op: faultio.OpRead}} {
		for after := 0; ; after++ {
			if f.After = after; f.Op == faultio.OpRead {
				f.After = 37 * after // there are many
			}
			if testing.Short() {
				f.After *= 5
			}
			s := base.on(base.disk.Clone())
			s.disk.Cached()
			p := s.plan(release, upgrade.PlanOptions{})
			s.disk.Faulty(f)
			err := p.Apply(t.Context(), nil)
			if s.disk.Failed() == 0 {
				require.NoError(t, err)
				break
			}
			context := fmt.Sprintf("%+v: %v", f, err)
			if err == nil && f.Op == faultio.OpRead {
				// there was another copy of what could not be read
				require.Equal(t, "2", s.on(s.disk.Medium()).boot().Version, context)
				continue
			}
			if f.Op != faultio.OpRead || !errors.Is(err, partition.ErrChanged) {
				// of an MBR that cannot be read
				require.ErrorIs(t, err, faultio.ErrIO, context)
			}
			s.disk.Faulty()
			now := s.on(s.disk.Medium()).boot() // the power fails
			require.Contains(t, []string{"1", "2"}, now.Version, context)

			again, err := upgrade.NewPlan(t.Context(), s.disk, release.Release(), s.machine, upgrade.PlanOptions{})
			require.NoError(t, err, context)
			require.NoError(t, again.Apply(t.Context(), nil), context)
			require.Equal(t, "2", s.on(s.disk.Medium()).boot().Version, context)
			state, err := upgrade.Inspect(s.disk, s.machine)
			require.NoError(t, err)
			require.Equal(t, "EFI/Linux/acme_2+3.efi", state.Next.Path, context)
		}
	}
}

// What is verified and read back comes from the medium.
func TestReadFromTheMedium(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	s.disk.Cached()
	release := s.build("2").Release()
	p := s.planOf(release, upgrade.PlanOptions{})
	var at []int64 // when a step begins
	require.NoError(t, p.Apply(t.Context(), func(step int, _, _ int64) {
		if step == len(at) {
			at = append(at, s.disk.MediumReads())
		}
	}))
	at = append(at, s.disk.MediumReads())
	for i, step := range p.Steps {
		want := int64(0)
		switch step.Kind {
		case upgrade.StepVerifySlot:
			want = release.Root.Size() + release.Tree.Size()
		case upgrade.StepStageUKI:
			want = release.UKI.Size()
		}
		require.GreaterOrEqual(t, at[i+1]-at[i], want, "%s", step)
	}
}

// A file is read back past the page cache, which the kernel counts.
func TestReadFileFromTheMedium(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	path, open := s.onFile()
	disk := open()
	require.NoError(t, disk.Sync())
	read := testtools.DiskReads(t, filepath.Dir(path))
	release := s.build("2").Release()
	p, err := upgrade.NewPlan(t.Context(), disk, release, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	before := read()
	require.NoError(t, p.Apply(t.Context(), nil))
	require.GreaterOrEqual(t, read()-before, release.Root.Size()+release.Tree.Size()+release.UKI.Size())
}

// cancelled is a context that ends when it is asked for the n-th time.
type cancelled struct {
	context.Context
	left int
}

func (c *cancelled) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A plan that is interrupted by its caller lets the disk go, and the next one goes through.
func TestInterruptedLetsGo(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	_, open := s.onFile()
	disk := open()
	for left := range 12 {
		p, err := upgrade.NewPlan(t.Context(), disk, s.build("2").Release(), s.machine, upgrade.PlanOptions{})
		require.NoError(t, err)
		if p.Installed {
			break
		}
		err = p.Apply(&cancelled{t.Context(), left}, nil)
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		release, err := disk.Lock()
		require.NoError(t, err)
		require.NoError(t, release())
	}
}

// A sync that lies loses contents that are too large to be read back at once: what is read back
// before it boots comes from the medium.
func TestLyingSyncOfLargeFiles(t *testing.T) {
	base := newSystem(t, "")
	base.builder.Parts.Initrd = source(bytes.Repeat([]byte("initrd"), 50_000))
	base.bootAndRun()
	release := base.bound(base.build("2"), "quiet")
	for _, half := range []bool{false, true} {
		failed := 0
		for after := 0; ; after++ {
			s := base.on(base.disk.Clone())
			p := s.planOf(release, upgrade.PlanOptions{})
			s.disk.Cached()
			s.disk.Faulty(faultio.Failure{Op: faultio.OpSync, Lie: true, Short: half, After: after})
			err := p.Apply(t.Context(), nil)
			if s.disk.Failed() == 0 {
				require.NoError(t, err)
				break
			}
			want := "2"
			if err != nil {
				failed, want = failed+1, "1"
			}
			require.Equal(t, want, s.on(s.disk.Medium()).boot().Version, "sync %d: %v", after, err)
		}
		require.Greater(t, failed, 3)
	}
}

// A slot that does not hold what was written to it is not marked as whole: it is verified first.
func TestSlotIsVerifiedBeforeItIsActivated(t *testing.T) {
	s := newSystem(t, "")
	root := s.dir + "/large.raw"
	require.NoError(t, acmeos.WriteRoot(root, "2", map[string][]byte{"/data": bytes.Repeat([]byte("what the medium forgets "), 20_000)}))
	set, err := s.builder.Build(t.Context(), s.dir, "2", root)
	require.NoError(t, err)
	t.Cleanup(func() { set.Close() })
	p, err := upgrade.NewPlan(t.Context(), forgetful{s.disk, []byte("what the medium forgets ")}, set.Release(), s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Refused())
	require.ErrorAs(t, p.Apply(t.Context(), nil), new(*verity.MismatchError))
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	require.Equal(t, partition.SlotPartial, state.Slots[1].State)
	require.Equal(t, "1", s.boot().Version)
}

// A large file that a verdict depends on is checked against its digest once more before the new
// entry can boot.
func TestLargeFilesAreLookedAtAgain(t *testing.T) {
	s := newSystem(t, "")
	s.builder.Parts.Initrd = source(bytes.Repeat([]byte("initrd"), 300_000))
	s.install(s.build("2"))
	s.bootAndRun()
	p := s.plan(s.build("3"), upgrade.PlanOptions{})
	old := read(t, s.esp(), "EFI/Linux/acme_2.efi")
	old[len(old)/2] ^= 1
	changed := false
	err := p.Apply(t.Context(), func(step int, _, _ int64) {
		if p.Steps[step].Kind == upgrade.StepStageUKI && !changed {
			changed = true
			require.NoError(t, s.esp().ReplaceFile("EFI/Linux/acme_2.efi", source(old)))
		}
	})
	require.ErrorAs(t, err, new(*upgrade.ChangedError))
	require.ErrorContains(t, err, "before add-entry")
	require.ErrorContains(t, err, "EFI/Linux/acme_2.efi on the ESP changed since the plan was made")
}
