package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"testing/fstest"

	"github.com/osmith-dev/osmith/build"
)

// PayloadName is the file that fills a root. The guest reads it, so a byte of
// it is a byte to damage.
const PayloadName = "/usr/share/osmith/payload"

// A Root describes a root file system of the tests.
type Root struct {
	Guest     string // file that becomes /sbin/init; see [BuildGuest]
	OSRelease []byte // /etc/os-release
	Payload   int64  // size of [PayloadName] in bytes; 0 means 4 MiB
	Seed      string // decides the payload's bytes
}

// WriteRoot writes an EROFS image. The same description gives the same bytes:
// all times are 1970.
func WriteRoot(w io.WriteSeeker, r Root) error {
	init, err := os.ReadFile(r.Guest)
	if err != nil {
		return fmt.Errorf("e2e: root: %w", err)
	}
	if r.Payload == 0 {
		r.Payload = 4 << 20
	}
	tree := fstest.MapFS{
		"etc/os-release": {Data: r.OSRelease, Mode: 0o644},
		"sbin/init":      {Data: init, Mode: 0o755},
		PayloadName[1:]:  {Data: payload(r.Seed, r.Payload), Mode: 0o644},
	}
	for _, dir := range []string{".", "dev", "etc", "proc", "run", "sbin", "sys", "usr", "usr/share", "usr/share/osmith"} {
		tree[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	}
	if err := build.WriteEROFS(context.Background(), w, tree, build.EROFSOptions{TempDir: os.TempDir()}); err != nil {
		return fmt.Errorf("e2e: root: %w", err)
	}
	return nil
}

// PayloadBlock returns block i of 4096 bytes of a payload, to find it in a
// disk image.
func PayloadBlock(seed string, i uint64) []byte {
	key := binary.LittleEndian.AppendUint64([]byte(seed), i)
	b := make([]byte, 0, 4096)
	for n := uint64(0); len(b) < cap(b); n++ {
		s := sha256.Sum256(binary.LittleEndian.AppendUint64(key, n))
		b = append(b, s[:]...)
	}
	return b
}

func payload(seed string, size int64) (all []byte) {
	for i := uint64(0); int64(len(all)) < size; i++ {
		all = append(all, PayloadBlock(seed, i)...)
	}
	return all[:size]
}
