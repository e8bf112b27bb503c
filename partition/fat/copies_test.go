package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

var threeKinds = []BuildOptions{{Size: 34 << 20}, {Size: 24 << 20}, {Size: 6 << 20, Kind: 12}}

// damages of one copy of the FAT. Those of the first sector are what fsck.fat repairs from the
// second FAT, and mtools refuses.
var damages = []struct {
	name string
	head bool // FAT[0] is wrong
	do   func(e *editor, k int)
}{
	{"first sector zero", true, func(e *editor, k int) { e.WriteAt(make([]byte, 512), e.fat(k)) }},
	{"all zero", true, func(e *editor, k int) { e.WriteAt(make([]byte, e.g.fatSize), e.fat(k)) }},
	{"FAT[0] zero", true, func(e *editor, k int) { e.set(0, 0, k) }},
	{"text in the first sector", true, func(e *editor, k int) { e.WriteAt(bytes.Repeat([]byte("text "), 100), e.fat(k)) }},
	{"a sector ff", false, func(e *editor, k int) {
		c, _, _ := e.entry("EFI/Linux/os_1.0+3-0.efi")
		e.WriteAt(bytes.Repeat([]byte{0xff}, 512), e.fat(k)+int64(c)*int64(e.g.kind)/8/512*512)
	}},
	{"a directory is free", false, func(e *editor, k int) { c, _, _ := e.entry("EFI/Linux"); e.set(c, 0, k) }},
	{"a link goes elsewhere", false, func(e *editor, k int) { c, _, _ := e.entry("EFI/Linux/os_1.0+3-0.efi"); e.set(c+2, 3, k) }},
	{"a chain ends early", false, func(e *editor, k int) { c, _, _ := e.entry("EFI/Linux/os_1.0+3-0.efi"); e.set(c+2, endOfChain, k) }},
	{"a chain goes on", false, func(e *editor, k int) {
		c, _, _ := e.entry("loader/loader.conf")
		e.set(c, e.g.clusters, k)
		e.set(e.g.clusters, endOfChain, k)
	}},
}

// One copy of the FAT is damaged: the first change makes it as the other one is, and nothing is
// lost.
func TestDamagedFAT(t *testing.T) {
	for _, o := range threeKinds {
		base := build(t, smallESP(), o)
		before := look(t, base).Contents()
		for _, damage := range damages {
			for k := range 2 {
				d := base.Clone()
				e := edit(t, d)
				damage.do(e, k)
				name := fmt.Sprintf("FAT%d, copy %d: %s", e.g.kind, k, damage.name)

				f, err := Open(d)
				require.NoError(t, err)
				if damage.head { // it is read by the other copy at once
					require.True(t, equal(snapshot(t, base), snapshot(t, d)), name)
				}
				found, err := f.Check()
				require.NoError(t, err)
				require.Equal(t, []int{1 - k, k}, []int{found.FATs[0].Number, found.FATs[1].Number}, name)
				require.Positive(t, found.FATs[1].Differs, name)
				require.Equal(t, []bool{true, !damage.head}, []bool{found.FATs[0].Head, found.FATs[1].Head}, name)
				require.Contains(t, found.String(), fmt.Sprintf("FAT %d differs from FAT %d", k, 1-k))

				require.NoError(t, f.WriteFile("new.txt", strings.NewReader("new")), name)
				requireContents(t, before, d, nil, "new.txt")
				requireWhole(t, d)
				require.NoError(t, f.Remove("EFI/Linux/os_1.0+3-0.efi"))
				requireContents(t, before, d, []string{"EFI/Linux/os_1.0+3-0.efi"}, "new.txt")
				requireWhole(t, d)

				d = base.Clone()
				damage.do(edit(t, d), k)
				f, err = Open(d)
				require.NoError(t, err)
				done, err := f.Repair()
				require.NoError(t, err)
				require.Positive(t, done.FATSectors)
				require.Equal(t, Repaired{FATSectors: done.FATSectors}, done, name)
				requireContents(t, before, d, nil)
				requireWhole(t, d)
			}
		}
	}
}

// Power is cut while the damaged copy is put right: whatever is left, the tree is found again.
func TestCutDamagedFAT(t *testing.T) {
	for _, o := range threeKinds {
		files := append(smallESP(), osmith.ESPFile{Path: "EFI/many clusters", Content: bytes.NewReader(pattern(300_000, 3))})
		base := build(t, files, o) // whose chains are in several sectors of the FAT32
		before := look(t, base).Contents()
		for _, i := range []int{0, 1, 4, 5} {
			d := base.Clone()
			damages[i].do(edit(t, d), 0)
			f, err := Open(d)
			require.NoError(t, err)
			d.Record()
			_, err = f.Repair()
			require.NoError(t, err)
			faults, err := d.Faults(faultio.FaultOptions{Limit: sample(40)})
			require.NoError(t, err)
			for state := range faults.States() {
				if damages[i].head {
					require.True(t, equal(snapshot(t, base), snapshot(t, state.Disk)), "%s: %v", damages[i].name, state)
				}
				f, err := Open(state.Disk)
				require.NoError(t, err)
				require.NoError(t, f.WriteFile("new.txt", strings.NewReader("new")), "%s: %v", damages[i].name, state)
				requireContents(t, before, state.Disk, nil, "new.txt")
				requireWhole(t, state.Disk)
			}
			require.Greater(t, faults.Counts().Total(), 1)
		}
	}
}

// Where nothing says which copy is right, nothing is written.
func TestFATsDiffer(t *testing.T) {
	const file, other = "EFI/Linux/os_1.0+3-0.efi", "EFI/BOOT/BOOTX64.EFI"
	for _, c := range []struct {
		name string
		want error
		do   func(e *editor)
	}{
		{"each is damaged in its own place", ErrFATsDiffer, func(e *editor) {
			a, _, _ := e.entry(file)
			b, _, _ := e.entry(other)
			e.set(a+2, 0, 0)
			e.set(b+2, 0, 1)
		}},
		{"both fit by length", ErrFATsDiffer, func(e *editor) {
			a, _, _ := e.entry(file)
			n := e.g.clusters - 10
			e.set(a+2, n, 1)
			e.set(n, a+4, 1)
			e.set(a+3, 0, 1)
		}},
		{"a directory is longer under one", ErrFATsDiffer, func(e *editor) {
			c, _, _ := e.entry("EFI/Linux")
			n := e.g.clusters - 10
			for i := range e.g.clusterSize / entrySize {
				e.WriteAt(named(nil, fmt.Sprintf("FILE%-7d", i), attrArchive, 0, 0), e.g.clusterOff(n)+i*entrySize)
			}
			for i := int64(5); i < e.g.clusterSize/entrySize; i++ {
				e.WriteAt([]byte{entryDeleted}, e.g.clusterOff(c)+i*entrySize)
			}
			e.set(c, n, 1)
			e.set(n, endOfChain, 1)
		}},
		{"both heads are wrong, and one chain of each", ErrFATsDiffer, func(e *editor) {
			a, _, _ := e.entry(file)
			e.set(0, 0)
			e.set(a+2, 0, 0)
			e.set(a+3, 0, 1)
		}},
		{"both heads are wrong, and the same chain", ErrFATsDiffer, func(e *editor) {
			a, _, _ := e.entry(file)
			e.set(0, 0)
			e.set(a+2, 0)
			e.set(e.g.clusters-5, endOfChain, 1)
		}},
		{"both first sectors are gone", ErrFATDamaged, func(e *editor) {
			for k := range 2 {
				e.WriteAt(make([]byte, 512), e.fat(k))
			}
		}},
	} {
		for _, o := range threeKinds {
			d := build(t, smallESP(), o)
			c.do(edit(t, d))
			f, err := Open(d)
			require.NoError(t, err)
			d.Record()
			require.ErrorIs(t, f.WriteFile("new.txt", strings.NewReader("new")), c.want, c.name)
			require.ErrorIs(t, f.Remove("loader/loader.conf"), c.want, c.name)
			_, err = f.Repair()
			require.ErrorIs(t, err, c.want, c.name)
			require.Contains(t, err.Error(), "fsck.fat")
			found, err := f.Check()
			require.NoError(t, err)
			require.ErrorIs(t, found.FATsErr, c.want)
			require.False(t, found.Clean())
			require.Empty(t, d.Writes(), c.name)
		}
	}
}

// A FAT that does not begin with the media byte, but fits the tree, is used; a repair puts the byte
// there.
func TestFATHead(t *testing.T) {
	for _, o := range threeKinds {
		base := build(t, smallESP(), o)
		before := look(t, base).Contents()
		d := base.Clone()
		e := edit(t, d)
		e.set(0, 0)
		f, err := Open(d)
		require.NoError(t, err)
		require.NoError(t, f.WriteFile("new.txt", strings.NewReader("new")))
		requireContents(t, before, d, nil, "new.txt")
		requireWhole(t, d, oracle.ProblemFATHead)
		done, err := f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{FATHeads: 2}, done)
		requireWhole(t, d)

		d = base.Clone() // any media byte counts, and what the boot sector says does not
		edit(t, d).set(0, 0x0ffffff0)
		f, err = Open(d)
		require.NoError(t, err)
		done, err = f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{}, done)
	}
}

// The dirty bits are told and left as they are.
func TestDirtyBits(t *testing.T) {
	const clean, errs = 0x0fffffff &^ 0x08000000, 0x0fffffff &^ 0x04000000
	for _, o := range threeKinds {
		base := build(t, smallESP(), o)
		bootState := map[int]int64{12: 37, 16: 37, 32: 65}
		for _, c := range []struct {
			fat1         uint32
			boot         byte
			inUse, ioErr bool
		}{{0x0fffffff, 0, false, false}, {clean, 0, true, false}, {errs, 0, false, true}, {0x0fffffff, 1, true, false}, {0x0fffffff, 2, false, true}} {
			d := base.Clone()
			e := edit(t, d)
			v := c.fat1
			if e.g.kind != 32 { // the bits are the two highest ones
				v = 0xffff &^ (^c.fat1 & 0x0fffffff >> 12)
			}
			if e.g.kind == 12 {
				v, c.inUse, c.ioErr = 0xfff, c.boot == 1, c.boot == 2
			}
			e.set(1, v)
			put(d, bootState[e.g.kind], c.boot)
			f, err := Open(d)
			require.NoError(t, err)
			require.NoError(t, f.WriteFile("new.txt", strings.NewReader("new")))
			_, err = f.Repair()
			require.NoError(t, err)
			found, err := f.Check()
			require.NoError(t, err)
			require.Equal(t, []bool{c.inUse, c.ioErr}, []bool{found.InUse, found.IOErrors}, "FAT%d %+v", e.g.kind, c)
			require.Equal(t, !c.inUse && !c.ioErr, found.Clean())
			require.Equal(t, c.inUse, strings.Contains(found.String(), "in use"))
		}
	}
}

// What a power cut during an update of ours leaves of the FATs is never refused: the next change
// and the next repair go on.
func TestCutNeverLocks(t *testing.T) {
	for _, op := range []func(*FS) error{
		func(f *FS) error { return f.WriteFile("EFI/Linux/new.efi", bytes.NewReader(pattern(20_000, 1))) },
		func(f *FS) error { return f.ReplaceFile("loader/loader.conf", strings.NewReader("new")) },
		func(f *FS) error { return f.Remove("EFI/BOOT/BOOTX64.EFI") },
		func(f *FS) error { return f.MkdirAll("a/b") },
		func(f *FS) error { // a directory that grows
			for i := range 40 {
				if err := f.WriteFile(fmt.Sprintf("loader/entries/file of some length, number %d", i), strings.NewReader("")); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		for _, o := range threeKinds {
			d := build(t, smallESP(), o)
			f, err := Open(d)
			require.NoError(t, err)
			d.Record()
			require.NoError(t, op(f))
			faults, err := d.Faults(faultio.FaultOptions{Limit: sample(8)})
			require.NoError(t, err)
			for state := range faults.States() {
				f, err := Open(state.Disk.Clone())
				require.NoError(t, err)
				require.NoError(t, f.WriteFile("more", strings.NewReader("more")), "%v", state)
				f, err = Open(state.Disk)
				require.NoError(t, err)
				_, err = f.Repair()
				require.NoError(t, err, "%v", state)
				requireWhole(t, state.Disk)
			}
		}
	}
}

// brokenDisk cannot read one range.
type brokenDisk struct {
	*faultio.Disk
	from, to int64
	reads    int
}

var errMedium = errors.New("medium error")

func (b *brokenDisk) ReadAt(p []byte, off int64) (int, error) {
	if off < b.to && off+int64(len(p)) > b.from {
		b.reads++
		return 0, errMedium
	}
	return b.Disk.ReadAt(p, off)
}

// A copy of the FAT that cannot be read is not one to copy, nor to lose: files are read by the
// other one.
func TestUnreadableFAT(t *testing.T) {
	d := build(t, smallESP(), BuildOptions{Size: 34 << 20})
	e := edit(t, d)
	b := &brokenDisk{Disk: d, from: e.fat(0), to: e.fat(0) + 512}
	f, err := Open(b)
	require.NoError(t, err)
	text, err := fs.ReadFile(f, "loader/loader.conf")
	require.NoError(t, err)
	require.Equal(t, "timeout 3\n", string(text))
	d.Record()
	require.ErrorIs(t, f.WriteFile("new", strings.NewReader("new")), errMedium)
	require.Empty(t, d.Writes())
}
