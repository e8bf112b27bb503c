package osmith_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestErrorsPage: the texts that docs/errors.md explains are those of the packages, and each has a
// cause and a remedy.
func TestErrorsPage(t *testing.T) {
	all, err := os.ReadFile("docs/errors.txt")
	require.NoError(t, err)
	page, err := os.ReadFile("docs/errors.md")
	require.NoError(t, err)
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		rows++
		text := strings.Trim(cells[1], " `")
		require.True(t, strings.Contains(string(all), text), "no error has the text %q: see docs/errors.txt", text)
		require.NotEmpty(t, strings.TrimSpace(cells[2]), "%s: cause", text)
		require.NotEmpty(t, strings.TrimSpace(cells[3]), "%s: what to do", text)
	}
	require.GreaterOrEqual(t, rows, 25)
}
