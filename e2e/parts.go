//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"

	"github.com/osmith-dev/osmith/internal/arch"
)

// PartsIn finds the boot parts in a Debian tree as hack/tools.sh prepares them.
func PartsIn(tree string) (BootParts, error) {
	efi := filepath.Join(tree, "usr/lib/systemd/boot/efi")
	p := BootParts{}
	for _, part := range []struct {
		pattern string
		to      *string
	}{
		{filepath.Join(efi, arch.X8664.Stub()), &p.Stub},
		{filepath.Join(efi, arch.X8664.SystemdBoot()), &p.Loader},
		{filepath.Join(tree, "opt/kernel/vmlinuz"), &p.Kernel},
		{filepath.Join(tree, "opt/kernel/lib/modules/*"), &p.Modules},
	} {
		found, err := filepath.Glob(part.pattern)
		if err != nil {
			return BootParts{}, fmt.Errorf("e2e: parts: %w", err)
		}
		if len(found) != 1 {
			return BootParts{}, fmt.Errorf("e2e: parts: %d files match %s, want one: hack/tools.sh prepares such a tree", len(found), part.pattern)
		}
		*part.to = found[0]
	}
	return p, nil
}
