package main

import "github.com/osmith-dev/osmith/bootloader"

// openEFIVarFS opens the variables of this machine, or a copy of them in a directory.
func openEFIVarFS(dir string) (bootloader.VariableStore, error) { return bootloader.OpenEFIVarFS(dir) }
