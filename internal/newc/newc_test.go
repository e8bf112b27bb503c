package newc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The trailer is that of "find . -prune | cpio -o -H newc", and the header that of a stub.
func TestAppend(t *testing.T) {
	zeros := "00000000"
	require.Equal(t, "070701"+zeros+zeros+zeros+zeros+"00000001"+zeros+zeros+zeros+zeros+zeros+zeros+"0000000B"+zeros+"TRAILER!!!\x00", string(Header{Links: 1, Name: Trailer}.Append(nil, Upper)))
	require.Equal(t, "x070701"+"0000000a"+"000081ed"+"00000001"+"00000002"+"00000001"+"00000003"+"00000004"+zeros+zeros+"00000005"+"00000006"+"00000002"+zeros+"a\x00",
		string(Header{Inode: 10, Mode: Regular | 0o755, UID: 1, GID: 2, Links: 1, Mtime: 3, Size: 4, Major: 5, Minor: 6, Name: "a"}.Append([]byte("x"), Lower)))
}
