package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// A DocumentSource delivers documents whose signatures it has verified: by cosign, from wherever
// artifacts are, or by a client of The Update Framework.
type DocumentSource interface {
	// Document returns the newest document of a channel that is there. signers are what the last
	// accepted document has said about who must have signed (Document.Signers); nil: it is for the
	// source to know. An error keeps the document from being looked at.
	Document(ctx context.Context, channel string, signers json.RawMessage) ([]byte, error)
}

// A Request is what a machine asks for, and what it knows.
type Request struct {
	Product, Variant, Channel string

	// Now is the time, of a clock that the caller believes. Without one, whether a document has
	// expired could not be said, and the error is ErrNoTime.
	Now time.Time

	// State is what was accepted last. The zero value is that of a machine that has never accepted
	// a document of this channel.
	State State
}

// State is what a machine keeps of the last document that it has accepted, so that an older one is
// not accepted any more. It is to be kept, whole, before anything else is done with the document.
type State struct {
	Product, Variant, Channel string
	Sequence                  int64
	Digest                    digest.Digest // of the document
	Signers                   json.RawMessage
}

// Errors of documents that are not accepted.
var (
	// ErrNoTime says that it is not known what time it is.
	ErrNoTime = errors.New("the current time is unknown, so whether the document is still valid cannot be checked")

	// ErrTwoDocuments says that there are two documents with one number: their server, or their
	// signer, tells different machines different things.
	ErrTwoDocuments = errors.New("a different document with this sequence number was already accepted")
)

// An OtherError says that a document, or the state of a machine, is about something else than what
// was asked for.
type OtherError struct {
	What      string // "product", "variant", "channel"; of a state, "product of the state"...
	Want, Got string
}

func (e *OtherError) Error() string {
	return fmt.Sprintf("%s: want %q, got %q", e.What, e.Want, e.Got)
}

// An OlderError says that a document is older than one that was accepted before: the server serves
// an old one.
type OlderError struct {
	Sequence, Accepted int64
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("document %d is older than document %d, which was already accepted", e.Sequence, e.Accepted)
}

// An ExpiredError says that a document counts no longer: the vendor has stopped signing, or the
// server withholds newer documents.
type ExpiredError struct {
	Sequence        int64
	ValidUntil, Now time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("document %d was valid until %s, and it is %s", e.Sequence, e.ValidUntil.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// Fetch gets the document of a channel from a source and accepts it, or does not, as [Accept] does.
func Fetch(ctx context.Context, src DocumentSource, r Request) (*Document, State, error) {
	b, err := src.Document(ctx, r.Channel, r.State.Signers)
	if err != nil {
		return nil, State{}, prefix.Error("channel", err)
	}
	return Accept(b, r)
}

// Accept checks a document, whose signatures were verified, against what was asked for, what was
// accepted before, and the time. It returns the state to keep. The errors are [*OtherError],
// [*OlderError], [ErrTwoDocuments], [*ExpiredError], [ErrNoTime], and a *osmith.FormatError.
func Accept(b []byte, r Request) (*Document, State, error) {
	d, s, err := accept(b, r)
	if err != nil {
		return nil, State{}, prefix.Error("channel", err)
	}
	return d, s, nil
}

func accept(b []byte, r Request) (d *Document, s State, err error) {
	if r.Now.IsZero() {
		return nil, s, ErrNoTime
	}
	if r.State.Sequence != 0 {
		for _, c := range []OtherError{
			{"product of the state", r.Product, r.State.Product}, {"variant of the state", r.Variant, r.State.Variant}, {"channel of the state", r.Channel, r.State.Channel},
		} {
			if c.Want != c.Got {
				return nil, s, &c
			}
		}
	}
	if d, err = parse(b); err != nil {
		return nil, s, err
	}
	for _, c := range []OtherError{{"product", r.Product, d.Product}, {"variant", r.Variant, d.Variant}, {"channel", r.Channel, d.Channel}} {
		if c.Want != c.Got {
			return nil, s, &c
		}
	}
	s = State{Product: d.Product, Variant: d.Variant, Channel: d.Channel, Sequence: d.Sequence, Digest: digest.SHA256.FromBytes(b), Signers: r.State.Signers}
	if d.Signers != nil {
		s.Signers = d.Signers
	}
	switch {
	case d.Sequence < r.State.Sequence:
		return nil, s, &OlderError{d.Sequence, r.State.Sequence}
	case d.Sequence == r.State.Sequence && s.Digest != r.State.Digest:
		return nil, s, fmt.Errorf("document %d: %w", d.Sequence, ErrTwoDocuments)
	case r.Now.Unix() > d.ValidUntil.Unix():
		return nil, s, &ExpiredError{d.Sequence, d.ValidUntil, r.Now}
	}
	return d, s, nil
}

// StateSchema names the JSON form of a state.
const StateSchema = "osmith.channel-state/1"

type jsonState struct {
	Schema   string          `json:"schema"`
	Product  string          `json:"product"`
	Variant  string          `json:"variant,omitempty"`
	Channel  string          `json:"channel"`
	Sequence int64           `json:"sequence"`
	Digest   string          `json:"digest"`
	Signers  json.RawMessage `json:"signers,omitempty"`
}

// MarshalJSON writes the form that [ParseState] reads.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonState{StateSchema, s.Product, s.Variant, s.Channel, s.Sequence, string(s.Digest), s.Signers})
}

// ParseState reads what was kept. What cannot be read is no state of a machine that has accepted
// nothing: that would let in any old document.
func ParseState(b []byte) (s State, err error) {
	defer prefix.Add("channel", &err)
	if len(b) > 2*maxDocument {
		return s, malformed("state", "%d bytes, at most %d are allowed", len(b), 2*maxDocument)
	}
	var j jsonState
	if err := strictjson.Unmarshal(b, &j, strictjson.KnownFields); err != nil {
		return s, err
	}
	switch {
	case j.Schema != StateSchema:
		return s, malformed("state: schema", "%q, want %q", j.Schema, StateSchema)
	case j.Sequence < 1 || j.Sequence > maxSequence:
		return s, malformed("state: sequence", "%d, want 1 to %d", j.Sequence, int64(maxSequence))
	case digest.Digest(j.Digest).Validate() != nil:
		return s, malformed("state: digest", "%.100q, want sha256:HEX", j.Digest)
	}
	return State{Product: j.Product, Variant: j.Variant, Channel: j.Channel, Sequence: j.Sequence, Digest: digest.Digest(j.Digest), Signers: j.Signers}, nil
}
