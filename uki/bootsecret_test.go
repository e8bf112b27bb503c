package uki_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
)

// Expected values: printf '%s' 'systemd-stub derive secret label v1' followed by 32 bytes 01, 32
// bytes 02, the length of the id as 8 bytes and the id, through sha256sum.
func TestDeriveBootSecret(t *testing.T) {
	variable, mixin := [32]byte(bytes.Repeat([]byte{1}, 32)), [32]byte(bytes.Repeat([]byte{2}, 32))
	for _, c := range []struct{ osRelease, want string }{
		{"", bootSecretLinux},
		{"NAME=x\n#ID=no\nID\n", bootSecretLinux},
		{"ID=debian\n", bootSecretDebian},
		{"ID=x\nID=\"debian\"\nVERSION_ID=1", bootSecretDebian},
		{"IMAGE_ID='debian'\nID=x\n", bootSecretDebian},
		{"\r  IMAGE_ID==debian \t\nIMAGE_ID=other\n", bootSecretDebian},
		{"ID=debian\n\x00IMAGE_ID=other", bootSecretDebian},
	} {
		secret := uki.DeriveBootSecret(variable, mixin, []byte(c.osRelease))
		require.Equal(t, c.want, hex.EncodeToString(secret[:]), "%q", c.osRelease)
	}
	for _, odd := range []string{"ID=\"", "ID=''", "ID=", "=", "ID=\"x'"} {
		uki.DeriveBootSecret(variable, mixin, []byte(odd))
	}
}

const (
	bootSecretLinux  = "f93b8dcb43670dc8b5516e76b8bdf88532dd69d61df73bbd803ace7a83ca1123"
	bootSecretDebian = "10038b70d29609c854a59be62394b3f2d39b31d939e7b1fdd00b5fa0d46d3fb5"
)
