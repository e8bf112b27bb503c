package uki_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
)

// TestPartsOfExamples keeps the files that the Examples read: stand-ins for those of systemd and
// Linux. Readers who copy an Example could not import the package that makes them. OSMITH_UPDATE=1
// writes them.
func TestPartsOfExamples(t *testing.T) {
	for name, want := range map[string][]byte{
		"linuxx64.efi.stub": petest.Stub("262-1"),
		"addonx64.efi.stub": petest.AddonStub("262-1"),
		"vmlinuz":           petest.Kernel("6.12.0"),
		"aspire1.dtb":       treeFor("acer,aspire1", "qcom,sc7180"),
	} {
		path := filepath.Join("testdata", name)
		if os.Getenv("OSMITH_UPDATE") == "1" {
			require.NoError(t, os.WriteFile(path, want, 0o644))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, got, "%s: OSMITH_UPDATE=1 writes it", name)
	}
}
