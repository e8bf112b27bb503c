package uki_test

import (
	"crypto"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// handoverVectors are measured boots. The initrd that all of them had is too large for here:
// SHA-256 is continued from the state in which it leaves the hash.
type handoverVectors struct {
	InitrdSize  int
	InitrdState string
	Boots       []struct {
		Name, Stub, Cmdline, OSRelease, PCRPublicKey, PCRSignature, Profile, BootSecret string
		LoadOptionsSHA256, InitrdSHA256, ProfileSHA256                                  string
	}
}

func TestHandoverOfRealBoots(t *testing.T) {
	b, err := os.ReadFile("testdata/handover.json")
	require.NoError(t, err)
	var v handoverVectors
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Boots)
	state, err := hex.DecodeString(v.InitrdState)
	require.NoError(t, err)
	for _, boot := range v.Boots {
		t.Run(boot.Name, func(t *testing.T) {
			im := petest.Image{SizeOfHeaders: 0x1000}
			add := func(name, content string) {
				im.Sections = append(im.Sections, petest.Section{Name: name, Content: []byte(content)})
			}
			add(".sdmagic", "#### LoaderInfo: systemd-stub "+boot.Stub+" ####")
			add(".osrel", boot.OSRelease)
			add(".pcrpkey", boot.PCRPublicKey)
			add(".linux", "kernel")
			add(".initrd", string(make([]byte, v.InitrdSize)))
			profile := 0
			if boot.Profile != "" {
				profile = 1
				add(".profile", "ID=main\nTITLE=Main\n")
				add(".pcrsig", "{}")
				add(".profile", boot.Profile)
			}
			add(".cmdline", boot.Cmdline)
			add(".pcrsig", boot.PCRSignature)
			f, err := uki.Open(source(im.Bytes()))
			require.NoError(t, err)
			var secret []byte
			if boot.BootSecret != "" {
				secret, err = hex.DecodeString(boot.BootSecret)
				require.NoError(t, err)
			}
			h, err := f.Handover(uki.Boot{Profile: profile, BootSecret: secret})
			require.NoError(t, err)
			require.Equal(t, boot.Cmdline, h.Cmdline)

			d, err := h.Measure(crypto.SHA256, crypto.SHA384)
			require.NoError(t, err)
			options := sha256.Sum256(d.LoadOptions)
			require.Equal(t, boot.LoadOptionsSHA256, hex.EncodeToString(options[:]))
			if profile != 0 {
				require.Len(t, h.Events, 1)
				require.Equal(t, 12, h.Events[0].PCR)
				require.Equal(t, boot.ProfileSHA256, hex.EncodeToString(d.Events[0].Digests[crypto.SHA256]))
			} else {
				require.Empty(t, h.Events)
			}

			initrd := h.Initrd()
			hash := sha256.New()
			require.NoError(t, hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state))
			_, err = io.Copy(hash, io.NewSectionReader(initrd, int64(v.InitrdSize), initrd.Size()-int64(v.InitrdSize)))
			require.NoError(t, err)
			require.Equal(t, boot.InitrdSHA256, hex.EncodeToString(hash.Sum(nil)))
		})
	}
}
