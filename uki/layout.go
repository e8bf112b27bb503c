package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

const sectionHeaderSize = 40

// Assembled is an unsigned unified kernel image: a lazily read view over the parts of an [Image].
// It can be read at random as a Source and written in one pass with WriteTo; neither holds more
// than a buffer in memory.
type Assembled struct {
	data   view
	free   int
	assume int // AssumeStub of what it was made of
}

// Size is the length in bytes.
func (a *Assembled) Size() int64 { return a.data.size }

// ReadAt implements [io.ReaderAt].
func (a *Assembled) ReadAt(b []byte, off int64) (int, error) {
	n, err := a.data.ReadAt(b, off)
	if err != io.EOF {
		prefix.Add("uki", &err)
	}
	return n, err
}

// WriteTo implements [io.WriterTo]: one sequential pass over the sources.
func (a *Assembled) WriteTo(w io.Writer) (n int64, err error) {
	defer prefix.Add("uki", &err)
	return a.data.WriteTo(w)
}

// FreeSections is how many more sections the header has room for.
func (a *Assembled) FreeSections() int { return a.free }

// Assemble checks the parts and lays the image out on the stub. All faults are found here, before a
// byte is written: missing or unusable parts with a [*PartError], parts that do not fit with a
// [*SpaceError].
//
// The bytes are those that ukify 262 writes for the same parts: sections in its order, addresses by
// the stub's own SectionAlignment, file offsets by its FileAlignment, the merged .sbat in place of
// the stub's. They differ where ukify is wrong: .efifw has the header that the stub requires; .sbat
// also has the lines of the kernels in profiles; a .sbat that would overlap the stub's next section
// is refused, or has a shorter line of its own; bytes after all sections of a stub of 252 belong to
// the last section.
func (im *Image) Assemble() (_ *Assembled, err error) {
	defer prefix.Add("uki", &err)
	p, err := im.plan()
	if err != nil {
		return nil, err
	}
	out, err := p.layout()
	if err != nil {
		return nil, err
	}
	out.assume = im.AssumeStub
	return out, nil
}

func (p *plan) layout() (*Assembled, error) {
	stub := p.stub
	if err := p.checkGeometry(); err != nil {
		return nil, err
	}
	stubSize := p.stubSrc.Size()
	header, err := p.header(stubSize)
	if err != nil {
		return nil, err
	}
	assembled := new(Assembled)
	out := &assembled.data
	out.add("header", bytes.NewReader(header), int64(len(header)))

	// The stub's own sections, with .sbat exchanged.
	sections := append([]pe.Section(nil), stub.Sections...)
	rest := int64(len(header))
	if p.sbat != nil {
		i := indexSection(sections, ".sbat")
		s := &sections[i]
		if room := sbatRoom(sections, i); p.sbat.size > room {
			what := "section .sbat of the stub"
			if left := room - p.sbat.size + p.sbatOwn; left > 0 {
				what = fmt.Sprintf("section .sbat of the stub, which leaves %d bytes to SBAT beside the lines of stub and kernels", left)
			}
			return nil, &SpaceError{what, p.sbat.size, room}
		}
		out.add("stub", offsetReader{p.stubSrc, rest}, int64(s.Offset)-rest)
		out.add(".sbat", p.sbat.src, p.sbat.size)
		out.size = s.Raw().End()
		rest = s.Raw().End()
		s.VirtualSize = uint32(p.sbat.size)
	}
	out.add("stub", offsetReader{p.stubSrc, rest}, stubSize-rest)

	// The new ones behind it.
	initialised := uint64(stub.SizeOfInitializedData)
	for _, c := range p.added {
		last := sections[len(sections)-1]
		address := roundUp(int64(last.VirtualAddress)+int64(last.VirtualSize), int64(stub.SectionAlignment))
		out.padTo(int64(stub.FileAlignment))
		offset := out.size
		raw := roundUp(c.size, int64(stub.FileAlignment))
		if end := max(address+c.size, offset+raw); end > math.MaxUint32 || c.size > math.MaxUint32 {
			return nil, &SpaceError{"image, at section " + c.name, end, math.MaxUint32}
		}
		out.add(c.name, c.src, c.size)
		out.size = offset + raw
		s := pe.Section{Name: c.name, VirtualSize: uint32(c.size), VirtualAddress: uint32(address), RawSize: uint32(raw),
			Offset: uint32(offset), Characteristics: flagsOf(c.name)}
		sections = append(sections, s)
		initialised += uint64(c.size)
	}
	if initialised > math.MaxUint32 {
		return nil, &SpaceError{"SizeOfInitializedData", int64(initialised), math.MaxUint32}
	}
	last := sections[len(sections)-1]
	image := roundUp(int64(last.VirtualAddress)+int64(last.VirtualSize), int64(stub.SectionAlignment))
	if image > math.MaxUint32 {
		return nil, &SpaceError{"image", image, math.MaxUint32}
	}
	h := headers{b: header, pe: stub, table: sections, image: uint32(image), initialised: uint32(initialised)}
	for i := range sections {
		h.old = append(h.old, i)
		if i >= len(stub.Sections) {
			h.old[i] = -1
		}
	}
	if p.noSymbols {
		h.dropSymbols()
	}
	h.write()
	for _, k := range p.linux {
		h.promiseNX(k)
	}
	assembled.free = (len(header)-int(stub.Fields.SectionTable))/sectionHeaderSize - len(sections)
	return assembled, nil
}

// checkGeometry refuses stubs that a section cannot be appended to.
func (p *plan) checkGeometry() error {
	f := p.stub
	// address behind the headers or the section before
	end := roundUp(int64(f.SizeOfHeaders), int64(f.FileAlignment))
	for _, s := range f.Sections {
		if int64(s.VirtualAddress) < end {
			return partError("Stub", "section %s at address %#x overlaps what is before it, which ends at %#x", s.Name, s.VirtualAddress, end)
		}
		end = int64(s.VirtualAddress) + int64(s.VirtualSize)
	}
	return nil
}

// header reads the stub's headers into memory, extended to FileAlignment, and checks that the new
// section headers fit.
func (p *plan) header(stubSize int64) ([]byte, error) {
	f := p.stub
	size := roundUp(int64(f.SizeOfHeaders), int64(f.FileAlignment))
	if size > maxHeaders {
		return nil, partError("Stub", "SizeOfHeaders %d is above the limit of %d", f.SizeOfHeaders, maxHeaders)
	}
	used := f.Fields.SectionTable + int64(len(f.Sections))*sectionHeaderSize
	if need := used + int64(len(p.added))*sectionHeaderSize; need > size {
		what := fmt.Sprintf("header of the stub with %d more sections, of which %d fit", len(p.added), (size-used)/sectionHeaderSize)
		return nil, &SpaceError{what, need, size}
	}
	if size > stubSize {
		return nil, partError("Stub", "%d bytes, the headers alone have %d", stubSize, size)
	}
	b, err := readAll(p.stubSrc, size, maxHeaders)
	if err != nil {
		return nil, partError("Stub", "reading the headers: %w", err)
	}
	return b, nil
}

// headers are the headers of an image in memory, to be written for another section table. What is
// not named here stays as it is in b.
type headers struct {
	b     []byte
	pe    *pe.File     // whose headers they were
	table []pe.Section // to be written
	old   []int        // for each row of table: the row that it was, -1: none

	image, initialised uint32 // SizeOfImage and SizeOfInitializedData
}

// write writes the section table and the header fields that depend on it.
func (h *headers) write() {
	le, fields := binary.LittleEndian, h.pe.Fields
	le.PutUint16(h.b[fields.NumberOfSections:], uint16(len(h.table)))
	le.PutUint32(h.b[fields.SizeOfInitializedData:], h.initialised)
	le.PutUint32(h.b[fields.SizeOfImage:], h.image)
	le.PutUint32(h.b[fields.SizeOfHeaders:], uint32(len(h.b)))
	le.PutUint32(h.b[fields.CheckSum:], 0)
	table := h.b[fields.SectionTable:]
	rows := bytes.Clone(table[:len(h.pe.Sections)*sectionHeaderSize])
	clear(table[:len(rows)])
	for i, s := range h.table {
		row := table[i*sectionHeaderSize:][:sectionHeaderSize]
		copy(row, pe.AppendSectionHeader(nil, s))
		if old := h.old[i]; old >= 0 {
			// keeps the fields that we do not look at, and the name as it was padded
			was := rows[old*sectionHeaderSize:][:sectionHeaderSize]
			copy(row[:8], was)
			copy(row[24:36], was[24:])
		}
	}
}

// dropSymbols says that there is no COFF symbol table.
func (h *headers) dropSymbols() {
	clear(h.b[h.pe.Fields.COFF+8:][:8]) // PointerToSymbolTable, NumberOfSymbols
}

// promiseNX takes back the promise to be compatible with NX if the kernel does not keep it:
// firmware that enforces NX would apply the outer image's promise to the inner one.
func (h *headers) promiseNX(kernel *pe.File) {
	if at := h.b[h.pe.Fields.DllCharacteristics:]; kernel.DllCharacteristics&pe.DllNXCompat == 0 {
		binary.LittleEndian.PutUint16(at, binary.LittleEndian.Uint16(at)&^pe.DllNXCompat)
	}
}

// sbatRoom is how much SBAT fits where the stub's own stands, in the file and in memory.
func sbatRoom(sections []pe.Section, i int) int64 {
	room := int64(sections[i].RawSize)
	if i+1 < len(sections) {
		room = min(room, int64(sections[i+1].VirtualAddress)-int64(sections[i].VirtualAddress))
	}
	return room
}

func indexSection(sections []pe.Section, name string) int {
	for i, s := range sections {
		if s.Name == name {
			return i
		}
	}
	return -1
}

// Section characteristics of added sections (Microsoft PE Format, "Section Flags"), as ukify sets
// them. They are neither executable nor writable: the stub copies the kernel out before it runs it.
const (
	codeFlags = 0x40000020 // code, readable
	dataFlags = 0x40000040 // initialised data, readable
)

// rankOf is the place of a section in a file.
func rankOf(name string) int {
	if s := sdstub.SectionOf(name); s != nil {
		return s.Rank
	}
	return sdstub.OtherRank
}

// flagsOf is the Characteristics field of a section to be added.
func flagsOf(name string) uint32 {
	if name == ".linux" {
		return codeFlags
	}
	return dataFlags
}
