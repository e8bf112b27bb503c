package tpm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Text of others is escaped once: what escape or quote made is not quoted by %q again, which
// escapes it a second time.
func TestEscapedOnce(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		for n, line := range strings.Split(string(raw), "\n") {
			made := strings.Contains(line, "escape(") || strings.Contains(line, "quote(") || strings.Contains(line, "quoteEscaped(") || strings.Contains(line, "Describe()")
			assert.False(t, made && strings.Contains(line, "%q"), "%s:%d: %s", f, n+1, strings.TrimSpace(line))
		}
	}
	for in, want := range map[string]string{
		"a": "'a'", "": "''", "it's": `"it's"`, `say "a"`: `'say "a"'`, `it's "a"`: `'it\u0027s "a"'`, "a\nb\t\x01\x7f\u202e": `'a\nb\t\u0001\u007f\u202e'`,
		`\EFI\BOOT`: `'\EFI\BOOT'`, "\xff": "'\ufffd'", strings.Repeat("x", maxText+1): "'" + strings.Repeat("x", maxText) + "…'",
	} {
		assert.Equal(t, want, quote(in))
		assert.Equal(t, escape(in), escape(escape(in)), "a second time changes nothing")
	}
}
