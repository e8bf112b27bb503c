//go:build !linux

package sparse

import "io"

func fileData(io.ReaderAt, int64, int64) (start, stop int64, ok bool) { return 0, 0, false }

func startWriteback(io.WriterAt, int64, int64) {}
