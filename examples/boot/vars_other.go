//go:build !linux

package main

import (
	"errors"

	"github.com/osmith-dev/osmith/bootloader"
)

func openEFIVarFS(string) (bootloader.VariableStore, error) {
	return nil, errors.New("efivarfs is of Linux: name the file of a variable store")
}
