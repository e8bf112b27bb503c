package vfat

import (
	"fmt"
	"maps"
	"slices"
)

// table is the FAT while one step of an operation changes it: the sectors that were looked at, and
// which of them differ now.
type table struct {
	*Volume
	sectors map[int64][]byte // by number in the FAT
	changed map[int64]bool
}

func (v *Volume) table() *table {
	return &table{v, map[int64][]byte{}, map[int64]bool{}}
}

// byteAt is the place of a byte of the FAT.
func (t *table) byteAt(i int64) (*byte, error) {
	n := i / t.sector
	b := t.sectors[n]
	if b == nil {
		var err error
		if b, err = t.read(t.fatStart+n*t.sector, t.sector); err != nil {
			return nil, fmt.Errorf("FAT: %w", err)
		}
		t.sectors[n] = b
	}
	return &b[i%t.sector], nil
}

// value reads the bytes of an entry, with the neighbour's half byte of a FAT12.
func (t *table) value(n uint32) (at, size int64, value uint32, err error) {
	switch t.bits {
	case 12:
		at, size = int64(n)*3/2, 2
	case 16:
		at, size = int64(n)*2, 2
	default:
		at, size = int64(n)*4, 4
	}
	for i := range size {
		b, err := t.byteAt(at + i)
		if err != nil {
			return 0, 0, 0, err
		}
		value |= uint32(*b) << (8 * i)
	}
	return at, size, value, nil
}

// endOfChain is what the last cluster of a chain has in a FAT32; the others have its lower bits.
const endOfChain = 0x0fffffff

// mask has the bits of an entry.
func (v *Volume) mask() uint32 { return endOfChain >> (max(28-v.bits, 0)) }

// get is the entry of a cluster.
func (t *table) get(n uint32) (uint32, error) {
	_, _, value, err := t.value(n)
	if t.bits == 12 && n%2 == 1 {
		value >>= 4
	}
	return value & t.mask(), err
}

// set changes the entry of a cluster. What else is in its bytes stays: half an entry of a FAT12,
// four bits of a FAT32.
func (t *table) set(n, value uint32) error {
	at, size, old, err := t.value(n)
	if err != nil {
		return err
	}
	value &= t.mask()
	mask := t.mask()
	if t.bits == 12 && n%2 == 1 {
		value, mask = value<<4, mask<<4
	}
	value |= old &^ mask
	for i := range size {
		b, err := t.byteAt(at + i)
		if err != nil {
			return err
		}
		if c := byte(value >> (8 * i)); *b != c {
			*b = c
			t.changed[(at+i)/t.sector] = true
		}
	}
	return nil
}

// flush writes the sectors that differ, to all FATs: each is one write.
func (t *table) flush() error {
	for copyOf := range t.fats {
		for _, n := range slices.Sorted(maps.Keys(t.changed)) {
			if err := t.write(t.sectors[n], t.fatStart+copyOf*t.fatSize+n*t.sector); err != nil {
				return fmt.Errorf("FAT: %w", err)
			}
		}
	}
	clear(t.changed)
	return nil
}

// chain returns the clusters from start, none if it is 0. more than most are an error.
func (t *table) chain(start uint32, most int) ([]uint32, error) {
	var all []uint32
	for n := start; start != 0; {
		if !t.valid(n) || len(all) == most {
			return nil, fmt.Errorf("%w: the chain from cluster %d comes to %d after %d clusters", ErrDamaged, start, n, len(all))
		}
		all = append(all, n)
		next, err := t.get(n)
		if err != nil {
			return nil, err
		}
		if next >= t.mask()-7 { // the eight highest values
			break
		}
		n = next
	}
	return all, nil
}

// extend takes up to n free clusters, the next ones after the last that were taken, and appends
// them to the chain that ends with last if it is not 0. The FAT is written. Where there are fewer,
// the error is [ErrNoSpace], and they are taken unless all are wanted.
func (v *Volume) extend(last uint32, n int, all bool) ([]uint32, error) {
	t := v.table()
	var got []uint32
	at := v.hint
	if !v.valid(at) {
		at = 2
	}
	for range v.clusters {
		if len(got) == n {
			break
		}
		switch value, err := t.get(at); {
		case err != nil:
			return nil, err
		case value == 0:
			got = append(got, at)
		}
		if at++; !v.valid(at) {
			at = 2
		}
	}
	if len(got) < n && all {
		return nil, ErrNoSpace
	}
	v.hint = at
	for i, c := range got {
		next := uint32(endOfChain)
		if i+1 < len(got) {
			next = got[i+1]
		}
		if err := t.set(c, next); err != nil {
			return nil, err
		}
	}
	if last != 0 && len(got) > 0 {
		if err := t.set(last, got[0]); err != nil {
			return nil, err
		}
	}
	v.used += int64(len(got))
	if err := t.flush(); err != nil {
		return nil, err
	}
	if len(got) < n {
		return got, ErrNoSpace
	}
	return got, nil
}

// free frees a chain, of which there is none if start is 0.
func (v *Volume) free(start uint32) error {
	t := v.table()
	all, err := t.chain(start, int(v.clusters))
	if err != nil {
		return err
	}
	for _, n := range all {
		if err := t.set(n, 0); err != nil {
			return err
		}
	}
	v.freed += int64(len(all))
	return t.flush()
}
