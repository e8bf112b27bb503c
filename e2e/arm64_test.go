//go:build linux

package e2e

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// TestARM64 boots an image with hardware IDs on a 64-bit ARM machine with Secure Boot, and checks
// it against its prediction. The keys are in its variables from the start.
func TestARM64(t *testing.T) {
	requireVM(t)
	testtools.Require(t, "qemu-system-aarch64")
	t.Parallel()
	r := testtools.Trixie(t)
	s, err := NewSystem(t.Context(), t.TempDir(), BootParts{
		Architecture: "aa64", Stub: r.Part(t, "stub-arm64"), Loader: r.Part(t, "loader-arm64"), Kernel: r.Part(t, "kernel-arm64"), Modules: r.Part(t, "modules-arm64"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	s.Machine.Logs, s.Machine.Code, s.Machine.Vars = logs(t), r.Part(t, "aavmf-code"), r.Part(t, "aavmf-vars")

	// What ukify adds by itself on this architecture.
	ids, err := hwid.Read(os.DirFS(testtools.Forky(t).Path("usr/lib/systemd/boot/hwids/aa64")))
	require.NoError(t, err)
	require.NotEmpty(t, ids)
	image, err := s.UKI("1", uki.Image{HWIDs: ids})
	require.NoError(t, err)
	files := espFiles{firstPath: image}
	files.write(t, s, "acme_1.efi")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))

	rep := bootUKI(t, s, "arm64", files.boot(t, 0, nil))
	require.Equal(t, "1", rep.Version)
	requireMeasured(t, rep, ".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey", ".hwids")
}
