package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// Variable is a UEFI_VARIABLE_DATA (Firmware Profile 1.06, section 10.2.6): the contents of an EFI variable when it was
// measured.
type Variable struct {
	Vendor osmith.GUID
	Name   string
	Data   []byte
}

func (v Variable) String() string {
	value := fmt.Sprintf("%d bytes", len(v.Data))
	switch len(v.Data) {
	case 0:
		value = "empty"
	case 1:
		value = fmt.Sprint(v.Data[0])
	}
	name := escape(v.Name)
	if v.Vendor != globalVariable && v.Vendor != imageSecurityDatabase {
		name += "-" + v.Vendor.String()
	}
	return fmt.Sprintf("%s = %s", name, value)
}

func readVariable(b []byte) (Variable, error) {
	const fixed = 32
	if len(b) < fixed {
		return Variable{}, dataError(len(b), "variable", "%d bytes, want %d or more", len(b), fixed)
	}
	units, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	rest := b[fixed:]
	if units > uint64(len(rest)/2) {
		return Variable{}, dataError(16, "variable name", "%d characters, %d bytes left", units, len(rest))
	}
	if size > uint64(len(rest))-2*units {
		return Variable{}, dataError(24, "variable contents", "%d bytes, %d left", size, uint64(len(rest))-2*units)
	}
	name, data := rest[:2*units], rest[2*units:]
	return Variable{efi.GUID(b), efi.DecodeUTF16(name), data[:size:size]}, nil
}

// splitVariable is [readVariable] for callers that only want to know.
func splitVariable(b []byte) (vendor osmith.GUID, name string, data []byte, ok bool) {
	v, err := readVariable(b)
	return v.Vendor, escape(v.Name), v.Data, err == nil
}

// signatureEntry is one entry of an EFI signature list.
type signatureEntry struct {
	kind osmith.GUID
	data string // owner, then certificate or hash
}

// signatureEntries reads EFI_SIGNATURE_LISTs (UEFI 2.10, section 32.4.1). ok is false if b is something else.
func signatureEntries(b []byte) (entries []signatureEntry, ok bool) {
	const header, owner = 28, 16
	le := binary.LittleEndian
	for len(b) > 0 {
		if len(b) < header {
			return nil, false
		}
		size, skip, each := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:])), uint64(le.Uint32(b[24:]))
		if size < header+skip || size > uint64(len(b)) || each <= owner || (size-header-skip)%each != 0 {
			return nil, false
		}
		kind := efi.GUID(b)
		for rest := b[header+skip : size]; len(rest) > 0; rest = rest[each:] {
			entries = append(entries, signatureEntry{kind, string(rest[:each])})
		}
		b = b[size:]
	}
	return entries, true
}
