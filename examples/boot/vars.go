package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// maxStore bounds the file of a variable store.
const maxStore = 64 << 20

// Variables are the EFI variables of a machine, and where they are kept.
type variables struct {
	*bootloader.MachineVariables                          // all zero if nothing was named
	known                        bool                     // something was named, if only none
	store                        bootloader.VariableStore // nil: there is none
	// has on the disk what was written to the store
	keep func() error
}

// readVariables reads what -vars names. What is wrong with a variable of firmware is told on
// stderr; with one of the loader it is not known what that starts, which is an error.
func readVariables(c *cli.Call, name string) (*variables, error) {
	v := &variables{MachineVariables: new(bootloader.MachineVariables), known: name != "", keep: func() error { return nil }}
	if name == "" || name == "none" {
		return v, nil
	}
	if err := v.open(name); err != nil {
		return nil, err
	}
	read, err := bootloader.ReadVariables(v.store)
	if _, image := v.store.(*bootloader.VariableImage); image && errors.Is(err, fs.ErrNotExist) {
		return v, nil // no machine was started with it
	}
	if err != nil {
		return nil, fmt.Errorf("-vars %s: %w", name, err)
	}
	v.MachineVariables = read
	for _, problem := range read.Problems {
		if bad, ok := errors.AsType[*bootloader.VariableError](problem); !ok || strings.HasPrefix(bad.Name, "Loader") {
			return nil, fmt.Errorf("-vars %s: %w", name, problem)
		}
		fmt.Fprintf(c.Stderr, "boot: -vars %s: %v\n", name, problem)
	}
	return v, nil
}

// open opens the store. That a file is none is not an answer about the ESP, so the type of the
// error is not kept.
func (v *variables) open(name string) error {
	dir := name
	if name == "efivarfs" {
		dir = "" // where the kernel has it
	} else if info, err := os.Stat(name); err != nil {
		return fmt.Errorf("-vars: %w", err)
	} else if !info.IsDir() {
		b, err := cli.ReadFile(name, maxStore)
		if err != nil {
			return err
		}
		image, err := bootloader.ParseVariableImage(b)
		if err != nil {
			return fmt.Errorf("-vars %s: %v", name, err)
		}
		v.store, v.keep = image, func() error {
			if bytes.Equal(image.Bytes(), b) {
				return nil
			}
			return cli.WriteFile(name, image.Bytes())
		}
		return nil
	}
	store, err := openEFIVarFS(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: firmware has not started this machine by EFI, or efivarfs is not mounted; -vars FILE reads the variables of a different machine", err)
	}
	if err != nil {
		return fmt.Errorf("-vars %s: %w", name, err)
	}
	v.store = store
	return nil
}
