package uki

import (
	"math"
	"sort"

	"github.com/osmith-dev/osmith/internal/pe"
)

// Section flags (Microsoft PE Format, "Section Flags").
const (
	flagExecute = 0x20000000
	flagWrite   = 0x80000000
)

// pageSize is the granularity in which firmware protects memory.
const pageSize = 4096

// geometry checks what the loader of the firmware looks at.
func (c *checker) geometry() {
	f, p := c.f, c.f.pe
	if size := f.src.Size(); size > math.MaxUint32 {
		c.fail("too-large", -1, "", "%d bytes: offsets in a PE image end at 4 GiB", size)
	} else if size > math.MaxInt32 {
		c.warn("too-large", -1, "", "%d bytes: firmware rarely finds that much memory in one piece, and systemd-pcrlock takes 2 GiB at most", size)
	}
	if p.SectionAlignment < pageSize {
		c.warn("section-alignment", -1, "", "SectionAlignment is %d: firmware that protects memory in pages of %d bytes cannot do so", p.SectionAlignment, pageSize)
	}
	if p.SizeOfImage%p.SectionAlignment != 0 {
		c.fail("size-of-image", -1, "", "SizeOfImage %#x is no multiple of SectionAlignment %#x", p.SizeOfImage, p.SectionAlignment)
	}
	if end := p.DataEnd(); p.Certificates.Size == 0 && p.Size > end || p.Certificates.Size > 0 && (p.Certificates.Offset-end >= 8 || p.Certificates.End() < p.Size) {
		c.warn("trailing-data", -1, "", "there is data behind the last section, at %#x, that belongs to none: signing tools and firmware may disagree about it", end)
	}
	for i, s := range f.sections {
		if s.VirtualAddress%int64(p.SectionAlignment) != 0 {
			report := c.fail
			if i < c.payload { // stubs up to 253 are like that, and boot on all but the strictest firmware
				report = c.warn
			}
			report("alignment", s.Profile, s.Name, "address %#x is no multiple of SectionAlignment %#x: firmware that protects memory stops there", s.VirtualAddress, p.SectionAlignment)
		}
		if s.RawSize > 0 && (s.Offset%int64(p.FileAlignment) != 0 || s.RawSize%int64(p.FileAlignment) != 0) {
			c.warn("file-alignment", s.Profile, s.Name, "offset %#x or size %#x in the file is no multiple of FileAlignment %#x", s.Offset, s.RawSize, p.FileAlignment)
		}
		if s.VirtualAddress+s.Size > int64(p.SizeOfImage) {
			c.fail("size-of-image", s.Profile, s.Name, "ends at address %#x, behind SizeOfImage %#x", s.VirtualAddress+s.Size, p.SizeOfImage)
		}
		if i > 0 && s.VirtualAddress < f.sections[i-1].VirtualAddress {
			c.warn("order", s.Profile, s.Name, "stands behind section %s in the table but before it in memory", f.sections[i-1].Name)
		}
		if flags := p.Sections[i].Characteristics; flags&flagExecute != 0 && flags&flagWrite != 0 {
			c.fail("write-execute", s.Profile, s.Name, "both writable and executable: firmware with memory protection refuses the image")
		}
	}
	c.overlaps("overlap", "in memory", func(s SectionInfo) (int64, int64) { return s.VirtualAddress, s.Size })
	c.overlaps("file-overlap", "in the file", func(s SectionInfo) (int64, int64) { return s.Offset, s.RawSize })
}

// overlaps checks that no two sections share a byte.
func (c *checker) overlaps(code, where string, extent func(SectionInfo) (off, size int64)) {
	var order []int
	for i, s := range c.f.sections {
		if _, size := extent(s); size > 0 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool {
		x, _ := extent(c.f.sections[order[a]])
		y, _ := extent(c.f.sections[order[b]])
		return x < y
	})
	last := -1
	for _, i := range order {
		s := c.f.sections[i]
		off, size := extent(s)
		if last >= 0 {
			o := c.f.sections[last]
			before, n := extent(o)
			if off < before+n {
				c.fail(code, s.Profile, s.Name, "overlaps section %s %s", o.Name, where)
			}
			if off+size <= before+n {
				continue
			}
		}
		last = i
	}
}

// kernel checks a .linux section against the image around it.
func (c *checker) kernel(i int) {
	f, s := c.f, c.f.sections[i]
	if flags := f.pe.Sections[i].Characteristics; flags&(flagExecute|flagWrite) != 0 {
		c.warn("linux-flags", s.Profile, s.Name, "flags %#x make it executable or writable where it stands; the stub copies it out first, and firmware with memory protection may refuse the image", flags)
	}
	data := f.data(i)
	k, err := pe.Parse(data, data.Size())
	if err != nil {
		c.fail("linux-not-pe", s.Profile, s.Name, "the stub cannot start it: %v", formatError(err).Err)
		return
	}
	if !sameArchitecture(f.pe.Machine, k.Machine) {
		c.fail("machine", s.Profile, s.Name, "machine type %#04x, the stub's is %#04x", k.Machine, f.pe.Machine)
	}
	if f.pe.DllCharacteristics&pe.DllNXCompat != 0 && k.DllCharacteristics&pe.DllNXCompat == 0 {
		c.fail("nx", s.Profile, s.Name, "the image promises to run without executable data (NX_COMPAT), the kernel does not: it crashes where firmware enforces that")
	}
	c.kernelSBAT(i, k)
	if at := f.profileIndex(s.Profile, ".uname"); at >= 0 {
		b, ok := c.text(at)
		if version, err := ProbeUname(data); ok && err == nil && version != untilNUL(b) {
			c.warn("uname", s.Profile, ".uname", "says %q, the kernel is %q: add-ons are chosen by the former", untilNUL(b), version)
		}
	}
}
