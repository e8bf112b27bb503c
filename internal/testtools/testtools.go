package testtools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// prepare is the command that makes whatever is missing.
const prepare = "run hack/tools.sh as root"

// toolTime bounds one run of a tool. The slowest (a UKI assembled by a cold
// Python on a busy machine) take seconds.
const toolTime = 5 * time.Minute

// Require returns the path of a host tool. A missing tool skips the test, or
// fails it when OSMITH_REQUIRE_TOOLS=1.
func Require(t testing.TB, name string) string {
	t.Helper()
	skipIfShort(t)
	path, err := lookPath(name)
	if err != nil {
		missing(t, "%s is not installed: %s", name, prepare)
	}
	return path
}

// Run runs a host tool and returns what it wrote to standard output and standard
// error. The test fails when the tool's exit status is not zero.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for a tool that may fail: the error holds the command line, the
// status and the output.
func Try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, _, err := run(toolTime, "", name, args, Require(t, name), args...)
	return out, err
}

// Output runs a host tool and returns its standard output alone, for tools that
// print a format to be parsed.
func Output(t testing.TB, name string, args ...string) string {
	t.Helper()
	_, out, err := run(toolTime, "", name, args, Require(t, name), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs path with args in dir. It returns both streams as they came and
// standard output alone. An error shows the command as the test wrote it: name
// and shown.
func run(limit time.Duration, dir, name string, shown []string, path string, args ...string) (both, stdout string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var all, out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	// One goroutine copies each stream; the shared buffer needs the lock.
	shared := &lockedBuffer{buf: &all}
	cmd.Stdout = &tee{shared, &out}
	cmd.Stderr = shared
	// A tool that leaves a daemon behind must not keep the test waiting.
	cmd.WaitDelay = 5 * time.Second
	if err = cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not finished after %v", limit)
		}
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(shown, " "), err, all.String())
	}
	return all.String(), out.String(), err
}

// lookPath is exec.LookPath that also knows the directories of system tools,
// which are not on every user's PATH.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", filepath.Join(filepath.Dir(rootsDir()), "bin")} {
		if path, e := exec.LookPath(filepath.Join(dir, name)); e == nil {
			return path, nil
		}
	}
	return "", err
}

func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: tests with foreign tools are left out")
	}
}

// missing skips the test, or fails it where tools are required.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("OSMITH_REQUIRE_TOOLS") == "1" {
		t.Fatalf(format+" (OSMITH_REQUIRE_TOOLS=1)", args...)
		return
	}
	t.Skipf(format, args...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
