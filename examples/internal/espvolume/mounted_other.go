//go:build !linux

package espvolume

import (
	"fmt"

	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// isMountedFAT is asked of Linux alone.
func isMountedFAT(string) (bool, error) { return false, nil }

// FindMounted is for Linux.
func FindMounted(_ *cli.Call, dir string) (*Mounted, error) {
	return nil, fmt.Errorf("%s: which disk is mounted there can be told on Linux only: name the image or device", dir)
}
