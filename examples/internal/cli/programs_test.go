package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/stretchr/testify/require"
)

// programs are all of them, each with a call about a file that is not there, and a call about a
// file of another format, in which @ is the directory of the test. The status of the latter is that
// of the table in docs/README.md: 1, as the input was read, and is no such thing.
var programs = map[string]struct{ missing, foreign string }{
	"attest":    {"serve -reference @/absent -listen 127.0.0.1:0", "serve -reference @/foreign -listen 127.0.0.1:0"},
	"boot":      {"list -esp @/absent -vars none", "list -esp @/foreign -vars none"},
	"disk":      {"inspect @/absent", "inspect @/foreign"},
	"keys":      {"inspect @/absent", "inspect @/foreign"},
	"lifecycle": {"-parts @/absent", ""}, // it takes no file of a format
	"luks":      {"inspect @/absent", "inspect @/foreign"},
	"pcr":       {"log @/absent", "log @/foreign"},
	"release":   {"inspect @/absent 1", "inspect @/foreign 1"},
	"report":    {"@/absent:1 -nothing-sealed -o @/out", ""}, // a directory
	"seal":      {"check @/absent -log @/foreign", "check @/foreign -log @/foreign"},
	"uki":       {"inspect @/absent", "inspect @/foreign"},
	"upgrade":   {"inspect -disk @/absent -offline", "inspect -disk @/foreign -offline"},
	"verity":    {"verify -data @/foreign -tree @/absent -root 00", "verify -data @/foreign -tree @/foreign -root " + strings.Repeat("00", 32)},
}

// built builds the programs once. One of a module of its own is built in its directory.
func built(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	examples, err := filepath.Abs("../..")
	require.NoError(t, err)
	mains, err := filepath.Glob(filepath.Join(examples, "*", "main.go"))
	require.NoError(t, err)
	var together []string
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		require.Contains(t, programs, name, "a program that this test does not know")
		if _, err := os.Stat(filepath.Join(filepath.Dir(main), "go.mod")); err == nil {
			build(t, filepath.Dir(main), dir, ".")
			continue
		}
		together = append(together, "./"+name)
	}
	build(t, examples, dir, together...)
	require.Len(t, mains, len(programs))
	return dir
}

func build(t *testing.T, in, out string, packages ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", out + string(filepath.Separator)}, packages...)...)
	cmd.Dir = in
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
}

// call runs a program and returns its exit status.
func call(t *testing.T, bin, line string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, strings.Fields(line)...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	failed := cmd.Run()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		require.NoError(t, failed)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestPrograms: all programs answer in the same way.
func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds every program")
	}
	dir := built(t)
	for name, p := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin := filepath.Join(dir, name)
			if runtime.GOOS == "windows" {
				bin += ".exe"
			}
			work := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(work, "foreign"), bytes.Repeat([]byte("not that format\n"), 1<<12), 0o600))
			at := func(line string) string { return strings.ReplaceAll(line, "@", work) }
			verb := strings.Fields(p.missing)[0]
			if strings.HasPrefix(verb, "-") || strings.HasPrefix(verb, "@") {
				verb = ""
			}

			for _, line := range []string{"-h", verb + " -h", verb + " --help"} {
				status, stdout, stderr := call(t, bin, line)
				require.Zero(t, status, line)
				require.Regexp(t, `(?m)^example: `+name, stdout+stderr)
			}
			status, stdout, stderr := call(t, bin, verb+" -xyzzy-no-flag")
			require.Equal(t, 2, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, lastLine(stderr), name+": no flag -xyzzy-no-flag; ")
			require.LessOrEqual(t, strings.Count(stderr, "\n"), 12, stderr)

			for _, json := range []string{"", " -json"} {
				status, stdout, stderr = call(t, bin, at(p.missing)+json)
				require.Equal(t, 2, status, "%s\n%s%s", p.missing, stdout, stderr)
				require.Contains(t, stderr, name+": ")
				onlyObject(t, stdout, json != "")
				if p.foreign == "" {
					continue
				}
				status, stdout, stderr = call(t, bin, at(p.foreign)+json)
				require.Equal(t, 1, status, "%s\n%s%s", p.foreign, stdout, stderr)
				require.Contains(t, stderr, name+": ")
				onlyObject(t, stdout, json != "")
			}
			left, err := os.ReadDir(work)
			require.NoError(t, err)
			require.Len(t, left, 1, "nothing but the input")
		})
	}
}

// onlyObject: with -json there is at most one object, of which a program whose answer is no may
// have more to say than the line on stderr.
func onlyObject(t *testing.T, stdout string, asJSON bool) {
	t.Helper()
	if !asJSON || stdout == "" {
		return
	}
	var head struct{ Schema string }
	d := json.NewDecoder(strings.NewReader(stdout))
	require.NoError(t, d.Decode(&head), stdout)
	require.NotEmpty(t, head.Schema)
	require.False(t, d.More(), stdout)
}

// A job that SIGTERM or an interrupt ends leaves nothing behind, does not report its end, and says
// what has happened.
func TestCancelled(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("builds programs, and sends signals")
	}
	dir := t.TempDir()
	examples, err := filepath.Abs("../..")
	require.NoError(t, err)
	build(t, examples, dir, "./verity", "./uki")
	for line, size := range map[string]int64{ // of holes; the job takes seconds
		"verity format -data @/large -tree @/out -progress json":         256 << 30,
		"uki addon -stub @/stub -initrd @/large -o @/out -progress json": 3 << 30,
	} {
		for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
			t.Run(line[:6]+" "+signal.String(), func(t *testing.T) {
				work := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(work, "stub"), petest.AddonStub("262"), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(work, "large"), nil, 0o600))
				require.NoError(t, os.Truncate(filepath.Join(work, "large"), size))
				words := strings.Fields(strings.ReplaceAll(line, "@", work))
				cmd := exec.CommandContext(t.Context(), filepath.Join(dir, words[0]), words[1:]...)
				stderr, err := cmd.StderrPipe()
				require.NoError(t, err)
				require.NoError(t, cmd.Start())
				var lines []string
				for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
					if lines = append(lines, scanner.Text()); len(lines) == 1 {
						require.NoError(t, cmd.Process.Signal(signal))
					}
				}
				require.Error(t, cmd.Wait())
				require.Equal(t, 2, cmd.ProcessState.ExitCode(), lines)
				require.Contains(t, lines[len(lines)-1], words[0]+": cancelled: ")
				for _, text := range lines[:len(lines)-1] {
					var p struct{ Done, Total int64 }
					require.NoError(t, json.Unmarshal([]byte(text), &p), text)
					require.Less(t, p.Done, p.Total)
				}
				left, err := os.ReadDir(work)
				require.NoError(t, err)
				require.Len(t, left, 2, "the inputs alone")
			})
		}
	}
}
