//go:build !linux

package sparse

import "os"

func startWriteback(*os.File, int64, int64) {}
