package bootloader

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
)

func TestInstallation(t *testing.T) {
	loader := bytes.NewReader(petest.Loader("262-1"))
	in := Installation{Loader: loader, Config: &Config{Timeout: "0"}, Keys: keys("auto", "PK", "KEK", "db")}
	files, err := in.Files()
	require.NoError(t, err)
	got := make(map[string]string)
	for _, f := range files {
		b, err := io.ReadAll(io.NewSectionReader(f.Content, 0, f.Content.Size()))
		require.NoError(t, err)
		got[f.Path] = string(b)
	}
	pe := string(petest.Loader("262-1"))
	assert.Equal(t, map[string]string{"EFI/systemd/systemd-bootx64.efi": pe, "EFI/BOOT/BOOTX64.EFI": pe, "loader/loader.conf": "timeout 0\n",
		"loader/entries.srel": "type1\n", "loader/keys/auto/PK.auth": "pk", "loader/keys/auto/KEK.auth": "kek", "loader/keys/auto/db.auth": "db"}, got)

	for name, bad := range map[string]Installation{
		"no loader":  {},
		"stub":       {Loader: bytes.NewReader(petest.Stub("262-1"))},
		"kernel":     {Loader: bytes.NewReader(petest.Kernel("6"))},
		"text":       {Loader: strings.NewReader("text")},
		"config":     {Loader: loader, Config: &Config{Timeout: "x"}},
		"no db":      {Loader: loader, Keys: keys("a", "PK", "KEK")},
		"no PK":      {Loader: loader, Keys: keys("a", "KEK", "db", "dbx")},
		"bad name":   {Loader: loader, Keys: keys("a/b", "PK", "KEK", "db")},
		"no name":    {Loader: loader, Keys: keys("", "PK", "KEK", "db")},
		"hidden":     {Loader: loader, Keys: keys(".a", "PK", "KEK", "db")},
		"dbt":        {Loader: loader, Keys: keys("a", "PK", "KEK", "db", "dbt")},
		"empty":      {Loader: loader, Keys: append(keys("a", "PK", "KEK", "db"), osmith.ESPFile{Path: "loader/keys/a/dbx.auth", Content: strings.NewReader("")})},
		"elsewhere":  {Loader: loader, Keys: []osmith.ESPFile{{Path: "EFI/Linux/PK.auth", Content: loader}}},
		"two of one": {Loader: loader, Keys: append(in.Keys, keys("AUTO", "PK", "KEK", "db")...)},
	} {
		files, err := bad.Files()
		assert.Nil(t, files, name)
		require.Error(t, err, name)
		assert.Equal(t, 1, strings.Count(err.Error(), "bootloader: "), "%v", err)
		if name == "stub" || name == "kernel" || name == "text" {
			assert.ErrorIs(t, err, ErrNotLoader)
			var f *osmith.FormatError
			assert.ErrorAs(t, err, &f)
		}
	}
}

func keys(name string, variables ...string) (files []osmith.ESPFile) {
	for _, v := range variables {
		files = append(files, osmith.ESPFile{Path: "loader/keys/" + name + "/" + v + ".auth", Content: strings.NewReader(strings.ToLower(v))})
	}
	return files
}

// A loader without a .sdmagic section has its marker elsewhere.
func TestLoaderWithoutMarkerSection(t *testing.T) {
	im := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}}}
	b := append(im.Bytes(), "#### LoaderInfo: systemd-boot 252.39-1~deb12u2 ####"...)
	version, err := LoaderVersion(bytes.NewReader(b))
	require.NoError(t, err)
	assert.EqualValues(t, "252.39-1~deb12u2", version)
	_, err = LoaderVersion(bytes.NewReader(append(b, "#### LoaderInfo: systemd-boot 253 ####"...)))
	require.ErrorIs(t, err, ErrNotLoader)
	assert.ErrorContains(t, err, "two versions")
}

func TestRealLoader(t *testing.T) {
	for name, c := range map[string]struct {
		open func(testing.TB) testtools.Root
		part string
	}{"262": {testtools.Forky, "loader"}, "257": {testtools.Trixie, "loader"}, "252": {testtools.Trixie, "loader-252-arm64"}} {
		t.Run(name, func(t *testing.T) {
			r := c.open(t)
			b, err := os.ReadFile(r.Part(t, c.part))
			require.NoError(t, err)
			version, err := LoaderVersion(bytes.NewReader(b))
			require.NoError(t, err)
			t.Log(version)
			assert.Regexp(t, `^\d{3}[.~+-]`, string(version))
			if name == "252" {
				assert.True(t, strings.HasPrefix(string(version), "252"), version)
			}
		})
	}
}
