package testtools

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder is a testing.TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true }

func TestMissingToolSkipsOrFails(t *testing.T) {
	for _, c := range []struct {
		env             string
		skipped, failed bool
	}{
		{"", true, false},
		{"0", true, false},
		{"1", false, true},
	} {
		t.Setenv("OSMITH_REQUIRE_TOOLS", c.env)
		r := &recorder{TB: t}
		missing(r, "no %s", "tool")
		assert.Equal(t, c.skipped, r.skipped, "OSMITH_REQUIRE_TOOLS=%q", c.env)
		assert.Equal(t, c.failed, r.failed, "OSMITH_REQUIRE_TOOLS=%q", c.env)
	}
}

func TestRootsDir(t *testing.T) {
	t.Setenv("OSMITH_TOOLS", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "/home/me")
	assert.Equal(t, filepath.FromSlash("/home/me/.cache/osmith/roots"), rootsDir())
	t.Setenv("XDG_CACHE_HOME", "/cache")
	assert.Equal(t, filepath.FromSlash("/cache/osmith/roots"), rootsDir())
	t.Setenv("OSMITH_TOOLS", "/tools")
	assert.Equal(t, filepath.FromSlash("/tools/roots"), rootsDir())
}

func TestRunHostTool(t *testing.T) {
	assert.Equal(t, "out\nerr\n", Run(t, "sh", "-c", "echo out; sleep 0.5; echo err >&2"), "both, in any order when at once")
	assert.Equal(t, "out\n", Output(t, "sh", "-c", "echo out; echo err >&2"))
	_, err := Try(t, "sh", "-c", "echo reason; exit 3")
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "reason", "the error shows what the tool said")
}

func TestRunInTree(t *testing.T) {
	r := Trixie(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in"), []byte("hello\n"), 0o600))

	// The directory has the same path on both sides, and is the working directory.
	out := r.Run(t, dir, "sh", "-c", `cat "$1"; pwd; cp in out; . /etc/os-release; echo $VERSION_CODENAME`,
		"sh", filepath.Join(dir, "in"))
	assert.Equal(t, "hello\n"+dir+"\ntrixie\n", out)
	copied, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(copied))

	assert.Equal(t, "v\n", r.Output(t, dir, "env", "K=v", "sh", "-c", "echo $K; echo noise >&2"))
	_, err = r.Try(t, dir, "sh", "-c", "echo reason; exit 3")
	require.ErrorContains(t, err, "trixie: sh -c")
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "reason")
}

func TestTreeStaysClean(t *testing.T) {
	r := Trixie(t)
	dir := t.TempDir()
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			_, err := r.Try(t, dir, "sh", "-c", "touch /tmp/left-behind; mount -t tmpfs tmpfs /mnt; sleep 60 &")
			assert.NoError(t, err)
		})
	}
	done.Wait()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), r.Path(), "a mount was left in the tree")
	left, err := filepath.Glob(r.Path("tmp", "*"))
	require.NoError(t, err)
	assert.Empty(t, left, "files were left in the tree")
}

func TestDirectoryThatWouldHideTheTree(t *testing.T) {
	r := Trixie(t)
	_, err := r.Try(t, "/usr/share", "true")
	require.ErrorContains(t, err, "would hide /usr")
}

// Every tree has every part, and every tool that the rest of the tests call.
func TestTrees(t *testing.T) {
	for name, tree := range map[string]func(testing.TB) Root{"trixie": Trixie, "forky": Forky} {
		t.Run(name, func(t *testing.T) {
			r := tree(t)
			for part, pattern := range parts {
				if name == "forky" && (strings.HasPrefix(pattern, "opt/stub-") || strings.HasPrefix(pattern, "opt/arm64/")) {
					continue // of other releases and architectures: trixie's tree has them
				}
				if name == "trixie" && part == "curl" {
					continue // its systemd-sysupdate is not called
				}
				info, err := os.Stat(r.Part(t, part))
				require.NoError(t, err)
				assert.Equal(t, strings.HasPrefix(part, "modules"), info.IsDir(), part)
			}
			dir := t.TempDir()
			for _, tool := range []string{"ukify", "bootctl", "systemd-repart", "systemd-measure", "systemd-id128", "veritysetup", "osslsigncode"} {
				assert.NotEmpty(t, r.Run(t, dir, tool, "--version"), tool)
			}
			assert.Contains(t, r.Run(t, dir, "cosign", "version"), "GitVersion")
		})
	}
	t.Run("host", func(t *testing.T) {
		r := Host(t)
		for _, part := range []string{"ovmf-code", "ovmf-vars"} {
			assert.FileExists(t, r.Part(t, part))
		}
		dir := t.TempDir()
		assert.Equal(t, dir, strings.TrimSpace(r.Run(t, dir, "pwd")))
	})
}
