package partition

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// policyTexts are policies of which each asks a question of its own.
var policyTexts = []string{"", "*", "~", "-", "=", "=-", "=open", "=ignore", "=absent", "=unused", "=unprotected", "=signed", "=ext4", "=read-only-on", "root", "root=", "root=-",
	"root=verity", "root=signed", "root=verity+verity", "root=verity+open", "root=ignore+open", "root=ignore", "root=open:=open", "root=:=open", "root=ignore:usr=signed",
	"root=read-only-on+read-only-off+verity", "root=growfs-off+growfs-on", "usr=signed:root=signed", "root=signed:root=signed", "root=signed:", ":root=signed",
	"root=signed::usr=signed", "root = signed + verity ", "root=ver ity", " * ", "*:", "root=*", "root=~", "bogus=signed", "root=bogus", "ROOT=signed", "root=+signed",
	"root=signed+", "root==signed", "root=-+signed", "root=signed+absent:usr=signed+absent", "root=verity+signed:usr=verity+signed:=open", "root-verity=signed",
	"root-verity-sig=absent:root=signed", "root=verity:=verity", "root=signed:=open", "root=signed+read-only-off:=read-only-on+signed", "root=absent+read-only-on", "home=signed+absent+read-only-on", "root=signed+absent+growfs-on", "=absent+read-only-on", "root-verity=absent+signed+read-only-on", "home=verity+signed", "root=absent:=absent",
	"=absent:root=ignore", "root=encryptedwithintegrity", "root=btrfs+erofs+ext4+f2fs+squashfs+vfat+xfs", "=ignore+growfs-on", "root=ignore+ext4"}

func TestImagePolicy(t *testing.T) {
	for _, c := range []struct {
		text, normal string
		root, usr    SignatureDemand
	}{
		{"", "-", SignatureUnused, SignatureUnused},
		{"*", "*", SignatureNotDemanded, SignatureNotDemanded},
		{"~", "~", SignatureUnused, SignatureUnused},
		{"root=signed", "root=signed", SignatureDemanded, SignatureUnused},
		{"root=signed+absent:usr=signed+absent", "root=signed+absent:usr=signed+absent", SignatureDemanded, SignatureDemanded},
		{"usr=signed+verity", "usr=verity+signed", SignatureUnused, SignatureNotDemanded},
		{"usr=signed:=open", "usr=signed:=open", SignatureNotDemanded, SignatureDemanded},
		{"root=signed:usr=", "root=signed:usr=-", SignatureDemanded, SignatureNotDemanded},
		{"root=signed+encrypted", "root=signed+encrypted", SignatureNotDemanded, SignatureUnused},
		{"root=signed+encryptedwithintegrity", "root=signed+encryptedwithintegrity", SignatureNotDemanded, SignatureUnused},
		{"root=signed+unprotected", "root=signed+unprotected", SignatureNotDemanded, SignatureUnused},
		{"root=read-only-on", "root=read-only-on", SignatureNotDemanded, SignatureUnused},
		{"root=erofs+signed", "root=signed+erofs", SignatureDemanded, SignatureUnused},
		{"=signed", "=signed", SignatureDemanded, SignatureDemanded},
	} {
		p, err := ParseImagePolicy(c.text)
		require.NoError(t, err, c.text)
		require.Equal(t, c.normal, p.Normal(), c.text)
		require.Equal(t, c.root, p.Signature("root"), c.text)
		require.Equal(t, c.usr, p.Signature("usr"), c.text)
		require.Equal(t, SignatureNotDemanded, p.Signature("home"), c.text)
		require.Zero(t, p.Effective("bogus"), c.text)
	}
	require.Equal(t, SignatureNotDemanded, *new(SignatureDemand), "a zero value promises nothing")
}

func TestImagePolicyRefused(t *testing.T) {
	for text, want := range map[string]string{
		"root":                       `image policy: rule at 0x0: "root" has no "="`,
		"root=signed:":               "image policy: rule at 0xc",
		"usr=verity:bogus=signed":    `image policy: designator at 0xb: "bogus" is unknown`,
		"root=signed:root=verity":    `"root" has two rules`,
		"=open:=open":                `"" has two rules`,
		"root=signed+":               "flags of root at 0x0: an empty flag",
		"=signedd":                   `flags of the default at 0x0: "signedd" is unknown`,
		strings.Repeat("root=", 900): "want at most 4096",
	} {
		_, err := ParseImagePolicy(text)
		var format *osmith.FormatError
		require.ErrorAs(t, err, &format, text)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "partition: ")
	}
}

// TestImagePolicyAnalyze checks the parser against systemd-analyze over the texts above and a grid:
// which texts it takes, their normal form, and what it says for every designator.
func TestImagePolicyAnalyze(t *testing.T) {
	forky := testtools.Forky(t)
	texts := append([]string{}, policyTexts...)
	r, long := testtools.Seed(t)
	n := 60
	if long {
		n = 1500
	}
	for range n {
		texts = append(texts, randomPolicy(r))
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "policies"), []byte(strings.Join(texts, "\n")+"\n"), 0o644))
	out := forky.Output(t, dir, "/bin/sh", "-c", `while IFS= read -r p; do echo "###"; systemd-analyze image-policy -- "$p" 2>/dev/null; done < policies`)
	answers := strings.Split(out, "###\n")[1:]
	require.Len(t, answers, len(texts))
	refused := 0
	for i, text := range texts {
		p, err := ParseImagePolicy(text)
		if answers[i] == "" {
			require.Error(t, err, "systemd-analyze refuses %q", text)
			refused++
			continue
		}
		require.NoError(t, err, "systemd-analyze takes %q", text)
		seen := 0
		for line := range strings.Lines(answers[i]) {
			if normal, ok := strings.CutPrefix(line, "Analyzing policy: "); ok {
				require.Equal(t, strings.TrimSpace(normal), p.Normal(), text)
				seen++
			}
			f := strings.Fields(line)
			if len(f) != 5 || f[0] == "default" || f[0] == "PARTITION" {
				continue
			}
			require.Equal(t, f[1:], policyRow(p.Effective(f[0])), "%s of %q", f[0], text)
			seen++
		}
		require.Equal(t, 1+len(policyDesignators), seen, answers[i])
	}
	require.Greater(t, refused, 10)
}

// policyRow is the flags as a line of systemd-analyze has them.
func policyRow(f PolicyFlags) []string {
	choice := func(on, off PolicyFlags) string {
		switch f & (on | off) {
		case on:
			return "yes"
		case off:
			return "no"
		}
		return "-"
	}
	return []string{(f & PolicyOpen).String(), choice(PolicyReadOnlyOn, PolicyReadOnlyOff), choice(PolicyGrowFSOn, PolicyGrowFSOff), (f &^ (PolicyOpen | policyReadOnly | policyGrowFS)).String()}
}

func randomPolicy(r *rand.Rand) string {
	var rules []string
	for _, d := range append([]string{""}, policyDesignators...) {
		if r.IntN(5) > 0 && (d == "" || r.IntN(3) > 0) {
			continue
		}
		var flags []string
		for _, name := range append([]string{"open", "ignore"}, policyFlagNames...) {
			if r.IntN(7) == 0 {
				flags = append(flags, name)
			}
		}
		r.Shuffle(len(flags), func(i, j int) { flags[i], flags[j] = flags[j], flags[i] })
		rules = append(rules, d+"="+strings.Join(flags, "+"))
	}
	r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	return strings.Join(rules, ":")
}

func FuzzParseImagePolicy(f *testing.F) {
	for _, text := range policyTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseImagePolicy(text)
		require.Equal(t, err == nil, p != nil)
		if err != nil {
			return
		}
		again, err := ParseImagePolicy(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
		normal, err := ParseImagePolicy(p.Normal())
		require.NoError(t, err)
		require.Equal(t, p.Normal(), normal.Normal())
		for _, d := range policyDesignators {
			require.Equal(t, p.Effective(d), normal.Effective(d), d)
		}
	})
}
