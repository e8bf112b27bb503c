package kernelargs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/kernelargs"
)

// Kernel and systemd cut one line in two ways; package verity/dm has the grid against the real
// ones.
func TestSplit(t *testing.T) {
	const line = `a "b c"='d e' f="g h" 'i=j' -- k=l`
	var words []string
	kernelargs.Systemd(line, func(word string, at int) { words = append(words, word) })
	require.Equal(t, []string{"a", "b c=d e", "f=g h", "i=j", "--", "k=l"}, words)
	var keys, texts []string
	for _, p := range kernelargs.Kernel(line) {
		keys, texts = append(keys, p.Key), append(texts, p.Text)
		require.Equal(t, p.Text, line[p.At:p.At+len(p.Text)])
	}
	require.Equal(t, []string{"a", `b c"`, "e'", "f", "'i"}, keys)
	require.Equal(t, []string{"a", `"b c"='d`, "e'", `f="g h"`, "'i=j'"}, texts)
	require.True(t, kernelargs.SameName("rd-a_b", "rd_a-b"))
	require.False(t, kernelargs.SameName("rd", "RD"))
}
