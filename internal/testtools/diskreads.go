package testtools

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// DiskReads returns what says how many bytes this process has had read from disks so far, as Linux
// counts them (proc_pid_io(5), "read_bytes"): what comes from the page cache is not among them. The
// test is skipped where that is not counted, or not of the files in a directory.
func DiskReads(t testing.TB, dir string) (read func() int64) {
	t.Helper()
	const counts = "/proc/self/io"
	if _, err := os.Stat(counts); err != nil {
		t.Skipf("this system does not count what a process reads of disks: %v", err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read = func() (n int64) {
		t.Helper()
		b, err := os.ReadFile(counts)
		must(err)
		for line := range strings.Lines(string(b)) {
			if _, err := fmt.Sscanf(line, "read_bytes: %d", &n); err == nil {
				return n
			}
		}
		t.Fatalf("%s has no read_bytes:\n%s", counts, b)
		return 0
	}
	f, err := os.Create(filepath.Join(dir, "disk-reads"))
	must(err)
	defer f.Close()
	b := bytes.Repeat([]byte("read "), 1<<18)
	_, err = f.Write(b)
	must(err)
	must(f.Sync())
	for range 2 {
		_, err = sparse.DropCache(f, 0, int64(len(b)))
		must(err)
		before := read()
		_, err = f.ReadAt(b, 0)
		must(err)
		if read()-before < int64(len(b)) {
			t.Skipf("what is read of files in %s is not read of a disk", dir)
		}
	}
	return read
}
