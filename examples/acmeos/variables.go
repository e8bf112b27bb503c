package acmeos

import (
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// WriteVariables writes a copy of efivarfs: what firmware has, and some variables of the loader, as
// a machine that is off is told to the programs.
func WriteVariables(dir string, f *osmith.FirmwareVariables, loader map[string]string) error {
	const global, security, systemd = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "d719b2cb-3d3a-4596-a3bc-dad00e67656f", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name, vendor string, attributes byte, data []byte) error {
		return os.WriteFile(filepath.Join(dir, name+"-"+vendor), append([]byte{attributes, 0, 0, 0}, data...), 0o600)
	}
	for _, v := range []struct {
		name, vendor string
		attributes   byte
		data         []byte
	}{
		{"SecureBoot", global, 0x06, f.SecureBoot}, {"SetupMode", global, 0x06, f.SetupMode}, {"PK", global, 0x27, f.PK}, {"KEK", global, 0x27, f.KEK},
		{"db", security, 0x27, f.DB}, {"dbx", security, 0x27, f.DBX}, {"BootOrder", global, 0x07, nil},
	} {
		if err := write(v.name, v.vendor, v.attributes, v.data); err != nil {
			return err
		}
	}
	for name, text := range loader {
		if err := write(name, systemd, 0x06, append(efi.AppendUTF16(nil, text), 0, 0)); err != nil {
			return err
		}
	}
	return nil
}
