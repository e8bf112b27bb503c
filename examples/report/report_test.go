package main

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
)

func (b *kit) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(b.path(name))
	require.NoError(b.t, err)
	return string(text)
}

// answersOf are the answers of the three words.
func (r *report) answersOf() map[string]answer {
	out := map[string]answer{}
	for _, w := range r.Contract {
		out[w.Word] = w.Answer
	}
	return out
}

func TestTwoReleases(t *testing.T) {
	b := newKit(t)
	b.two()
	b.token("ours.json", &b.keys.PCR.PublicKey)
	r := b.facts(0, whole+" -token @ours.json")
	require.Equal(t, []string{"1", "2"}, []string{r.Releases[0].Version, r.Releases[1].Version})
	require.Equal(t, map[string]answer{"replaceable": yes, "measurable": yes, "rollback-safe": unknown}, r.answersOf())
	last := r.Releases[1]
	require.Equal(t, "Acme OS 2", last.UKI.System)
	require.Len(t, last.Signatures.ReleaseBy, 1) // by one key in two formats
	require.Regexp(t, `^a key of the policy, ECDSA P-256, SHA-256 `, last.Signatures.ReleaseBy[0])
	require.Len(t, last.Signatures.Release, 2)
	require.Len(t, last.Signatures.Secure, 2)
	for _, s := range append(last.Signatures.Secure, *last.Signatures.RootHash) {
		require.Equal(t, yes, s.Answer, s.What)
		require.Equal(t, "CN=Acme OS Signature Database Key", s.Certificates[0].Subject)
		require.Equal(t, yes, s.Certificates[0].Valid)
		require.Len(t, s.Certificates[0].Fingerprint, 64)
	}
	require.Equal(t, yes, last.Signatures.PCRKeys[0].Answer)
	require.True(t, last.Signatures.PCRKeys[0].Embedded)
	require.Equal(t, []int{3, 1}, []int{last.SBOMs[0].Components, last.SBOMs[1].Components})
	require.Len(t, last.PCR11, 5)

	effects := map[int]string{}
	for _, p := range r.PCRs {
		effects[p.PCR] = p.Effect
	}
	require.Len(t, effects, 16)
	require.Equal(t, "changes", effects[4])
	require.Equal(t, "none", effects[7])
	require.Equal(t, "changes", effects[11])
	for _, n := range []int{0, 1, 2, 3, 5, 6, 9, 10} {
		require.Equal(t, "not known", effects[n], n)
		require.Empty(t, r.PCRs[n].New, n)
		require.NotEmpty(t, r.PCRs[n].Note, n)
	}
	require.Equal(t, r.PCRs[11].New, []string{last.PCR11[0].Value})
	require.NotEmpty(t, r.Change.Causes)
	require.Equal(t, []answer{yes, yes}, []answer{r.Tokens[0].Old, r.Tokens[0].New})

	claims := r.claims()
	for _, want := range []string{
		"the parts belong together", "the release is signed by whom the call trusts", "firmware starts the UKI", "firmware starts the boot loader", "the root hash has a signature of its own",
		"it fits, at the worst moment of the upgrade", "it may follow what runs", "PCR 11 is known before the boot", "the release states its PCRs", "PCR 4 is known before the boot",
		"PCR 7 is known before the boot", "the TPM unlocks for it", "the machine returns to the old set", "there is a slot for the next version", "a power cut at any step leaves a machine that boots",
	} {
		require.Equal(t, yes, claims[want].Answer, want)
		require.NotEmpty(t, claims[want].Evidence, want)
		require.Empty(t, claims[want].Missing, want)
	}
	// A restriction of the plan is no yes.
	require.Equal(t, unknown, claims["firmware, loader and kernel take it"].Answer)
	require.Contains(t, claims["firmware, loader and kernel take it"].Missing, "whether the kernel accepts the signature of the root hash")
	b.facts(1, whole+" -strict")
}

// What was not given is unknown, and what is not there is a no; both say what is missing.
func TestOneRelease(t *testing.T) {
	b := newKit(t)
	b.build(recipe{version: "1"})
	r := b.facts(0, "@layout")
	require.Nil(t, r.Change)
	require.Equal(t, map[string]answer{"replaceable": unknown, "measurable": unknown, "rollback-safe": unknown}, r.answersOf())
	for claim, missing := range map[string]string{
		"the release is signed by whom the call trusts":       "-key or -policy",
		"firmware starts the UKI":                             "-vars",
		"PCR 7 is known before the boot":                      "-vars",
		"the TPM opens what is sealed":                        "-token",
		"the TPM unlocks for it":                              "-disk",
		"there is a slot for the next version":                "-disk",
		"a power cut at any step leaves a machine that boots": "-disk",
		"the machine returns to the old set":                  "-disk",
	} {
		require.Equal(t, unknown, r.claims()[claim].Answer, claim)
		require.Contains(t, r.claims()[claim].Missing, missing, claim)
	}
	// without a date
	require.Equal(t, unknown, r.Releases[0].Signatures.Secure[0].Certificates[0].Valid)
	b.facts(1, "@layout -strict")
}

func TestBareRelease(t *testing.T) {
	b := newKit(t)
	b.build(recipe{version: "1", bare: true})
	r := b.facts(1, "@layout:1 -vars @vars -key @release.pub -no-shim")
	require.Equal(t, map[string]answer{"replaceable": no, "measurable": no, "rollback-safe": unknown}, r.answersOf())
	for claim, want := range map[string]answer{
		"the parts belong together":                     yes,
		"the release is signed by whom the call trusts": no,
		"the UKI has a signature for Secure Boot":       no,
		"firmware starts the UKI":                       no,
		"the root hash has a signature of its own":      no,
		"policies over PCR 11 are signed":               no,
		"PCR 11 is known before the boot":               yes,
		"PCR 4 is known before the boot":                unknown,
	} {
		require.Equal(t, want, r.claims()[claim].Answer, claim)
		require.Equal(t, want == yes, r.claims()[claim].Missing == "", claim)
	}
	require.Contains(t, r.claims()["PCR 4 is known before the boot"].Evidence, "the release has no boot loader: give one with -loader")
	require.Nil(t, r.Releases[0].Signatures.RootHash)
	require.Empty(t, r.Releases[0].SBOMs)
	text := b.page(1, "@layout:1").text
	require.Contains(t, text, "None The release does not say what is in it.")
	require.Contains(t, text, "Missing a signature (release sign, cosign sign)")
}

// A stranger's signature, a key that has not signed, and an image that db does not have.
func TestRefused(t *testing.T) {
	b := newKit(t)
	strangers, err := acmeos.GenerateKeys(when)
	require.NoError(t, err)
	b.disk(b.build(recipe{version: "1"}))
	own := b.keys
	b.keys = strangers
	b.build(recipe{version: "2"})
	b.token("ours.json", &own.PCR.PublicKey)
	r := b.facts(1, whole+" -token @ours.json")
	for _, claim := range []string{
		"the release is signed by whom the call trusts", "firmware starts the UKI", "firmware starts the boot loader", "firmware, loader and kernel take it",
		"the TPM unlocks for it", "a power cut at any step leaves a machine that boots",
	} {
		require.Equal(t, no, r.claims()[claim].Answer, claim)
		require.NotEmpty(t, r.claims()[claim].Missing, claim)
	}
	require.Equal(t, yes, r.claims()["the UKI has a signature for Secure Boot"].Answer)
	// What firmware does not start measures nothing.
	require.Equal(t, []answer{yes, unknown}, []answer{r.Tokens[0].Old, r.Tokens[0].New})
	require.Contains(t, r.PCRs[4].Note, "no certificate in db is on that chain")
	require.Empty(t, r.PCRs[4].New)
	r = b.facts(1, "@layout:1 @layout:2 -token @ours.json")
	require.Equal(t, []answer{yes, no}, []answer{r.Tokens[0].Old, r.Tokens[0].New})
	require.NotEmpty(t, r.Tokens[0].Reasons)
	require.Equal(t, no, r.claims()["the TPM opens "+b.path("ours.json")].Answer)
}

// Validity is checked against the day that the call gives, and nothing else.
func TestDate(t *testing.T) {
	b := newKit(t)
	b.build(recipe{version: "1"})
	for date, want := range map[string]answer{"2026-06-01": yes, "2025-12-31": no, "2226-01-01": no} {
		r := b.facts(0, "@layout:1 -date "+date)
		require.Equal(t, want, r.Releases[0].Signatures.Secure[0].Certificates[0].Valid, date)
		require.Equal(t, date, r.Date)
	}
	require.Contains(t, b.page(0, "@layout:1 -date 2226-01-01").text, "✕ not on this date")
}

// A release that does not say until when it is supported is shown loudly, and so is one whose
// support has ended.
func TestSupport(t *testing.T) {
	b := newKit(t)
	b.build(recipe{version: "1"})
	b.build(recipe{version: "2", until: "2031-12-31", fixes: []string{"CVE-2026-1234"}})
	for _, tt := range []struct {
		call, text string
		answer     answer
		loud       bool
	}{
		{"@layout:1 -date 2026-06-01", "Support: not stated. The release does not say until when it is supported", unknown, true},
		{"@layout:1", "The release does not say what it fixes.", unknown, true},
		{"@layout:2", "Supported until 2031-12-31 , as the vendor says; no date was given to hold that against. Fixes, as the vendor says: CVE-2026-1234.", unknown, false},
		{"@layout:2 -date 2031-12-31", "Supported until 2031-12-31 , as the vendor says. Fixes", yes, false},
		{"@layout:2 -date 2032-01-01", "Support ended on 2031-12-31.", no, true},
	} {
		require.Equal(t, tt.answer, b.facts(0, tt.call).Releases[0].Supported, tt.call)
		d := b.page(0, tt.call)
		require.Contains(t, d.text, tt.text)
		require.Equal(t, tt.loud, strings.Contains(d.source, `class="support loud"`), tt.call)
	}
	require.Equal(t, []string{"CVE-2026-1234"}, b.facts(0, "@layout:2").Releases[0].Fixes)
}

func TestDisk(t *testing.T) {
	b := newKit(t)
	b.two()
	b.file("layout.json", `{"schema":"osmith.layout/1","size":536870912,"partitions":[{"type":"esp","minSize":67108864},{"type":"root-x86-64","minSize":67108864},{"type":"root-x86-64","minSize":67108864}]}`)
	d := b.page(0, "@layout:2 -disk @layout.json")
	require.Contains(t, d.text, "planned by a layout")
	require.NotContains(t, d.text, "Upgrade of this disk")
	require.Equal(t, unknown, b.facts(0, "@layout:2 -disk @layout.json").claims()["the machine returns to the old set"].Answer)

	// The release that the disk has.
	d = b.page(0, "@layout:1 -disk @disk.img -key @release.pub -vars @vars -pcr-key @pcr.pub -no-shim")
	require.Contains(t, d.text, "The release is installed already: nothing is written.")
}

func TestBadCalls(t *testing.T) {
	b := newKit(t)
	b.build(recipe{version: "1"})
	b.file("empty", "")
	b.file("text.json", "{}")
	require.NoError(t, os.Mkdir(b.path("nothing"), 0o755))
	for _, tt := range []struct {
		status     int
		want, line string
	}{
		{2, "0 operands", ""},
		{2, "unexpected argument", "@layout:1 @layout:1 @layout:1"},
		{2, "-date tomorrow: want a day", "@layout:1 -date tomorrow"},
		{2, "-policy and -key", "@layout:1 -policy @text.json -key @release.pub"},
		{2, "-repository is for -policy", "@layout:1 -repository x"},
		{2, "-policy ", "@layout:1 -policy @text.json"},
		{2, "-key ", "@layout:1 -key @empty"},
		{2, "absent", "@absent"},
		{2, "oci-layout", "@nothing"},
		{1, "not found", "@layout:7"},
		{2, "-vars ", "@layout:1 -vars @empty"},
		{2, "absent", "@layout:1 -disk @absent"},
		{1, "empty", "@layout:1 -disk @empty"},
		{2, "text.json", "@layout:1 -disk @text.json"},
		{1, "text.json", "@layout:1 -token @text.json"},
		{2, "absent", "@layout:1 -loader @absent"},
		{1, "-baseline ", "@layout:1 -baseline @text.json"},
		{2, "page.html", "@layout:1 -o @absent/page.html"},
	} {
		t.Run(strings.ReplaceAll(tt.line, "/", "_"), func(t *testing.T) {
			status, stdout, stderr := b.call(tt.line + " -json")
			require.Equal(t, tt.status, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.want)
			require.NoFileExists(t, filepath.Join(b.dir, "page.html"))
		})
	}
	status, _, stderr := b.call("-h")
	require.Zero(t, status)
	require.Contains(t, stderr, "example: report /var/cache/acme:1 /var/cache/acme:2")
	// A blob that is not what its digest says.
	blobs, err := filepath.Glob(b.path("layout/blobs/sha256/*"))
	require.NoError(t, err)
	size := func(name string) int64 {
		info, err := os.Stat(name)
		require.NoError(t, err)
		return info.Size()
	}
	root := slices.MaxFunc(blobs, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
	require.NoError(t, os.WriteFile(root, make([]byte, size(root)), 0o600))
	status, stdout, stderr := b.call("@layout:1 -o @page.html")
	require.Equal(t, 1, status, stderr)
	require.Contains(t, stderr, "sha256:")
	require.Empty(t, stdout)
	require.NoFileExists(t, b.path("page.html"))
}
