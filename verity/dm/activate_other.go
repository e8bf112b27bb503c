//go:build !linux

package dm

import (
	"fmt"
	"runtime"

	"github.com/osmith-dev/osmith/verity"
)

func activate(string, string, Target) (string, error) { return "", errNoDeviceMapper() }
func deactivate(string) error                         { return errNoDeviceMapper() }
func active(string) (*Mapping, error)                 { return nil, errNoDeviceMapper() }

func errNoDeviceMapper() error {
	return fmt.Errorf("the device-mapper on %s: %w", runtime.GOOS, verity.ErrNotSupported)
}
