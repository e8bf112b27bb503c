package fat

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// volume is a kind of volume on a kind of disk.
type volume struct {
	kind    int
	sector  int // of the FAT
	device  int // logical sector of the disk
	cluster int64
	size    int64
	tell    bool // Open is told the sector size of the disk
	// packed volumes have their directories as Linux and mtools write them: sets of entries are not
	// kept inside of a sector.
	packed bool
}

func (v volume) String() string {
	s := fmt.Sprintf("FAT%d of %d-byte sectors on a %d-byte disk, %d-byte clusters", v.kind, v.sector, v.device, v.cluster)
	if v.packed {
		s += ", packed"
	}
	return s
}

// volumes are all kinds of FAT on all kinds of disks. Clusters are small, so that directories and
// chains have several.
func volumes() []volume {
	var all []volume
	for _, packed := range []bool{false, true} {
		all = append(all,
			volume{12, 512, 512, 512, 1 << 20, false, packed},
			volume{12, 512, 512, 2048, 1 << 20, true, packed},
			volume{16, 512, 512, 512, 3 << 20, false, packed},
			volume{32, 512, 512, 512, 34 << 20, false, packed},
			volume{12, 4096, 4096, 4096, 1 << 20, true, packed},
			volume{16, 4096, 4096, 4096, 18 << 20, true, packed},
			volume{32, 4096, 4096, 4096, 260 << 20, true, packed},
			volume{12, 4096, 512, 4096, 1 << 20, true, packed},
			volume{16, 4096, 512, 4096, 18 << 20, false, packed},
			volume{32, 4096, 512, 4096, 260 << 20, false, packed},
		)
	}
	return all
}

// cutFiles is an ESP with two versions of an OS and a directory that has few free entries.
func (v volume) cutFiles() []osmith.ESPFile {
	data := func(n int64, seed byte) osmith.Source { return bytes.NewReader(pattern(int(n), seed)) }
	files := []osmith.ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Content: data(900, 1)},
		{Path: "EFI/Linux/os_1.3.efi", Content: data(2*v.cluster+100, 2)},
		{Path: "EFI/Linux/os_1.4+3-0.efi", Content: data(v.cluster+300, 3)},
		{Path: "loader/loader.conf", Content: strings.NewReader("timeout 3\n")},
		{Path: "loader/" + longest, Content: strings.NewReader("a name of 240 characters")},
		{Path: "loader/entries/", Content: nil},
		{Path: "loader/AFTER.TXT", Content: strings.NewReader("behind")},
	}
	for i := range 9 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("EFI/Linux/padding name number %d.efi", i), Content: data(int64(10*i), byte(i))})
	}
	for i := range 9 { // '.', '..', a directory and sets of two entries
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("full/%c.lower", 'a'+i), Content: strings.NewReader(fmt.Sprint("file ", i))})
	}
	return append(files, osmith.ESPFile{Path: "full/sub/", Content: nil}, osmith.ESPFile{Path: "full/sub/j.lower", Content: strings.NewReader("in it")})
}

var longest = strings.Repeat("abcdefgh ", 26) + "longer"

// build makes the volume. The free clusters that a change will take hold a directory that is gone.
func (v volume) build(t testing.TB) *faultio.Disk {
	d := build(t, v.cutFiles(), BuildOptions{Size: v.size, Kind: v.kind, ClusterSize: v.cluster, SectorSize: v.sector})
	if v.packed {
		for _, dir := range []string{"EFI/Linux", "loader", "full"} {
			pack(t, d, dir)
		}
	}
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, f.load())
	set := appendShort(nil, padShort("STALE", ""), 0, attrArchive, 0, 0, stamp{})
	for c, n := uint32(2), 0; n < 32; c++ {
		if !f.used.has(c) {
			n++
			_, err := d.WriteAt(bytes.Repeat(set, int(v.cluster)/entrySize), f.geo.clusterOff(c))
			require.NoError(t, err)
		}
	}
	return d
}

// pack moves the sets of a directory together, over the ends of sectors, as writers do that do not
// mind.
func pack(t testing.TB, d *faultio.Disk, dir string) {
	t.Helper()
	f, err := Open(d)
	require.NoError(t, err)
	_, dd, err := f.find(dir)
	require.NoError(t, err)
	var b []byte
	for i := range dd.end {
		if raw := dd.buf[i*entrySize : (i+1)*entrySize]; raw[0] != entryDeleted {
			b = append(b, raw...)
		}
	}
	b = append(b, make([]byte, len(dd.buf)-len(b))...)
	for at := int64(0); at < int64(len(b)); at += f.geo.clusterSize {
		_, err := d.WriteAt(b[at:at+f.geo.clusterSize], dd.off(&f.geo, at))
		require.NoError(t, err)
	}
}

func (v volume) open(t testing.TB, d *faultio.Disk) *FS {
	t.Helper()
	o := OpenOptions{}
	if v.tell {
		o.SectorSize = v.device
	}
	f, err := OpenWith(d, o)
	require.NoError(t, err)
	return f
}

// view is what a driver sees: paths with size and the hash of the contents, or what keeps it from
// reading them.
type view map[string]string

// look reads a volume as a driver does; what is wrong with it, Linux is asked. The error is that of
// a driver that mounts nothing.
func (v volume) look(d *faultio.Disk, reader oracle.FATReader) (view, *oracle.Volume, error) {
	o, err := oracle.ReadFAT(d, d.Size(), oracle.FATOptions{Reader: reader, SectorSize: v.device, NoCheck: reader != oracle.FATReaderLinux})
	if err != nil {
		return nil, nil, err
	}
	return seenBy(o), o, nil
}

func seenBy(o *oracle.Volume) view {
	all := view{}
	for _, f := range o.Files {
		what := fmt.Sprintf("%d bytes, %x", f.Size, f.SHA256[:8])
		if f.Dir {
			what = "directory"
		}
		if f.Err != "" {
			what = f.Err
		}
		if _, twice := all[f.Path]; twice {
			what += ", twice"
		}
		all[f.Path] = what
	}
	return all
}

// readers are the drivers that mount the volume.
func (v volume) readers() []oracle.FATReader {
	return slices.DeleteFunc(oracle.FATReaders(), func(r oracle.FATReader) bool { return r == oracle.FATReaderUBoot && v.sector != v.device })
}

// tally counts what was tried.
type tally struct {
	operations int
	states     int
	sampled    int // sequences of writes between two syncs of which not all states were made
	lost       int // states of 512e disks
	lostOther  int // of these, that harm a file which the operation does not concern
	lostSet    int // of these, that harm the set that runs
	// states in which what was lost cannot be read, and a directory is taken not to be readable at
	// all then
	unreadable int
	badRead    int // of these, that harm the set that runs
	paths      [renamePaths]int
}

// renamePath is a way in which a rename is done.
type renamePath int

const (
	renameInUnit renamePath = iota
	renameRepacked
	renameCluster      // a later cluster of the directory is written anew
	renameFirstCluster // the first one
	renameCopied
	renamePaths
)

func (p renamePath) String() string {
	return [...]string{"in the unit", "unit packed", "cluster anew", "first cluster anew", "copied"}[p]
}

// pathOf finds out how a rename was done.
func pathOf(t testing.TB, before, after *faultio.Disk, from, to string) renamePath {
	t.Helper()
	find := func(d *faultio.Disk, name string) (*directory, *entry) {
		f, err := OpenReader(d)
		require.NoError(t, err)
		dir, e, err := f.walk(name)
		require.NoError(t, err)
		return dir, e
	}
	d1, e1 := find(before, from)
	d2, e2 := find(after, to)
	switch {
	case e1.cluster != e2.cluster:
		return renameCopied
	case d1.cluster != d2.cluster:
		return renameFirstCluster
	case !slices.Equal(d1.runs, d2.runs):
		return renameCluster
	case e1.pos+e1.n != e2.pos+e2.n:
		return renameRepacked
	}
	return renameInUnit
}

func (c *tally) add(o tally) {
	c.operations += o.operations
	c.states += o.states
	c.sampled += o.sampled
	c.lost += o.lost
	c.lostOther += o.lostOther
	c.lostSet += o.lostSet
	c.unreadable += o.unreadable
	c.badRead += o.badRead
	for i, k := range o.paths {
		c.paths[i] += k
	}
}

// harmless is what a power cut may leave: nothing that a file is made of.
var harmless = []oracle.ProblemKind{oracle.ProblemFATsDiffer, oracle.ProblemLostClusters, oracle.ProblemLongName, oracle.ProblemFSInfo}

// operation is a change of a volume.
type operation struct {
	name    string
	prepare func(f *FS) error // before the record begins
	do      func(f *FS) error
	// steps are changes that the operation is made of: what each of them leaves may be seen. Nil:
	// it is one change.
	steps []func(f *FS) error
	// spoil damages the volume before the record, as a power cut could have done.
	spoil func(t testing.TB, v volume, d *faultio.Disk)
	// What it changes: the files that are gone, those that are new with their contents (nil: a
	// directory), and those whose path is another.
	gone  []string
	made  map[string][]byte
	moved [2]string
	// accept is what is wrong with the volume before and after, and stays so.
	accept []oracle.ProblemKind
}

// want is what a driver is to see after the operation.
func (op operation) want(before view) view {
	after := maps.Clone(before)
	for _, name := range op.gone {
		delete(after, name)
	}
	for name, b := range op.made {
		if after[name] = "directory"; b != nil {
			after[name] = described(b)
		}
	}
	if from, to := op.moved[0], op.moved[1]; from != "" {
		for name, what := range before {
			if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == '/') {
				delete(after, name)
				after[to+rest] = what
			}
		}
	}
	return after
}

// described is a file with these contents as a [view] has it.
func described(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d bytes, %x", len(b), sum[:8])
}

// record runs the operation on the disk. It returns the states that a power cut may leave, and the
// disks on which no cut fell: before, after each step, and after the operation.
func (op operation) record(t *testing.T, v volume, d *faultio.Disk, limit int) (*faultio.Faults, []*faultio.Disk) {
	t.Helper()
	if op.prepare != nil {
		require.NoError(t, op.prepare(v.open(t, d)))
	}
	if op.spoil != nil {
		op.spoil(t, v, d)
	}
	states := []*faultio.Disk{d.Clone()}
	for i := range op.steps {
		s := states[i].Clone()
		require.NoError(t, op.steps[i](v.open(t, s)))
		states = append(states, s)
	}
	f := v.open(t, d)
	d.Record()
	require.NoError(t, op.do(f))
	faults, err := d.Faults(faultio.FaultOptions{Sector: v.device, Limit: limit})
	require.NoError(t, err)
	states = append(states, d.Clone())
	requireSynced(t, d)
	return faults, states
}

// requireSynced says that all writes of the record are on the medium, and that each sync had
// something to do.
func requireSynced(t *testing.T, d *faultio.Disk) {
	t.Helper()
	writes := d.Writes()
	if len(writes) == 0 { // there was nothing to repair
		return
	}
	last := make([]byte, len(writes[0].Data))
	_, err := d.ReadAt(last, writes[0].Offset)
	require.NoError(t, err)
	_, err = d.WriteAt(last, writes[0].Offset) // has the number of syncs until now
	require.NoError(t, err)
	require.Greater(t, d.Writes()[len(writes)].Epoch, writes[len(writes)-1].Epoch, "a sync is missing at the end")
	for i := 1; i < len(writes); i++ {
		require.LessOrEqual(t, writes[i].Epoch, writes[i-1].Epoch+1, "a sync with nothing to sync before write %d", i)
	}
}

// cut runs the operation on the disk, looks at what every power cut that is possible leaves, and
// counts.
func (op operation) cut(t *testing.T, v volume, d *faultio.Disk, limit int) (n tally) {
	t.Helper()
	faults, states := op.record(t, v, d, limit)
	before, after := states[0], states[len(states)-1]
	allowed := map[oracle.FATReader][]view{}
	for _, r := range v.readers() {
		for _, s := range states {
			seen, _, err := v.look(s, r)
			require.NoError(t, err)
			allowed[r] = append(allowed[r], seen)
		}
		require.Equal(t, op.want(allowed[r][0]), allowed[r][len(states)-1], "%v after the operation", r)
	}
	if op.spoil == nil { // an interruption may have left harmless things, which stay until a repair
		require.NoError(t, v.clean(after), "after the operation")
	}
	for state := range faults.States() {
		if err := v.judge(state.Disk, allowed, op.accept); err != nil {
			t.Fatalf("%v: %v: %v", v, state, err)
		}
	}
	if from, to := op.moved[0], op.moved[1]; from != "" {
		n.paths[pathOf(t, before, after, from, to)]++
	}
	n.operations, n.states, n.sampled = 1, faults.Counts().Total(), faults.Counts().Sampled
	return n
}

// lose runs the operation on a disk that may lose the 4 KiB that it rewrites, and counts the states
// in which it harms files that the operation does not concern: all of them, and those of running,
// which a boot needs. The states of other disks are left out.
func (op operation) lose(t *testing.T, v volume, d *faultio.Disk, limit int, running ...string) (n tally, example string) {
	t.Helper()
	_, states := op.record(t, v, d, 1)
	before, after := states[0], states[len(states)-1]
	n.operations = 1
	same := map[oracle.FATReader]view{}
	for _, r := range v.readers() {
		old, _, err := v.look(before, r)
		require.NoError(t, err)
		same[r], _, err = v.look(after, r)
		require.NoError(t, err)
		maps.DeleteFunc(same[r], func(name, what string) bool { return old[name] != what })
		for _, name := range running {
			require.Contains(t, same[r], name)
		}
	}
	for _, lost := range []faultio.Lost{faultio.LostZero, faultio.LostGarbage, faultio.LostUnreadable} {
		faults, err := d.Faults(faultio.FaultOptions{Sector: v.device, Physical: blockSize, Lost: lost, Limit: limit})
		require.NoError(t, err)
		for state := range faults.States() {
			if state.Kind != faultio.FaultLost {
				continue
			}
			other, set := false, false
			for _, r := range v.readers() {
				o, err := oracle.ReadFAT(state.Disk, state.Disk.Size(), oracle.FATOptions{Reader: r, SectorSize: v.device, NoCheck: true})
				if err != nil {
					other, set = true, true
					continue
				}
				seen := seenBy(o)
				for name, what := range same[r] {
					if seen[name] != what {
						other = true
						if slices.Contains(running, name) {
							set = true
						}
						if set && lost != faultio.LostUnreadable {
							example = fmt.Sprintf("%v: %s: %v: %s is %q", v, op.name, state, name, seen[name])
						}
					}
				}
			}
			if lost == faultio.LostUnreadable {
				n.unreadable++
				n.badRead += count1(set || len(running) == 0 && other)
				continue
			}
			n.lost++
			n.lostOther += count1(other)
			n.lostSet += count1(set)
		}
	}
	return n, example
}

func count1(b bool) int {
	if b {
		return 1
	}
	return 0
}

// judge says what is wrong with a disk after a power cut: every driver sees one of the allowed sets
// of files, nothing else is the matter than is harmless, and a repair puts all of it right.
func (v volume) judge(d *faultio.Disk, allowed map[oracle.FATReader][]view, accept []oracle.ProblemKind) error {
	var before view
	for _, r := range v.readers() {
		seen, o, err := v.look(d, r)
		if err != nil {
			return fmt.Errorf("%v: %w", r, err)
		}
		if !slices.ContainsFunc(allowed[r], func(a view) bool { return maps.Equal(a, seen) }) {
			return fmt.Errorf("%v sees %v\nwant one of %v", r, seen, allowed[r])
		}
		kinds := append(accept[:len(accept):len(accept)], harmless...)
		if v.kind == 12 { // an entry of a cluster that no file has may lie in two sectors
			kinds = append(kinds, oracle.ProblemFATEntry)
		}
		if p := o.Beyond(kinds...); len(p) > 0 {
			return fmt.Errorf("%v: %v", r, p)
		}
		if r == oracle.FATReaderLinux {
			before = seen
		}
	}
	f, err := OpenWith(d, OpenOptions{SectorSize: v.device})
	if err != nil {
		return err
	}
	if _, err := f.Repair(); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	after, o, err := v.look(d, oracle.FATReaderLinux)
	switch {
	case err != nil:
		return fmt.Errorf("after the repair: %w", err)
	case !maps.Equal(before, after):
		return fmt.Errorf("the repair makes %v of %v", after, before)
	case len(o.Beyond(accept...)) > 0:
		return fmt.Errorf("after the repair: %v", o.Beyond(accept...))
	}
	return nil
}

// clean says what fsck.fat would.
func (v volume) clean(d *faultio.Disk, accept ...oracle.ProblemKind) error {
	_, o, err := v.look(d, oracle.FATReaderLinux)
	if err != nil {
		return err
	}
	if p := o.Beyond(accept...); len(p) > 0 {
		return fmt.Errorf("%v", p)
	}
	return nil
}
