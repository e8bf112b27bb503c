package ext4

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// Hashes by debugfs of e2fsprogs 1.47.0: dx_hash -h half_md4 -s SEED NAME.
func TestHashName(t *testing.T) {
	seed := osmith.MustParseGUID("00112233-4455-6677-8899-aabbccddeeff")
	for _, c := range []struct {
		name        string
		seed        osmith.GUID
		hash, minor uint32
	}{
		{"a", seed, 0x93752ee6, 0x578c30ba},
		{"hello", seed, 0x344ca36e, 0x2ef16de2},
		{"a-name-that-has-more-than-thirty-two-bytes-in-it", seed, 0x72212ba8, 0x15bd6ea5},
		{"a", osmith.GUID{}, 0xd5fa7d7a, 0xacb48187},
	} {
		hash, minor := hashName(c.name, c.seed)
		require.Equal(t, c.hash, hash, c.name)
		require.Equal(t, c.minor, minor, c.name)
	}
}
