package bootloader_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
)

// TestPartsOfExamples keeps the files that the Examples read: stand-ins for systemd-boot and for as
// much of a UKI as a boot loader looks at. Readers who copy an Example could not import the package
// that makes them. OSMITH_UPDATE=1 writes them.
func TestPartsOfExamples(t *testing.T) {
	release := "ID=example\nPRETTY_NAME=\"Example OS 1\"\nVERSION_ID=1\n"
	image := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".osrel", Content: []byte(release)}, {Name: ".linux", Content: []byte("kernel")}}}
	for name, want := range map[string][]byte{"systemd-bootx64.efi": petest.Loader("262-1"), "example_1.efi": image.Bytes()} {
		path := filepath.Join("testdata", name)
		if os.Getenv("OSMITH_UPDATE") == "1" {
			require.NoError(t, os.WriteFile(path, want, 0o644))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, got, "%s: OSMITH_UPDATE=1 writes it", name)
	}
}
