package efi

import "github.com/osmith-dev/osmith"

// GUIDSize is the size of a GUID in an EFI structure, in bytes.
const GUIDSize = 16

// AppendGUID appends the 16 bytes of the on-disk form: 32-, 16- and 16-bit little-endian groups,
// then eight plain bytes.
func AppendGUID(b []byte, g osmith.GUID) []byte {
	b = append(b, g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6])
	return append(b, g[8:]...)
}

// GUID reads the on-disk form from the first 16 bytes of b. It panics if b is shorter: the caller
// has checked the length of the structure that holds it.
func GUID(b []byte) osmith.GUID {
	var g osmith.GUID
	g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7] = b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]
	copy(g[8:], b[8:16])
	return g
}
