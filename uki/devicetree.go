package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// The flattened device tree: Devicetree Specification v0.4, 5.2 (header) and 5.4 (structure block).
// All big-endian.
const (
	fdtMagic     = 0xd00dfeed
	fdtHeader    = 40
	fdtBeginNode = 1
	fdtProp      = 3
	fdtNop       = 4
	maxFDTTokens = 1 << 16 // in the root node, before its first child
	maxFDTText   = 4096
)

// ErrNoCompatible is returned for a device tree whose root node has no compatible string.
var ErrNoCompatible = errors.New("no compatible string in the root node")

// DeviceTreeCompatible reads the first compatible string of the root node of a flattened device
// tree, such as "acer,aspire1": the stub compares it with .dtbauto sections. The rules are those of
// the stub; for a tree that the stub cannot read, the error is a [*osmith.FormatError]. Only the
// root node is read.
func DeviceTreeCompatible(tree osmith.Source) (_ string, err error) {
	defer prefix.Add("uki", &err)
	if tree == nil {
		return "", &osmith.FormatError{Offset: 0, Field: "device tree", Err: ErrMissing}
	}
	d := fdt{src: tree}
	if err := d.readHeader(); err != nil {
		return "", err
	}
	return d.compatible()
}

type fdt struct {
	src                     osmith.Source
	structure, structureEnd int64
	strings, stringsEnd     int64
}

func (d *fdt) bad(at int64, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: at, Field: "device tree " + field, Err: fmt.Errorf(format, args...)}
}

func (d *fdt) read(at, size int64, field string) ([]byte, error) {
	b, err := readAll(offsetReader{d.src, at}, size, maxFDTText)
	if err != nil {
		return nil, d.bad(at, field, "%w", err)
	}
	return b, nil
}

func (d *fdt) readHeader() error {
	if d.src.Size() < fdtHeader {
		return d.bad(0, "header", "%d bytes, want %d", d.src.Size(), fdtHeader)
	}
	h, err := d.read(0, fdtHeader, "header")
	if err != nil {
		return err
	}
	word := func(i int) int64 { return int64(binary.BigEndian.Uint32(h[4*i:])) }
	if word(0) != fdtMagic {
		return d.bad(0, "magic", "%#08x, want %#08x", word(0), int64(fdtMagic))
	}
	total := word(1)
	d.structure, d.strings = word(2), word(3)
	d.stringsEnd, d.structureEnd = d.strings+word(8), d.structure+word(9)
	switch {
	case total > d.src.Size():
		return d.bad(4, "size", "%d, there are %d bytes", total, d.src.Size())
	case d.stringsEnd > total:
		return d.bad(12, "strings block", "ends at %d, the tree at %d", d.stringsEnd, total)
	case d.structure%4 != 0 || d.structureEnd%4 != 0:
		return d.bad(8, "structure block", "from %d to %d, want multiples of 4", d.structure, d.structureEnd)
	case d.structureEnd > d.strings:
		return d.bad(8, "structure block", "ends at %d, after the start of the strings at %d", d.structureEnd, d.strings)
	}
	return nil
}

// compatible walks the properties of the root node, which come before its children.
func (d *fdt) compatible() (string, error) {
	for at, n := d.structure, 0; at < d.structureEnd && n < maxFDTTokens; n++ {
		token, err := d.read(at, 4, "token")
		if err != nil {
			return "", err
		}
		switch kind := binary.BigEndian.Uint32(token); kind {
		case fdtNop:
			at += 4
		case fdtBeginNode:
			if at+8 > d.structureEnd {
				return "", d.bad(at, "node", "the structure block ends in it")
			}
			name, err := d.read(at+4, 4, "node name")
			if err != nil {
				return "", err
			}
			if !bytes.Equal(name, []byte{0, 0, 0, 0}) { // not the root node any more
				return "", d.bad(at, "root node", "%w", ErrNoCompatible)
			}
			at += 8
		case fdtProp:
			// Three more words have to follow the token, be the value empty or not.
			if at+16 > d.structureEnd {
				return "", d.bad(at, "property", "the structure block ends in it")
			}
			head, err := d.read(at+4, 8, "property")
			if err != nil {
				return "", err
			}
			size, name := int64(binary.BigEndian.Uint32(head)), int64(binary.BigEndian.Uint32(head[4:]))
			if found, err := d.isCompatible(name); err != nil || found {
				if err != nil {
					return "", err
				}
				return d.value(at+12, size)
			}
			at += 12 + (size+3)/4*4
		default:
			return "", d.bad(at, "root node", "token %d: %w", kind, ErrNoCompatible)
		}
	}
	return "", d.bad(d.structure, "root node", "%w", ErrNoCompatible)
}

const compatibleName = "compatible\x00"

func (d *fdt) isCompatible(offset int64) (bool, error) {
	at := d.strings + offset
	if at+int64(len(compatibleName)) > d.stringsEnd {
		return false, nil
	}
	name, err := d.read(at, int64(len(compatibleName)), "property name")
	return string(name) == compatibleName, err
}

// value is the first string of a list of strings.
func (d *fdt) value(at, size int64) (string, error) {
	if size == 0 || at+(size+3)/4*4 > d.structureEnd {
		return "", d.bad(at, "compatible", "%d bytes from here, the structure block ends at %d", size, d.structureEnd)
	}
	var last [1]byte
	if n, err := d.src.ReadAt(last[:], at+size-1); n == 0 && err != io.EOF {
		return "", d.bad(at+size-1, "compatible", "%w", err)
	} else if n == 0 || last[0] != 0 {
		return "", d.bad(at+size-1, "compatible", "does not end with a NUL byte")
	}
	b, err := d.read(at, min(size, maxFDTText), "compatible")
	if err != nil {
		return "", err
	}
	text, _, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return "", d.bad(at, "compatible", "a string of more than %d bytes", maxFDTText)
	}
	return string(text), nil
}
