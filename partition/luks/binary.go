package luks

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	binarySize = 4096 // of a binary header, in bytes
	maxHeader  = 4 << 20
)

// headerSizes are the sizes that one copy of a header can have, and the places where the second one
// can be.
var headerSizes = [...]int64{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, maxHeader}

var (
	magicPrimary   = [6]byte{'L', 'U', 'K', 'S', 0xba, 0xbe}
	magicSecondary = [6]byte{'S', 'K', 'U', 'L', 0xba, 0xbe}
)

// rawHeader is a binary header: LUKS2 On-Disk Format Specification 1.1.4, section 2.1. Integers are
// big-endian.
type rawHeader struct {
	Magic       [6]byte
	Version     uint16
	Size        uint64 // of this copy, with its JSON area
	SeqID       uint64
	Label       [48]byte
	ChecksumAlg [32]byte
	Salt        [64]byte
	UUID        [40]byte
	Subsystem   [48]byte
	Offset      uint64 // of this copy
	_           [184]byte
	Checksum    [64]byte // the unused rest is not looked at
	_           [7 * 512]byte
}

// The offsets of the salt, and of the checksum, which is zero while it is computed.
const (
	saltAt     = 104
	checksumAt = 448
)

// text is what stands in a field before its NUL.
func text(b []byte) (string, error) {
	i := bytes.IndexByte(b, 0)
	switch {
	case i < 0:
		return "", errors.New("no NUL at its end")
	case !utf8.Valid(b[:i]):
		return "", errors.New("not UTF-8")
	}
	return string(b[:i]), nil
}

// putText is the reverse of text.
func putText(field []byte, name, s string) error {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return fmt.Errorf("%s %q: want UTF-8 without NUL", name, s)
	}
	if len(s) >= len(field) {
		return fmt.Errorf("%s of %d bytes, want at most %d", name, len(s), len(field)-1)
	}
	clear(field)
	copy(field, s)
	return nil
}

// errVersion1 tells a header of LUKS1 from a damaged one.
var errVersion1 = errors.New("version 1")

// parseBinary reads the binary header of the copy at off; the checksum needs the JSON area as well,
// see checkSum.
func parseBinary(b []byte, off int64) (*rawHeader, error) {
	fail := func(at int64, field, format string, args ...any) error {
		return badFormat(off+at, copyName(off)+": "+field, format, args...)
	}
	var raw rawHeader
	if _, err := binary.Decode(b, binary.BigEndian, &raw); err != nil {
		return nil, fail(0, "binary header", "%w", err)
	}
	want := magicPrimary
	if off > 0 {
		want = magicSecondary
	}
	switch {
	case raw.Magic != want:
		return nil, fail(0, "magic", "%x, want %x", raw.Magic, want)
	case raw.Version == 1 && off == 0:
		return nil, fail(6, "version", "%w", errVersion1)
	case raw.Version != 2:
		return nil, fail(6, "version", "%d, want 2", raw.Version)
	}
	switch {
	case !slices.Contains(headerSizes[:], int64(raw.Size)):
		return nil, fail(8, "hdr_size", "%d is none of the nine sizes", raw.Size)
	case raw.Offset != uint64(off) || off > 0 && raw.Size != raw.Offset:
		return nil, fail(256, "hdr_offset", "%d in the copy at %d of a header of %d", raw.Offset, off, raw.Size)
	}
	for _, f := range []struct {
		at   int64
		name string
		b    []byte
	}{{24, "label", raw.Label[:]}, {72, "csum_alg", raw.ChecksumAlg[:]}, {168, "uuid", raw.UUID[:]}, {208, "subsystem", raw.Subsystem[:]}} {
		if _, err := text(f.b); err != nil {
			return nil, fail(f.at, f.name, "%w", err)
		}
	}
	return &raw, nil
}

// checkSum checks a whole copy against the checksum in its binary header.
func (raw *rawHeader) checkSum(whole []byte, off int64) error {
	name, _ := text(raw.ChecksumAlg[:])
	sum, err := checksum(whole, name)
	if err != nil {
		return badFormat(off+72, copyName(off)+": csum_alg", "%w", err)
	}
	if subtle.ConstantTimeCompare(sum, raw.Checksum[:len(sum)]) != 1 {
		return badFormat(off+checksumAt, copyName(off)+": csum", "%x, want %x as in the header", raw.Checksum[:len(sum)], sum)
	}
	return nil
}

// checksum is that of a copy, in which the field for it counts as zero.
func checksum(whole []byte, name string) ([]byte, error) {
	h, ok := newHash(name)
	if !ok {
		return nil, fmt.Errorf("hash %q is unknown", name)
	}
	var zero [64]byte
	h.Write(whole[:checksumAt])
	h.Write(zero[:])
	h.Write(whole[checksumAt+len(zero):])
	return h.Sum(nil), nil
}

// marshal makes a whole copy with its JSON area.
func (raw rawHeader) marshal(json []byte) ([]byte, error) {
	if have := int64(raw.Size) - binarySize - 1; int64(len(json)) > have { // a NUL ends it
		return nil, &JSONAreaError{Need: int64(len(json)), Have: have}
	}
	raw.Checksum = [64]byte{}
	whole := make([]byte, 0, raw.Size)
	whole, err := binary.Append(whole, binary.BigEndian, raw)
	if err != nil {
		return nil, err
	}
	whole = append(whole, json...)
	whole = whole[:raw.Size]
	name, _ := text(raw.ChecksumAlg[:])
	sum, err := checksum(whole, name)
	if err != nil {
		return nil, err
	}
	copy(whole[checksumAt:], sum)
	return whole, nil
}

// copyName says which copy of the header is meant.
func copyName(off int64) string {
	if off == 0 {
		return "primary header"
	}
	return "secondary header"
}
