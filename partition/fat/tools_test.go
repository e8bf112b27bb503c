package fat

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// dump writes a disk to a sparse file for a tool.
func dump(t *testing.T, d *faultio.Disk) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fat.img")
	require.NoError(t, d.Save(name))
	return name
}

// fsck runs fsck.fat -n and returns its output. It does not fail the test.
func fsck(t *testing.T, d *faultio.Disk) (out string, clean bool) {
	t.Helper()
	tool := testtools.Require(t, "fsck.fat")
	b, err := exec.Command(tool, "-n", dump(t, d)).CombinedOutput()
	return string(b), err == nil
}

func requireClean(t *testing.T, d *faultio.Disk) {
	t.Helper()
	out, clean := fsck(t, d)
	require.True(t, clean, out)
}

// mtool runs a program of mtools on a disk.
func mtool(t *testing.T, d *faultio.Disk, name string, args ...string) string {
	t.Helper()
	tool := testtools.Require(t, name)
	cmd := exec.Command(tool, append([]string{"-i", dump(t, d)}, args...)...)
	cmd.Env = append(os.Environ(), "MTOOLSRC=/dev/null", "TZ=UTC", "LC_ALL=C.UTF-8")
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, string(b))
	return string(b)
}

// accepted are the findings of fsck.fat that a power cut may leave. None of them concerns a file.
var accepted = []string{
	"fsck.fat ",
	"FATs differ but appear to be intact.",
	"Using first FAT.",
	"1) Use first FAT", "2) Use second FAT",
	"Reclaimed ", // lost clusters
	"Free cluster summary wrong",
	"1) Correct", "2) Don't correct", "Auto-correcting.",
	"Orphaned long file name part", "A new long file name starts within an old one.", "Not auto-correcting this.", "1) Delete", "2) Leave it.", "Auto-deleting.", "  Auto-", "  1: ", "  2: ", "  3: ",
	"Leaving filesystem unchanged.",
	"Unused clusters", "Checking for unused clusters",
}

// requireSurvivable fails on any finding of fsck.fat that is not accepted.
func requireSurvivable(t *testing.T, d *faultio.Disk) {
	t.Helper()
	out, _ := fsck(t, d)
lines:
	for _, line := range strings.Split(out, "\n") {
		if strings.TrimSpace(line) == "" || strings.Contains(line, "/fat.img:") {
			continue
		}
		for _, a := range accepted {
			if strings.HasPrefix(strings.TrimSpace(line), strings.TrimSpace(a)) {
				continue lines
			}
		}
		t.Fatalf("fsck.fat: %q in:\n%s", line, out)
	}
}

// snapshot is what a reader sees: path -> contents, directories with a slash and nothing.
func snapshot(t *testing.T, d *faultio.Disk) map[string]string {
	t.Helper()
	f, err := OpenReader(d)
	require.NoError(t, err)
	out := map[string]string{}
	require.NoError(t, fs.WalkDir(f, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			out[name+"/"] = ""
			return nil
		}
		b, err := f.ReadFile(name)
		out[name] = string(b)
		return err
	}))
	return out
}

func equal(a, b map[string]string) bool { return maps.Equal(a, b) }
