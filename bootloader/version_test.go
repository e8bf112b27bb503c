package bootloader

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

func TestCompareVersionsChain(t *testing.T) {
	chain := []string{"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1", "124-1"}
	for i, a := range chain {
		for j, b := range chain {
			assert.Equal(t, cmp.Compare(i, j), CompareVersions(a, b), "%s %s", a, b)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"11α", "11β", 0}, {"B", "a", -1}, {"", "0", -1}, {"0.", "0", 1}, {"0.0", "0", 1}, {"0", "~", 1}, {"", "~", 1},
		{"1_", "1", 0}, {"_1", "1", 0}, {"1_", "1.2", -1}, {"1_2_3", "1.3.3", 1}, {"1+", "1", 0}, {"+1", "1", 0},
		{"a", "0", -1}, {"0", "a", 1}, {"007", "7", 0}, {"10", "9", 1}, {"1-", "1-", 0}, {"~~", "~", 1}, {"a.b", "a", 1},
		{strings.Repeat("9", 100), strings.Repeat("9", 99) + "8", 1},
		{"os_1.efi", "os_10.efi", -1}, {"123_a-1.1", "123a.1", -1},
	} {
		assert.Equal(t, c.want, CompareVersions(c.a, c.b), "%q %q", c.a, c.b)
		assert.Equal(t, -c.want, CompareVersions(c.b, c.a), "%q %q", c.b, c.a)
	}
}

// systemd-analyze compares with the same function that systemd-boot is built with.
func TestCompareVersionsAsSystemd(t *testing.T) {
	r := testtools.Forky(t)
	random := rand.New(rand.NewPCG(5, 6))
	const alphabet = "001299aabZ~^-._"
	word := func() string {
		b := make([]byte, random.IntN(8))
		for i := range b {
			b[i] = alphabet[random.IntN(len(alphabet))]
		}
		return string(b)
	}
	var script strings.Builder
	var want []string
	for range 400 {
		a, b := word(), word()
		fmt.Fprintf(&script, "systemd-analyze compare-versions -- '%s' '%s'; ", a, b)
		want = append(want, fmt.Sprintf("%s %s %s", shown(a), []string{"<", "==", ">"}[CompareVersions(a, b)+1], shown(b)))
	}
	out := r.Output(t, t.TempDir(), "/bin/sh", "-c", script.String()+"true")
	got := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, got, len(want))
	for i := range want {
		assert.Equal(t, want[i], got[i])
	}
}

// shown is how systemd-analyze prints a version.
func shown(s string) string {
	if s == "" {
		return "''"
	}
	return s
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("123~rc1-1", "123^post1", "1_2.3")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba, bc, ac := CompareVersions(a, b), CompareVersions(b, a), CompareVersions(b, c), CompareVersions(a, c)
		if ab != -ba || CompareVersions(a, a) != 0 {
			t.Fatalf("%q %q: %d %d", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("%q <= %q <= %q, but the last is older than the first", a, b, c)
		}
	})
}
