package osmith

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// What is checked in is text and test data: no program that was built here by chance, no link out
// of the tree, and nothing that may be run but scripts.
func TestCheckedIn(t *testing.T) {
	if _, err := os.Stat(".git"); err != nil {
		t.Skip("this is no checkout")
	}
	out, err := exec.Command("git", "ls-files", "-s", "-z").Output()
	require.NoError(t, err)
	files := 0
	for _, line := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		about, name, ok := strings.Cut(line, "\t")
		require.True(t, ok, line)
		mode := strings.Fields(about)[0]
		require.Contains(t, []string{"100644", "100755"}, mode, "%s is a link or a module", name)
		content, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		require.NoError(t, err)
		files++
		require.False(t, bytes.HasPrefix(content, []byte("\x7fELF")), "%s is a program", name)
		require.Less(t, len(content), 1<<20, "%s is larger than 1 MiB", name)
		if mode == "100755" {
			require.True(t, bytes.HasPrefix(content, []byte("#!")), "%s may be run, and is no script", name)
		}
	}
	require.Greater(t, files, 1000)
}

// commentWidth is the most columns that a line with a comment may have, a tab being one.
const commentWidth = 100

// Comments are read in windows beside each other. What cannot be broken is left as it is: output of
// Examples, code in documents, addresses, words for tools.
func TestCommentWidth(t *testing.T) {
	files := 0
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git") {
			return filepath.SkipDir
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.Contains(src, []byte("// Code generated ")) {
			return nil
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		lines := strings.Split(string(src), "\n")
		for _, group := range file.Comments {
			for _, comment := range group.List {
				text := comment.Text
				if strings.HasPrefix(text, "// Output:") || strings.HasPrefix(text, "// Unordered output:") {
					break
				}
				line := set.Position(comment.Pos()).Line
				switch {
				case utf8.RuneCountInString(lines[line-1]) <= commentWidth,
					!strings.HasPrefix(text, "// "), len(strings.Fields(text)) <= 2:
				default:
					t.Errorf("%s:%d: a comment is wider than %d columns", name, line, commentWidth)
				}
			}
		}
		return nil
	}))
	require.Greater(t, files, 1000)
}
