package faultio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// write writes n bytes of b.
func write(t *testing.T, d *Disk, b byte, off int64, n int) {
	t.Helper()
	_, err := d.WriteAt(bytes.Repeat([]byte{b}, n), off)
	require.NoError(t, err)
}

func flush(t *testing.T, d *Disk) {
	t.Helper()
	require.NoError(t, d.Sync())
}

// states returns the counts, and the first bytes of sectors of each state in order.
func states(t *testing.T, d *Disk, o FaultOptions) (FaultCounts, []string) {
	t.Helper()
	f, err := d.Faults(o)
	require.NoError(t, err)
	sector := int64(max(o.Sector, 512))
	touched := map[int64]bool{}
	for _, w := range d.Writes() {
		for off := w.Offset / sector; off <= (w.Offset+int64(len(w.Data))-1)/sector; off++ {
			touched[off] = true
		}
	}
	var all []string
	for s := range f.States() {
		text := ""
		for _, n := range slices.Sorted(maps.Keys(touched)) {
			b := make([]byte, 1)
			if _, err := s.Disk.ReadAt(b, n*sector); err != nil {
				require.ErrorIs(t, err, ErrUnreadable)
				text += "!"
			} else {
				text += fmt.Sprint(b[0])
			}
		}
		all = append(all, text)
		if len(all)%64 == 0 {
			require.NotEmpty(t, s.String())
		}
	}
	return f.Counts(), all
}

func TestFaultsAreCounted(t *testing.T) {
	type ops func(t *testing.T, d *Disk)
	for _, c := range []struct {
		name    string
		options FaultOptions
		ops     ops
		want    FaultCounts
	}{
		{"nothing", FaultOptions{}, func(*testing.T, *Disk) {}, FaultCounts{States: [4]int{1}, Epochs: 1}},
		{"only a sync", FaultOptions{}, flush, FaultCounts{States: [4]int{1}, Epochs: 1}},
		{"one sector", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 1, 0, 512) }, FaultCounts{States: [4]int{2}, Epochs: 1}},
		{"without a change", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 0, 0, 512); write(t, d, 9, 8192, 512) }, FaultCounts{States: [4]int{1}, Epochs: 1}},
		{"three sectors", FaultOptions{}, func(t *testing.T, d *Disk) {
			write(t, d, 1, 0, 512)
			write(t, d, 2, 512, 512)
			write(t, d, 3, 9216, 512)
		}, FaultCounts{States: [4]int{4, 4}, Epochs: 1}},
		{"two and two", FaultOptions{}, func(t *testing.T, d *Disk) {
			write(t, d, 1, 0, 512)
			write(t, d, 2, 512, 512)
			flush(t, d)
			write(t, d, 3, 1024, 512)
			write(t, d, 4, 1536, 512)
		}, FaultCounts{States: [4]int{5, 2}, Epochs: 2}},
		{"there and back", FaultOptions{}, func(t *testing.T, d *Disk) {
			write(t, d, 1, 0, 512)
			flush(t, d)
			write(t, d, 0, 0, 512) // as before the first write
			flush(t, d)
			write(t, d, 1, 0, 512) // as after it
		}, FaultCounts{States: [4]int{2}, Epochs: 3}},
		{"one sector twice", FaultOptions{}, func(t *testing.T, d *Disk) {
			write(t, d, 1, 0, 512)
			write(t, d, 2, 0, 512)
		}, FaultCounts{States: [4]int{3}, Epochs: 1}},
		{"four sectors in one write", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 1, 0, 2048) }, FaultCounts{States: [4]int{2, 0, 14}, Epochs: 1}},
		{"four sectors, of which one changes", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 9, 8192-512*3, 2048) }, FaultCounts{States: [4]int{2, 0, 6}, Epochs: 1}},
		{"4096-byte sectors", FaultOptions{Sector: 4096}, func(t *testing.T, d *Disk) { write(t, d, 1, 0, 4096); write(t, d, 2, 4096, 8192) }, FaultCounts{States: [4]int{3, 1, 4}, Epochs: 1}},
		{"a part of a sector", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 1, 100, 10); write(t, d, 1, 200, 10) }, FaultCounts{States: [4]int{3}, Epochs: 1}},
		{"across two sectors", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 1, 500, 100) }, FaultCounts{States: [4]int{2, 0, 2}, Epochs: 1}},
		// Three versions of sector 0, two of sector 1: of the six combinations the prefixes are
		// three, without the first write there is one more, and two are torn.
		{"overlapping", FaultOptions{}, func(t *testing.T, d *Disk) { write(t, d, 1, 0, 512); write(t, d, 2, 0, 1024) }, FaultCounts{States: [4]int{3, 0, 3}, Epochs: 1}},
		// Sector 16 is lost while it, or its neighbour, or both are written, with the write to
		// sector 0 there or not.
		{"a lost physical sector", FaultOptions{Physical: 4096}, func(t *testing.T, d *Disk) { write(t, d, 1, 8192, 512) }, FaultCounts{States: [4]int{2, 0, 0, 1}, Epochs: 1}},
		{"two lost physical sectors", FaultOptions{Physical: 4096, Lost: LostGarbage}, func(t *testing.T, d *Disk) {
			write(t, d, 1, 8192, 512)
			write(t, d, 2, 0, 512)
		}, FaultCounts{States: [4]int{3, 1, 0, 4}, Epochs: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDisk(16 * pageSize)
			write(t, d, 9, 8192, 512)
			d.Record()
			c.ops(t, d)
			counts, all := states(t, d, c.options)
			require.Equal(t, c.want, counts)
			require.Len(t, all, counts.Total())
		})
	}
}

func TestFaultsAreTheRightStates(t *testing.T) {
	d := NewDisk(16 * pageSize)
	d.Record()
	write(t, d, 1, 0, 512)
	write(t, d, 2, 4096, 512)
	flush(t, d)
	write(t, d, 3, 4096, 1024)
	counts, all := states(t, d, FaultOptions{})
	require.Equal(t, FaultCounts{States: [4]int{4, 1, 2}, Epochs: 2}, counts)
	require.Equal(t, []string{
		"000", "100", "120", // prefixes of the first epoch
		"020",        // a subset
		"133",        // the prefix of the second epoch that is new
		"130", "123", // torn
	}, all)

	counts, all = states(t, d, FaultOptions{Physical: 4096, Lost: LostUnreadable})
	require.Equal(t, [4]int{4, 1, 2, 5}, counts.States)
	// Sector 0 is lost with the second write there or not; then the page of the others, likewise
	// and in the second epoch.
	require.Equal(t, []string{"!00", "!20", "0!!", "1!!"}, slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !bytes.ContainsRune([]byte(s), '!') })[:4])
}

// TestFaultsTell checks the text of a state.
func TestFaultsTell(t *testing.T) {
	d := NewDisk(16 * pageSize)
	d.Record()
	write(t, d, 1, 0, 512)
	flush(t, d)
	write(t, d, 2, 512, 512)
	write(t, d, 3, 4096, 2048)
	f, err := d.Faults(FaultOptions{})
	require.NoError(t, err)
	var texts []string
	for s := range f.States() {
		texts = append(texts, s.String())
	}
	require.Contains(t, texts, "torn: power cut after sync 1, 1 writes before that are on the medium; of writes 1 to 2 there are [1]; "+
		"write 2 (2048 bytes at 4096) is torn, of its changed sectors 0-1,3 are there")
	require.Contains(t, texts, "subset: power cut after sync 1, 1 writes before that are on the medium; of writes 1 to 2 there are [2]; "+
		"write 1 (512 bytes at 512) is missing")
}

func TestFaultsAreSampled(t *testing.T) {
	d := NewDisk(64 * pageSize)
	d.Record()
	for i := range 20 { // 2^20 subsets
		write(t, d, byte(i+1), int64(i)*8192, 1024)
	}
	const limit = 1000
	first, all := states(t, d, FaultOptions{Limit: limit, Seed: 7})
	require.Equal(t, 1, first.Sampled)
	require.Equal(t, 21, first.States[FaultPrefix])
	require.Greater(t, first.States[FaultSubset], limit*9/10)
	require.LessOrEqual(t, first.States[FaultSubset], limit)
	// Each of 20 writes is torn at its only place, from either side, in at most four contexts; the
	// rest is random.
	require.Greater(t, first.States[FaultTorn], limit/4)
	again, same := states(t, d, FaultOptions{Limit: limit, Seed: 7})
	require.Equal(t, first, again)
	require.Equal(t, all, same)
	_, other := states(t, d, FaultOptions{Limit: limit, Seed: 8})
	require.NotEqual(t, all, other)
	small, _ := states(t, d, FaultOptions{Limit: 100})
	require.LessOrEqual(t, small.Total(), 21+100+4*25+25)

	// All subsets of 14 writes are made, and sampled only what tears them.
	d = NewDisk(64 * pageSize)
	d.Record()
	for i := range 14 {
		write(t, d, byte(i+1), int64(i)*8192, 1024)
	}
	counts, _ := states(t, d, FaultOptions{})
	require.Equal(t, 1<<14, counts.States[FaultPrefix]+counts.States[FaultSubset])
	require.Equal(t, 1, counts.Sampled)
}

func TestFaultsRefuse(t *testing.T) {
	d := NewDisk(16 * pageSize)
	d.Record()
	write(t, d, 1, 4096, 512)
	for _, o := range []FaultOptions{{Sector: 4096}, {Sector: 1024}, {Physical: 512}, {Limit: -1}} {
		_, err := d.Faults(o)
		require.ErrorContains(t, err, "faultio: ", o)
	}
	require.Panics(t, func() { _, _ = NewDisk(512).Faults(FaultOptions{}) }, "nothing was recorded")
}

// TestFaultStatesAreIndependent changes states and the disk itself, on which the others must not
// depend.
func TestFaultStatesAreIndependent(t *testing.T) {
	d := NewDisk(16 * pageSize)
	write(t, d, 7, 0, 16*pageSize)
	d.Record()
	write(t, d, 1, 0, 512)
	write(t, d, 0, 8192, 4096) // a page of zeros over one that is not
	flush(t, d)
	f, err := d.Faults(FaultOptions{Limit: 40})
	require.NoError(t, err)
	var kept []State
	for s := range f.States() {
		kept = append(kept, s)
		for _, k := range kept {
			write(t, k.Disk, 200, 12288, 512)
		}
		b := contents(t, s.Disk)
		require.Equal(t, byte(200), b[12288])
		require.Equal(t, byte(7), b[12800])
		require.True(t, b[8192] == 0 || b[8192] == 7)
	}
	require.Equal(t, byte(7), contents(t, d)[12288])
	require.Equal(t, byte(7), contents(t, d.Prefix(0))[0])
	require.Greater(t, len(kept), 4)
	last := kept[len(kept)-1].Disk.Clone()
	last.Record()
	write(t, last, 9, 0, 512)
	require.Equal(t, byte(9), contents(t, last)[0])
}

func TestUnreadable(t *testing.T) {
	d := NewDisk(8 * pageSize)
	d.Record()
	write(t, d, 1, 4096, 512)
	f, err := d.Faults(FaultOptions{Physical: 4096, Lost: LostUnreadable})
	require.NoError(t, err)
	var bad *Disk
	for s := range f.States() {
		if s.Kind == FaultLost {
			bad = s.Disk
			require.Contains(t, s.String(), "the physical sector at 4096 is lost")
		}
	}
	b := make([]byte, 8192)
	n, err := bad.ReadAt(b, 0)
	require.Equal(t, 4096, n)
	require.ErrorIs(t, err, ErrUnreadable)
	_, err = bad.WriteAt(make([]byte, 512), 4096)
	require.ErrorIs(t, err, ErrUnreadable)
	_, err = bad.WriteTo(&bytes.Buffer{})
	require.ErrorIs(t, err, ErrUnreadable)
	_, err = bad.WriteAt(make([]byte, 4096), 4096)
	require.NoError(t, err)
	_, err = bad.ReadAt(b, 0)
	require.NoError(t, err)
}

// TestPlantedOrderBug proves that a commit whose data is not synced first is found, and that one
// whose is, is not: the data must be whole if the sector that names it is there.
func TestPlantedOrderBug(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(d *Disk)
		wrong  bool
	}{
		{"right", func(d *Disk) {
			write(t, d, 2, 8192, 2048)
			flush(t, d)
			write(t, d, 2, 0, 512)
			flush(t, d)
		}, false},
		{"no sync between", func(d *Disk) {
			write(t, d, 2, 8192, 2048)
			write(t, d, 2, 0, 512)
			flush(t, d)
		}, true},
		{"commit first", func(d *Disk) {
			write(t, d, 2, 0, 512)
			flush(t, d)
			write(t, d, 2, 8192, 2048)
			flush(t, d)
		}, true},
		{"commit of two sectors", func(d *Disk) {
			write(t, d, 2, 8192, 2048)
			flush(t, d)
			write(t, d, 2, 0, 1024)
			flush(t, d)
		}, true},
		{"old data overwritten", func(d *Disk) {
			write(t, d, 2, 4096, 2048)
			flush(t, d)
			write(t, d, 2, 0, 512)
			flush(t, d)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDisk(16 * pageSize)
			write(t, d, 1, 4096, 2048)
			write(t, d, 1, 0, 1024)
			d.Record()
			c.change(d)
			f, err := d.Faults(FaultOptions{})
			require.NoError(t, err)
			var found []string
			for s := range f.States() {
				b := contents(t, s.Disk)
				data := map[byte][]byte{1: b[4096:6144], 2: b[8192:10240]}[b[0]]
				if b[0] != b[512] && c.name == "commit of two sectors" || !bytes.Equal(data, bytes.Repeat(b[:1], 2048)) {
					found = append(found, s.String())
				}
			}
			require.Equal(t, c.wrong, len(found) > 0, found)
		})
	}
}

func TestFaultsAreFast(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time")
	}
	d := NewDisk(64 << 20)
	for i := range int64(64 << 20 / pageSize) { // no page is zero
		write(t, d, byte(i%255)+1, i*pageSize, 8)
	}
	d.Record()
	for i := range 14 {
		_, err := d.WriteAt(binary.LittleEndian.AppendUint64(make([]byte, 504), uint64(i+1)), int64(i)<<20)
		require.NoError(t, err)
	}
	f, err := d.Faults(FaultOptions{})
	require.NoError(t, err)
	start, n := time.Now(), 0
	for range f.States() {
		n++
	}
	took := time.Since(start)
	t.Logf("%d states in %v", n, took)
	require.Equal(t, 1<<14, n)
	require.Less(t, took, 8*time.Second)
}
