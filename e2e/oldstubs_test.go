//go:build linux

package e2e

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// TestOldStubs boots images on the stubs of older releases, beside a loader that is newer: what
// each measures is its own. It is for OSMITH_LONG=1, as these stubs do not change.
func TestOldStubs(t *testing.T) {
	requireVM(t)
	if os.Getenv("OSMITH_LONG") != "1" {
		t.Skip("four more boots, with OSMITH_LONG=1 alone")
	}
	t.Parallel()
	r := testtools.Trixie(t)
	for _, release := range []string{"252", "254"} {
		t.Run(release, func(t *testing.T) {
			s, err := NewSystem(t.Context(), t.TempDir(), BootParts{
				Stub:   r.Path("opt/stub-" + release + "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
				Loader: r.Part(t, "loader"), Kernel: r.Part(t, "kernel"), Modules: r.Part(t, "modules"),
			})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			s.Machine.Logs = logs(t)
			// The default text does not fit the room that the stub of 252 leaves for it.
			image, err := s.UKI("1", uki.Image{SBAT: []byte("uki,1,U,u,1,x\n")})
			require.NoError(t, err)
			files := espFiles{firstPath: image}
			files.write(t, s, "acme_1.efi")
			boot(t, s.Machine, "0-enrol", Reset)
			bootUKI(t, s, "1-first", files.boot(t, 0, nil))
		})
	}
}
