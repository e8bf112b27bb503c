package upgrade_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// versionsOf are the versions that a disk may hold, for the oracle.
func (i *installation) versionsOf(sector int, versions ...string) *oracle.Versions {
	v := &oracle.Versions{Sector: sector, UKIs: map[[sha256.Size]byte]string{}, Roots: map[string][]oracle.Content{}}
	for _, name := range versions {
		r := i.build(name).Release()
		v.UKIs[sha256.Sum256(contentOf(i.t, r.UKI))] = name
		v.Roots[name] = []oracle.Content{{ID: oracle.GUID(r.RootHash[:16]), Bytes: contentOf(i.t, r.Root)}, {ID: oracle.GUID(r.RootHash[16:]), Bytes: contentOf(i.t, r.Tree)}}
	}
	return v
}

// before is what may be on a disk that is installed.
type beforeInstall struct {
	name   string
	sector int
	up     string // the version that comes up from it; "": none, and firmware finds nothing
	bare   bool   // there is no GPT
	other  bool   // firmware finds something from which nothing comes up
	put    func(i *installation)
}

func disksBeforeInstall() []beforeInstall {
	return []beforeInstall{
		{name: "empty", sector: 512, put: func(*installation) {}},
		{name: "empty, sectors of 4096 bytes", sector: 4096, put: func(*installation) {}},
		{name: "an older version", sector: 512, up: "1", put: func(i *installation) { i.putOld(512) }},
		{name: "an older version, sectors of 4096 bytes", sector: 4096, up: "1", put: func(i *installation) { i.putOld(4096) }},
		{name: "an older version on a disk that grew", sector: 512, up: "1", put: func(i *installation) {
			i.putOld(512)
			larger := faultio.NewDisk(i.disk.Size() + 16*mib)
			write(i.t, larger, 0, contentOf(i.t, i.disk))
			i.disk = larger
		}},
		{name: "an older version, its primary table damaged", sector: 512, up: "1", other: true, put: func(i *installation) {
			i.putOld(512)
			write(i.t, i.disk, 512, make([]byte, 512))
		}},
		{name: "FAT in an MBR partition", sector: 512, bare: true, other: true, put: func(i *installation) {
			mbr := make([]byte, 512)
			r := mbr[446:]
			r[4] = 0xef
			binary.LittleEndian.PutUint32(r[8:], 2048)
			binary.LittleEndian.PutUint32(r[12:], 35*mib/512)
			mbr[510], mbr[511] = 0x55, 0xaa
			write(i.t, i.disk, 0, mbr)
			i.putFAT(mib, 35*mib)
		}},
		{name: "FAT on the whole disk", sector: 512, bare: true, other: true, put: func(i *installation) { i.putFAT(0, i.disk.Size()) }},
		{name: "LUKS signature and noise", sector: 512, bare: true, put: func(i *installation) {
			write(i.t, i.disk, 0, append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 504)...))
			write(i.t, i.disk, 40<<10, noise(4096))
		}},
	}
}

func write(t *testing.T, d *faultio.Disk, off int64, b []byte) {
	t.Helper()
	_, err := d.WriteAt(b, off)
	require.NoError(t, err)
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

// putOld installs version 1 with another seed.
func (i *installation) putOld(sector int) {
	i.t.Helper()
	was := i.options
	i.options.Seed, i.options.SectorSize = [16]byte{1, 2, 3}, sector
	i.mustInstall("1")
	i.options = was
}

// putFAT puts a file system with a boot loader somewhere.
func (i *installation) putFAT(off, size int64) {
	i.t.Helper()
	esp, err := i.builder.ESP(i.build("1"), acmeos.DiskOptions{ESPSize: size})
	require.NoError(i.t, err)
	write(i.t, i.disk, off, contentOf(i.t, esp))
	_, err = fat.OpenReader(esp)
	require.NoError(i.t, err)
}

// agree has what is on the disk be lost, as a person does who has looked at it.
func (i *installation) agree() {
	i.t.Helper()
	c, err := upgrade.ReadContents(i.disk)
	require.NoError(i.t, err)
	i.options.EraseForEverTheDiskWithThisDigest = c.Digest
}

// installs plans and applies. What is on the disk may go if it is what was agreed, or, of a cut,
// what a person looks at again.
func (i *installation) install() error {
	p, err := i.planInstall("2")
	if occupied, ok := errors.AsType[*upgrade.OccupiedError](err); ok && occupied.Agreed != "" {
		i.options.EraseForEverTheDiskWithThisDigest = occupied.Contents.Digest
		p, err = i.planInstall("2")
	}
	if err != nil {
		return err
	}
	_, err = p.Apply(context.Background(), nil)
	return err
}

func (i *installation) onDisk(d *faultio.Disk) *installation {
	other := *i
	other.system = i.system.on(d)
	return &other
}

// TestInstallProof cuts installations on every kind of disk at every write, with writes torn and
// reordered, has the medium fail and lie: what is left is the disk as it was, or one on which
// firmware finds nothing, or the installed one; and the same call goes on with it to the same end.
func TestInstallProof(t *testing.T) {
	limit, every := 24, 37
	if testing.Short() {
		limit, every = 6, 61
	}
	if os.Getenv("OSMITH_LONG") == "1" {
		limit, every = 512, 5
	}
	for n, k := range disksBeforeInstall() {
		if testing.Short() && n != 0 && n != 4 && n != 7 {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			i := newInstallation(t, 40*mib)
			i.options.SectorSize = k.sector
			k.put(i)
			v := i.versionsOf(k.sector, "1", "2")
			old := i.disk.Clone()
			// of a disk from which not every firmware came up before
			_, damage := v.UpOrNothing(old, old.Size())
			judge := func(d *faultio.Disk, where string) string {
				t.Helper()
				if k.other && untouched(t, d, old) {
					return "old"
				}
				up, err := v.UpOrNothing(d, d.Size())
				if err != nil && damage != nil && k.up != "" && err.Error() == damage.Error() {
					return "old"
				}
				require.NoError(t, err, where)
				for _, one := range up {
					require.Contains(t, []string{"", k.up, "2"}, one, where)
				}
				return up[0] + up[1] + up[2]
			}
			was := map[bool]string{true: "old", false: k.up + k.up + k.up}[k.other]
			require.Equal(t, was, judge(i.disk, "before"))
			if k.name[:5] != "empty" {
				_, err := i.planInstall("2")
				require.ErrorAs(t, err, new(*upgrade.OccupiedError))
				i.agree()
			}
			whole := i.onDisk(i.disk.Clone())
			whole.disk.Record()
			require.NoError(t, whole.install())
			require.Equal(t, "222", judge(whole.disk, "behind"))
			end := contentOf(t, whole.disk)

			faults, err := whole.disk.Faults(faultio.FaultOptions{Sector: k.sector, Limit: limit})
			require.NoError(t, err)
			states, again := 0, 0
			seen := map[string]int{}
			for state := range faults.States() {
				where := describe(state)
				seen[judge(state.Disk, where)]++
				if states++; states%every != 0 {
					// No agreement is asked for again, but for a disk whose sector 0 is all that
					// listed what was there.
					if state.Kind == faultio.FaultPrefix && !k.bare && (!testing.Short() || states%6 == 0) {
						_, err := i.onDisk(state.Disk).planInstall("2")
						require.NoError(t, err, where)
					}
					continue
				}
				again++
				left := i.onDisk(state.Disk)
				require.NoError(t, left.install(), where)
				require.Equal(t, "222", judge(left.disk, where))
				if k.name[:5] == "empty" {
					require.Equal(t, end, contentOf(t, left.disk), "%s: goes on to the same bytes", where)
				}
			}
			require.Positive(t, seen["222"])
			require.Positive(t, seen[""], "%v", seen)
			if !testing.Short() {
				i.failures(k.sector, every, func(d *faultio.Disk, done bool, where string) {
					got := judge(d, where)
					if done {
						require.Equal(t, "222", got, where)
					}
				})
			}
			t.Logf("%d writes, %d states %v, %d gone on with", len(whole.disk.Writes()), states, seen, again)
		})
	}
}

// untouched reports whether the disk is as it was.
func untouched(t *testing.T, d, old *faultio.Disk) bool {
	t.Helper()
	return bytes.Equal(contentOf(t, old), contentOf(t, d))
}

// failures has each operation of the medium fail, be done in part, or lie, behind a page cache, and
// cuts the power then. Then the same call goes on.
func (i *installation) failures(sector, every int, judge func(d *faultio.Disk, done bool, where string)) {
	i.t.Helper()
	for _, f := range []faultio.Failure{
		{Op: faultio.OpWrite, Sector: sector}, {Op: faultio.OpWrite, Short: true, Sector: sector}, {Op: faultio.OpSync}, {Op: faultio.OpSync, Short: true}, {Op: faultio.OpSync, Lie: true},
	} {
		for after := 0; ; after += every/3 + 1 {
			on := i.onDisk(i.disk.Clone())
			on.disk.Cached()
			f.After = after
			on.disk.Faulty(f)
			err := on.install()
			if on.disk.Failed() == 0 {
				require.NoError(i.t, err)
				break
			}
			where := fmt.Sprintf("%+v: %v", f, err)
			on.disk.Faulty()
			judge(on.disk.Medium(), err == nil, where)
			require.NoError(i.t, i.onDisk(on.disk.Medium()).install(), where)
		}
	}
}

var _ = partition.EmptyName
