package osmith_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	contractTest = regexp.MustCompile("`(\\w+)\\.(Test\\w+)`")
	contractCall = regexp.MustCompile("`(\\w+) ([a-z]+|-parts)\\b[^`]*`")
)

// TestContract: the tests that docs/contract.md gives as evidence are there, and so are the verbs
// of the programs that a vendor is sent to. Every promise has both.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("docs/contract.md")
	require.NoError(t, err)
	for _, heading := range []string{"## Replaceable\n", "## Measurable\n", "## Rollback-safe\n"} {
		require.Equal(t, 1, strings.Count(string(text), heading), heading)
	}
	promises := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.Contains(line, "---") || strings.Contains(line, "shown by") {
			continue
		}
		promises++
		tests := contractTest.FindAllStringSubmatch(cells[2], -1)
		require.NotEmpty(t, tests, line)
		for _, m := range tests {
			require.True(t, declaresTest(t, m[1], m[2]), "there is no test %s.%s", m[1], m[2])
		}
		calls := contractCall.FindAllStringSubmatch(cells[3], -1)
		require.NotEmpty(t, calls, line)
		for _, m := range calls {
			usage, err := os.ReadFile(filepath.Join("examples", m[1], "main.go"))
			require.NoError(t, err, line)
			require.Contains(t, string(usage), m[2], line)
		}
	}
	require.GreaterOrEqual(t, promises, 12)
}

// declaresTest reports whether a directory of that name has a test.
func declaresTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == name {
				return true
			}
		}
	}
	return false
}
