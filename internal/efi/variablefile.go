package efi

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/osmith-dev/osmith"
)

// MaxVariable is more than the content of any variable that firmware stores, in bytes: 1 MiB.
const MaxVariable = 1 << 20

// ReadVariableFile reads a file of efivarfs, or of a copy of it: four bytes of attributes, and the
// content.
func ReadVariableFile(dir fs.FS, name string, vendor osmith.GUID) ([]byte, error) {
	f, err := dir.Open(name + "-" + vendor.String())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxVariable+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxVariable {
		return nil, fmt.Errorf("more than %d bytes, which no firmware stores", MaxVariable)
	}
	return b, nil
}
