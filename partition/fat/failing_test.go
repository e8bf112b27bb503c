package fat

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// failures are the ways in which one operation of a disk fails.
var failures = []struct {
	name string
	f    faultio.Failure
	step int // every so many operations fail, one at a time
}{
	{"write", faultio.Failure{Op: faultio.OpWrite}, 1},
	{"half a write", faultio.Failure{Op: faultio.OpWrite, Short: true}, 1},
	{"sync", faultio.Failure{Op: faultio.OpSync}, 1},
	{"read", faultio.Failure{Op: faultio.OpRead}, 3},
	{"half a read", faultio.Failure{Op: faultio.OpRead, Short: true}, 7},
}

// TestFailures has each operation of the disk fail in each change, and makes another change of the
// same FS then: it is refused, and nothing is written any more, or it does its work. Every driver
// sees the files as they were or as they were to be.
func TestFailures(t *testing.T) {
	const extra = "after the failure.conf"
	for _, v := range volumes() {
		if v.kind == 32 && (v.sector != 512 || v.packed) || testing.Short() && (v.packed || v.kind != 12 || v.sector != v.device) {
			continue
		}
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			base, places, refused, went := v.build(t), 0, 0, 0
			for _, op := range operations(v) {
				before := base.Clone()
				if op.prepare != nil {
					require.NoError(t, op.prepare(v.open(t, before)))
				}
				if op.spoil != nil {
					op.spoil(t, v, before)
				}
				allowed, later := op.allowed(t, v, before, extra)
				for _, how := range failures {
					step := how.step
					if v.kind == 32 || testing.Short() {
						step *= 3
					}
					for k := 0; ; k += step {
						d := before.Clone()
						f := v.open(t, d)
						failure := how.f
						failure.After, failure.Sector = k, v.device
						d.Faulty(failure)
						err := op.do(f)
						if d.Failed() == 0 {
							require.NoError(t, err)
							break
						}
						require.Error(t, err, "%s: %s %d", op.name, how.name, k)
						places++
						d.Record()
						switch err = f.WriteFile(extra, strings.NewReader(extra)); {
						case err == nil:
							went++
							require.NoError(t, v.judge(d, later, op.accept), "%s: %s %d, and a file more", op.name, how.name, k)
						default:
							require.ErrorIs(t, err, errBroken, "%s: %s %d", op.name, how.name, k)
							require.ErrorIs(t, f.MkdirAll("x"), errBroken)
							require.ErrorIs(t, second(f.Repair()), errBroken)
							require.Empty(t, d.Writes())
							refused++
							require.NoError(t, v.judge(d, allowed, op.accept), "%s: %s %d", op.name, how.name, k)
						}
					}
				}
			}
			t.Logf("%d places: the next change was refused after %d and made after %d", places, refused, went)
			require.Greater(t, min(refused, went), 50)
		})
	}
}

// TestFailedSyncs has each sync of each change fail before a page cache that shows all the same
// what was written. What is on the medium is what a power cut leaves, and the FS, which has seen
// only the cache, writes nothing more.
func TestFailedSyncs(t *testing.T) {
	for _, v := range volumes() {
		if v.kind == 32 && (v.sector != 512 || v.packed) || testing.Short() && (v.packed || v.kind != 12) {
			continue
		}
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			base, places := v.build(t), 0
			for _, op := range operations(v) {
				before := base.Clone()
				if op.prepare != nil {
					require.NoError(t, op.prepare(v.open(t, before)))
				}
				if op.spoil != nil {
					op.spoil(t, v, before)
				}
				allowed, _ := op.allowed(t, v, before, "extra")
				for _, short := range []bool{false, true} {
					for k := 0; ; k++ {
						d := before.Clone()
						d.Cached()
						f := v.open(t, d)
						d.Faulty(faultio.Failure{Op: faultio.OpSync, After: k, Short: short})
						err := op.do(f)
						if d.Failed() == 0 {
							require.NoError(t, err)
							require.NoError(t, v.judge(d.Medium(), allowed, op.accept), op.name)
							break
						}
						require.ErrorIs(t, err, faultio.ErrIO)
						require.ErrorIs(t, f.MkdirAll("x"), errBroken)
						require.NoError(t, d.Sync())
						places++
						require.NoError(t, v.judge(d.Medium(), allowed, op.accept), "%s: sync %d", op.name, k)
						require.NoError(t, d.DropCache(0, d.Size()))
						_, err = v.open(t, d).Repair()
						require.NoError(t, err, "%s: sync %d", op.name, k)
						require.NoError(t, v.judge(d.Medium(), allowed, op.accept), "%s: sync %d, and a repair", op.name, k)
					}
				}
			}
			require.Greater(t, places, 30)
		})
	}
}

// allowed are what drivers may see if the operation was interrupted, and that with a file more.
func (op operation) allowed(t *testing.T, v volume, before *faultio.Disk, extra string) (plain, more map[oracle.FATReader][]view) {
	t.Helper()
	disks := []*faultio.Disk{before}
	for i := range op.steps {
		s := disks[i].Clone()
		require.NoError(t, op.steps[i](v.open(t, s)))
		disks = append(disks, s)
	}
	s := before.Clone()
	require.NoError(t, op.do(v.open(t, s)))
	disks = append(disks, s)
	plain, more = map[oracle.FATReader][]view{}, map[oracle.FATReader][]view{}
	for _, r := range v.readers() {
		for _, d := range disks {
			seen, _, err := v.look(d, r)
			require.NoError(t, err)
			plain[r] = append(plain[r], seen)
			seen = maps.Clone(seen)
			seen[extra] = described([]byte(extra))
			more[r] = append(more[r], seen)
		}
	}
	return plain, more
}

func second[T any](_ T, err error) error { return err }
