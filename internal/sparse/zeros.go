package sparse

import "bytes"

// Zero reports whether all bytes are 0: the first is, and each is equal to the one behind it.
func Zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}
