package uki_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// On each stub of the last years there is nothing to say about a good image, and it can be edited
// to the one that would have been built.
func TestRealStubs(t *testing.T) {
	trixie, forky := testtools.Trixie(t), testtools.Forky(t)
	const efi = "usr/lib/systemd/boot/efi"
	kernels, err := filepath.Glob(trixie.Path("opt/arm64/boot/vmlinuz*"))
	require.NoError(t, err)
	require.NotEmpty(t, kernels)
	for version, c := range map[string]struct{ stub, kernel string }{
		"252": {trixie.Path("opt/stub-252", efi, "linuxx64.efi.stub"), ""},
		"254": {trixie.Path("opt/stub-254", efi, "linuxx64.efi.stub"), ""},
		"257": {trixie.Part(t, "stub"), trixie.Part(t, "kernel")},
		"262": {forky.Part(t, "stub"), forky.Part(t, "kernel")},
		"arm": {trixie.Path("opt/arm64", efi, "linuxaa64.efi.stub"), kernels[0]},
	} {
		t.Run(version, func(t *testing.T) {
			stub, err := os.ReadFile(c.stub)
			require.NoError(t, err)
			kernel := petest.Kernel("6.12.0")
			if c.kernel != "" {
				kernel, err = os.ReadFile(c.kernel)
				require.NoError(t, err)
			}
			im := uki.Image{Stub: source(stub), Linux: source(kernel), OSRelease: []byte("ID=x\nVERSION_ID=1\n"), Cmdline: "ro", SBAT: []byte("uki,1,x,x,1,x\n")}
			f, err := uki.Open(source(assemble(t, &im)))
			require.NoError(t, err)
			release, err := f.StubVersion()
			require.NoError(t, err)
			if version != "arm" {
				assert.True(t, strings.HasPrefix(string(release), version), release)
			}
			want := []string{}
			if version == "252" { // pages of 512 bytes, and .sdmagic in the middle of one
				want = []string{"(section-alignment)", "(alignment)"}
			}
			assert.Equal(t, want, codes(f.Check()))

			long := strings.Repeat("long ", 9000)
			e := f.Edit()
			require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader(long)))
			got, err := e.Assemble()
			require.NoError(t, err)
			im.Cmdline = long
			requireSame(t, assemble(t, &im), written(t, got))
		})
	}
}
