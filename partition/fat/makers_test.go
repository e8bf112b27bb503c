package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// makers are those whose volumes the property below is about. What a maker here cannot run makes is
// made in its style.
var makers = []struct {
	name, evidence string
	style          func(e *editor) // nil: the volume is stored
}{
	{"mkfs.vfat FAT12", "mkfs.fat 4.2, files by mtools 4.0.32", nil},
	{"mkfs.vfat FAT16", "mkfs.fat 4.2, files by mtools 4.0.32", nil},
	{"mkfs.vfat FAT32", "mkfs.fat 4.2, files by mtools 4.0.32", nil},
	{"mtools mformat", "mtools 4.0.32", nil},
	{"systemd-repart", "systemd-repart 262 of Debian forky: FAT sectors of 4096 bytes on a disk with 512", nil},
	{"go-diskfs", "go-diskfs 1.9.4", nil},
	{"U-Boot", "U-Boot 2025.01, a rename that was cut", nil},
	{"old mtools", "directories of mtools before 4.0.21: '.' and '..' have cluster 0", nil},
	{"edk2", "source, edk2 FatPkg/EnhancedFatDxe DirectoryManage.c and Hash.c (BSD): aliases of two letters, four digits of a hash, ~1", func(e *editor) {
		e.styled(false, func(n string) string { return n[:2] + fmt.Sprintf("%04X", len(n)*7919&0xffff) + "~1" }, 0, 0x0fffffff)
	}},
	{"Windows", "fatgen103 sections 6 and 7; NT case bits as Linux, mtools and edk2 read them; System Volume Information is hidden and a system file", func(e *editor) {
		e.styled(true, func(n string) string { return n[:6] + "~1" }, 3, 0x0fffffff)
		e.add(".", named(units("System Volume Information"), "SYSTEM~1   ", attrDirectory|6, e.directory(nil, 0), 0))
	}},
	{"Linux vfat", "Documentation/filesystems/vfat.rst: long entries for all that is not upper case (shortname=mixed); a chain ends with 0x0ffffff8", func(e *editor) {
		e.styled(false, func(n string) string { return n[:6] + "~1" }, 1, 0x0ffffff8)
		e.WriteAt([]byte{0}, map[int]int64{12: 37, 16: 37, 32: 65}[e.g.kind])
	}},
}

// nextFree is the last cluster that is free in the FAT.
func (e *editor) nextFree() uint32 {
	w := newTableReader(e.Disk, e.g)
	for c := e.g.clusters + 1; c >= 2; c-- {
		v, err := w.entry(c)
		require.NoError(e.t, err)
		if v == clusterFree {
			return c
		}
	}
	e.t.Fatal("no free cluster")
	return 0
}

// directory writes a directory with the given entries behind its dots, in clusters that do not
// follow each other, and returns its first cluster.
func (e *editor) directory(entries []byte, up uint32) uint32 {
	size := 2*entrySize + int64(len(entries))
	var chain []uint32
	for range size/e.g.clusterSize + 1 {
		c := e.nextFree()
		e.set(c, endOfChain)
		chain = append(chain, c)
	}
	b := named(nil, ".          ", attrDirectory, chain[0], 0)
	b = append(append(b, named(nil, "..         ", attrDirectory, up, 0)...), entries...)
	b = append(b, make([]byte, int64(len(chain))*e.g.clusterSize-size)...)
	for i, c := range chain {
		e.WriteAt(b[int64(i)*e.g.clusterSize:int64(i+1)*e.g.clusterSize], e.g.clusterOff(c))
		if i > 0 {
			e.set(chain[i-1], c)
		}
	}
	return chain[0]
}

// file writes content to a cluster of its own and returns it.
func (e *editor) file(content string, end uint32) uint32 {
	if content == "" {
		return 0
	}
	c := e.nextFree()
	e.set(c, end)
	e.WriteAt([]byte(content), e.g.clusterOff(c))
	return c
}

// styled makes the tree of makerFiles on an empty volume. ntCase stores lower-case 8.3 names with
// the case bits of Windows NT; alias makes the first eight characters of an 8.3 name; between the
// sets are deleted entries with the rest of long names, as many as stale says.
func (e *editor) styled(ntCase bool, alias func(string) string, stale int, end uint32) {
	set := func(name string, attr byte, cluster, size uint32) (b []byte) {
		for range stale {
			b = append(b, poke(named(units("stale long name"), "STALEL~1   ", attr, cluster, size), 0, entryDeleted)[:entrySize]...)
		}
		exact, bits, _, ok := exactShort(name)
		switch {
		case ok && name == strings.ToUpper(name):
			return append(b, named(nil, string(exact[:]), attr, cluster, size)...)
		case ok && ntCase && bits != 0 && codePage(nil).text(exact, bits) == name:
			return append(b, poke(named(nil, string(exact[:]), attr, cluster, size), 12, bits)...)
		}
		base, ext := basis(name)
		short := padShort(alias(fold(strings.NewReplacer("+", "_", "-", "_", " ", "_", ".", "_").Replace(base+name+"______"))), ext)
		set := named(units(name), string(short[:]), attr, cluster, size)
		s := set[len(set)-entrySize:]
		s[13] = 150                                   // DIR_CrtTimeTenth
		binary.LittleEndian.PutUint16(s[18:], 0x5a21) // DIR_LstAccDate
		return append(b, set...)
	}
	children := map[string][]string{}
	for name := range makerFiles {
		for dir := path.Dir(name); ; name, dir = dir, path.Dir(dir) {
			if !slices.Contains(children[dir], name) {
				children[dir] = append(children[dir], name)
			}
			if dir == "." {
				break
			}
		}
	}
	var make func(dir string) []byte
	make = func(dir string) (b []byte) {
		slices.Sort(children[dir])
		for _, name := range children[dir] {
			if text, ok := makerFiles[name]; ok {
				b = append(b, set(path.Base(name), attrArchive, e.file(text, end), uint32(len(text)))...)
				continue
			}
			c := e.directory(make(name), 0)
			for _, sub := range children[name] { // their '..'
				if _, file := makerFiles[sub]; !file {
					at, _, _ := e.lookupIn(c, path.Base(sub))
					e.setEntry(e.g.clusterOff(at)+entrySize, c)
				}
			}
			b = append(b, set(path.Base(name), attrDirectory, c, 0)...)
		}
		return b
	}
	e.add(".", make("."))
}

// lookupIn is entry for a name in the directory at a cluster.
func (e *editor) lookupIn(dir uint32, name string) (cluster uint32, pos, n int) {
	e.t.Helper()
	d, err := (&FS{r: e.Disk, geo: *e.g}).readDir(dir, "")
	require.NoError(e.t, err)
	found := d.lookup(name)
	require.NotNil(e.t, found, name)
	return found.cluster, found.pos, found.n
}

// setEntry changes the first cluster of the entry at an offset.
func (e *editor) setEntry(at int64, cluster uint32) {
	b := make([]byte, entrySize)
	e.ReadAt(b, at)
	setCluster(b, cluster, 0)
	e.WriteAt(b, at)
}

// corpus adds a directory of entries as others leave them: names in order whatever their text, case
// bits, attributes, characters of a code page, fields that are reserved, what is left of deleted
// names, pieces of names, and sets that cross sectors.
func (e *editor) corpus() {
	var b []byte
	n := 0
	add := func(set []byte) {
		n++
		set = bytes.Clone(set)
		s := set[len(set)-entrySize:]
		if s[11]&(attrVolume|attrDirectory) == 0 {
			text := fmt.Sprintf("content %d", n)
			setCluster(s, e.file(text, endOfChain), uint32(len(text)))
		}
		if e.g.kind != 32 {
			// tools look at it, whatever the specification says
			binary.LittleEndian.PutUint16(s[20:], 0)
		}
		b = append(b, set...)
	}
	for i, c := range oddNames {
		if c.name == "260 units" && !testing.Short() {
			// mtools 4.0.32 writes behind a buffer of its own
			continue
		}
		set := bytes.Clone(c.set)
		var short shortName
		copy(short[:], fmt.Sprintf("ODD%02d~1 %s", i, "TXT"))
		set = named(oddUnits(set), string(short[:]), attrArchive, 0, 0)
		for at := 0; at < len(set)-entrySize; at += entrySize {
			set[at+12], set[at+26] = c.set[at+12], c.set[at+26]
		}
		add(set)
	}
	for i, bits := range []byte{lowerBase, lowerExt, lowerBase | lowerExt, 0xe7} {
		add(poke(named(nil, fmt.Sprintf("CASE%d   EFI", i), attrArchive, 0, 0), 12, bits))
	}
	for i, attr := range []byte{0, attrReadOnly, 2, 4, 0x27, 0x40, 0x80 | attrArchive} {
		add(named(nil, fmt.Sprintf("ATTR%d      ", i), attr, 0, 0))
	}
	add(named(nil, "\x05\x80\x9a\xa5    TXT", attrArchive, 0, 0))
	add(named(units("Größe.txt"), "GR\x99\xe1E   TXT", attrArchive, 0, 0))
	b = append(b, poke(named(nil, "DELETED TXT", attrArchive, 0, 0), 0, entryDeleted)...)
	b = append(b, named(units("an orphan of two"), "ORPHAN~1TXT", attrArchive, 0, 0)[:2*entrySize]...)
	for i := range 9 {
		add(named(units(fmt.Sprintf("a name of three entries, number %d", i)), fmt.Sprintf("ANAME~%d TXT", i), attrArchive, 0, 0))
		if i%3 == 0 {
			b = append(b, poke(make([]byte, entrySize), 0, entryDeleted)...)
		}
	}
	e.add(".", named(units("Corpus of others"), "CORPUS~1   ", attrDirectory, e.directory(b, 0), 0))
}

// oddUnits are the UTF-16 units of the long name of a set.
func oddUnits(set []byte) (units []uint16) {
	for at := len(set) - 2*entrySize; at >= 0; at -= entrySize {
		for _, i := range [unitsPerLong]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			units = append(units, binary.LittleEndian.Uint16(set[at+i:]))
		}
	}
	for len(units) > 0 && units[len(units)-1] == 0xffff {
		units = units[:len(units)-1]
	}
	if k := len(units) - 1; k >= 0 && units[k] == 0 {
		units = units[:k]
	}
	return units
}

// makerVolumes are the volumes of all makers, each with the corpus.
func makerVolumes(t testing.TB) map[string]*faultio.Disk {
	t.Helper()
	out := storedMakers(t)
	out["U-Boot"], out["old mtools"] = stored(t, "rename-cut"), stored(t, "mtools-dots")
	for i, m := range makers {
		if m.style != nil {
			d := build(t, nil, threeKinds[i%2])
			m.style(edit(t, d))
			out[m.name] = d
		}
		require.NotNil(t, out[m.name], m.name)
		edit(t, out[m.name]).corpus()
	}
	require.Len(t, out, len(makers))
	return out
}

// sees returns what a driver sees, by directory and 8.3 name.
func sees(t testing.TB, d *faultio.Disk, reader oracle.FATReader) (map[string]oracle.File, []oracle.Problem) {
	t.Helper()
	o := oracle.FATOptions{Reader: reader}
	if reader == oracle.FATReaderUBoot {
		b := make([]byte, 2)
		d.ReadAt(b, 11)
		o.SectorSize = int(binary.LittleEndian.Uint16(b))
	}
	v, err := oracle.ReadFAT(d, d.Size(), o)
	require.NoError(t, err, "%v", reader)
	out := map[string]oracle.File{}
	for _, f := range v.Files {
		key := path.Dir(f.Path) + "/" + plain(f.Short)
		require.NotContains(t, out, key)
		out[key] = f
	}
	return out, v.Problems
}

// plain leaves out the characters that each driver decodes in its own way.
func plain(short string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, short)
}

// sameFile compares what a driver sees of a name, but for where it lies.
func sameFile(a, b oracle.File) bool {
	return a.Path == b.Path && a.Dir == b.Dir && a.Size == b.Size && a.Attributes == b.Attributes && a.Err == b.Err && a.SHA256 == b.SHA256
}

// change is one operation: the names that go and come by it, as paths.
type foreignChange struct {
	do         string
	gone, came string
	goneShort  string
}

// TestForeignProperty: on volumes of eleven makers, each with a corpus of entries as others leave
// them, any operation leaves every other name as it was, for each driver and for mtools, and
// fsck.fat finds nothing that it did not find before.
func TestForeignProperty(t *testing.T) {
	for name, base := range makerVolumes(t) {
		t.Run(name, func(t *testing.T) {
			rng, long := testtools.Seed(t)
			steps := 40
			switch {
			case testing.Short():
				steps = 12
			case long:
				steps = 200
			}
			testForeign(t, base, steps, rng)
		})
	}
}

func testForeign(t *testing.T, d *faultio.Disk, steps int, rng *rand.Rand) {
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, fs.WalkDir(f, ".", func(_ string, _ fs.DirEntry, err error) error { return err }))
	before := map[oracle.FATReader]map[string]oracle.File{}
	drivers := func() []oracle.FATReader {
		if f.Kind() == 32 && f.geo.few {
			return []oracle.FATReader{oracle.FATReaderLinux}
		}
		return oracle.FATReaders()
	}()
	problems := map[string]int{}
	count := func(all []oracle.Problem) map[string]int {
		out := map[string]int{}
		for _, p := range all {
			out[p.Kind.String()+": "+p.Path]++
		}
		return out
	}
	for _, r := range drivers {
		var found []oracle.Problem
		before[r], found = sees(t, d, r)
		if r == oracle.FATReaderLinux {
			problems = count(found)
		}
	}
	tools := newForeignTools(t, d)
	for step := range steps {
		c, err := randomChange(t, f, rng, step)
		require.NoError(t, err, "step %d: %+v", step, c)
		what := fmt.Sprintf("step %d: %s", step, c.do)
		for _, r := range drivers {
			after, found := sees(t, d, r)
			left := maps.Clone(after)
			for key, was := range before[r] {
				now, ok := after[key]
				switch {
				case ok && sameFile(was, now):
					delete(left, key)
				case c.goneShort != "" && SameName(path.Base(key), c.goneShort):
				case r == oracle.FATReaderEDK2 && strings.HasPrefix(c.do, "repair"):
				default:
					t.Fatalf("%s: %v sees %q as %+v, before as %+v", what, r, key, now, was)
				}
			}
			for key, f := range left {
				named := path.Base(f.Path) == path.Base(c.came) || c.gone == c.came && SameName(path.Base(key), c.goneShort)
				require.True(t, c.came != "" && named, "%s: %v sees %q, which is new", what, r, key)
			}
			require.LessOrEqual(t, len(left), 1, what)
			before[r] = after
			if r == oracle.FATReaderLinux {
				now := count(found)
				for p, n := range now {
					if c.came != "" && c.gone != "" {
						p = strings.ReplaceAll(p, c.came, c.gone)
					}
					require.LessOrEqual(t, n, problems[p], "%s: %s is new\n%v", what, p, found)
				}
				problems = now
			}
		}
		tools.check(t, d, c, what)
	}
}

// randomChange makes one change of a file or directory that is there, or of a new one.
func randomChange(t *testing.T, f *FS, rng *rand.Rand, step int) (c foreignChange, err error) {
	var files, dirs []string
	require.NoError(t, fs.WalkDir(f, ".", func(name string, e fs.DirEntry, err error) error {
		if e.IsDir() {
			dirs = append(dirs, name)
		} else {
			files = append(files, name)
		}
		return err
	}))
	content := bytes.NewReader(pattern(rng.IntN(9000), byte(step)))
	fresh := func(dir string) string {
		return path.Join(dir, fmt.Sprintf("%s%d%s", strings.Repeat("new ", rng.IntN(12)), step, []string{"", ".efi", ".conf", ".TXT"}[rng.IntN(4)]))
	}
	target := files[rng.IntN(len(files))]
	info, err := f.Stat(target)
	require.NoError(t, err)
	alias := info.Sys().(Attributes).ShortName
	short := func() { c.gone, c.goneShort = target, plain(alias) }
	switch op := rng.IntN(10); {
	case op < 3:
		c.came = fresh(dirs[rng.IntN(len(dirs))])
		c.do = "write " + c.came
		return c, f.WriteFile(c.came, content)
	case op < 6:
		short()
		c.came = fresh(path.Dir(target))
		c.do = fmt.Sprintf("rename %s to %s", target, c.came)
		return c, f.Rename(target, c.came)
	case op < 7:
		short()
		c.do = "remove " + target
		return c, f.Remove(target)
	case op < 8:
		short()
		c.came = target
		c.do = "replace " + target
		return c, f.ReplaceFile(target, content)
	case op < 9:
		c.came = fresh(dirs[rng.IntN(len(dirs))])
		c.do = "mkdir " + c.came
		return c, f.MkdirAll(c.came)
	}
	c.do = "repair"
	_, err = f.Repair()
	c.goneShort = "BOOTLA~2.EFI" // U-Boot's second name
	return c, err
}

// foreignTools are fsck.fat and mtools, where they may run.
type foreignTools struct {
	run   bool
	fsck  map[string]int
	names map[string]int
}

func newForeignTools(t *testing.T, d *faultio.Disk) *foreignTools {
	f := &foreignTools{run: !testing.Short()}
	if f.run {
		f.fsck, f.names = f.look(t, d)
	}
	return f
}

var digits = regexp.MustCompile(`[0-9]+`)

// look returns what fsck.fat says, line by line without numbers, and what mtools lists.
func (*foreignTools) look(t *testing.T, d *faultio.Disk) (said, names map[string]int) {
	text, _ := fsck(t, d)
	said, names = map[string]int{}, map[string]int{}
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "/fat.img:") {
			said[digits.ReplaceAllString(strings.TrimSpace(line), "#")]++
		}
	}
	for line := range strings.Lines(mtool(t, d, "mdir", "-/", "-b", "-a", "::")) {
		names[strings.TrimSpace(line)]++
	}
	return said, names
}

func (f *foreignTools) check(t *testing.T, d *faultio.Disk, c foreignChange, what string) {
	t.Helper()
	if !f.run {
		return
	}
	said, names := f.look(t, d)
	for line, n := range said {
		if c.came != "" && c.gone != "" {
			line = strings.ReplaceAll(line, digits.ReplaceAllString(c.came, "#"), digits.ReplaceAllString(c.gone, "#"))
		}
		require.LessOrEqual(t, n, f.fsck[line], "%s: fsck.fat says: %s", what, line)
	}
	missing := 0
	for name, n := range f.names {
		missing += max(n-names[name], 0)
	}
	added := 0
	for name, n := range names {
		added += max(n-f.names[name], 0)
	}
	require.LessOrEqual(t, missing, 1, "%s: mtools lists %v", what, names)
	require.LessOrEqual(t, added, 1, "%s: mtools lists %v", what, names)
	f.fsck, f.names = said, names
}
