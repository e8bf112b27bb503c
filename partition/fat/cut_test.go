package fat

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// operations are all changes that this package makes to a volume, each in the forms in which it can
// come about.
func operations(v volume) []operation {
	big := pattern(int(2*v.cluster+77), 9)
	write := func(name string, b []byte) func(*FS) error {
		return func(f *FS) error { return f.WriteFile(name, bytes.NewReader(b)) }
	}
	replace := func(name string, b []byte) operation {
		return operation{
			do: func(f *FS) error { return f.ReplaceFile(name, bytes.NewReader(b)) }, made: map[string][]byte{name: b},
		}
	}
	add := func(name string, b []byte) operation {
		return operation{do: write(name, b), made: map[string][]byte{name: b}}
	}
	remove := func(name string) operation {
		return operation{do: func(f *FS) error { return f.Remove(name) }, gone: []string{name}}
	}
	rename := func(from, to string) operation {
		return operation{do: func(f *FS) error { return f.Rename(from, to) }, moved: [2]string{from, to}}
	}
	copied := func(from, to string, b []byte) operation {
		o := rename(from, to)
		o.steps = []func(*FS) error{write(to, b)}
		return o
	}
	prepared := func(o operation, prepare func(*FS) error) operation {
		o.prepare = prepare
		return o
	}
	const linux, much = "EFI/Linux/", "_with_a_much_longer_name_than_it_had"
	all := map[string]operation{
		"write":                    add(linux+"os_1.5+3-0.efi", big),
		"write empty":              add(linux+"flag", []byte{}),
		"write short":              add(linux+"FLAG", []byte("x")),
		"write long name":          add("loader/entries/"+strings.Repeat("long name ", 24)+".conf", []byte("x")),
		"write long name later":    add("loader/"+strings.Repeat("long name ", 24)+".conf", big),
		"write, directory grows":   prepared(add("full/name of three entries", big), fillDirectory("full")),
		"write, full directory":    prepared(add("full/name of three entries", big), fillWhole("full")),
		"write, volume fragmented": prepared(add(linux+"os_1.5+3-0.efi", big), fragment),
		"write behind the marker":  {do: write("loader/new name.conf", big), made: map[string][]byte{"loader/new name.conf": big}, spoil: garbage("loader"), accept: behindEnd},
		"write beyond the marker":  {do: write("loader/"+longest[1:], big), made: map[string][]byte{"loader/" + longest[1:]: big}, spoil: garbage("loader"), accept: behindEnd},
		"replace":                  replace(linux+"os_1.3.efi", big),
		"replace with nothing":     replace(linux+"os_1.3.efi", []byte{}),
		"replace nothing":          replace(linux+"padding name number 0.efi", big),
		"mkdir": {
			do:    func(f *FS) error { return f.MkdirAll("EFI/new/directory with a long name") },
			steps: []func(*FS) error{func(f *FS) error { return f.MkdirAll("EFI/new") }},
			made:  map[string][]byte{"EFI/new": nil, "EFI/new/directory with a long name": nil},
		},
		"remove":                       remove(linux + "os_1.3.efi"),
		"remove empty":                 remove(linux + "padding name number 0.efi"),
		"remove long name":             remove("loader/" + longest),
		"remove directory":             remove("loader/entries"),
		"rename in place":              rename(linux+"os_1.4+3-0.efi", linux+"os_1.4+2-1.efi"),
		"rename in place, bless":       rename(linux+"os_1.4+3-0.efi", linux+"os_1.4.efi"),
		"rename in place, short":       rename(linux+"os_1.4+3-0.efi", linux+"A.EFI"),
		"rename in place, case":        rename("loader/loader.conf", "loader/LOADER.conf"),
		"rename in place, alias":       rename("EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/old.efi"),
		"rename in place, directory":   rename("EFI/BOOT", "EFI/Boot-of-firmware"),
		"rename long name":             rename("loader/"+longest, "loader/"+longest[:len(longest)-1]+"s"),
		"rename, repacked":             prepared(rename("full/c.lower", "full/longer name.lower"), func(f *FS) error { return f.Remove("full/d.lower") }),
		"rename, first cluster anew":   rename(linux+"padding name number 1.efi", linux+"padding name number 1"+much+".efi"),
		"rename, cluster anew":         rename(linux+"padding name number 4.efi", linux+"padding name number 4"+much+".efi"),
		"rename, directory's cluster":  rename("full/sub", "full/sub"+much),
		"rename, from two sectors":     rename(linux+"padding name number 8.efi", linux+"padding name number 8"+much+".efi"),
		"rename, from two, short":      rename(linux+"padding name number 8.efi", linux+"B.EFI"),
		"rename, from two, as long":    rename(linux+"padding name number 8.efi", linux+"another name of 8 and efi"),
		"rename, much longer":          rename(linux+"os_1.4+3-0.efi", linux+"os_1.4"+much+"+3-0.efi"),
		"rename, copied":               copied("full/b.lower", "full/b"+much+".lower", []byte("file 1")),
		"repair after write":           spoiled(write(linux+"os_1.5+3-0.efi", big)),
		"repair after remove":          spoiled(func(f *FS) error { return f.Remove("loader/" + longest) }),
		"repair after rename":          spoiled(func(f *FS) error { return f.Rename(linux+"os_1.4+3-0.efi", linux+"os"+much+".efi") }),
		"repair after growth":          prepared(spoiled(write("full/name of three entries", big)), fillDirectory("full")),
		"write over an interruption":   {spoil: interrupt(write(linux+"os_1.5+3-0.efi", big)), do: write(linux+"os_1.6+3-0.efi", big), made: map[string][]byte{linux + "os_1.6+3-0.efi": big}},
		"rename over an interruption":  {spoil: interrupt(write(linux+"os_1.5+3-0.efi", big)), do: rename(linux+"os_1.3.efi", linux+"os_1.3+0-3.efi").do, moved: [2]string{linux + "os_1.3.efi", linux + "os_1.3+0-3.efi"}},
		"replace over an interruption": {spoil: interrupt(func(f *FS) error { return f.Remove(linux + "os_1.3.efi") }), do: replace("loader/loader.conf", big).do, made: map[string][]byte{"loader/loader.conf": big}},
	}
	var list []operation
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o := all[name]
		o.name = name
		if verb, _, _ := strings.Cut(name, " "); v.packed && strings.TrimSuffix(verb, ",") != "rename" && verb != "remove" && verb != "replace" && o.accept == nil {
			continue // these do not depend on where the sets of others are
		}
		list = append(list, o)
	}
	return list
}

// behindEnd is what fsck.fat says about entries behind the end of a directory.
var behindEnd = []oracle.ProblemKind{oracle.ProblemBehindEnd, oracle.ProblemDuplicate}

// fillDirectory writes empty files until the directory has no room for another.
func fillDirectory(dir string) func(f *FS) error {
	return func(f *FS) error {
		for {
			_, d, err := f.find(dir)
			if err != nil {
				return err
			}
			if f.slot(d, 3) < 0 {
				return nil
			}
			if err := f.WriteFile(fmt.Sprintf("%s/filling name %d", dir, len(d.entries)), bytes.NewReader(nil)); err != nil {
				return err
			}
		}
	}
}

// fillWhole leaves no entry free.
func fillWhole(dir string) func(f *FS) error {
	return func(f *FS) error {
		if err := fillDirectory(dir)(f); err != nil {
			return err
		}
		for i := 0; ; i++ {
			_, d, err := f.find(dir)
			if err != nil || f.slot(d, 1) < 0 {
				return err
			}
			if err := f.WriteFile(fmt.Sprintf("%s/F%d", dir, i), bytes.NewReader(nil)); err != nil {
				return err
			}
		}
	}
}

// fragment leaves single free clusters: the others are marked as bad.
func fragment(f *FS) error {
	if err := f.writable(); err != nil {
		return err
	}
	runs, ok := f.alloc(f.free)
	if !ok {
		return fmt.Errorf("%d clusters", f.free)
	}
	first := runs[len(runs)-1].first
	free := []run{{first + 1, 1}, {first + 4, 2}, {first + 8, 1}, {first + 11, 1}}
	f.release(free)
	at := first
	var bad []run
	for _, r := range free {
		bad = append(bad, run{at, r.first - at})
		at = r.first + r.n
	}
	bad = append(bad, run{at, first + runs[len(runs)-1].n - at})
	if err := f.patch(append(runs[:len(runs)-1], bad...), func(int, uint32) uint32 { return clusterBad }); err != nil {
		return err
	}
	return f.writeInfo()
}

// garbage leaves entries behind the end marker of a directory, as deleting writers do.
func garbage(dir string) func(t testing.TB, v volume, d *faultio.Disk) {
	return func(t testing.TB, v volume, d *faultio.Disk) {
		f := v.open(t, d)
		_, dd, err := f.find(dir)
		require.NoError(t, err)
		set := entrySet("garbage", padShort("GARBAGE", ""), false, attrArchive, 0, 0, stamp{})
		for i := dd.end + 1; i < len(dd.buf)/entrySize; i++ {
			_, err := d.WriteAt(set[len(set)-entrySize:], dd.off(&f.geo, int64(i*entrySize)))
			require.NoError(t, err)
		}
	}
}

// spoiled is the repair of what the interruption of a change leaves.
func spoiled(do func(f *FS) error) operation {
	return operation{spoil: interrupt(do), do: func(f *FS) error { _, err := f.Repair(); return err }}
}

// interrupt cuts the power in a change, in the middle of its writes.
func interrupt(do func(f *FS) error) func(t testing.TB, v volume, d *faultio.Disk) {
	return func(t testing.TB, v volume, d *faultio.Disk) {
		trial := d.Clone()
		f := v.open(t, trial)
		trial.Record()
		require.NoError(t, do(f))
		n := len(trial.Writes()) / 2
		f = v.open(t, d)
		d.CutAfter(n)
		require.ErrorIs(t, do(f), faultio.ErrCut)
		d.CutAfter(math.MaxInt)
	}
}

// TestCut cuts the power at every write of every change, on every kind of volume and disk, in every
// way that the model of internal/faultio knows, and has the drivers of internal/oracle look at what
// is left. No file changes but from what it was to what it was to be.
func TestCut(t *testing.T) {
	limit := 256
	switch {
	case testing.Short():
		limit = 12
	case os.Getenv("OSMITH_LONG") == "1":
		limit = faultio.DefaultFaultLimit
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // each state is short-lived
	var (
		mu sync.Mutex
		n  tally
	)
	t.Run("volumes", func(t *testing.T) {
		for i, v := range volumes() {
			if testing.Short() && v.kind == 32 && v.packed && v.sector == v.device {
				continue
			}
			t.Run(v.String(), func(t *testing.T) {
				t.Parallel()
				// A FAT32 takes long to read.
				some, limit := testing.Short() && v.kind == 32, limit
				if some {
					limit /= 8
				}
				d := v.build(t)
				for k, op := range operations(v) {
					if some && (k+i)%2 == 0 {
						continue
					}
					t.Run(op.name, func(t *testing.T) {
						one := op.cut(t, v, d.Clone(), limit)
						mu.Lock()
						defer mu.Unlock()
						n.add(one)
					})
				}
			})
		}
	})
	t.Logf("%d operations, %d states after a power cut; wrong to Linux, edk2 or U-Boot: 0; states of %d sequences of writes are samples", n.operations, n.states, n.sampled)
	for p := range renamePaths {
		require.GreaterOrEqual(t, n.paths[p], 3, "renames: %s", renamePath(p))
	}
}

// TestCut512e cuts the power of disks that lose the 4 KiB which they rewrite. Where there is room,
// an upgrade harms nothing that the set which runs needs. What it harms where there is none is
// counted.
func TestCut512e(t *testing.T) {
	const linux = "EFI/Linux/"
	running := []string{"EFI/BOOT/BOOTX64.EFI", linux + "os_1.3.efi", "loader/loader.conf"}
	big := pattern(3000, 9)
	write := operation{do: func(f *FS) error { return f.WriteFile(linux+"os_1.5+3-0.efi", bytes.NewReader(big)) }}
	next := func(do func(f *FS) error) operation { return operation{prepare: write.do, do: do} }
	upgrade := map[string]operation{
		"write":   write,
		"replace": next(func(f *FS) error { return f.ReplaceFile(linux+"os_1.5+3-0.efi", bytes.NewReader(big[1:])) }),
		"count":   next(func(f *FS) error { return f.Rename(linux+"os_1.5+3-0.efi", linux+"os_1.5+2-1.efi") }),
		"bless":   next(func(f *FS) error { return f.Rename(linux+"os_1.5+3-0.efi", linux+"os_1.5.efi") }),
		"longer":  next(func(f *FS) error { return f.Rename(linux+"os_1.5+3-0.efi", linux+strings.Repeat("longer", 9)+".efi") }),
		"remove":  next(func(f *FS) error { return f.Remove(linux + "os_1.5+3-0.efi") }),
		"repair":  {spoil: interrupt(write.do), do: func(f *FS) error { _, err := f.Repair(); return err }},
	}
	var n, rest tally
	for _, v := range volumes() {
		if v.device != 512 || v.packed {
			continue
		}
		d := v.build(t)
		if v.kind == 32 { // there is room: FAT entries of 4 KiB for each file
			for _, name := range slices.Sorted(maps.Keys(upgrade)) {
				op := upgrade[name]
				op.name = name
				one, example := op.lose(t, v, d.Clone(), 16, running...)
				n.add(one)
				require.Zero(t, one.lostSet, example)
			}
		}
		if testing.Short() {
			continue
		}
		for _, op := range operations(v) {
			one, _ := op.lose(t, v, d.Clone(), 16)
			rest.add(one)
		}
	}
	t.Logf("512e, upgrade: %d operations, %d states with 4 KiB lost: %d harm what the running set needs, %d another file; %d states with 4 KiB unreadable: %d harm what the running set needs",
		n.operations, n.lost, n.lostSet, n.lostOther, n.unreadable, n.badRead)
	t.Logf("512e, all changes: %d operations, %d states with 4 KiB lost: %d harm a file that the operation does not concern; %d with 4 KiB unreadable: %d do",
		rest.operations, rest.lost, rest.lostOther, rest.unreadable, rest.badRead)
}

// TestCutFsck has fsck.fat judge a sample of the same states.
func TestCutFsck(t *testing.T) {
	testtools.Require(t, "fsck.fat")
	for _, v := range volumes() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel() // fsck.fat mostly waits
			d := v.build(t)
			for _, op := range operations(v) {
				if op.accept != nil { // it says more than drivers mind
					continue
				}
				t.Run(op.name, func(t *testing.T) {
					faults, _ := op.record(t, v, d.Clone(), 8)
					rng := rand.New(rand.NewPCG(1, uint64(len(op.name))))
					for state := range faults.States() {
						if rng.IntN(12) == 0 {
							requireSurvivable(t, state.Disk)
							f := v.open(t, state.Disk)
							_, err := f.Repair()
							require.NoError(t, err, state)
							requireClean(t, state.Disk)
						}
					}
				})
			}
		})
	}
}

// A FAT12 entry that lies in two sectors cannot be changed at once. A directory that ends there
// does not grow, and its next cluster stays where it is.
func TestEntryInTwoSectors(t *testing.T) {
	v := volumes()[0]
	const torn = 341 // its entry is in the bytes 511 and 512
	d := v.build(t)
	f := v.open(t, d)
	require.NoError(t, f.MkdirAll("other"))
	for c := uint32(2); c < f.geo.clusters+2; c++ { // no other cluster is free
		f.used.set(c)
	}
	f.used.clear(torn)
	require.NoError(t, f.MkdirAll("dir"))
	f.used = nil
	require.NoError(t, f.load())
	require.NoError(t, fillDirectory("dir")(f))
	require.ErrorIs(t, f.WriteFile("dir/a name of three entries", strings.NewReader("")), ErrDirectoryFull)

	old, again := "dir/an old name of three entries", "dir/a new name that is longer than the room for it in its sector"
	runs, ok := f.alloc(1) // others do not mind
	require.True(t, ok)
	require.NoError(t, f.write(make([]byte, v.cluster), f.geo.clusterOff(runs[0].first)))
	require.NoError(t, f.link([]run{{torn, 1}, runs[0]}))
	require.NoError(t, f.WriteFile(old, strings.NewReader("content")))
	require.NoError(t, fillDirectory("dir")(f))
	f = v.open(t, d)
	_, dir, err := f.find("dir")
	require.NoError(t, err)
	require.Equal(t, []int64{torn, 2}, []int64{int64(dir.cluster), count(dir.runs)})
	before := d.Clone()
	require.NoError(t, f.Remove("dir/filling name 0"))
	require.NoError(t, f.Remove("dir/filling name 1"))
	require.NoError(t, f.Rename(old, again))
	require.Equal(t, renameCopied, pathOf(t, before, d, old, again))
}

// A sync costs milliseconds. These are as many as the order of the writes needs, which TestCut
// shows.
func TestSyncs(t *testing.T) {
	v := volumes()[3]
	d := v.build(t)
	f := v.open(t, d)
	require.NoError(t, f.WriteFile("first", strings.NewReader("")))
	for _, c := range []struct {
		syncs int
		do    func() error
	}{
		{2, func() error { return f.WriteFile("loader/new.conf", bytes.NewReader(pattern(5000, 1))) }},
		{3, func() error { return f.ReplaceFile("loader/new.conf", bytes.NewReader(pattern(6000, 1))) }},
		{1, func() error { return f.Rename("loader/new.conf", "loader/now.conf") }},
		{2, func() error { return f.Remove("loader/now.conf") }},
		{2, func() error { return f.MkdirAll("loader/more") }},
		{0, func() error { return f.MkdirAll("loader/more") }},
	} {
		d.Record()
		require.NoError(t, c.do())
		_, err := d.WriteAt(make([]byte, 512), d.Size()-512)
		require.NoError(t, err)
		w := d.Writes()
		require.Equal(t, c.syncs, w[len(w)-1].Epoch)
	}
}

// The operation itself runs into the cut: the FS then refuses to go on.
func TestCutWhileRunning(t *testing.T) {
	v := volumes()[0]
	base := v.build(t)
	for k := 0; ; k++ {
		d := base.Clone()
		f := v.open(t, d)
		d.CutAfter(k)
		err := f.Rename("EFI/Linux/os_1.4+3-0.efi", "EFI/Linux/os_1.4+2-1.efi")
		if err == nil {
			require.Greater(t, k, 0)
			break
		}
		require.ErrorIs(t, err, faultio.ErrCut)
		require.ErrorIs(t, f.MkdirAll("x"), errBroken)
	}
}
