//go:build !linux

package blockdev

import (
	"errors"
	"os"
)

func exclusive(*os.File, int64, int64) (release func() error, err error) {
	return nil, errors.ErrUnsupported
}
