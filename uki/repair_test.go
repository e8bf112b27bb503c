package uki_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// oldStubs are stubs as old linkers made them: data at odd offsets and of odd sizes, and symbols
// behind it.
func oldStubs(t testing.TB) map[string][]byte {
	le := binary.LittleEndian
	field := func(b []byte, name string, at int, v uint32) { le.PutUint32(row(t, b, name)[at:], v) }
	const size, offset = 16, 20
	end := func(b []byte) int {
		return int(le.Uint32(row(t, b, ".sdmagic")[offset:]) + le.Uint32(row(t, b, ".sdmagic")[size:]))
	}
	out := make(map[string][]byte)
	// .sdmagic stands at 0x2800, 0x2a bytes of 0x200.
	for name, change := range map[string]func(b []byte) []byte{
		"aligned":   func(b []byte) []byte { return b },
		"last size": func(b []byte) []byte { field(b, ".sdmagic", size, 0x2b); return b },
		"two sizes": func(b []byte) []byte { field(b, ".sdmagic", size, 0x2b); field(b, ".sbat", size, 0x123); return b },
		"cut":       func(b []byte) []byte { field(b, ".sdmagic", size, 0x2b); return b[:end(b)] },
		"offset": func(b []byte) []byte {
			copy(b[0x2840:], b[0x2800:0x282b])
			clear(b[0x2800:0x2840])
			field(b, ".sdmagic", size, 0x2b)
			field(b, ".sdmagic", offset, 0x2840)
			return b
		},
		"headers": func(b []byte) []byte { le.PutUint32(b[88+60:], 0x1f01); return b },
		"address": func(b []byte) []byte { field(b, ".sdmagic", 12, 0x5100); return b },
		"nothing in file": func(b []byte) []byte {
			field(b, ".rodata", size, 0)
			clear(b[0x2200:0x2400])
			field(b, ".text", size, 0x77)
			return b
		},
	} {
		out[name] = change(petest.Stub("252.39"))
		out[name+", symbols"] = withSymbolTable(change(petest.Stub("252.39")))
	}
	return out
}

func TestUkifyRepairsOldStubs(t *testing.T) {
	kernel := petest.Kernel("6.12.0")
	roots := ukifies[:1]
	if os.Getenv("OSMITH_LONG") == "1" {
		roots = ukifies
	}
	for _, root := range roots {
		t.Run(root.name, func(t *testing.T) {
			t.Parallel()
			r, dir := root.open(t), t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "linux"), kernel, 0o644))
			script := "set -e\n"
			for name, stub := range oldStubs(t) {
				name = strings.NewReplacer(" ", "-", ",", "").Replace(name)
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), stub, 0o644))
				script += "ukify build --stub=" + name + " --linux=linux --os-release= --cmdline=x --output=" + name + ".efi"
				if root.release > 257 {
					script += " --hwids="
				}
				script += "\n"
			}
			r.Run(t, dir, "sh", "-c", script)
			for name, stub := range oldStubs(t) {
				theirs, err := os.ReadFile(filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(name)+".efi"))
				require.NoError(t, err)
				im := uki.Image{Stub: source(stub), Linux: source(kernel), Cmdline: "x"}
				ours := assemble(t, &im)
				if strings.HasPrefix(name, "two sizes") || strings.HasPrefix(name, "offset") {
					// ukify moves the data less far than its headers say, and the file ends before
					// its last section.
					_, err = uki.Open(source(theirs))
					require.Error(t, err, name)
					continue
				}
				if strings.HasPrefix(name, "last size") {
					requireNoHoles(t, ours)
					continue // ukify leaves bytes that belong to no section
				}
				if root.release == 257 {
					theirs = withoutNUL(t, theirs)
				}
				if strings.HasPrefix(name, "nothing in file") {
					// It moves the place of data that there is none of.
					theirs = withOffset(t, theirs, ".rodata", 0x2200)
				}
				assert.Truef(t, bytes.Equal(theirs, ours), "%s: first difference at %#x", name, firstDifference(theirs, ours))
			}
		})
	}
}

func withOffset(t testing.TB, b []byte, name string, offset uint32) []byte {
	binary.LittleEndian.PutUint32(row(t, b, name)[20:], offset)
	return b
}

// A repaired stub keeps the data of its sections, and what it measures is known.
func TestOldStubsAreRepaired(t *testing.T) {
	for name, stub := range oldStubs(t) {
		im := complete()
		im.Stub = source(stub)
		f, err := uki.Open(source(assemble(t, &im)))
		require.NoError(t, err, name)
		version, err := f.StubVersion()
		require.NoError(t, err, name)
		assert.EqualValues(t, "252.39", version, name)
		ours, err := im.Measurements()
		require.NoError(t, err, name)
		theirs, err := f.Measurements()
		require.NoError(t, err, name)
		assert.Equal(t, theirs, ours, name)
	}
}
