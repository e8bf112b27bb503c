package release_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func TestDate(t *testing.T) {
	d, err := release.ParseDate("2028-02-29")
	require.NoError(t, err)
	require.False(t, d.Over(time.Date(2028, 2, 29, 23, 59, 59, 999_999_999, time.UTC)), "the day counts")
	require.True(t, d.Over(time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC)))
	require.True(t, d.Over(time.Date(2028, 2, 29, 20, 0, 0, 0, time.FixedZone("west", -5*3600))), "the day is that of UTC")
	require.False(t, release.Date("").Over(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)), "no date is never over")
	for _, text := range []string{"", "2027-02-29", "2027-2-01", "2027-02", "2027-02-01T00:00:00Z", " 2027-02-01", "soon", "-2027-02-01"} {
		_, err := release.ParseDate(text)
		require.ErrorContains(t, err, "want one such as 2031-12-31", text)
	}
}

// What is stated is in the config, which the digest of the manifest covers, and what is not stated
// leaves no trace there.
func TestSupportRoundTrip(t *testing.T) {
	dir := t.TempDir()
	plain, err := release.Pack(dir, "plain", contents())
	require.NoError(t, err)
	r := contents()
	r.SupportedUntil, r.Fixes = "2031-12-31", []string{"CVE-2026-1234", "GHSA-xxxx-yyyy-zzzz"}
	d, err := release.Pack(dir, "stated", r)
	require.NoError(t, err)
	require.NotEqual(t, plain.Digest, d.Digest)
	configs := map[digest.Digest]string{
		plain.Digest: `{"schema":"osmith.release/1","id":"acme","version":"2","rootHash":"` + strings.Repeat("ab", 32) + `"}`,
		d.Digest: `{"schema":"osmith.release/1","id":"acme","version":"2","rootHash":"` + strings.Repeat("ab", 32) +
			`","supportedUntil":"2031-12-31","fixes":["CVE-2026-1234","GHSA-xxxx-yyyy-zzzz"]}`,
	}
	for of, want := range configs {
		var m ocispec.Manifest
		b, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", of.Encoded()))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &m))
		b, err = os.ReadFile(filepath.Join(dir, "blobs", "sha256", m.Config.Digest.Encoded()))
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	opened, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer opened.Close()
	require.Equal(t, r.SupportedUntil, opened.SupportedUntil)
	require.Equal(t, r.Fixes, opened.Fixes)
}

// wrongSupport are members of a config, and what is said of them.
func wrongSupport() map[string]string {
	many := make([]string, 1025)
	for i := range many {
		many[i] = fmt.Sprintf(`"CVE-%d"`, i)
	}
	return map[string]string{
		`"supportedUntil":"soon"`:                            `supportedUntil: "soon" is not a date`,
		`"supportedUntil":"2031-12-31T00:00:00Z"`:            "is not a date",
		`"supportedUntil":20311231`:                          "supportedUntil",
		`"fixes":["CVE-1","CVE-1"]`:                          "fixes[1]: CVE-1 is listed twice",
		`"fixes":["two words"]`:                              "without spaces",
		`"fixes":["\u001b[2J"]`:                              "without spaces",
		`"fixes":["CVE\u202e-1"]`:                            "printable ASCII",
		`"fixes":[""]`:                                       "fixes[0]: 0 characters",
		`"fixes":["` + strings.Repeat("x", 129) + `"]`:       "129 characters, want 1 to 128",
		`"fixes":[` + strings.Join(many, ",") + `]`:          "fixes: 1025, at most 1024 are allowed",
		`"fixes":"CVE-1"`:                                    "fixes",
		`"fixes":["CVE-1"],"fixes":["CVE-2"]`:                `"fixes" appears twice`,
		`"supportedUntil":"2031-12-31","SupportedUntil":"x"`: "differ in letter case only",
	}
}

func TestSupportHostile(t *testing.T) {
	for members, want := range wrongSupport() {
		dir := t.TempDir()
		_, err := release.Pack(dir, "v2", contents())
		require.NoError(t, err)
		config := `{"schema":"osmith.release/1","id":"acme","version":"2","rootHash":"` + strings.Repeat("ab", 32) + `",` + members + `}`
		layer := func(mediaType, content string) ocispec.Descriptor {
			return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
		}
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: release.ArtifactType, Config: layer(release.MediaTypeConfig, config),
			Layers: []ocispec.Descriptor{layer(release.MediaTypeUKI, "uki"), layer(release.MediaTypeRoot, "root"), layer(release.MediaTypeTree, "tree")}}
		m.SchemaVersion = 2
		b, err := json.Marshal(m)
		require.NoError(t, err)
		for _, content := range []string{config, string(b)} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", digest.FromString(content).Encoded()), []byte(content), 0o644))
		}
		_, err = release.Open(t.Context(), os.DirFS(dir), ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))})
		var format *osmith.FormatError
		require.ErrorAs(t, err, &format, members)
		require.ErrorContains(t, err, want, members)
	}
	// What no machine would read is not packed.
	for _, wrong := range []release.Release{{SupportedUntil: "soon"}, {Fixes: []string{"two words"}}, {Fixes: []string{"a", "a"}}} {
		r := contents()
		r.SupportedUntil, r.Fixes = wrong.SupportedUntil, wrong.Fixes
		_, err := release.Pack(t.TempDir(), "v2", r)
		require.Error(t, err)
	}
}

// The end of support is that of os-release where the vendor says no other.
func TestIdentifySupportEnd(t *testing.T) {
	identify := func(osRelease string, until release.Date) (release.Date, error) {
		a, err := (&uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), OSRelease: []byte(osRelease)}).Assemble()
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = a.WriteTo(&b)
		require.NoError(t, err)
		r := &release.Release{UKI: bytes.NewReader(b.Bytes()), SupportedUntil: until}
		err = r.Identify()
		return r.SupportedUntil, err
	}
	until, err := identify("ID=acme\nVERSION_ID=1\nSUPPORT_END=2030-06-30\n", "")
	require.NoError(t, err)
	require.Equal(t, release.Date("2030-06-30"), until)
	until, err = identify("ID=acme\nVERSION_ID=1\nSUPPORT_END=2030-06-30\n", "2031-12-31")
	require.NoError(t, err)
	require.Equal(t, release.Date("2031-12-31"), until)
	until, err = identify("ID=acme\nVERSION_ID=1\n", "")
	require.NoError(t, err)
	require.Empty(t, until)
	_, err = identify("ID=acme\nVERSION_ID=1\nSUPPORT_END=June\n", "")
	require.ErrorContains(t, err, `SUPPORT_END of the UKI's os-release: "June" is not a date`)
}
