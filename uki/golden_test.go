package uki_test

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// Values of systemd-measure 262 (Debian forky): --linux= "kernel", --osrel=
// "ID=test\nVERSION_ID=1\n", --cmdline= "quiet ro", --initrd= three NUL bytes. The image here has
// more sections than those, so the vector holds the measurements of the four alone, as they stand
// in measured order.
func TestPCR11Vectors(t *testing.T) {
	im := uki.Image{
		Stub:      bytes.NewReader(petest.Stub("262-1")),
		Linux:     bytes.NewReader(petest.Kernel("6.12.0")),
		Initrd:    []osmith.Source{bytes.NewReader(make([]byte, 3))},
		Cmdline:   "quiet ro",
		OSRelease: []byte("ID=test\nVERSION_ID=1\n"),
		OmitUname: true,
	}
	// The vector's kernel is six bytes of text, which no firmware would load, so its digest is put
	// in here.
	ms, err := im.Measurements(crypto.SHA256, crypto.SHA384)
	require.NoError(t, err)
	require.Len(t, ms, 5)
	require.Equal(t, ".linux", ms[0].Section)
	require.Equal(t, ".sbat", ms[4].Section)
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		d := h.New()
		d.Write([]byte("kernel"))
		ms[0].Digests[h] = d.Sum(nil)
	}
	assert.Equal(t, "fb4dd6f2bdfbc05d84696032fe26c4676a69437887306463f6179ef930b55d8c", hex.EncodeToString(pcr11(crypto.SHA256, ms[:4])))
	assert.Equal(t, "65779a341a64c59a661c64a6e109f7364f26b742a14a0febe5a6a4ea9245f83fa6d9dda02a35ccf95a84a054dd631288", hex.EncodeToString(pcr11(crypto.SHA384, ms[:4])))
}

// A boot is the section table of a real image and what its stub measured when it was booted.
type boot struct {
	Sections []struct {
		Name        string `json:"name"`
		VirtualSize uint32 `json:"virtualSize"`
		SHA256      string `json:"sha256"`
	} `json:"sections"`
	Stub     string `json:"stub"`
	Profile  int    `json:"profile"`
	Measured []struct {
		Section string `json:"section"`
		SHA256  string `json:"sha256"`
	} `json:"measured"`
}

// The data of the boots' sections is not kept, only its digests. An image with the same section
// table, where each section holds the digest as text, must be measured in the same order with the
// same sections chosen.
func TestRealBootsMeasureTheSameSections(t *testing.T) {
	files, err := filepath.Glob("testdata/boot-*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files, "no vectors")
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			var boot boot
			require.NoError(t, json.Unmarshal(b, &boot))
			im := petest.Image{SizeOfHeaders: 0x2000}
			for _, s := range boot.Sections {
				content := []byte(s.SHA256)
				if s.Name == ".sdmagic" {
					content = []byte("#### LoaderInfo: systemd-stub " + boot.Stub + " ####")
				}
				im.Sections = append(im.Sections, petest.Section{Name: s.Name, Content: content})
			}
			f, err := uki.Open(bytes.NewReader(im.Bytes()))
			require.NoError(t, err)
			version, err := f.StubVersion()
			require.NoError(t, err)
			require.EqualValues(t, boot.Stub, version)
			ms, err := f.MeasureVariant(uki.Variant{Profile: boot.Profile})
			require.NoError(t, err)
			require.Len(t, ms, len(boot.Measured))
			for i, want := range boot.Measured {
				assert.Equal(t, want.Section, ms[i].Section)
				h := crypto.SHA256.New()
				h.Write([]byte(want.SHA256))
				assert.Equal(t, h.Sum(nil), ms[i].Digests[crypto.SHA256], want.Section)
			}
		})
	}
}
