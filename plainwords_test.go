package osmith

import (
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainWords are patterns that no comment and no document has, each with what to write instead. The
// rules for error texts are errorRules.
var plainWords = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`(?i)\b(nobody|anybody|somebody|whoever)\b`), "name the program or person"},
	{regexp.MustCompile(`(?i)\bthe same twice\b`), "\"reproducible\", or \"is listed twice\""},
	{regexp.MustCompile(`(?i)\bstands? (there|in (it|them)|in the [a-z]+) twice\b`), "\"is listed twice\""},
}

// plainWordsExempt are files that may have these words.
var plainWordsExempt = map[string]string{
	"CHANGELOG.md":       "released texts stay as they were",
	"plainwords_test.go": "it has the patterns",
}

// inProse returns what the rules find in a text, in which a line break is a space.
func inProse(text string) []string {
	var found []string
	text = strings.Join(strings.Fields(text), " ")
	for _, w := range plainWords {
		for _, at := range w.pattern.FindAllStringIndex(text, -1) {
			found = append(found, fmt.Sprintf("%q: %s", text[max(0, at[0]-30):min(len(text), at[1]+30)], w.instead))
		}
	}
	return found
}

// goComments returns the comments of Go source by line, those on lines that follow each other as
// one. Strings are not looked at.
func goComments(source []byte) map[int]string {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	comments, first, last := map[int]string{}, 0, -1
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return comments
		case token.COMMENT:
			line := file.Line(pos)
			if line != last+1 {
				first = line
			}
			comments[first] += " " + strings.TrimPrefix(text, "//")
			last = line + strings.Count(text, "\n")
		}
	}
}

// Comments and documents name the subject, for a reader who reads them once.
func TestPlainWords(t *testing.T) {
	files, exempt := 0, 0
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		isGo := strings.HasSuffix(name, ".go")
		if !isGo && !strings.HasSuffix(name, ".md") {
			return nil
		}
		if plainWordsExempt[filepath.ToSlash(name)] != "" {
			exempt++
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		texts := map[int]string{1: string(content)}
		if isGo {
			texts = goComments(content)
		}
		for line, text := range texts {
			for _, found := range inProse(text) {
				t.Errorf("%s:%d: %s", name, line, found)
			}
		}
		return nil
	}))
	require.Greater(t, files, 500)
	require.Len(t, plainWordsExempt, exempt, "an exception without a file")
}

// The rules find what they are for, in comments alone and across lines.
func TestPlainWordsFound(t *testing.T) {
	comments := goComments([]byte("package p\n\n// A name may stand in the\n// list twice.\nvar s = \"nobody\" // Whoever reads\n"))
	require.Len(t, comments, 1)
	require.Len(t, inProse(comments[3]), 2)
	require.Empty(t, inProse("A key is listed twice, and everybody may read it."))
	require.Len(t, inProse("It is the same twice, says\nnobody."), 2)
}
