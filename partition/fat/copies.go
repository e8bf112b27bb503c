package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// A volume has two copies of the FAT, as a rule. Drivers write both and read the first; which one
// is right where they differ, nothing on the volume says. Two causes are common: a power cut, after
// which one copy lags behind and both fit the tree of directories, and a damaged copy, which does
// not fit it. So where the copies differ, or where one does not begin with the media byte, the
// whole tree is walked under each of them before anything is written.

// head is the first two entries of a copy of the FAT.
type head struct {
	err    error
	media  byte // the low eight bits of FAT[0]
	ones   bool // the other bits of FAT[0] are set, as they have to be
	second uint32
}

// right reports whether FAT[0] is what fatgen103 section 4 demands: the media byte, all other bits
// set. Any media byte counts: some formatters write 0xf8 there whatever the boot sector says.
func (h head) right() bool { return h.err == nil && h.ones && (h.media == 0xf0 || h.media >= 0xf8) }

// readHead reads the first two entries of copy k.
func (f *FS) readHead(k int) (h head) {
	b := make([]byte, 8)
	if h.err = sparse.ReadFull(f.r, b, f.geo.fatOff+int64(k)*f.geo.fatSize); h.err != nil {
		return h
	}
	le := binary.LittleEndian
	h.media = b[0]
	switch f.geo.kind {
	case 12:
		h.ones, h.second = b[1]&0xf == 0xf, uint32(le.Uint16(b[1:]))>>4
	case 16:
		h.ones, h.second = b[1] == 0xff, uint32(le.Uint16(b[2:]))
	default:
		h.ones, h.second = le.Uint32(b)>>8&0xfffff == 0xfffff, le.Uint32(b[4:])
	}
	return h
}

// copies lists the copies that are in use, the active one first.
func (g *geometry) copies() []int {
	out := []int{g.active}
	for k := range g.fats {
		if g.mirror && k != g.active {
			out = append(out, k)
		}
	}
	return out
}

// under is the volume as another copy of the FAT has it.
func (f *FS) under(k int) *FS {
	v := &FS{r: f.r, geo: f.geo, page: f.page, unit: f.unit}
	v.geo.active = k
	return v
}

// pickReadable makes a copy with a right head the one to read, if the active one has none. Drivers
// read the first whatever it begins with, and then show a part of the files; fsck.fat takes the
// second.
func (f *FS) pickReadable() {
	if f.readHead(f.geo.active).right() {
		return
	}
	all := f.geo.copies()
	best := -1
	var found *survey
	for _, k := range all {
		if !f.readHead(k).right() {
			continue
		}
		s, err := f.under(k).survey(walk{})
		if err != nil {
			continue
		}
		if best < 0 || s.beats(found) {
			best, found = k, s
		}
	}
	if best < 0 {
		return
	}
	if s, err := f.under(f.geo.active).survey(walk{}); err == nil && s.beats(found) {
		return
	}
	f.geo.active = best
}

// settle finds the copy of the FAT that the tree needs and makes it the active one, or is
// [ErrFATsDiffer]. It returns what the tree is under that copy.
func (f *FS) settle() (*survey, error) {
	g := &f.geo
	all := g.copies()
	same := true
	heads := make([]head, len(all))
	for i, k := range all {
		if heads[i] = f.readHead(k); heads[i].err != nil {
			return nil, fmt.Errorf("FAT %d: %w", k, heads[i].err)
		}
		if i > 0 {
			n, err := f.compareFATs(all[0], k, nil)
			if err != nil {
				return nil, err
			}
			same = same && n == 0
		}
	}
	s, err := f.survey(walk{})
	if err != nil {
		return nil, err
	}
	if same {
		if !heads[0].right() && !s.fits() {
			return nil, fmt.Errorf("%w: FAT[0] is %s, want the media byte 0x%02x, and %s: run fsck.fat on the volume", ErrFATDamaged,
				heads[0], g.media, first(s))
		}
		return s, nil
	}
	surveys := []*survey{s}
	for _, k := range all[1:] {
		other, err := f.under(k).survey(walk{})
		if err != nil {
			return nil, err
		}
		surveys = append(surveys, other)
	}
	// The copy that is wanted is no worse than any other: the tree contradicts it less, or is the
	// same under both. Then the one that drivers read is as good as any, and it is the newer one
	// after a power cut during an update of ours.
	for i, s := range surveys {
		wanted := true
		for j, o := range surveys {
			switch {
			case i == j || s.beats(o):
			case o.beats(s):
				wanted = false
			case !s.equal(o):
				wanted = false
			}
		}
		if wanted && (heads[i].right() || s.fits()) {
			g.active = all[i]
			s.f = f
			return s, nil
		}
	}
	var why []string
	for i, s := range surveys {
		text := "it fits the tree"
		if !s.fits() {
			text = first(s)
		}
		if !heads[i].right() {
			text = fmt.Sprintf("it begins with %s, want the media byte 0x%02x; %s", heads[i], g.media, text)
		}
		why = append(why, fmt.Sprintf("FAT %d: %s", all[i], text))
	}
	return nil, fmt.Errorf("%w (%s): run fsck.fat on the volume", ErrFATsDiffer, strings.Join(why, "; "))
}

func isFATs(err error) bool { return errors.Is(err, ErrFATsDiffer) || errors.Is(err, ErrFATDamaged) }

// first is the first problem that is about chains, in words.
func first(s *survey) string {
	for _, p := range s.problems {
		if p.Kind.chains() {
			return p.String()
		}
	}
	return "it fits the tree"
}

func (h head) String() string {
	if h.ones {
		return fmt.Sprintf("0x%02x", h.media)
	}
	return fmt.Sprintf("0x%02x with bits behind it that are not set", h.media)
}

// compareFATs counts the sectors in which copies a and b differ. differs, if it is not nil, is
// called with the contents of each in a, and its offset.
func (f *FS) compareFATs(a, b int, differs func(sector []byte, off int64) error) (sectors int, err error) {
	g := &f.geo
	x, y := make([]byte, min(fatChunk, g.fatSize)), make([]byte, min(fatChunk, g.fatSize))
	for pos := int64(0); pos < g.fatSize; pos += fatChunk {
		n := min(fatChunk, g.fatSize-pos)
		if err := sparse.ReadFull(f.r, x[:n], g.fatOff+int64(a)*g.fatSize+pos); err != nil {
			return sectors, fmt.Errorf("FAT %d: %w", a, err)
		}
		if err := sparse.ReadFull(f.r, y[:n], g.fatOff+int64(b)*g.fatSize+pos); err != nil {
			return sectors, fmt.Errorf("FAT %d: %w", b, err)
		}
		if bytes.Equal(x[:n], y[:n]) {
			continue
		}
		for i := int64(0); i < n; i += g.sectorSize {
			if bytes.Equal(x[i:i+g.sectorSize], y[i:i+g.sectorSize]) {
				continue
			}
			sectors++
			if differs != nil {
				if err := differs(x[i:i+g.sectorSize], pos+i); err != nil {
					return sectors, err
				}
			}
		}
	}
	return sectors, nil
}

// reconcile makes the other FATs the same as the active one, which settle has chosen. The first
// sector comes last: as long as a copy does not begin with the media byte, its rest is not taken
// for whole. It returns how many sectors were different.
func (f *FS) reconcile() (sectors int, err error) {
	g := &f.geo
	for _, k := range g.copies()[1:] {
		base := g.fatOff + int64(k)*g.fatSize
		var start []byte
		n, err := f.compareFATs(g.active, k, func(sector []byte, off int64) error {
			if off == 0 {
				start = bytes.Clone(sector)
				return nil
			}
			return f.write(sector, base+off)
		})
		if err != nil {
			return sectors, err
		}
		if sectors += n; n == 0 {
			continue
		}
		if err := f.sync(); err != nil {
			return sectors, err
		}
		if start != nil {
			if err := f.write(start, base); err != nil {
				return sectors, err
			}
			if err := f.sync(); err != nil {
				return sectors, err
			}
		}
	}
	if g.mirror {
		g.active = 0 // the same now, and what others read
	}
	return sectors, nil
}

// rightHead puts the media byte into FAT[0] of all copies, which are equal. It is for copies that
// fit the tree.
func (f *FS) rightHead() (done int, err error) {
	switch h := f.readHead(f.geo.active); {
	case h.err != nil:
		return 0, fmt.Errorf("FAT %d: %w", f.geo.active, h.err)
	case h.right():
		return 0, nil
	}
	for _, k := range f.geo.copies() {
		b := make([]byte, f.geo.sectorSize)
		at := f.geo.fatOff + int64(k)*f.geo.fatSize
		if err := sparse.ReadFull(f.r, b, at); err != nil {
			return done, fmt.Errorf("FAT %d: %w", k, err)
		}
		f.geo.putEntry(b, 0, 0, 0x0fffff00|uint32(f.geo.media))
		if err := f.write(b, at); err != nil {
			return done, err
		}
		done++
	}
	return done, f.sync()
}
