package build_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func TestRelease(t *testing.T) {
	set := system(t, parts())
	dir := t.TempDir()
	d, err := build.Release(t.Context(), dir, &set.Release, build.ReleaseOptions{})
	require.NoError(t, err)
	again, err := build.Release(t.Context(), t.TempDir(), &set.Release, build.ReleaseOptions{})
	require.NoError(t, err)
	require.Equal(t, again.Digest, d.Digest)

	r, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	require.NoError(t, r.Check(t.Context()))
	var p build.ReleasePCRs
	require.NoError(t, json.Unmarshal(contentOf(t, r.PCRs), &p))
	require.Equal(t, build.PCRsSchema, p.Schema)
	require.Len(t, p.PCR11, 5)
	require.Equal(t, []string{"", "enter-initrd"}, []string{p.PCR11[0].Phase, p.PCR11[1].Phase})
	require.Len(t, p.Image, 3)
	require.True(t, strings.HasPrefix(p.Image[0], "sha256:"))

	// What the set says itself stays, and what is not known is not stated.
	set.PCRs = strings.NewReader("{}")
	dir = t.TempDir()
	d, err = build.Release(t.Context(), dir, &set.Release, build.ReleaseOptions{Ref: "stable"})
	require.NoError(t, err)
	r2, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r2.Close()
	require.Equal(t, "{}", string(contentOf(t, r2.PCRs)))
	require.Empty(t, r2.SupportedUntil, "what is not known is not stated")

	// How long it is supported, and what it fixes, is the vendor's choice.
	set.Fixes = []string{"CVE-1"}
	dir = t.TempDir()
	d, err = build.Release(t.Context(), dir, &set.Release, build.ReleaseOptions{SupportedUntil: "2031-12-31", Fixes: []string{"CVE-2"}})
	require.NoError(t, err)
	r3, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r3.Close()
	require.Equal(t, release.Date("2031-12-31"), r3.SupportedUntil)
	require.Equal(t, []string{"CVE-2"}, r3.Fixes)
	require.Equal(t, []string{"CVE-1"}, set.Fixes)
	_, err = build.Release(t.Context(), t.TempDir(), &set.Release, build.ReleaseOptions{SupportedUntil: "soon"})
	require.ErrorContains(t, err, "is not a date")
}

// Of a stub that is not known, no PCR is stated.
func TestReleaseUnknownStub(t *testing.T) {
	p := parts()
	p.UKI.Image.Stub = bytes.NewReader(petest.Stub("999"))
	k := testKeys()
	k.PCR = nil
	set, err := build.System(t.Context(), t.TempDir(), p, k)
	require.NoError(t, err)
	defer set.Close()
	require.Empty(t, set.Image.Variants)
	dir := t.TempDir()
	d, err := build.Release(t.Context(), dir, &set.Release, build.ReleaseOptions{})
	require.NoError(t, err)
	r, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r.Close()
	require.Nil(t, r.PCRs)
	c, err := build.Compare(t.Context(), &set.Release, &set.Release)
	require.NoError(t, err)
	require.Empty(t, c.PCR11)
	_, err = build.System(t.Context(), t.TempDir(), p, testKeys())
	require.ErrorIs(t, err, uki.ErrUnknownStub)
}

func TestCompare(t *testing.T) {
	p := parts()
	one := system(t, p)
	p.UKI.Image = image()
	p.UKI.Image.OSRelease = []byte(strings.ReplaceAll(osRelease, "=1", "=2"))
	p.UKI.Image.Cmdline = "quiet splash"
	content := bytes.Repeat([]byte("root"), 64<<10)
	copy(content[8192:], "changed")
	p.Root = bytes.NewReader(content)
	p.Addons = []release.Addon{{Name: "debug.addon.efi", Content: strings.NewReader("debug")}}
	p.Loader = bytes.NewReader(petest.Loader("262.1"))
	two := system(t, p)
	one.SupportedUntil, one.Fixes = "2030-12-31", []string{"CVE-1", "CVE-2"}
	two.SupportedUntil, two.Fixes = "2031-12-31", []string{"CVE-2", "CVE-3"}
	c, err := build.Compare(t.Context(), &one.Release, &two.Release)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "6.18.0"}, []string{c.Old.Version, c.New.Version, c.New.Kernel})
	require.Equal(t, &build.RootChange{Blocks: 64, Changed: 1, Bytes: 4096}, c.Root)
	require.Equal(t, []string{"CVE-3"}, c.Fixes)
	require.Equal(t, []release.Date{"2030-12-31", "2031-12-31"}, []release.Date{c.Old.SupportedUntil, c.New.SupportedUntil})
	kinds := map[string]build.ChangeKind{}
	for _, s := range c.Sections {
		kinds[s.Name] = s.Kind
		if s.Name == ".cmdline" {
			require.Contains(t, s.Lines, "+ splash")
			require.NotContains(t, s.Lines, "+ quiet")
		}
	}
	require.Equal(t, build.ChangeSame, kinds[".linux"])
	require.Equal(t, build.ChangeChanged, kinds[".osrel"])
	require.Len(t, c.PCR11, 5)
	for _, v := range c.PCR11 {
		require.Equal(t, build.ChangeChanged, v.Kind)
	}
	require.Len(t, c.Unlocks, 1)
	require.True(t, c.Unlocks[0].Signed)
	require.Equal(t, []build.FileChange{{What: "boot loader", Kind: build.ChangeChanged, OldSize: one.Loader.Size(), NewSize: two.Loader.Size()}, {What: "add-on", Name: "debug.addon.efi", Kind: build.ChangeAdded, NewSize: 5}}, c.Files)
	text := c.String()
	for _, want := range []string{"acme 1 -> 2", "1 of 64 blocks to be fetched", `"+ splash"`, "add-on debug.addon.efi added", "fixes: CVE-3\n", "supported until: 2030-12-31 -> 2031-12-31", "open for both"} {
		require.Contains(t, text, want)
	}
	same, err := build.Compare(t.Context(), &one.Release, &one.Release)
	require.NoError(t, err)
	require.Empty(t, same.Files)
	require.Equal(t, []string{}, same.Fixes)
	require.Equal(t, build.ChangeSame, same.PCR11[0].Kind)

	// Another key: what was sealed does not open. So it is without signatures, and what cannot be
	// verified is not signed.
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for _, pcr := range [][]build.PCRKey{{{Signer: other}}, nil} {
		k := testKeys()
		k.PCR = pcr
		three, err := build.System(t.Context(), t.TempDir(), p, k)
		require.NoError(t, err)
		defer three.Close()
		c, err = build.Compare(t.Context(), &one.Release, &three.Release)
		require.NoError(t, err)
		require.Len(t, c.Unlocks, 1)
		require.False(t, c.Unlocks[0].Signed)
		require.Len(t, c.Unlocks[0].Missing, 4)
		require.Contains(t, c.String(), "may not open for 2: no signature for sha256 enter-initrd")
	}

	// A key that is in neither UKI verifies nothing.
	p.UKI.Image.PCRPublicKey, err = policy.MarshalPublicKey(&other.PublicKey)
	require.NoError(t, err)
	hidden := system(t, p)
	c, err = build.Compare(t.Context(), &hidden.Release, &hidden.Release)
	require.NoError(t, err)
	require.Len(t, c.Unlocks, 2)
	for _, u := range c.Unlocks {
		require.False(t, u.Signed)
	}
	require.Contains(t, c.String(), "the key is in neither UKI")

	// File systems with other salts cannot be compared block by block.
	p = parts()
	p.Seed = osmith.GUID{2}
	c, err = build.Compare(t.Context(), &one.Release, &system(t, p).Release)
	require.NoError(t, err)
	require.EqualValues(t, 64, c.Root.Changed)
	require.NotEmpty(t, c.Root.Unknown)
}

// A signature by the right key over the right value that was changed is none.
func TestCompareForged(t *testing.T) {
	set := system(t, parts())
	text := contentOf(t, set.UKI)
	mark := []byte(`"sig":"`)
	if !bytes.Contains(text, mark) {
		mark = []byte(`"sig": "`)
	}
	require.Equal(t, 4*len(tpm.Banks()), bytes.Count(text, mark), "in each bank at four points")
	for i := range text {
		if bytes.HasPrefix(text[i:], mark) { // the first character, of six bits
			text[i+len(mark)] = map[bool]byte{true: 'B', false: 'A'}[text[i+len(mark)] == 'A']
		}
	}
	forged := set.Release
	forged.UKI = bytes.NewReader(text)
	c, err := build.Compare(t.Context(), &set.Release, &forged)
	require.NoError(t, err)
	require.False(t, c.Unlocks[0].Signed)
}
