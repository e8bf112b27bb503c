package pe

import "encoding/binary"

// FirstRead is how many bytes [HeadersSize] wants to begin with.
const FirstRead = dosHeaderSize

// HeadersSize tells how many bytes at the start of a file have to be there before its headers can
// be parsed. It is for readers of a stream: called with FirstRead bytes it asks for more, called
// with those it asks for all of the headers, SizeOfHeaders bytes or at least those up to that
// field, and then returns len(prefix). The number is the file's word, to be checked against a
// limit.
func HeadersSize(prefix []byte) (int64, error) {
	le := binary.LittleEndian
	if len(prefix) < dosHeaderSize {
		return dosHeaderSize, nil
	}
	if prefix[0] != 'M' || prefix[1] != 'Z' {
		return 0, bad(0, "MS-DOS header", "magic is % x, want 4d 5a: %w", prefix[:2], ErrNotPE)
	}
	at := int64(le.Uint32(prefix[dosLfanew:])) + coffHeaderSize + optSizeOfHeaders
	if need := at + 4; int64(len(prefix)) < need {
		return need, nil
	}
	return max(int64(le.Uint32(prefix[at:])), at+4), nil
}
