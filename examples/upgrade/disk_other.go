//go:build !linux

package main

import (
	"errors"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

var errOnlyLinux = errors.New("-esp, -mounted and -disk auto work on Linux only: name an image file or a device with -disk")

func openDiskOf(*cli.Call, string) (*osmith.Device, error) { return nil, errOnlyLinux }

func openStartedDisk(*cli.Call, osmith.GUID) (*osmith.Device, error) { return nil, errOnlyLinux }

func findMounted(*cli.Call, *osmith.Device, bool) (map[osmith.GUID]upgrade.MountedVolume, error) {
	return nil, errOnlyLinux
}

func tellKernel(*osmith.Device) error { return nil }

func openEFIVars(string) (bootloader.VariableStore, error) { return nil, errOnlyLinux }
