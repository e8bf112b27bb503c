package uki_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// Headers that claim what no image has: whatever comes of it, it comes soon and costs little
// memory.
func TestHostileHeaders(t *testing.T) {
	le := binary.LittleEndian
	const opt = 88 // of the optional header
	u32 := func(at int, v uint32) func(b []byte) { return func(b []byte) { le.PutUint32(b[at:], v) } }
	u16 := func(at int, v uint16) func(b []byte) { return func(b []byte) { le.PutUint16(b[at:], v) } }
	field := func(section string, at int, v uint32) func(b []byte) {
		return func(b []byte) { le.PutUint32(row(t, b, section)[at:], v) }
	}
	all := func(changes ...func(b []byte)) func(b []byte) {
		return func(b []byte) {
			for _, c := range changes {
				c(b)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(b []byte)
		opens  bool
	}{
		"e_lfanew":             {u32(0x3c, 1<<32-1), false},
		"e_lfanew at the end":  {u32(0x3c, 1<<31), false},
		"sections":             {u16(64+6, 1<<16-1), false},
		"no sections":          {u16(64+6, 0), false},
		"optional header":      {u16(64+20, 1<<16-1), false},
		"no optional header":   {u16(64+20, 0), false},
		"data directories":     {u32(opt+108, 1<<32-1), false},
		"section alignment":    {u32(opt+32, 1<<31), true},
		"no section alignment": {u32(opt+32, 0), false},
		"file alignment":       {u32(opt+36, 1<<31), false},
		"both alignments":      {all(u32(opt+32, 1<<31), u32(opt+36, 1<<31)), true},
		"headers":              {u32(opt+60, 1<<32-1), false},
		"image":                {u32(opt+56, 1<<32-1), true},
		"no image":             {u32(opt+56, 0), false},
		"virtual size":         {field(".cmdline", 8, 1<<32-1), false},
		"virtual size, fits":   {all(field(".linux", 8, 1<<31), u32(opt+56, 1<<32-1)), false},
		"text of 60 MiB":       {all(field(".linux", 12, 1<<30), field(".cmdline", 8, 60<<20), field(".osrel", 12, 1<<30+1<<20), field(".uname", 12, 1<<30+1<<21), u32(opt+56, 1<<32-1)), false},
		"raw size":             {field(".linux", 16, 1<<32-1), false},
		"offset":               {field(".linux", 20, 1<<32-512), false},
		"address":              {field(".linux", 12, 1<<32-4096), false},
		"certificates":         {all(u32(opt+112+32, 1<<32-8), u32(opt+112+36, 8)), false},
		"symbols":              {all(u32(64+12, 1<<32-1), u32(64+16, 1<<32-1)), true},
		"debug directory":      {all(u32(opt+112+48, 4096), u32(opt+112+52, 1<<32-1)), true},
	} {
		t.Run(name, func(t *testing.T) {
			im := rich()
			b := assemble(t, &im)
			c.change(b)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, err := uki.Open(source(b))
			require.Equal(t, f == nil, err != nil)
			assert.Equal(t, c.opens, err == nil, err)
			if err == nil {
				_ = f.Check()
				_, _ = f.MeasureVariants()
				e := f.Edit()
				require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader(strings.Repeat("x", 5000))))
				a, err := e.Assemble()
				require.Equal(t, a == nil, err != nil)
			}
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
		})
	}
}

// What data directories point to does not move unless that is allowed.
func TestEditDirectories(t *testing.T) {
	le := binary.LittleEndian
	const directories = 88 + 112
	build := func(directory int, section string, entry func(b []byte, at uint32)) *uki.Edit {
		im := rich()
		b := assemble(t, &im)
		r := row(t, b, section)
		le.PutUint32(b[directories+8*directory:], le.Uint32(r[12:]))
		le.PutUint32(b[directories+8*directory+4:], 28)
		if entry != nil {
			entry(b, le.Uint32(r[20:]))
		}
		f, err := uki.Open(source(b))
		require.NoError(t, err)
		e := f.Edit()
		require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader(strings.Repeat("x", 5000))))
		return e
	}
	losses := func(e *uki.Edit) []uki.Loss {
		_, err := e.Assemble()
		var l *uki.LossError
		if errors.As(err, &l) {
			return l.Losses
		}
		require.NoError(t, err)
		return nil
	}
	debug := []uki.Loss{uki.LossDebugDirectory}
	assert.Nil(t, losses(build(6, ".rodata", func(b []byte, at uint32) { clear(b[at:][:28]) })), "stays with the stub")
	e := build(6, ".initrd", nil)
	assert.Equal(t, debug, losses(e))
	a, err := e.Lose(uki.LossDebugDirectory).Assemble()
	require.NoError(t, err)
	assert.Equal(t, make([]byte, 8), written(t, a)[directories+48:][:8])

	assert.Equal(t, debug, losses(build(6, ".rodata", func(b []byte, at uint32) {
		le.PutUint32(b[at+16:], 100)
		le.PutUint32(b[at+24:], uint32(len(b)-100)) // data at the end of the file
	})))
	assert.Nil(t, losses(build(6, ".rodata", func(b []byte, at uint32) {
		le.PutUint32(b[at+16:], 10)
		le.PutUint32(b[at+20:], 4096)
		le.PutUint32(b[at+24:], at)
	})))
	_, err = build(5, ".linux", nil).Assemble()
	assert.EqualError(t, err, "uki: edit: section .linux: data directory 5 of the image points there")

	im := rich()
	b := assemble(t, &im)
	b[88+16], b[88+17], b[88+18] = 0, 0, 0
	copy(b[88+16:], row(t, b, ".linux")[12:16]) // the entry point
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	e = f.Edit()
	require.NoError(t, e.Replace(".cmdline", -1, bytes.NewReader(make([]byte, 5000))))
	_, err = e.Assemble()
	assert.ErrorContains(t, err, "cannot move")
}

// crowd is an image of 700 KiB with that many .dtbauto sections of half of it, each of which begins
// so many bytes behind the other.
func crowd(n, step int) []byte {
	const size = 350 << 10
	le := binary.LittleEndian
	headers := (64 + 24 + 240 + 40*(n+4) + 4095) &^ 4095
	b := petest.Image{SizeOfHeaders: headers, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true}, {Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262 ####")},
		{Name: ".linux", Content: []byte("kernel")}, {Name: ".other", Content: bytes.Repeat([]byte("trees"), 80000)},
	}}.Bytes()
	at := int(le.Uint32(b[table+3*40+20:]))
	address := int(le.Uint32(b[table+3*40+12:])) + 0x60000
	for i := range n {
		address += 0x60000
		r := b[table+40*(4+i):]
		copy(r, ".dtbauto")
		for j, v := range []int{size, address, size, at + i*step} {
			le.PutUint32(r[8+4*j:], uint32(v))
		}
		r[39] = 0x40
	}
	le.PutUint16(b[64+6:], uint16(n+4))
	le.PutUint32(b[88+56:], uint32(address+0x60000))
	return b
}

// A small image does not make its reader read gigabytes: what sections share is read once, and they
// share all or nothing.
func TestSharedBytes(t *testing.T) {
	shared := crowd(3900, 0)
	require.Less(t, len(shared), 700<<10)
	src := &counting{Reader: strings.NewReader(string(shared))}
	f, err := uki.Open(src)
	require.NoError(t, err)
	variants, err := f.MeasureVariants()
	require.NoError(t, err)
	assert.Len(t, variants, 3901)
	assert.Equal(t, variants[1].Sections, variants[3900].Sections, "the same bytes")
	assert.NotEqual(t, variants[0].Sections, variants[1].Sections)
	assert.Less(t, src.bytes.Load(), int64(2*len(shared)))
	one, err := f.MeasureVariant(uki.Variant{DeviceTree: 7})
	require.NoError(t, err)
	assert.Equal(t, one, variants[7].Sections)

	_, err = uki.Open(source(crowd(3900, 1)))
	assert.ErrorContains(t, err, "sections so far have more bytes than the file's 561664: sections overlap in the file")
	_, err = uki.Open(source(crowd(2, 1)))
	assert.ErrorContains(t, err, "section .dtbauto at ")

	// Nor does it make them hash gigabytes of zeros.
	le := binary.LittleEndian
	im := rich()
	im.DeviceTreeAuto = nil
	for i := range 6 {
		im.DeviceTreeAuto = append(im.DeviceTreeAuto, strings.NewReader(strings.Repeat("x", i+1)))
	}
	zeros := func(n uint32) []byte {
		b := assemble(t, &im)
		address := uint32(1 << 28)
		for i := range int(le.Uint16(b[64+6:])) {
			if r := b[table+40*i:]; string(r[:8]) == ".dtbauto" {
				le.PutUint32(r[8:], n)
				le.PutUint32(r[12:], address)
				address += 1 << 27
			}
		}
		le.PutUint32(b[88+56:], 1<<31)
		return b
	}
	_, err = uki.Open(source(zeros(40 << 20)))
	require.NoError(t, err)
	_, err = uki.Open(source(zeros(60 << 20)))
	assert.ErrorContains(t, err, "bytes in memory that are not in the file")
}
