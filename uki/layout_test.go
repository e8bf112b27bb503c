package uki_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// Stubs to which no section can be appended.
func TestBadStubs(t *testing.T) {
	le := binary.LittleEndian
	const optional = 64 + 24
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		text   string
	}{
		"overlapping sections": {func(b []byte) []byte { copy(row(t, b, ".rodata")[12:16], row(t, b, ".text")[12:16]); return b }, "section .rodata at address 0x2000 overlaps"},
		"section in headers":   {func(b []byte) []byte { le.PutUint32(row(t, b, ".text")[12:], 0x1000); return b }, "section .text at address 0x1000 overlaps"},
		"unaligned and out of order": {func(b []byte) []byte {
			copy(row(t, b, ".sdmagic")[16:24], row(t, b, ".text")[16:24])
			le.PutUint32(row(t, b, ".sdmagic")[16:], 100)
			return b
		}, "section .sdmagic at offset 0x2000 is not aligned"},
		"driver":      {func(b []byte) []byte { b[optional+68] = 11; return b }, "not an EFI stub: subsystem 11"},
		"no sections": {func(b []byte) []byte { le.PutUint16(b[64+6:], 0); return b }, "not an EFI stub: no sections"},
		"bad SBAT":    {func(b []byte) []byte { copy(b[le.Uint32(row(t, b, ".sbat")[20:]):], "SBAT"); return b }, "SBAT begins with"},
		"huge headers": {func([]byte) []byte {
			return petest.Image{SizeOfHeaders: 2 << 20, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}}}}.Bytes()
		}, "SizeOfHeaders 2097152 is above the limit"},
		"headers alone": {func(b []byte) []byte {
			for _, name := range []string{".text", ".rodata", ".sbat", ".sdmagic"} {
				clear(row(t, b, name)[16:24]) // nothing of it in the file
			}
			le.PutUint32(b[optional+60:], 8000)
			return b[:8000]
		}, "8000 bytes, the headers alone have 8192"},
	} {
		t.Run(name, func(t *testing.T) {
			im := complete()
			im.Stub = source(c.change(petest.Stub("262-1")))
			a, err := im.Assemble()
			require.Nil(t, a)
			var p *uki.PartError
			require.ErrorAs(t, err, &p)
			assert.Equal(t, "Stub", p.Part)
			assert.Contains(t, err.Error(), c.text)
		})
	}
}
