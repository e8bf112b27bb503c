//go:build !linux

package main

import (
	"fmt"

	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// isMountedFAT is asked of Linux alone.
func isMountedFAT(string) (bool, error) { return false, nil }

func findMounted(_ *cli.Call, dir string) (*mountedESP, error) {
	return nil, fmt.Errorf("%s: which disk is mounted there can be told on Linux only: name the image or device", dir)
}
