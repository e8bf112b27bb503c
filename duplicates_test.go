package osmith_test

import (
	"fmt"
	"go/ast"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lessons are programs of one file that a reader copies, each alone: what two of them have in
// common has no other place.
const lessons = "examples/howto/"

// sameLines is how many lines of code in a row must not be in two places.
const sameLines = 6

// A codeLine is a line with code in it, as gofmt indents it or not.
type codeLine struct {
	text string
	line int
}

// codeLines leaves out of a file what is no code of its own: comments, blank lines, the package
// clause, imports, and lines of punctuation alone.
func codeLines(f *sourceFile) []codeLine {
	code := make([]byte, len(f.text))
	for i, c := range f.text {
		code[i] = ' '
		if c == '\n' {
			code[i] = c
		}
	}
	// The text of every token, so that only comments are lost.
	var s scanner.Scanner
	fset := token.NewFileSet()
	file := fset.AddFile(f.name, fset.Base(), len(f.text))
	s.Init(file, f.text, nil, 0)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		if lit == "" {
			lit = tok.String()
		}
		if lit != "\n" {
			copy(code[file.Offset(pos):], lit)
		}
	}
	skip := map[int]bool{f.fset.Position(f.ast.Package).Line: true}
	for _, d := range f.ast.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			for n := f.fset.Position(g.Pos()).Line; n <= f.fset.Position(g.End()).Line; n++ {
				skip[n] = true
			}
		}
	}
	var lines []codeLine
	n := 0
	for text := range strings.Lines(string(code)) {
		n++
		if text = strings.TrimSpace(text); strings.Trim(text, "{}()[],;") != "" && !skip[n] {
			lines = append(lines, codeLine{text, n})
		}
	}
	return lines
}

// A repeat is a run of lines that stands in two places.
type repeat struct {
	files [2]string
	lines [2]int // where it starts
	n     int
}

func (r repeat) String() string {
	return fmt.Sprintf("%s:%d and %s:%d have %d lines in common", r.files[0], r.lines[0], r.files[1], r.lines[1], r.n)
}

// repeats finds the longest runs of at least sameLines lines that stand in two places, in two files
// or in one.
func repeats(names []string, files map[string][]codeLine) []repeat {
	type place struct {
		file string
		at   int
	}
	windows := map[string][]place{}
	var order []string
	for _, name := range names {
		for i := range files[name] {
			if i+sameLines > len(files[name]) {
				break
			}
			var key strings.Builder
			for _, l := range files[name][i : i+sameLines] {
				key.WriteString(l.text + "\n")
			}
			if windows[key.String()] == nil {
				order = append(order, key.String())
			}
			windows[key.String()] = append(windows[key.String()], place{name, i})
		}
	}
	type pair struct{ a, b place }
	covered := map[pair]bool{}
	var found []repeat
	for _, key := range order {
		places := windows[key]
		for i, a := range places {
			for _, b := range places[i+1:] {
				if a.file == b.file && a.at+sameLines > b.at || covered[pair{a, b}] {
					continue
				}
				la, lb := files[a.file], files[b.file]
				n := 0
				for a.at+n < len(la) && b.at+n < len(lb) && la[a.at+n].text == lb[b.at+n].text && (a.file != b.file || a.at+n < b.at) {
					covered[pair{place{a.file, a.at + n}, place{b.file, b.at + n}}] = true
					n++
				}
				found = append(found, repeat{[2]string{a.file, b.file}, [2]int{la[a.at].line, lb[b.at].line}, n})
			}
		}
	}
	return found
}

var duplicateRow = regexp.MustCompile("(?m)^\\| `([^`]+\\.(?:go|s))`, `([^`]+\\.(?:go|s))` \\| (.+) \\|$")

// TestDuplicates finds code that is written twice. What has a reason to be is a row of the table in
// ARCHITECTURE.md.
func TestDuplicates(t *testing.T) {
	files := map[string][]codeLine{}
	var names []string
	for _, f := range sourceFiles(t) {
		files[f.name] = codeLines(f)
		names = append(names, f.name)
	}
	assembly, err := filepath.Glob("internal/*/*.s")
	require.NoError(t, err)
	for _, name := range assembly {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		name = filepath.ToSlash(name)
		names = append(names, name)
		for i, line := range strings.Split(string(b), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") && !strings.HasPrefix(line, "#include") {
				files[name] = append(files[name], codeLine{line, i + 1})
			}
		}
	}
	architecture, err := os.ReadFile("ARCHITECTURE.md")
	require.NoError(t, err)
	allowed := map[[2]string]bool{} // false: not met yet
	for _, m := range duplicateRow.FindAllStringSubmatch(string(architecture), -1) {
		pair := []string{m[1], m[2]}
		slices.Sort(pair)
		allowed[[2]string(pair)] = false
	}
	for _, r := range repeats(names, files) {
		slices.Sort(r.files[:])
		if r.files[0] != r.files[1] && strings.HasPrefix(r.files[0], lessons) && strings.HasPrefix(r.files[1], lessons) {
			continue
		}
		if _, ok := allowed[r.files]; ok {
			allowed[r.files] = true
			continue
		}
		t.Error(r)
	}
	for pair, met := range allowed {
		if !met {
			t.Errorf("ARCHITECTURE.md lists %s and %s, which have no %d lines in common", pair[0], pair[1], sameLines)
		}
	}
}

func TestRepeats(t *testing.T) {
	lines := func(text string) (all []codeLine) {
		for i, l := range strings.Fields(text) {
			all = append(all, codeLine{l, i + 1})
		}
		return all
	}
	names := []string{"a", "b"}
	assert.Empty(t, repeats(names, map[string][]codeLine{"a": lines("1 2 3 4 5 x"), "b": lines("1 2 3 4 5 y")}))
	assert.Equal(t, []repeat{{[2]string{"a", "b"}, [2]int{2, 1}, 7}},
		repeats(names, map[string][]codeLine{"a": lines("x 1 2 3 4 5 6 7 y"), "b": lines("1 2 3 4 5 6 7 z")}))
	assert.Equal(t, []repeat{{[2]string{"a", "a"}, [2]int{1, 8}, 6}},
		repeats(names, map[string][]codeLine{"a": lines("1 2 3 4 5 6 x 1 2 3 4 5 6 y")}))
	assert.Empty(t, repeats(names, map[string][]codeLine{"a": lines("1 1 1 1 1 1 1 1")}), "lines of a run are not a second place")
}
