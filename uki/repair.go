package uki

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// withoutSymbols is the stub's size without a COFF symbol table, which stubs up to 252 still have, if that is the last
// thing in the file. Elsewhere it stays.
func withoutSymbols(stub osmith.Source, f *pe.File) (int64, error) {
	const symbolSize = 18
	size := stub.Size()
	if f.SymbolTable == 0 {
		return size, nil
	}
	var b [4]byte
	if _, err := stub.ReadAt(b[:], f.Fields.COFF+12); err != nil {
		return 0, fmt.Errorf("reading NumberOfSymbols: %w", noEOF(err))
	}
	end := int64(f.SymbolTable) + symbolSize*int64(binary.LittleEndian.Uint32(b[:]))
	if end <= size-4 {
		if _, err := stub.ReadAt(b[:], end); err != nil {
			return 0, fmt.Errorf("reading the size of the string table: %w", noEOF(err))
		}
		end += int64(binary.LittleEndian.Uint32(b[:]))
	}
	if end == size && int64(f.SymbolTable) >= f.DataEnd() {
		return int64(f.SymbolTable), nil
	}
	return size, nil
}

// repaired moves the data of a stub's sections to multiples of FileAlignment, which old linkers did not do: zeros are
// put in before data at another offset and behind data of another size, and all that follows moves along. So does
// ukify. A stub that needs none of this is returned as it is.
func repaired(stub osmith.Source, f *pe.File) (osmith.Source, []pe.Section, error) {
	align := int64(f.FileAlignment)
	sections := append([]pe.Section(nil), f.Sections...)
	out := new(view)
	taken := int64(0) // of the stub
	take := func(to int64) {
		out.add("stub", offsetReader{stub, taken}, to-taken)
		taken = to
	}
	changed := false
	for i := range sections {
		s := &sections[i]
		raw := s.Raw()
		if raw.Size == 0 {
			continue
		}
		if raw.Offset < taken {
			if changed || raw.Offset%align != 0 || raw.Size%align != 0 {
				return nil, nil, fmt.Errorf("section %s at offset %#x is not aligned, or not in the order of the file", s.Name, raw.Offset)
			}
			continue
		}
		take(raw.Offset)
		out.padTo(align)
		s.Offset = uint32(out.size)
		take(raw.End())
		out.padTo(align)
		s.RawSize = uint32(out.size - int64(s.Offset))
		changed = changed || int64(s.Offset) != raw.Offset || int64(s.RawSize) != raw.Size
	}
	if !changed {
		return stub, f.Sections, nil
	}
	if out.size+stub.Size()-taken > maxStub {
		return nil, nil, fmt.Errorf("more than %d bytes when its sections are aligned", int64(maxStub))
	}
	take(stub.Size())
	return out, sections, nil
}

// maxStub bounds a stub that is repaired; real ones have 100 KiB.
const maxStub = 1 << 30

// stubSource takes the stub as it is to be built on: without symbols, and with aligned sections.
func (p *plan) stubSource(stub osmith.Source) error {
	size, err := withoutSymbols(stub, p.stub)
	if err != nil {
		return err
	}
	p.noSymbols = size < stub.Size()
	p.stubSrc = io.NewSectionReader(stub, 0, size)
	p.stubSrc, p.stub.Sections, err = repaired(p.stubSrc, p.stub)
	return err
}
