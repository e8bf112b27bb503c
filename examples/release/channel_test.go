package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

// days is a time in the summer of the tests.
func days(n int) string { return fmt.Sprintf("2026-06-%02dT12:00:00Z", 1+n) }

// A shop is a workshop with releases 1 and 2, signed, and a channel that the vendor edits on a day.
type shop struct {
	workshop
	key string
	day int
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{workshop: newWorkshop(t), key: "build.key"}
	for _, v := range []string{"1", "2"} {
		s.pack(t, v)
		s.sign(t, v)
	}
	return s
}

// edit runs a verb of channel that must work, about documents that are valid for a week.
func (s *shop) edit(t *testing.T, verb string, args ...string) (r channelResult) {
	t.Helper()
	object(t, &r, s.editing(verb, append(args, "-key", s.path(s.key))...)...)
	return r
}

func (s *shop) editing(verb string, args ...string) []string {
	return append([]string{"channel", verb, s.path("layout"), "stable", "-valid", "168h", "-at", days(s.day)}, args...)
}

// A customer is a machine with a state of its own.
type customer struct {
	*shop
	from, name, running, key string
}

func (s *shop) customer(name, from, running string) *customer {
	return &customer{s, from, name, running, "build.pub"}
}

func (m *customer) args(t *testing.T, day int, more ...string) []string {
	t.Helper()
	m.write(t, m.name+".id", []byte(m.name+"\n"))
	return append([]string{"pull", m.from, "stable", "-channel", "-key", m.path(m.key), "-id", "acme", "-state", m.path(m.name + ".json"), "-machine-id", m.path(m.name + ".id"),
		"-running", m.running, "-at", days(day), "-arch", "amd64", "-o", m.path(m.name)}, more...)
}

// machineBelow finds the name of a machine that is, or is not, among the first cohorts for version
// 2.
func machineBelow(t *testing.T, n int, below bool) string {
	t.Helper()
	for i := range 1000 {
		name := fmt.Sprint("machine", i)
		if (channel.Cohort("acme", "stable", "2", name) < n) == below {
			return name
		}
	}
	t.Fatal("no such machine")
	return ""
}

// A version goes out to some, then to all, is held and withdrawn, and machines do as the channel
// says.
func TestChannel(t *testing.T) {
	s := newShop(t)
	one := s.edit(t, "publish", "1", "-new", "-id", "acme")
	assert.Equal(t, []any{"acme", "stable", int64(1), days(7), true}, []any{one.Product, one.Channel, one.Sequence, one.ValidUntil, one.Published})
	two := s.edit(t, "publish", "2", "-offered", "300")
	assert.EqualValues(t, 2, two.Sequence)
	require.Len(t, two.Releases, 2)
	assert.Equal(t, []any{"2", 300, "offered"}, []any{two.Releases[0].Version, two.Releases[0].Offered, two.Releases[0].Status})
	server := httptest.NewServer(http.FileServer(http.Dir(s.path("layout"))))
	defer server.Close()
	early, late := s.customer(machineBelow(t, 300, true), server.URL, "1"), s.customer(machineBelow(t, 300, false), server.URL, "1")

	var p pullResult
	object(t, &p, early.args(t, 1)...)
	assert.Equal(t, []string{"2", two.Digest, two.Releases[0].Digest}, []string{p.Version, p.Channel.Document, p.Digest})
	assert.Len(t, p.Signatures, 2)
	assert.Contains(t, ok(t, "verify", s.path(early.name), "2", "-key", s.path("build.pub")), p.Digest)
	assert.Contains(t, ok(t, "channel", "list", s.path(early.name), "stable", "-key", s.path("build.pub")), two.Digest, "the proof comes along")
	status, stdout, stderr := call3(t, late.args(t, 1, "-json")...)
	assert.Equal(t, 1, status)
	p = pullResult{}
	decode(t, stdout, &p)
	assert.Contains(t, stderr, "version 2 is not yet offered to this machine: the machine is in cohort ")
	assert.Equal(t, "2", p.Channel.Passed[0].Version)
	assert.NoDirExists(t, s.path(late.name), "nothing is fetched")
	assert.FileExists(t, s.path(late.name+".json"))

	s.edit(t, "hold", "2", "-reason", "a report")
	status, _, stderr = call3(t, late.args(t, 1)...)
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "version 2 is held: a report")
	s.edit(t, "promote", "2", "-offered", "1000")
	assert.Contains(t, ok(t, late.args(t, 1)...), "acme 2\n")
	late.running = "2"
	assert.Equal(t, "nothing to install: version 2 runs\n", ok(t, late.args(t, 1)...))

	s.edit(t, "withdraw", "2", "-reason", "eats disks")
	p = pullResult{}
	object(t, &p, late.args(t, 1)...)
	assert.Equal(t, []any{"1", true, "version 2 was withdrawn: eats disks"}, []any{p.Version, p.Channel.Downgrade, p.Channel.Leave})
	status, _, stderr = call3(t, early.args(t, 1)...)
	assert.Equal(t, 1, status, "1 runs, and there is nothing newer that may be installed")
	assert.Contains(t, stderr, "version 2 was withdrawn: eats disks")

	r := s.edit(t, "prune", "-keep", "1", "-floor", "2")
	require.Len(t, r.Forgotten, 1)
	assert.Equal(t, "1", r.Forgotten[0].Version)
	status, _, stderr = call3(t, late.args(t, 1)...)
	assert.Equal(t, 1, status, stderr)
	text := ok(t, "channel", "list", server.URL, "stable", "-key", s.path("build.pub"))
	assert.Contains(t, text, "acme stable, document 6, until "+days(7))
	assert.Contains(t, text, "  nothing below 2\n")
	assert.Contains(t, text, "withdrawn")
}

// A mirror of everything that the vendor ever signed can withhold, and nothing else.
func TestChannelMirror(t *testing.T) {
	s := newShop(t)
	index := filepath.Join(s.path("layout"), "index.json")
	s.edit(t, "publish", "1", "-new")
	first := read(t, index)
	s.edit(t, "publish", "2")
	second := read(t, index)
	m := s.customer("machine", s.path("layout"), "1")
	ok(t, m.args(t, 1)...)
	show := func(b []byte) { require.NoError(t, os.WriteFile(index, b, 0o600)) }
	refused := func(day int, want string, more ...string) {
		t.Helper()
		require.NoError(t, os.RemoveAll(s.path(m.name)))
		before := read(t, s.path(m.name+".json"))
		status, stdout, stderr := call3(t, m.args(t, day, more...)...)
		assert.Equal(t, 1, status, stderr)
		assert.Contains(t, stderr, want)
		assert.Empty(t, stdout)
		assert.NoDirExists(t, s.path(m.name))
		assert.Equal(t, before, read(t, s.path(m.name+".json")), "what was accepted stays")
	}
	show(first)
	refused(1, "document 1 is older than document 2, which was already accepted")
	show(second)
	refused(8, "document 2 was valid until "+days(7)+", and it is "+days(8))
	refused(1, `product of the state: want "other", got "acme"`, "-id", "other")
	refused(1, `product: want "other", got "acme"`, "-id", "other", "-state", s.path("fresh.json"))
	// The name of the channel for a release, and a document that others have signed.
	rename(t, s.path("layout"), "stable", "old")
	rename(t, s.path("layout"), "2", "stable")
	refused(1, `it is a "application/vnd.osmith.release.v1"`)
	show(second)
	m.key = "other.pub"
	refused(1, "no signature by a trusted key")
	m.key = "build.pub"
	// The release that the document names was exchanged for another one, with all that is signed
	// about that.
	name := func(digest string) string {
		return filepath.Join(s.path("layout"), "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	var list channelResult
	object(t, &list, "channel", "list", s.path("layout"), "stable", "-key", s.path("build.pub"))
	good := read(t, name(list.Releases[0].Digest))
	require.NoError(t, os.WriteFile(name(list.Releases[0].Digest), read(t, name(list.Releases[1].Digest)), 0o600))
	refused(1, "the content has digest")
	require.NoError(t, os.WriteFile(name(list.Releases[0].Digest), good, 0o600))
	ok(t, m.args(t, 1)...)

	for want, args := range map[string][]string{
		"-state is missing":          {"pull", m.from, "stable", "-channel", "-key", s.path("build.pub"), "-id", "acme", "-o", s.path("x")},
		"-id is missing":             {"pull", m.from, "stable", "-channel", "-key", s.path("build.pub"), "-state", s.path("x.json"), "-o", s.path("x")},
		"not with -version":          m.args(t, 1, "-version", "2"),
		"want the name of a channel": {"pull", m.from, list.Digest, "-channel", "-key", s.path("build.pub"), "-id", "acme", "-state", s.path("x.json"), "-o", s.path("x")},
		"-state " + s.path("uki1"):   m.args(t, 1, "-state", s.path("uki1")),
		"-machine-id ":               m.args(t, 1, "-machine-id", s.path("empty")),
		"either -policy or -key":     {"pull", m.from, "stable", "-channel", "-id", "acme", "-state", s.path("x.json"), "-o", s.path("x")},
	} {
		s.write(t, "empty", []byte("\n"))
		status, stdout, stderr := call3(t, args...)
		assert.Equal(t, 2, status, stderr)
		assert.Contains(t, stderr, want)
		assert.Empty(t, stdout)
	}
}

// Who edits a channel does not sign what a server has made of the last document, nor an unsigned
// release.
func TestChannelEditRefused(t *testing.T) {
	s := newShop(t)
	s.edit(t, "publish", "1", "-new")
	index := filepath.Join(s.path("layout"), "index.json")
	before := read(t, index)
	s.write(t, "elsewhere", read(t, s.path("uki2-arm64")))
	three := s.pack(t, "2", "-ref", "unsigned", "-loader", s.path("uki1"))
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"unsigned":         {s.editing("publish", "unsigned", "-key", s.path("build.key")), 1, "the release (-release-key): "},
		"other key":        {s.editing("promote", "1", "-key", s.path("other.key")), 1, "the last document: "},
		"release key":      {s.editing("publish", "2", "-key", s.path("build.key"), "-release-key", s.path("other.pub")), 1, "the release (-release-key): "},
		"again":            {s.editing("publish", "1", "-key", s.path("build.key")), 1, "the channel has it already"},
		"new":              {s.editing("publish", "2", "-new", "-key", s.path("build.key")), 1, `"stable" is there already`},
		"no channel":       {[]string{"channel", "publish", s.path("layout"), "beta", "2", "-key", s.path("build.key"), "-valid", "1h"}, 2, "-new begins one"},
		"no version":       {s.editing("promote", "9", "-key", s.path("build.key")), 1, "version 9: the channel does not have it"},
		"fewer":            {s.editing("promote", "1", "-offered", "5", "-key", s.path("build.key")), 1, "hold it"},
		"other product":    {s.editing("publish", "2", "-id", "x", "-key", s.path("build.key")), 1, "the channel is for acme"},
		"no validity":      {[]string{"channel", "promote", s.path("layout"), "stable", "1", "-key", s.path("build.key")}, 2, "-valid is missing"},
		"no key":           {s.editing("promote", "1"), 2, "either -key or -public-key"},
		"no message":       {s.editing("promote", "1", "-public-key", s.path("build.pub")), 2, "-public-key and -to-sign belong together"},
		"no number":        {s.editing("prune", "-key", s.path("build.key")), 2, "-keep is missing"},
		"floor":            {s.editing("promote", "1", "-floor", "a/b", "-key", s.path("build.key")), 1, "character '/'"},
		"to a release":     {[]string{"channel", "promote", s.path("layout"), "2", "1", "-key", s.path("build.key"), "-valid", "1h"}, 1, `it is a "application/vnd.osmith.release.v1"`},
		"by digest":        {[]string{"channel", "promote", s.path("layout"), three.Digest, "1", "-key", s.path("build.key"), "-valid", "1h"}, 2, "want the name of a channel"},
		"new keys, unsure": {s.editing("promote", "1", "-keys", s.path("absent"), "-key", s.path("build.key")), 2, "absent"},
	} {
		status, stdout, stderr := call3(t, tt.args...)
		assert.Equal(t, tt.status, status, "%s: %s", name, stderr)
		assert.Contains(t, stderr, tt.want, name)
		assert.Empty(t, stdout, name)
		assert.Equal(t, before[:0], read(t, index)[:0])
		assert.Contains(t, ok(t, "channel", "list", s.path("layout"), "stable", "-key", s.path("build.pub")), "document 1,", name)
	}
	// A digest is what it is, and needs no signature.
	assert.Equal(t, three.Digest, s.edit(t, "publish", three.Digest).Releases[0].Digest)
}

// openssl signs elsewhere what is then joined; until it is, the channel stands for the last
// document.
func TestChannelSignedElsewhere(t *testing.T) {
	testtools.Require(t, "openssl")
	s := newShop(t)
	for i, verb := range [][]string{{"publish", "1", "-new"}, {"publish", "2"}} {
		var draft, joined channelResult
		object(t, &draft, s.editing(verb[0], append(verb[1:], "-public-key", s.path("build.pub"), "-to-sign", s.path("message"))...)...)
		assert.False(t, draft.Published)
		testtools.Run(t, "openssl", "dgst", "-sha256", "-sign", s.path("build.key"), "-out", s.path("sig"), s.path("message"))
		join := []string{"channel", "join", s.path("layout"), "stable", "-draft", draft.Digest, "-public-key", s.path("build.pub"), "-signature"}
		status, _, stderr := call3(t, append(join, s.path("message"))...)
		assert.Equal(t, 1, status)
		assert.Contains(t, stderr, "the signature does not fit the key")
		if i == 1 {
			assert.Contains(t, ok(t, "channel", "list", s.path("layout"), "stable", "-key", s.path("build.pub")), "document 1,")
		}
		object(t, &joined, append(join, s.path("sig"))...)
		assert.True(t, joined.Published)
		assert.Equal(t, draft.Digest, joined.Digest)
		assert.Contains(t, ok(t, "channel", "list", s.path("layout"), "stable", "-key", s.path("build.pub")), draft.Digest)
		if i == 1 { // a draft of yesterday is never published
			status, _, stderr = call3(t, append(join, s.path("sig"))...)
			assert.Equal(t, 1, status)
			assert.Contains(t, stderr, "does not follow what is there")
		}
	}
	assert.Contains(t, ok(t, s.customer("machine", s.path("layout"), "1").args(t, 1)...), "acme 2\n")
}

// Keys change while machines look in when they like, and none of them is touched.
func TestChannelKeysRotate(t *testing.T) {
	s := newShop(t)
	s.edit(t, "publish", "1", "-new")
	sleeper, reader := s.customer("sleeper", s.path("layout"), "1"), s.customer("reader", s.path("layout"), "1")
	for _, m := range []*customer{sleeper, reader} {
		ok(t, m.args(t, 1)...)
	}
	both := []string{"-keys", s.path("build.pub"), "-keys", s.path("other.pub")}
	s.edit(t, "publish", append([]string{"2", "-offered", "0"}, both...)...)
	_, _, stderr := call3(t, reader.args(t, 1)...)
	assert.Contains(t, stderr, "version 2 is not yet offered")
	// Machines that saw the first document only need the old key still, and those that see this one
	// need the new key from now on.
	s.edit(t, "promote", "2", "-offered", "0", "-key", s.path("other.key"), "-keys", s.path("other.pub"))
	for _, m := range []*customer{sleeper, reader} {
		_, _, stderr := call3(t, m.args(t, 1)...)
		assert.Contains(t, stderr, "version 2 is not yet offered")
	}
	status, _, stderr := call3(t, s.editing("promote", "2", "-key", s.path("build.key"))...)
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "machines would not believe the new document", "the old key alone is not enough any more")
	s.key = "other.key"
	s.edit(t, "promote", "2")
	for _, m := range []*customer{sleeper, reader} {
		assert.Contains(t, ok(t, m.args(t, 1)...), "acme 2\n", "although its policy is the old key")
	}
	status, _, stderr = call3(t, s.customer("newcomer", s.path("layout"), "1").args(t, 1)...)
	assert.Equal(t, 1, status, "a machine that has slept through all of it needs a new policy")
	assert.Contains(t, stderr, "no signature by a trusted key")
}

// A channel is in a registry as releases are, edited there or pushed.
func TestChannelInRegistry(t *testing.T) {
	server := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	s := newShop(t)
	repo := strings.TrimPrefix(server.URL, "http://") + "/os/acme"
	for _, v := range []string{"1", "2"} {
		ask(t, 0, "push", s.path("layout"), v, repo+":"+v)
	}
	s.edit(t, "publish", "1", "-new")
	ask(t, 0, "push", s.path("layout"), "stable", repo+":stable")
	edit := []string{"-key", s.path("build.key"), "-valid", "168h", "-at", days(0), "-plain-http"}
	text := ok(t, append([]string{"channel", "publish", repo + ":stable", "2"}, edit...)...)
	assert.Contains(t, text, "acme stable, document 2, until "+days(7))
	pull := []string{"pull", repo + ":stable", "-channel", "-key", s.path("build.pub"), "-id", "acme", "-state", s.path("state.json"), "-at", days(1), "-arch", "amd64",
		"-o", s.path("to"), "-plain-http"}
	var p pullResult
	object(t, &p, pull...)
	assert.Equal(t, []any{"2", int64(2)}, []any{p.Version, p.Channel.Sequence})
	assert.Contains(t, ok(t, "channel", "list", s.path("to"), "stable", "-key", s.path("build.pub")), p.Channel.Document)
	// The layout that was pushed first has an older document.
	ask(t, 0, "push", s.path("layout"), "stable", repo+":stable")
	status, _, stderr := call3(t, pull...)
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "document 1 is older than document 2")
}
