package osmith_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every public package has a package Example, and every Example can be played: pkg.go.dev shows it
// whole, and lets readers run it, if it refers to nothing but imports or has a file of its own.
func TestExamples(t *testing.T) {
	dirs := []string{"."}
	for name := range allowed {
		dirs = append(dirs, name)
	}
	dirs = append(dirs, "signing/cosign/keyless", "upgrade/release/registry")
	all := 0
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)
		var files []*ast.File
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			require.NoError(t, err)
			files = append(files, f)
		}
		var odd, hidden []string
		whole := false
		for _, e := range doc.Examples(files...) {
			all++
			whole = whole || e.Name == "" || e.Name[0] == '_'
			if e.Play == nil {
				odd = append(odd, e.Name)
				continue
			}
			for _, i := range e.Play.Imports {
				if strings.Contains(i.Path.Value, "/internal/") {
					hidden = append(hidden, e.Name+" imports "+i.Path.Value)
				}
			}
		}
		require.True(t, whole, "%s has no package Example", dir)
		require.Empty(t, odd, "%s: Examples that cannot be played", dir)
		require.Empty(t, hidden, "%s: Examples that a reader cannot compile", dir)
	}
	require.Greater(t, all, 280)
}
