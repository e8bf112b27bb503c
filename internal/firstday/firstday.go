// Package firstday compiles the programs of docs/first-day.md as a vendor would: in a module of
// their own, outside of this repository, from the text of the documents and nothing else.
package firstday

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The most lines that the programs may have.
const (
	maxImage = 60
	maxAgent = 80
)

var goBlock = regexp.MustCompile("(?s)```go\n(package main|// .*?\npackage main)\n.*?```")

// Programs compiles the programs image, of docs/first-day.md, agent, of docs/live.md, and the
// lesson keys-generate, which that document calls, and returns the directory that has them.
func Programs(t testing.TB) (bin string) {
	t.Helper()
	gomod, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	require.NoError(t, err)
	checkout := filepath.Dir(strings.TrimSpace(string(gomod)))
	module, bin := t.TempDir(), t.TempDir()
	for name, from := range map[string]struct {
		document string
		lines    int
	}{"image": {"first-day.md", maxImage}, "agent": {"live.md", maxAgent}} {
		text, err := os.ReadFile(filepath.Join(checkout, "docs", from.document))
		require.NoError(t, err)
		blocks := goBlock.FindAll(text, -1)
		require.Len(t, blocks, 1, "programs in docs/%s", from.document)
		program := bytes.TrimSuffix(bytes.TrimPrefix(blocks[0], []byte("```go\n")), []byte("```"))
		require.LessOrEqual(t, bytes.Count(program, []byte("\n")), from.lines, "lines of the program in docs/%s", from.document)
		require.NoError(t, os.Mkdir(filepath.Join(module, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(module, name, "main.go"), program, 0o644))
	}
	// The versions of dependencies are those of this repository, so that nothing is looked up.
	own, err := os.ReadFile(filepath.Join(checkout, "go.mod"))
	require.NoError(t, err)
	const path = "github.com/osmith-dev/osmith"
	own = bytes.Replace(own, []byte("module "+path), []byte("module acme.example/os"), 1)
	own = fmt.Appendf(own, "\nrequire %s v0.0.0\nreplace %[1]s => %q\n", path, checkout)
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.mod"), own, 0o644))
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.sum"), sums, 0o644))

	goBuild(t, module, bin, "GOOS=linux", "./...")
	goBuild(t, checkout, bin, "", "./examples/howto/keys-generate")
	return bin
}

func goBuild(t testing.TB, dir, bin, variable, packages string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-ldflags=-s -w", "-o", bin+string(filepath.Separator), packages)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if variable != "" {
		cmd.Env = append(cmd.Env, variable)
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// Run runs a program of [Programs] in a directory, and returns what it printed.
func Run(t testing.TB, program, dir string, operands ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, operands...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
