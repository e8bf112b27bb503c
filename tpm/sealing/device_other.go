//go:build !linux

package sealing

import (
	"errors"
	"io"
)

func openDevice(string) (io.ReadWriteCloser, error) {
	return nil, errors.New("TPM devices are opened on Linux only; elsewhere bring a Transport")
}
