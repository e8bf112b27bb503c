package osmith

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is checked in is text and test data: no program that was built here by chance, no link out of the tree, and nothing that may be run but scripts.
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
