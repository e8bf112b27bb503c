package e2e

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/erofs/go-erofs"
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
	init, err := os.Open(r.Guest)
	if err != nil {
		return fmt.Errorf("e2e: root: %w", err)
	}
	defer init.Close()
	if r.Payload == 0 {
		r.Payload = 4 << 20
	}
	img := erofs.Create(w, erofs.WithBuildTime(0, 0))
	for _, dir := range []string{"/dev", "/etc", "/proc", "/run", "/sbin", "/sys", "/usr", "/usr/share", "/usr/share/osmith"} {
		if err := img.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("e2e: root: %s: %w", dir, err)
		}
		if err := img.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
			return fmt.Errorf("e2e: root: %s: %w", dir, err)
		}
	}
	add := func(name string, perm os.FileMode, write func(*erofs.File) error) error {
		f, err := img.Create(name)
		if err != nil {
			return fmt.Errorf("e2e: root: %s: %w", name, err)
		}
		if err := write(f); err != nil {
			return fmt.Errorf("e2e: root: %s: %w", name, err)
		}
		if err := f.Chmod(perm); err != nil {
			return fmt.Errorf("e2e: root: %s: %w", name, err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("e2e: root: %s: %w", name, err)
		}
		return img.Chtimes(name, time.Unix(0, 0), time.Unix(0, 0))
	}
	if err := add("/etc/os-release", 0o644, func(f *erofs.File) error {
		_, err := f.Write(r.OSRelease)
		return err
	}); err != nil {
		return err
	}
	if err := add("/sbin/init", 0o755, func(f *erofs.File) error {
		_, err := io.Copy(f, init)
		return err
	}); err != nil {
		return err
	}
	if err := add(PayloadName, 0o644, func(f *erofs.File) error { return writePayload(f, r.Seed, r.Payload) }); err != nil {
		return err
	}
	if err := img.Close(); err != nil {
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

func writePayload(w io.Writer, seed string, size int64) error {
	for i := uint64(0); size > 0; i++ {
		b := PayloadBlock(seed, i)
		if int64(len(b)) > size {
			b = b[:size]
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		size -= int64(len(b))
	}
	return nil
}
