package osmith_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// entryPoint is a link to something that a package exports; shellCall a program and its verb.
var (
	entryPoint = regexp.MustCompile("\\[`(\\w+)\\.(\\w+)(?:\\.(\\w+))?`\\]\\(([^)]+)\\)")
	shellCall  = regexp.MustCompile("^`(\\w+) ([a-z -]+)`$")
	lesson     = regexp.MustCompile(`\*\[([a-z0-9-]+)\]\(howto\.md#[a-z0-9-]+\)\*`)
	pageLink   = regexp.MustCompile(`\]\(([^)#]+)`)
)

// TestDocsIndex: all that docs/README.md sends a reader to is there, and there is enough of it.
func TestDocsIndex(t *testing.T) {
	b, err := os.ReadFile("docs/README.md")
	require.NoError(t, err)
	for _, link := range pageLink.FindAllStringSubmatch(string(b), -1) {
		_, err := os.Stat(filepath.Join("docs", link[1]))
		require.NoError(t, err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || strings.Contains(line, "---") || strings.Contains(line, "I have") {
			continue
		}
		rows++
		found := entryPoint.FindAllStringSubmatch(cells[3], -1)
		require.NotEmpty(t, found, line)
		for _, m := range found {
			dir := filepath.Join("docs", m[4])
			require.Equal(t, m[1], filepath.Base(dir), line)
			require.True(t, exports(t, dir, m[2], m[3]), "%s has no %s.%s", dir, m[2], m[3])
		}
		call := cells[4]
		for _, m := range lesson.FindAllStringSubmatch(call, -1) {
			require.FileExists(t, filepath.Join("examples", "howto", m[1], "main.go"), line)
			call = strings.Replace(call, m[0], "", 1)
		}
		if call = strings.Trim(call, " ·,"); call != "" {
			m := shellCall.FindStringSubmatch(call)
			require.NotNil(t, m, line)
			usage, err := os.ReadFile(filepath.Join("examples", m[1], "main.go"))
			require.NoError(t, err, line)
			require.Regexp(t, `(?m)^//\s+(`+m[1]+` )?[a-z|]*`+regexp.QuoteMeta(m[2])+`\b|`+regexp.QuoteMeta(m[1]+" "+m[2]), string(usage), line)
		}
	}
	require.GreaterOrEqual(t, rows, 30)
}

// exports reports whether a package has a function or type of that name or, with member, a method
// or field of it.
func exports(t *testing.T, dir, name, member string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && member == "" && d.Name.Name == name {
					return true
				}
				if d.Recv != nil && d.Name.Name == member && receiver(d.Recv.List[0].Type) == name {
					return true
				}
			case *ast.GenDecl:
				if member == "" && slices.ContainsFunc(d.Specs, func(s ast.Spec) bool {
					t, ok := s.(*ast.TypeSpec)
					return ok && t.Name.Name == name
				}) {
					return true
				}
			}
		}
	}
	return false
}

func receiver(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
