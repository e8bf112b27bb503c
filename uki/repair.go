package uki

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// withoutSymbols is the stub's size without a COFF symbol table, which stubs up to 252 still have,
// if that is the last thing in the file. Elsewhere it stays.
func withoutSymbols(stub osmith.Source, f *pe.File) (int64, error) {
	symbols, texts, err := symbolTable(stub, f)
	if err != nil {
		return 0, err
	}
	if symbols.Offset > 0 && symbols.End()+texts == f.Size && symbols.Offset >= f.DataEnd() {
		return symbols.Offset, nil
	}
	return f.Size, nil
}

// symbolTable is where the header says that the COFF symbol table stands, and how many bytes the
// strings behind it have (Microsoft PE Format, "COFF Symbol Table" and "COFF String Table"); either
// may end behind the file.
func symbolTable(src osmith.Source, f *pe.File) (symbols pe.Range, texts int64, err error) {
	const symbolSize = 18
	if f.SymbolTable == 0 {
		return pe.Range{}, 0, nil
	}
	symbols.Offset = int64(f.SymbolTable)
	var b [4]byte
	if n, err := src.ReadAt(b[:], f.Fields.COFF+12); n < len(b) {
		return pe.Range{}, 0, fmt.Errorf("reading NumberOfSymbols: %w", noEOF(err))
	}
	symbols.Size = symbolSize * int64(binary.LittleEndian.Uint32(b[:]))
	if symbols.End() <= f.Size-int64(len(b)) {
		if n, err := src.ReadAt(b[:], symbols.End()); n < len(b) {
			return pe.Range{}, 0, fmt.Errorf("reading the size of the string table: %w", noEOF(err))
		}
		texts = int64(binary.LittleEndian.Uint32(b[:]))
	}
	return symbols, texts, nil
}

// repaired moves the data of a stub's sections to multiples of FileAlignment, which old linkers did
// not do: zeros are put in before data at another offset and behind data of another size, and all
// that follows moves along. So does ukify. A stub that needs none of this is returned as it is.
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
	if p.stub.Sections, err = covering(p.stub, size); err != nil {
		return err
	}
	p.stubSrc, p.stub.Sections, err = repaired(p.stubSrc, p.stub)
	return err
}

// covering makes the last section of a stub, which has size bytes, reach to its end in the file.
// Debian's stub of 252 for arm64 has symbols, its SBAT and its marker behind all sections; in an
// image they would stand between sections and belong to none, of which firmware and signing tools
// make different digests. What is loaded into memory stays the same.
func covering(f *pe.File, size int64) ([]pe.Section, error) {
	end := f.DataEnd()
	if size <= end {
		return f.Sections, nil
	}
	sections := append([]pe.Section(nil), f.Sections...)
	for i := range sections {
		s := &sections[i]
		if s.RawSize == 0 || s.Raw().End() != end {
			continue
		}
		if size-int64(s.Offset) > maxStub {
			return nil, fmt.Errorf("%d bytes after section %s belong to no section", size-end, s.Name)
		}
		s.RawSize = uint32(size - int64(s.Offset))
		return sections, nil
	}
	return f.Sections, nil
}
