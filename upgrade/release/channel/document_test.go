package channel_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func digestOf(version string) digest.Digest { return digest.FromString(version) }

// document is one of a channel with these versions, each offered to all.
func document(sequence int64, versions ...string) *channel.Document {
	d := &channel.Document{Product: "acme", Channel: "stable", Sequence: sequence, ValidUntil: now.AddDate(0, 0, 14)}
	for _, v := range versions {
		if err := d.Publish(v, digestOf(v), channel.Cohorts); err != nil {
			panic(err)
		}
	}
	return d
}

func text(t testing.TB, d *channel.Document) []byte {
	t.Helper()
	b, err := d.Marshal()
	require.NoError(t, err)
	return b
}

const golden = `{"schema":"osmith.channel/1","product":"acme","variant":"server","channel":"stable","sequence":7,"validUntil":"2026-06-15T12:00:00Z","floor":"1.2",` +
	`"signers":{"schema":"osmith.policy/1"},"releases":[` +
	`{"version":"5","digest":"sha256:ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d","offered":50,"status":"offered"},` +
	`{"version":"4","digest":"sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a","offered":1000,"status":"withdrawn","reason":"eats disks"}]}`

// The form is frozen: what a vendor has signed is read for ever.
func TestGolden(t *testing.T) {
	d, err := channel.Parse([]byte(golden))
	require.NoError(t, err)
	want := &channel.Document{Product: "acme", Variant: "server", Channel: "stable", Sequence: 7, ValidUntil: now.AddDate(0, 0, 14), Floor: "1.2",
		Signers: json.RawMessage(`{"schema":"osmith.policy/1"}`), Releases: []channel.Release{
			{Version: "5", Digest: digestOf("5"), Offered: 50, Status: channel.StatusOffered},
			{Version: "4", Digest: digestOf("4"), Offered: 1000, Status: channel.StatusWithdrawn, Reason: "eats disks"}}}
	assert.Equal(t, want, d)
	assert.Equal(t, golden, string(text(t, want)))
}

// What a channel says of support is in the one form as well, and is absent where nothing is said.
func TestSupport(t *testing.T) {
	d, err := channel.Parse([]byte(golden))
	require.NoError(t, err)
	require.NoError(t, d.Support("5", "2031-12-31", []string{"CVE-2026-1234"}))
	stated := strings.Replace(golden, `"offered":50,"status":"offered"`, `"offered":50,"status":"offered","supportedUntil":"2031-12-31","fixes":["CVE-2026-1234"]`, 1)
	assert.Equal(t, stated, string(text(t, d)))
	again, err := channel.Parse([]byte(stated))
	require.NoError(t, err)
	assert.Equal(t, d, again)
	chosen := again.Choose(channel.Machine{Running: "3", ID: below(t, "5", 50)})
	require.NotNil(t, chosen.Release)
	assert.EqualValues(t, "2031-12-31", chosen.Release.SupportedUntil)
	require.NoError(t, again.Support("5", "", nil))
	assert.Equal(t, golden, string(text(t, again)))

	for want, members := range map[string]string{
		"supportedUntil":          `"supportedUntil":"soon"`,
		"CVE-1 is listed twice":   `"fixes":["CVE-1","CVE-1"]`,
		"without spaces":          `"fixes":["a b"]`,
		"the one form":            `"fixes":[]`,
		`0 characters, want 1 to`: `"fixes":[""]`,
	} {
		_, err := channel.Parse([]byte(strings.Replace(golden, `"offered":50,"status":"offered"`, `"offered":50,"status":"offered",`+members, 1)))
		assert.ErrorContains(t, err, want)
	}
	var edit *channel.EditError
	require.ErrorAs(t, d.Support("9", "2031-12-31", nil), &edit)
	require.ErrorIs(t, edit, channel.ErrNoVersion)
	require.ErrorAs(t, d.Support("5", "soon", nil), &edit)
	require.ErrorAs(t, d.Support("5", "", []string{"a b"}), &edit)
	assert.EqualValues(t, "2031-12-31", d.Releases[0].SupportedUntil, "what is refused changes nothing")
}

// below is the ID of a machine that is among the first cohorts for a version.
func below(t *testing.T, version string, cohorts int) string {
	t.Helper()
	for i := range 10_000 {
		if id := fmt.Sprint("machine", i); channel.Cohort("acme", "stable", version, id) < cohorts {
			return id
		}
	}
	t.Fatal("no such machine")
	return ""
}

// Whatever leaves open what it means, or could be written in two ways, is refused with the place.
func TestParseErrors(t *testing.T) {
	change := func(from, to string) string {
		if !strings.Contains(golden, from) {
			panic(from)
		}
		return strings.Replace(golden, from, to, 1)
	}
	many := document(1)
	for i := range 1001 {
		v := fmt.Sprint(5000 - i)
		many.Releases = append(many.Releases, channel.Release{Version: v, Digest: digestOf(v), Status: channel.StatusOffered})
	}
	_, err := many.Marshal()
	require.ErrorContains(t, err, "releases: 1001, at most 1000 are allowed")
	entry := golden[strings.Index(golden, `{"version":"4"`) : len(golden)-2]
	for want, b := range map[string]string{
		"JSON":                                       "",
		`"schema" appears twice`:                     change(`{"schema"`, `{"schema":"osmith.channel/1","schema"`),
		`"osmith.channel/2", want`:                   change("channel/1", "channel/2"),
		"more":                                       change(`"floor"`, `"more":1,"floor"`),
		"product: 0 characters":                      change(`"acme"`, `""`),
		`product: character ' '`:                     change(`"acme"`, `"a b"`),
		`channel: character '/'`:                     change(`"stable"`, `"a/b"`),
		`channel: character '-'`:                     change(`"stable"`, `"-b"`),
		"variant: 129 characters":                    change(`"server"`, `"`+strings.Repeat("x", 129)+`"`),
		"floor: character":                           change(`"1.2"`, `"\u001b"`),
		"sequence: 0, want":                          change(`:7,`, `:0,`),
		"sequence: 9007199254740992, want":           change(`:7,`, `:9007199254740992,`),
		`validUntil: "soon"`:                         change("2026-06-15T12:00:00Z", "soon"),
		"validUntil: 2026-06-15 12:00:00.5":          change("00:00Z", "00:00.5Z"),
		"signers: ":                                  change(`{"schema":"osmith.policy/1"}`, `"x"`),
		`releases[0]: version: character`:            change(`"version":"5"`, `"version":"5/"`),
		`releases[0]: digest "sha512:`:               change("sha256:ef2d", "sha512:ef2d"),
		`releases[0]: digest "sha256:EF2D`:           change("sha256:ef2d", "sha256:EF2D"),
		"releases[0]: offered to 1001 cohorts":       change(":50,", ":1001,"),
		"releases[0]: offered to -1 cohorts":         change(":50,", ":-1,"),
		`releases[0].status: "", want`:               change(`"offered"}`, `""}`),
		`releases[1].status: "Withdrawn", want`:      change("withdrawn", "Withdrawn"),
		"releases[0]: a release that is offered has": change(`"offered"}`, `"offered","reason":"x"}`),
		"releases[1]: the reason must be a line":     change("eats disks", `\u001b[2J`),
		"releases[1]: version 6 is listed after 5: want descending versions": change(`"version":"4"`, `"version":"6"`),
		"releases[1]: version 5 is listed after 5: want descending versions": change(`"version":"4"`, `"version":"5"`),
		"releases[1]: two versions have the digest sha256":                   change("4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a", "ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d"),
		"releases: 1001, at most 1000":                                       change(entry, strings.Repeat(entry+",", 999)+entry),
		"the canonical form":                                                 golden + "\n",
		"document at 0x8d: not in the canonical form":                        change(`"floor":"1.2",`, `"floor": "1.2",`),
		"not in the canonical":                                               change("00:00Z", "00:00+00:00"),
		"1048577 bytes":                                                      golden + strings.Repeat(" ", 1<<20+1-len(golden)),
	} {
		d, err := channel.Parse([]byte(b))
		var format *osmith.FormatError
		require.ErrorAs(t, err, &format, want)
		assert.ErrorContains(t, err, want)
		assert.Nil(t, d)
	}
}

// What parses is written as it was read, and there is a result exactly when there is no error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add(text(f, document(1)))
	f.Add(text(f, document(1<<53-1, "5", "4", "4~rc1", "3+b")))
	f.Add([]byte(strings.Replace(golden, ":7,", ":7.0,", 1)))
	f.Add([]byte(strings.Replace(golden, "eats", "\\u0065ats", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := channel.Parse(b)
		if (d == nil) != (err != nil) {
			t.Fatalf("%v and %v", d, err)
		}
		if err != nil {
			return
		}
		again, err := d.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s became %s: %v", b, again, err)
		}
		// Whatever is in it, something is chosen or nothing, and it says why.
		for _, m := range []channel.Machine{{}, {ID: "m"}, {ID: "m", Running: "4"}} {
			c := d.Choose(m)
			if c.Release != nil && (c.Release.Status != channel.StatusOffered || c.Release.Version == m.Running) {
				t.Fatalf("%+v for %+v", c.Release, m)
			}
			_ = c.String()
		}
		_, _, _ = channel.Accept(b, channel.Request{Product: d.Product, Channel: d.Channel, Now: now})
	})
}
