package fat

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// stored is a volume of testdata.
func stored(t testing.TB, name string) *faultio.Disk {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".img.gz")
	require.NoError(t, err)
	z, err := gzip.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	b, err = io.ReadAll(z)
	require.NoError(t, err)
	return faultio.DiskOf(b)
}

// twinVolumes have two names for one file.
func twinVolumes(t testing.TB) map[string]*faultio.Disk {
	out := map[string]*faultio.Disk{"U-Boot": stored(t, "rename-cut")}
	for _, o := range threeKinds {
		d := build(t, smallESP(), o)
		f, err := Open(d)
		require.NoError(t, err)
		require.NoError(t, f.WriteFile("EFI/Linux/bootlab_2+3-0.efi", bytes.NewReader(pattern(20_000, 5))))
		e := edit(t, d)
		c, _, _ := e.entry("EFI/Linux/bootlab_2+3-0.efi")
		e.add("EFI/Linux", named(units("bootlab_2+2-1.efi"), "BOOTLA~9EFI", attrArchive, c, 20_000))
		out[fmt.Sprint("FAT", f.Kind())] = d
	}
	return out
}

// Two names for one file, as U-Boot leaves them when a rename is cut: neither costs the other a
// cluster, and a repair drops the second.
func TestTwoNames(t *testing.T) {
	const first, second = "EFI/Linux/bootlab_2+3-0.efi", "EFI/Linux/bootlab_2+2-1.efi"
	shared := []oracle.ProblemKind{oracle.ProblemShared, oracle.ProblemSize}
	for name, base := range twinVolumes(t) {
		before := look(t, base).Contents()
		require.Equal(t, before[first], before[second])
		require.NotEmpty(t, look(t, base).Problems)
		for i, names := range [][2]string{{first, second}, {second, first}} {
			gone, stays := names[0], names[1]
			open := func() (*faultio.Disk, *FS) {
				d := base.Clone()
				f, err := Open(d)
				require.NoError(t, err)
				return d, f
			}
			// if clusters were freed wrongly they are written over now
			fill := func(f *FS, d *faultio.Disk) {
				require.NoError(t, f.WriteFile("fill", bytes.NewReader(make([]byte, f.Free()))))
				require.Equal(t, before[stays], look(t, d).Contents()[stays], "%s %d", name, i)
			}
			d, f := open()
			require.NoError(t, f.Remove(gone))
			requireWhole(t, d)
			requireContents(t, before, d, []string{gone})
			fill(f, d)
			require.NoError(t, f.Remove(stays))
			require.NoError(t, f.Remove("fill"))
			requireWhole(t, d) // and no lost clusters

			d, f = open()
			require.NoError(t, f.ReplaceFile(gone, strings.NewReader("new")))
			requireWhole(t, d)
			fill(f, d)
			b, err := f.ReadFile(gone)
			require.NoError(t, err)
			require.Equal(t, "new", string(b))

			d, f = open()
			require.NoError(t, f.Rename(gone, "EFI/Linux/renamed.efi"))
			requireWhole(t, d, shared...)
			requireContents(t, before, d, []string{gone}, "EFI/Linux/renamed.efi")
			// a copy, and the old name removed
			long := "EFI/Linux/" + strings.Repeat("so long that no sector has room ", 7)
			require.NoError(t, f.Rename("EFI/Linux/renamed.efi", long+".efi"))
			fill(f, d)
		}

		d := base.Clone()
		f, err := Open(d)
		require.NoError(t, err)
		found, err := f.Check()
		require.NoError(t, err)
		require.Len(t, found.Problems, 1)
		require.Equal(t, ProblemTwin, found.Problems[0].Kind)
		require.Equal(t, second, found.Problems[0].Path)
		free := f.Free()
		d.Record()
		done, err := f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{Names: 1}, done, name)
		require.Equal(t, free, f.Free(), "nothing is freed")
		requireContents(t, before, d, []string{second})
		requireWhole(t, d)
		require.NoError(t, f.Remove(first))
		requireWhole(t, d) // the chain was the first one's alone

		faults, err := d.Faults(faultio.FaultOptions{Limit: sample(30)})
		require.NoError(t, err)
		for state := range faults.States() {
			got := look(t, state.Disk).Contents()
			if got[first] != "" {
				require.Equal(t, before[first], got[first], "%s: %v", name, state)
			}
			f, err := Open(state.Disk)
			require.NoError(t, err)
			_, err = f.Repair()
			require.NoError(t, err, "%s: %v", name, state)
			requireWhole(t, state.Disk)
		}
	}
}

// Which of several names stays, and what is no case for a repair.
func TestWhichNameStays(t *testing.T) {
	const loader = "EFI/BOOT/BOOTX64.EFI"
	for _, c := range []struct {
		name  string
		do    func(e *editor, c, size uint32)
		stays []string // of the names; none: Repair refuses
		gone  []string
	}{
		{"three", func(e *editor, c, size uint32) {
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c, size), named(nil, "THREE   EFI", attrArchive, c, size))
		}, []string{loader}, []string{"EFI/BOOT/TWO.EFI", "EFI/BOOT/THREE.EFI"}},
		{"other directory", func(e *editor, c, size uint32) { e.add("loader", named(nil, "TWO     EFI", attrArchive, c, size)) },
			[]string{"loader/TWO.EFI"}, []string{loader}},
		{"the size of the first is wrong", func(e *editor, c, size uint32) {
			_, _, end := e.entry(loader)
			e.WriteAt([]byte{1, 0, 0, 0}, end-4)
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c, size))
		}, []string{"EFI/BOOT/TWO.EFI"}, []string{loader}},
		{"the size of the second is wrong", func(e *editor, c, size uint32) {
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c, 1))
		}, []string{loader}, []string{"EFI/BOOT/TWO.EFI"}},
		{"both sizes are wrong", func(e *editor, c, size uint32) {
			_, _, end := e.entry(loader)
			e.WriteAt([]byte{1, 0, 0, 0}, end-4)
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c, 1))
		}, nil, nil},
		{"in the middle of another", func(e *editor, c, size uint32) {
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c+1, size))
		}, nil, nil},
		{"two in the middle of another", func(e *editor, c, size uint32) {
			n := size - uint32(e.g.clusterSize)
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c+1, n), named(nil, "THREE   EFI", attrArchive, c+1, n))
		}, nil, nil},
		{"two, and a third that joins", func(e *editor, c, size uint32) {
			top := e.g.clusters - 5
			e.set(top, c+1)
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c, size), named(nil, "THREE   EFI", attrArchive, top, size))
		}, nil, nil},
		{"a file and a directory", func(e *editor, _, _ uint32) {
			c, _, _ := e.entry("EFI/Linux")
			e.add("EFI/BOOT", named(nil, "TWO     EFI", attrArchive, c, 1))
		}, nil, nil},
		{"the right place is inside of itself", func(e *editor, c, size uint32) {
			inner := e.directory(nil, 0)
			outer := e.directory(named(nil, "INNER      ", attrDirectory, inner, 0), inner)
			e.setEntry(e.g.clusterOff(inner)+entrySize, outer)
			e.WriteAt(named(nil, "OUTER      ", attrDirectory, outer, 0), e.g.clusterOff(inner)+2*entrySize)
			e.add(".", named(nil, "OUTER      ", attrDirectory, outer, 0))
		}, nil, nil},
		{"two directories", func(e *editor, _, _ uint32) {
			c, _, _ := e.entry("EFI/Linux")
			e.add("EFI", named(units("Linux.new"), "LINUX~1NEW ", attrDirectory, c, 0))
		}, []string{"EFI/Linux"}, []string{"EFI/Linux.new"}},
		{"a directory in two others: its '..' decides", func(e *editor, _, _ uint32) {
			c, _, _ := e.entry("EFI/Linux")
			e.add(".", named(nil, "LINUX      ", attrDirectory, c, 0))
		}, []string{"EFI/Linux"}, []string{"LINUX"}},
	} {
		for _, o := range threeKinds {
			d := build(t, smallESP(), o)
			e := edit(t, d)
			cluster, _, _ := e.entry(loader)
			c.do(e, cluster, 16_000)
			before, spoiled := snapshotLoosely(t, d), d.Clone()
			f, err := Open(d)
			require.NoError(t, err)
			d.Record()
			done, err := f.Repair()
			if c.stays == nil {
				var format *osmith.FormatError
				require.ErrorAs(t, err, &format, c.name)
				require.Empty(t, d.Writes())
				// What cannot be repaired is still not made worse: a change elsewhere touches no
				// file.
				require.NoError(t, f.WriteFile("new.txt", strings.NewReader("new")))
				require.NoError(t, f.Remove("new.txt"))
				require.Equal(t, before, snapshotLoosely(t, d), c.name)
				continue
			}
			require.NoError(t, err, c.name)
			require.Equal(t, Repaired{Names: len(c.gone)}, done, c.name)
			after := snapshotLoosely(t, d)
			for _, name := range c.stays {
				require.Contains(t, after, name, c.name)
			}
			for _, name := range c.gone {
				require.NotContains(t, after, name, c.name)
			}
			requireWhole(t, d)
			for k := 0; o.Kind == 12; k++ { // a name that could not be read is not a worse one
				d := spoiled.Clone()
				f, err := Open(d)
				require.NoError(t, err)
				d.Faulty(faultio.Failure{Op: faultio.OpRead, After: k})
				_, err = f.Repair()
				if d.Failed() == 0 {
					break
				}
				require.ErrorIs(t, err, faultio.ErrIO, "%s: read %d", c.name, k)
				f, err = Open(d)
				require.NoError(t, err)
				_, err = f.Repair()
				require.NoError(t, err)
				require.Equal(t, after, snapshotLoosely(t, d), "%s: read %d", c.name, k)
			}
		}
	}
}

// snapshotLoosely is what can be read, and the errors of what cannot.
func snapshotLoosely(t testing.TB, d *faultio.Disk) map[string]string {
	t.Helper()
	f, err := OpenReader(d)
	require.NoError(t, err)
	out := map[string]string{}
	require.NoError(t, fs.WalkDir(f, ".", func(name string, e fs.DirEntry, err error) error {
		out[name] = fmt.Sprint(err)
		if err == nil && !e.IsDir() {
			b, err := f.ReadFile(name)
			out[name] = fmt.Sprint(string(b), err)
		}
		return nil
	}))
	return out
}

// No change takes a cluster from a file, however the chains run: not where one ends in a free
// cluster, which another file would be given, and not where chains meet.
func TestOthersKeepTheirClusters(t *testing.T) {
	for _, o := range threeKinds {
		d := build(t, smallESP(), o)
		e := edit(t, d)
		top := e.g.clusters - 20
		cs := uint32(e.g.clusterSize)
		// FAT: top is followed by top+1, which is free
		e.add(".", named(nil, "FREE    BIN", attrArchive, top, 2*cs))
		e.set(top, top+1)
		e.WriteAt(bytes.Repeat([]byte("free"), int(cs)/2), e.g.clusterOff(top))
		e.add(".", named(nil, "ONE     BIN", attrArchive, top+4, 3*cs)) // top+4, top+6, top+7
		e.add(".", named(nil, "TWO     BIN", attrArchive, top+5, 3*cs)) // top+5, top+6, top+7
		for _, link := range [][2]uint32{{4, 6}, {5, 6}, {6, 7}} {
			e.set(top+link[0], top+link[1])
		}
		e.set(top+7, endOfChain)
		for i := range int64(4) {
			e.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, int(cs)), e.g.clusterOff(top+4+uint32(i)))
		}
		content := func() []byte {
			b := make([]byte, 8*cs)
			d.ReadAt(b, e.g.clusterOff(top))
			return b
		}
		was := content()
		free := func(first, stop uint32) (out []bool) {
			w := newTableReader(d, e.g)
			for c := first; c < stop; c++ {
				v, err := w.entry(top + c)
				require.NoError(t, err)
				out = append(out, v == clusterFree)
			}
			return out
		}
		f, err := Open(d)
		require.NoError(t, err)
		require.NoError(t, f.MkdirAll("now the FAT is loaded"))
		f.hint = top + 1 // the next file would like to be here
		require.NoError(t, f.WriteFile("new.bin", bytes.NewReader(make([]byte, cs))))
		require.Equal(t, []bool{false, true}, free(0, 2))
		require.Equal(t, was[:2*cs], content()[:2*cs], "a cluster that a file has, although the FAT says that it is free")
		require.Equal(t, was[4*cs:], content()[4*cs:])

		require.NoError(t, f.Remove("ONE.BIN"))
		require.Equal(t, []bool{true, false, false, false}, free(4, 8), "the others are TWO.BIN's too")
		b, err := f.ReadFile("TWO.BIN")
		require.NoError(t, err)
		require.Equal(t, was[5*cs:8*cs], b)
		require.NoError(t, f.Remove("TWO.BIN"))
		require.Equal(t, []bool{true, true, true, true}, free(4, 8), "nobody else's any more")
	}
}

// dotStyles are '.' and '..' that are not what they should be.
var dotStyles = map[string]func(e *editor, at int64){
	"cluster 0":  func(e *editor, at int64) { e.WriteAt([]byte{0, 0}, at+26); e.WriteAt([]byte{0, 0}, at+58) },
	"wrong dot":  func(e *editor, at int64) { e.WriteAt([]byte{77, 0}, at+26) },
	"wrong dots": func(e *editor, at int64) { e.WriteAt([]byte{77, 0}, at+58) },
	"no dot":     func(e *editor, at int64) { e.WriteAt([]byte{entryDeleted}, at) },
	"no dots":    func(e *editor, at int64) { e.WriteAt([]byte{entryDeleted}, at); e.WriteAt([]byte{entryDeleted}, at+32) },
	"files": func(e *editor, at int64) {
		e.WriteAt([]byte{attrArchive}, at+11)
		e.WriteAt([]byte{attrArchive}, at+43)
	},
}

// Directories whose '.' and '..' are wrong, as those of mtools before 4.0.21, are read, changed and
// repaired.
func TestDots(t *testing.T) {
	volumes := map[string]*faultio.Disk{"mtools": stored(t, "mtools-dots")}
	for name, style := range dotStyles {
		for _, o := range threeKinds {
			d := build(t, smallESP(), o)
			e := edit(t, d)
			clusters := []uint32{}
			for _, path := range []string{"EFI", "EFI/Linux", "loader/entries"} {
				c, _, _ := e.entry(path)
				clusters = append(clusters, c)
			}
			for _, c := range clusters {
				style(e, e.g.clusterOff(c))
			}
			volumes[fmt.Sprintf("%s, FAT%d", name, e.g.kind)] = d
		}
	}
	for name, base := range volumes {
		dir := "EFI/Linux"
		want := snapshot(t, base)
		require.Greater(t, len(want), 5, name)
		kinds := []oracle.ProblemKind{}
		for _, p := range look(t, base).Problems {
			kinds = append(kinds, p.Kind)
		}
		require.NotEmpty(t, kinds)
		for _, repairFirst := range []bool{false, true} {
			d := base.Clone()
			f, err := Open(d)
			require.NoError(t, err)
			if repairFirst {
				found, err := f.Check()
				require.NoError(t, err)
				require.True(t, slices.ContainsFunc(found.Problems, func(p Problem) bool { return p.Kind == ProblemDots && p.Path == "EFI/Linux" }), name)
				d.Record()
				done, err := f.Repair()
				require.NoError(t, err)
				require.Equal(t, Repaired{Dots: 3}, done, name)
				require.True(t, equal(want, snapshot(t, d)), name)
				requireWhole(t, d)
				require.Len(t, look(t, d).Files, len(want)-1, "Linux reads all directories")
				faults, err := d.Faults(faultio.FaultOptions{Limit: sample(20)})
				require.NoError(t, err)
				for state := range faults.States() {
					require.True(t, equal(want, snapshot(t, state.Disk)), "%s: %v", name, state)
					f, err := Open(state.Disk)
					require.NoError(t, err)
					_, err = f.Repair()
					require.NoError(t, err)
					requireWhole(t, state.Disk)
				}
				done, err = f.Repair()
				require.NoError(t, err)
				require.Equal(t, Repaired{}, done)
				kinds = nil
			}
			require.NoError(t, f.WriteFile(dir+"/new file.efi", bytes.NewReader(pattern(3000, 1))))
			require.NoError(t, f.Rename(dir+"/new file.efi", dir+"/renamed.efi"))
			require.NoError(t, f.MkdirAll(dir+"/made/here"))
			require.NoError(t, f.Remove(dir+"/made/here"))
			require.NoError(t, f.Remove(dir+"/made"))
			require.NoError(t, f.Remove(dir+"/renamed.efi"))
			require.True(t, equal(want, snapshot(t, d)), name)
			requireWhole(t, d, kinds...)
		}
	}
}

// Other entries in the places of '.' and '..' stay.
func TestNoPlaceForDots(t *testing.T) {
	d := build(t, smallESP(), BuildOptions{Size: 24 << 20})
	e := edit(t, d)
	c, _, _ := e.entry("loader/entries")
	e.WriteAt(named(nil, "ONE        ", attrArchive, 0, 0), e.g.clusterOff(c))
	e.WriteAt(named(nil, "TWO        ", attrArchive, 0, 0), e.g.clusterOff(c)+entrySize)
	want := snapshot(t, d)
	require.Contains(t, want, "loader/entries/TWO")
	f, err := Open(d)
	require.NoError(t, err)
	done, err := f.Repair()
	require.NoError(t, err)
	require.Equal(t, Repaired{}, done)
	require.True(t, equal(want, snapshot(t, d)))
}

// Directories in themselves, in each other, in two others, and in very many others: a walk comes to
// an end, and so does a check.
func TestCycles(t *testing.T) {
	dir := func(e *editor, parent, short string, cluster uint32) {
		e.add(parent, named(nil, short, attrDirectory, cluster, 0))
	}
	for name, do := range map[string]func(e *editor){
		"itself":    func(e *editor) { c, _, _ := e.entry("EFI/Linux"); dir(e, "EFI/Linux", "LOOP       ", c) },
		"parent":    func(e *editor) { c, _, _ := e.entry("EFI"); dir(e, "EFI/Linux", "LOOP       ", c) },
		"root":      func(e *editor) { dir(e, "EFI/Linux", "LOOP       ", max(e.g.rootCluster, 0)) },
		"cluster 0": func(e *editor) { dir(e, "EFI/Linux", "LOOP       ", 0) },
		"each other": func(e *editor) {
			a, _, _ := e.entry("EFI/Linux")
			b, _, _ := e.entry("EFI/BOOT")
			dir(e, "EFI/BOOT", "LOOP       ", a)
			dir(e, "EFI/Linux", "LOOP       ", b)
		},
		// 2^14 paths, were it not for the rule of one parent
		"two names at each of 14 levels": func(e *editor) {
			parent, top := "loader/entries", e.g.clusters-100
			clusters := []uint32{}
			for i := range uint32(14) {
				clusters = append(clusters, top+3*i)
				e.set(top+3*i, endOfChain)
				e.set(top+3*i+1, endOfChain)
				e.set(top+3*i+2, endOfChain)
			}
			dir(e, parent, "D          ", clusters[0])
			for _, c := range clusters { // D has A and B, which have the next D
				for i, next := range []uint32{c + 1, c + 2} {
					e.WriteAt(named(nil, string(rune('A'+i))+"          ", attrDirectory, next, 0), e.g.clusterOff(c)+int64(i+2)*entrySize)
					e.WriteAt(named(nil, "D          ", attrDirectory, c+3, 0), e.g.clusterOff(next)+2*entrySize)
					for at := range int64(2) {
						e.WriteAt([]byte{entryDeleted}, e.g.clusterOff(c)+at*entrySize)
						e.WriteAt([]byte{entryDeleted}, e.g.clusterOff(next)+at*entrySize)
					}
				}
			}
			last := clusters[13]
			e.WriteAt(make([]byte, 96), e.g.clusterOff(last+1))
			e.WriteAt(make([]byte, 96), e.g.clusterOff(last+2))
		},
		"300 levels": func(e *editor) {
			first := e.g.clusters - 400
			for i := range uint32(300) {
				e.set(first+i, endOfChain)
				e.WriteAt(named(nil, "E          ", attrDirectory, first+i+1, 0), e.g.clusterOff(first+i))
			}
			dir(e, ".", "E          ", first)
		},
	} {
		for _, o := range threeKinds {
			d := build(t, smallESP(), o)
			before := look(t, d).Contents()
			e := edit(t, d)
			do(e)
			f, err := Open(d)
			require.NoError(t, err)
			n, errs := 0, 0
			require.NoError(t, fs.WalkDir(f, ".", func(_ string, _ fs.DirEntry, err error) error {
				if err != nil {
					errs++
				}
				if n++; n > 1000 {
					t.Fatal("a tree without end: " + name)
				}
				return nil
			}))
			require.Positive(t, errs, name)
			if name == "cluster 0" { // of a FAT32, it would be the root directory
				_, err := f.ReadDir("EFI/Linux/LOOP")
				require.ErrorContains(t, err, "starts at cluster 0")
			}
			if name == "300 levels" {
				_, err := f.ReadDir("E" + strings.Repeat("/E", maxDepth-2))
				require.NoError(t, err)
				_, err = f.ReadDir("E" + strings.Repeat("/E", maxDepth-1))
				require.ErrorContains(t, err, "is inside of 256 others, want fewer")
			}
			found, err := f.Check()
			require.NoError(t, err)
			require.NotEmpty(t, found.Problems, name)
			d.Record()
			done, err := f.Repair()
			switch name {
			case "itself", "parent", "each other": // '..' tells which name is the right one
				require.NoError(t, err)
				require.Equal(t, Repaired{Names: done.Names}, done, name)
				requireContents(t, before, d, nil)
				requireWhole(t, d)
				continue
			case "two names at each of 14 levels":
				require.NoError(t, err)
				require.Equal(t, Repaired{Names: 13, Dots: 42}, done)
				requireWhole(t, d)
				continue
			}
			var format *osmith.FormatError
			require.ErrorAs(t, err, &format, name)
			require.Empty(t, d.Writes())
		}
	}
}

// Entries that no driver shows keep their clusters: they are not ours to give away.
func TestHiddenEntries(t *testing.T) {
	for _, o := range threeKinds {
		d := build(t, smallESP(), o)
		e := edit(t, d)
		c := e.g.clusters - 4
		e.set(c, c+1)
		e.set(c+1, endOfChain)
		e.add(".", named(nil, "..         ", attrArchive, c, uint32(2*e.g.clusterSize)))
		f, err := Open(d)
		require.NoError(t, err)
		_, err = f.Stat("..")
		require.Error(t, err)
		done, err := f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{}, done)
		w := newTableReader(d, e.g)
		v, err := w.entry(c)
		require.NoError(t, err)
		require.Equal(t, c+1, v)
	}
}
