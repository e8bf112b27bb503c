package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// Schema names the form of a document.
const Schema = "osmith.channel/1"

// Limits of documents.
const (
	maxDocument = 1 << 20 // bytes
	maxReleases = 1000
	maxName     = 128
	maxReason   = 1024
	maxSequence = 1<<53 - 1 // what any reader of JSON can count to
)

// Cohorts is how many there are: each machine is in one of them, numbered from 0, for each version
// anew.
const Cohorts = 1000

// A Document says which releases a channel has.
type Document struct {
	Product string // os-release IMAGE_ID or ID of the releases
	Variant string // os-release VARIANT_ID; "": they have none
	Channel string // such as "stable"

	// Sequence is one more in each document of the channel, from 1 to 2^53-1.
	Sequence int64

	// ValidUntil is the last second for which the document is believed.
	ValidUntil time.Time

	// Floor is the least version that may be installed; "": any.
	Floor string

	// Signers says who must sign the documents that follow, from the moment this one is accepted:
	// JSON that is for the [DocumentSource] to understand, such as a policy of package cosign. nil:
	// those who had to sign this one.
	Signers json.RawMessage

	// Releases have different versions and digests; the newest is first.
	Releases []Release
}

// A Release is a version that a channel has, or had.
type Release struct {
	Version string        // os-release IMAGE_VERSION
	Digest  digest.Digest // of the manifest, or of the index of several architectures

	// Offered is how many cohorts may install it, from cohort 0 on: 0 to 1000.
	Offered int

	Status Status
	Reason string // why it is held or was withdrawn

	// SupportedUntil is the last day of support; "": the channel does not say. It may be later than
	// what the release itself says: a vendor who extends the period signs another document.
	SupportedUntil release.Date

	Fixes []string // such as CVE-2026-1234
}

// Status says what may be done with a release. The zero value is none.
type Status int

// The states of a release.
const (
	StatusOffered Status = iota + 1 // to as many cohorts as it says
	StatusHeld                      // to no machine for now; machines that have it keep it
	// to no machine ever again; machines that have it should leave it
	StatusWithdrawn
)

var statusNames = map[Status]string{StatusOffered: "offered", StatusHeld: "held", StatusWithdrawn: "withdrawn"}

func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("Status(%d)", int(s))
}

// The members of a document in the order in which they are written.
type (
	jsonDocument struct {
		Schema     string          `json:"schema"`
		Product    string          `json:"product"`
		Variant    string          `json:"variant,omitempty"`
		Channel    string          `json:"channel"`
		Sequence   int64           `json:"sequence"`
		ValidUntil string          `json:"validUntil"`
		Floor      string          `json:"floor,omitempty"`
		Signers    json.RawMessage `json:"signers,omitempty"`
		Releases   []jsonRelease   `json:"releases"`
	}
	jsonRelease struct {
		Version string `json:"version"`
		Digest  string `json:"digest"`
		Offered int    `json:"offered"`
		Status  string `json:"status"`
		Reason  string `json:"reason,omitempty"`

		SupportedUntil release.Date `json:"supportedUntil,omitempty"`
		Fixes          []string     `json:"fixes,omitempty"`
	}
)

func malformed(field, format string, args ...any) error {
	return &osmith.FormatError{Offset: -1, Field: field, Err: fmt.Errorf(format, args...)}
}

// Parse reads a document. Who signed it, and whether it may still be believed, is for [Fetch] and
// [Accept] to say.
func Parse(b []byte) (*Document, error) {
	d, err := parse(b)
	return d, prefix.Error("channel", err)
}

func parse(b []byte) (*Document, error) {
	if len(b) > maxDocument {
		return nil, malformed("document", "%d bytes, at most %d are allowed", len(b), maxDocument)
	}
	// What is not known could be a restriction, so nothing unknown is passed over: that takes
	// another schema.
	var j jsonDocument
	if err := strictjson.Unmarshal(b, &j, strictjson.KnownFields); err != nil {
		return nil, err
	}
	if j.Schema != Schema {
		return nil, malformed("schema", "%q, want %q", j.Schema, Schema)
	}
	d := &Document{Product: j.Product, Variant: j.Variant, Channel: j.Channel, Sequence: j.Sequence, Floor: j.Floor, Signers: j.Signers, Releases: []Release{}}
	var err error
	if d.ValidUntil, err = time.Parse(time.RFC3339, j.ValidUntil); err != nil {
		return nil, malformed("validUntil", "%q, want a time such as 2026-01-31T12:00:00Z", j.ValidUntil)
	}
	if len(j.Releases) > maxReleases {
		return nil, malformed("releases", "%d, at most %d are allowed", len(j.Releases), maxReleases)
	}
	for i, r := range j.Releases {
		entry := Release{Version: r.Version, Digest: digest.Digest(r.Digest), Offered: r.Offered, Reason: r.Reason,
			SupportedUntil: r.SupportedUntil, Fixes: r.Fixes}
		for s, name := range statusNames {
			if name == r.Status {
				entry.Status = s
			}
		}
		if entry.Status == 0 {
			return nil, malformed(fmt.Sprintf("releases[%d].status", i), "%q, want offered, held or withdrawn", r.Status)
		}
		d.Releases = append(d.Releases, entry)
	}
	again, err := d.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		at := 0
		for at < min(len(again), len(b)) && again[at] == b[at] {
			at++
		}
		return nil, &osmith.FormatError{Offset: int64(at), Field: "document", Err: errors.New("not in the canonical form of a document")}
	}
	return d, nil
}

// Marshal writes the document in its one form, if that is what [Parse] would read.
func (d *Document) Marshal() ([]byte, error) {
	b, err := d.marshal()
	return b, prefix.Error("channel", err)
}

func (d *Document) marshal() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	j := jsonDocument{Schema: Schema, Product: d.Product, Variant: d.Variant, Channel: d.Channel, Sequence: d.Sequence,
		ValidUntil: d.ValidUntil.UTC().Format(time.RFC3339), Floor: d.Floor, Signers: d.Signers, Releases: []jsonRelease{}}
	for _, r := range d.Releases {
		j.Releases = append(j.Releases, jsonRelease{r.Version, string(r.Digest), r.Offered, statusNames[r.Status], r.Reason, r.SupportedUntil, r.Fixes})
	}
	b, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	if len(b) > maxDocument {
		return nil, malformed("document", "%d bytes, at most %d are allowed", len(b), maxDocument)
	}
	return b, nil
}

// check refuses what would leave open what it means.
func (d *Document) check() error {
	for _, n := range []struct {
		field, name string
		optional    bool
	}{{"product", d.Product, false}, {"variant", d.Variant, true}, {"channel", d.Channel, false}, {"floor", d.Floor, true}} {
		if n.optional && n.name == "" {
			continue
		}
		if err := checkName(n.name); err != nil {
			return malformed(n.field, "%w", err)
		}
	}
	switch {
	case d.Sequence < 1 || d.Sequence > maxSequence:
		return malformed("sequence", "%d, want 1 to %d", d.Sequence, int64(maxSequence))
	case d.ValidUntil.IsZero() || d.ValidUntil.Nanosecond() != 0 || d.ValidUntil.UTC().Year() < 1 || d.ValidUntil.UTC().Year() > 9999:
		return malformed("validUntil", "%v, want a whole second", d.ValidUntil)
	case len(d.Releases) > maxReleases:
		return malformed("releases", "%d, at most %d are allowed", len(d.Releases), maxReleases)
	}
	if d.Signers != nil {
		if _, err := strictjson.Object(d.Signers); err != nil {
			return malformed("signers", "%w", err)
		}
	}
	digests := map[digest.Digest]bool{}
	for i := range d.Releases {
		r := &d.Releases[i]
		if err := r.check(); err != nil {
			return malformed(fmt.Sprintf("releases[%d]", i), "%w", err)
		}
		if digests[r.Digest] {
			return malformed(fmt.Sprintf("releases[%d]", i), "two versions have the digest %s", r.Digest)
		}
		digests[r.Digest] = true
		if i > 0 && bootloader.CompareVersions(d.Releases[i-1].Version, r.Version) <= 0 {
			return malformed(fmt.Sprintf("releases[%d]", i), "version %s is listed after %s: want descending versions", r.Version, d.Releases[i-1].Version)
		}
	}
	return nil
}

func (r *Release) check() error {
	if err := checkName(r.Version); err != nil {
		return fmt.Errorf("version: %w", err)
	}
	if r.Digest.Validate() != nil || r.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %.100q, want sha256:HEX", string(r.Digest))
	}
	switch {
	case r.Offered < 0 || r.Offered > Cohorts:
		return fmt.Errorf("offered to %d cohorts, want 0 to %d", r.Offered, Cohorts)
	case statusNames[r.Status] == "":
		return fmt.Errorf("%v, want a status", r.Status)
	case r.Status == StatusOffered && r.Reason != "":
		return errors.New("a release that is offered has no reason")
	case len(r.Reason) > maxReason || !utf8.ValidString(r.Reason) || containsControl(r.Reason):
		return fmt.Errorf("the reason must be a line of at most %d bytes", maxReason)
	}
	return prefix.Bare(release.CheckSupport(r.SupportedUntil, r.Fixes))
}

func containsControl(s string) bool {
	return slices.ContainsFunc([]rune(s), func(r rune) bool { return !unicode.IsPrint(r) })
}

// checkName allows what os-release has in these fields, and what can be a tag.
func checkName(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return fmt.Errorf("%d characters, want 1 to %d", len(name), maxName)
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', i > 0 && (c == '.' || c == '-' || c == '+' || c == '~' || c == '^'):
		default:
			return fmt.Errorf("character %q; want letters, digits, _ and, not first, . - + ~ ^", c)
		}
	}
	return nil
}

// Release returns the entry of a version; nil if there is none.
func (d *Document) Release(version string) *Release {
	for i := range d.Releases {
		if d.Releases[i].Version == version {
			return &d.Releases[i]
		}
	}
	return nil
}
