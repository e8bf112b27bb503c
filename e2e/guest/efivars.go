//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	efivars = "/sys/firmware/efi/efivars"

	// Vendor GUIDs: systemd's boot loader interface, UEFI's global variables and
	// its image security database.
	loaderVendor   = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	globalVendor   = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	securityVendor = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
)

// readVariables returns the variables a report holds. Without UEFI there are
// none.
func readVariables() (map[string][]byte, error) {
	files, err := filepath.Glob(efivars + "/*")
	if err != nil {
		return nil, err
	}
	vars := make(map[string][]byte)
	for _, file := range files {
		base := filepath.Base(file)
		// name-GUID, and a GUID has 36 characters.
		if len(base) < 38 {
			continue
		}
		name, vendor := base[:len(base)-37], base[len(base)-36:]
		switch vendor {
		case loaderVendor:
			if !strings.HasPrefix(name, "Loader") && !strings.HasPrefix(name, "Stub") {
				continue
			}
		case globalVendor:
			if !slices.Contains([]string{"SecureBoot", "SetupMode", "PK", "KEK"}, name) {
				continue
			}
		case securityVendor:
			if name != "db" && name != "dbx" {
				continue
			}
		default:
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		if len(b) < 4 {
			return nil, fmt.Errorf("variable %s: %d bytes", name, len(b))
		}
		vars[name] = b[4:]
	}
	return vars, nil
}
