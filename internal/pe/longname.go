package pe

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
)

// Bounds of what is read to find a long name, in bytes.
const (
	maxStringTable  = 1 << 20
	maxSymbolsBytes = 1 << 26
)

// ShimSection is the section that shims have and no other program (shim, cert.S).
const ShimSection = ".vendor_cert"

// LongSection returns the content of the section with a name of more than eight bytes: the section
// header has the name's offset in the string table behind the symbol table, "/37" (Microsoft PE
// Format, "Section Table" and "COFF String Table"). r is what f was parsed from. A content of more
// than limit bytes is an error, as is a string table that is not in the file.
func (f *File) LongSection(r io.ReaderAt, name string, limit int64) (content []byte, found bool, err error) {
	table, err := f.stringTable(r)
	if err != nil {
		return nil, false, err
	}
	for _, s := range f.Sections {
		if longName(table, s.Name) != name {
			continue
		}
		data := s.Data()
		if data.Size > limit {
			return nil, false, bad(int64(s.Offset), "section "+name, "%d bytes, limit %d", data.Size, limit)
		}
		content, err = io.ReadAll(io.NewSectionReader(r, data.Offset, data.Size))
		return content, true, err
	}
	return nil, false, nil
}

// stringTable reads the string table, with its size in front; nil if there is none.
func (f *File) stringTable(r io.ReaderAt) ([]byte, error) {
	if f.SymbolTable == 0 {
		return nil, nil
	}
	var word [4]byte
	// The headers are there, since the file was parsed: NumberOfSymbols of the COFF header.
	const lfanewPlace, numberOfSymbols = 0x3c, 4 + 12
	if _, err := r.ReadAt(word[:], lfanewPlace); err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(word[:], int64(binary.LittleEndian.Uint32(word[:]))+numberOfSymbols); err != nil {
		return nil, err
	}
	const symbolSize = 18
	at := int64(f.SymbolTable) + symbolSize*int64(binary.LittleEndian.Uint32(word[:]))
	if at > f.Size-4 || at > int64(f.SymbolTable)+maxSymbolsBytes {
		return nil, bad(int64(f.SymbolTable), "string table", "begins at %d, beyond the file's %d bytes", at, f.Size)
	}
	if _, err := r.ReadAt(word[:], at); err != nil {
		return nil, err
	}
	size := int64(binary.LittleEndian.Uint32(word[:]))
	if size > maxStringTable || at+size > f.Size {
		return nil, bad(at, "string table", "%d bytes, limit %d and the end of the file", size, maxStringTable)
	}
	b := make([]byte, size)
	if _, err := r.ReadAt(b, at); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// longName is the name that a section header means.
func longName(table []byte, name string) string {
	digits, ok := strings.CutPrefix(name, "/")
	if !ok || len(digits) == 0 {
		return name
	}
	off := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return name
		}
		off = off*10 + int(c-'0') // at most seven digits
	}
	if off >= len(table) {
		return name
	}
	long, _, _ := bytes.Cut(table[off:], []byte{0})
	return string(long)
}
