package luks

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

const (
	key512     = "ac596ccfa208eb2c0be18ef922452c556a36c940c9bd6de05b2b7061ae06cdebbf809fa96c2ee6176acc123e90e8bca7254a6c2c7deca0370d6bca67182f459a"
	keyArgon2  = "411a21249d3b636e4eb9eac9ee43467e53922384190ec6080d024e42d1a16f03eb3d931f789d46bd8b218719f1634a994a65860abfa8f4484e8a976664643d62"
	keyAES128  = "ff123348ad4a2daa0ae672d758ad8be163c92d276bafd61558b969e9128d846d"
	keySystemd = "fef4f7fb2d1235b4982ca8aab169aae2669d9491fdc4639e4cbfb5d756f8fb15da52e6bc533654f43f1b60f1d0c9e452e01880966f28db3fff66d5ffd5828965"
	keyRepart  = "36d4a85deabddf5ff19ca3e03c4af081ddce897e1886ff1716cfdbccf69679ac74cde3a687c7fb6cb47ebbfb61c5167666aa44602aa6b4b2c97e980827edf43b"
	recovery   = "jjjjngdr-ivcedbbt-uhebiclu-eclncnhk-drlhcffj-tvlgudfg-fvgiifbr-bhhinire"
)

// The vectors are what testdata/README.md says, all of them.
func TestVectorsAreListed(t *testing.T) {
	b, err := os.ReadFile("testdata/README.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| `([0-9a-f]{64})` \\|$").FindAllStringSubmatch(string(b), -1)
	names, err := filepath.Glob("testdata/*.gz")
	require.NoError(t, err)
	require.Len(t, rows, len(names))
	for _, row := range rows {
		sum := sha256.Sum256(testtools.Gunzip(t, filepath.Join("testdata", row[1])))
		require.Equal(t, row[2], hex.EncodeToString(sum[:]), row[1])
	}
}

// Volumes that cryptsetup, systemd-cryptenroll and systemd-repart made open with the key that they
// have.
func TestVectorsOpen(t *testing.T) {
	for _, c := range []struct{ name, passphrase, key string }{
		{"v28-512.img.gz", "correct horse", key512},
		{"v26-argon2id.img.gz", "correct horse", keyArgon2},
		{"v26-aes128-xts.img.gz", "correct horse", keyAES128},
		{"sd252-recovery-tpm2.img.gz", recovery, keySystemd},
		{"sd262-repart-payload.img.gz", "correct horse", keyRepart},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := load(t, c.name)
			before := content(t, d)
			v, err := OpenReader(d)
			require.NoError(t, err)
			require.False(t, v.Header().NeedsRepair())
			key, err := v.Unlock([]byte(c.passphrase), UnlockOptions{})
			require.NoError(t, err)
			require.Equal(t, c.key, hex.EncodeToString(key.Bytes()))
			if c.key != keyArgon2 { // whose work is that of 64 MiB
				_, err = v.Unlock([]byte(c.passphrase+"\n"), UnlockOptions{})
				require.ErrorIs(t, err, ErrNoKey, "a newline is part of a passphrase")
			}
			again, err := v.VolumeKey(unhex(t, c.key))
			require.NoError(t, err)
			require.Equal(t, -1, again.Slot())
			require.Equal(t, before, content(t, d), "reading writes nothing")
		})
	}
}

// Headers whose key slots are not kept here read as they are, and written again they are the same
// to the last byte of each member.
func TestVectorsRead(t *testing.T) {
	names, err := filepath.Glob("testdata/*.gz")
	require.NoError(t, err)
	require.Len(t, names, 11)
	for _, name := range names {
		name = filepath.Base(name)
		t.Run(name, func(t *testing.T) {
			d := load(t, name)
			if strings.HasPrefix(name, "luks1") {
				_, err := Read(d)
				require.ErrorIs(t, err, ErrLUKS1)
				require.NotErrorIs(t, err, ErrNotLUKS)
				return
			}
			v, err := Open(d)
			require.NoError(t, err)
			h := v.Header()
			require.NoError(t, h.Unsupported)
			require.False(t, h.NeedsRepair())
			require.Equal(t, strings.HasPrefix(name, "detached"), h.Detached())
			require.Equal(t, string(h.JSON), string(v.edit().marshal()))
			for i := range v.salt {
				whole := make([]byte, h.Size)
				_, err := d.ReadAt(whole, int64(i)*h.Size)
				require.NoError(t, err)
				made, err := v.copyOf(v.raw, i, h.JSON)
				require.NoError(t, err)
				require.Equal(t, whole, made)
			}
		})
	}
}

// The tokens of systemd 252 and 262, as they stand there.
func TestVectorsTokens(t *testing.T) {
	h, err := Read(load(t, "sd252-recovery-tpm2.img.gz"))
	require.NoError(t, err)
	require.Equal(t, []string{"systemd-recovery", "systemd-tpm2"}, []string{h.Tokens[0].Type, h.Tokens[1].Type})
	require.Equal(t, []int{1}, h.Tokens[0].Keyslots)
	require.JSONEq(t, `{"type":"systemd-recovery","keyslots":["1"]}`, string(h.Tokens[0].JSON))
	require.Equal(t, KDF{Type: PBKDF2, Hash: "sha512", Iterations: 1000}, h.Slots[1].KDF)
	people, all := h.people(nil)
	require.Equal(t, []int{0, 1}, people)
	require.Equal(t, []int{0, 1, 2}, all)

	h, err = Read(load(t, "sd262-tpm2-pin-argon2id-signed.header.gz"))
	require.NoError(t, err)
	found := false
	for _, token := range h.Tokens {
		found = found || strings.Contains(string(token.JSON), `"tpm2_argon2id_memcost":`)
	}
	require.True(t, found)
}

// What systemd-repart encrypted in sectors of 4096 bytes reads as it was, since the IV counts 512
// bytes.
func TestVectorData(t *testing.T) {
	d := load(t, "sd262-repart-payload.img.gz")
	// The volume was cut behind the first 64 KiB of its data.
	v, err := OpenReader(d)
	require.NoError(t, err)
	require.Equal(t, 4096, v.Header().Segments[0].SectorSize)
	key, err := v.VolumeKey(unhex(t, keyRepart))
	require.NoError(t, err)
	r, err := v.NewReader(key)
	require.NoError(t, err)
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(r, 0, r.Size()))
	require.NoError(t, err)
	require.Equal(t, "abeeb9eaadf26210e3446ed3bfe4e99f20a6be85e2f53ea054091417ecdb97e4", hex.EncodeToString(h.Sum(nil)))
}

func TestDetached(t *testing.T) {
	d := load(t, "v28-512.img.gz")
	v, err := Open(d)
	require.NoError(t, err)
	key, err := v.Unlock(correctHorse, UnlockOptions{})
	require.NoError(t, err)
	_, err = v.NewReader(key)
	var space *SpaceError
	require.ErrorAs(t, err, &space, "a backup of a header has no data")

	// The same with the data elsewhere.
	m := v.edit()
	m.segments[0].raw = []byte(strings.Replace(string(m.segments[0].raw), `"offset":"1048576"`, `"offset":"0"`, 1))
	s, err := v.stage(m)
	require.NoError(t, err)
	require.NoError(t, v.write(s))
	require.True(t, v.Header().Detached())
	_, err = v.NewReader(key)
	require.ErrorIs(t, err, ErrDetached)
	_, err = v.NewWriter(key)
	require.ErrorIs(t, err, ErrDetached)
	require.NoError(t, v.RemoveKey(0, RemoveOptions{LeaveNoKeyForAPerson: true}), "its key slots are here")
}

// A volume of AES-128 has smaller slots, and gets such.
func TestSmallKey(t *testing.T) {
	d := load(t, "v26-aes128-xts.img.gz")
	v, err := Open(d)
	require.NoError(t, err)
	key, err := v.Unlock(correctHorse, UnlockOptions{})
	require.NoError(t, err)
	slot, err := v.AddKey(key, []byte("second"), KeyOptions{Rand: random(1), KDF: fastKDF})
	require.NoError(t, err)
	s, _ := v.Header().Slot(slot)
	require.Equal(t, int64(131072), s.Area.Size)
	require.True(t, opens(t, v, "second", nil))
	_, err = v.AddKey(key, []byte("third"), KeyOptions{Rand: random(1), KDF: fastKDF})
	require.ErrorIs(t, err, ErrAreaFull)
}
