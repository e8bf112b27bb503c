package channel_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

// signers is what a document says about the keys that count from then on.
func signers(keys ...*ecdsa.PrivateKey) json.RawMessage {
	a := cosign.Authority{Name: "release"}
	for _, k := range keys {
		a.Keys = append(a.Keys, k.Public())
	}
	b, err := cosign.Rules{{Repository: "**", Policy: cosign.Policy{Authorities: []cosign.Authority{a}}}}.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return b
}

// A vendor publishes documents in a store that may be copied, and changed, on the way.
type vendor struct {
	store *cosign.Memory
	last  ocispec.Descriptor
}

func (v *vendor) publish(t *testing.T, d *channel.Document, by ...*ecdsa.PrivateKey) ocispec.Descriptor {
	t.Helper()
	var err error
	v.last, err = channel.Write(v.store, d.Channel, d)
	require.NoError(t, err)
	for _, k := range by {
		require.NoError(t, cosign.Sign(t.Context(), v.store, v.last, k, cosign.SignOptions{}))
	}
	return v.last
}

// A mirror is a source of documents that has everything that was ever published, and shows what it
// likes; what it shows is verified as a machine does it.
type mirror struct {
	store   *cosign.Memory
	shows   ocispec.Descriptor
	machine cosign.Policy // of a machine that no document has told otherwise
}

func (m *mirror) Document(ctx context.Context, name string, signers json.RawMessage) ([]byte, error) {
	p := m.machine
	if signers != nil {
		rules, err := cosign.ParseRules(signers, nil)
		if err != nil {
			return nil, err
		}
		if p, err = rules.For(name); err != nil {
			return nil, err
		}
	}
	verified, err := cosign.Verify(ctx, m.store, m.shows, p)
	if err != nil {
		return nil, err
	}
	return channel.Read(ctx, m.store, verified.Subject)
}

// What a mirror can show a machine that has accepted document 2, and what comes of it.
func TestMirror(t *testing.T) {
	v := &vendor{store: new(cosign.Memory)}
	good, other := newKey(t), newKey(t)
	one := document(1, "1")
	two := one.Next(now.AddDate(0, 0, 7))
	require.NoError(t, two.Publish("2", digestOf("2"), channel.Cohorts))
	three := two.Next(now.AddDate(0, 0, 14))
	require.NoError(t, three.Withdraw("2", "eats disks"))
	first, second := v.publish(t, one, good), v.publish(t, two, good)
	m := &mirror{store: v.store, machine: cosign.Policy{Keys: []crypto.PublicKey{good.Public()}}, shows: second}
	_, state, err := channel.Fetch(t.Context(), m, request(channel.State{}))
	require.NoError(t, err)

	twin := one.Next(now.AddDate(1, 0, 0))
	elsewhere, debug, nightly := document(9, "9"), document(9, "9"), document(9, "9")
	elsewhere.Product, debug.Variant, nightly.Channel = "other", "debug", "nightly"
	packed, err := release.PackInto(v.store, "2", &release.Release{ID: "acme", Version: "2", UKI: bytes.NewReader([]byte("u")), Root: bytes.NewReader([]byte("r")), Tree: bytes.NewReader([]byte("t")), RootHash: make([]byte, 32)})
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), v.store, packed, good, cosign.SignOptions{}))
	for name, tt := range map[string]struct {
		shows ocispec.Descriptor
		now   time.Time
		check func(t *testing.T, err error)
	}{
		"rollback": {first, now, is[*channel.OlderError]("document 1 is older than document 2, which was already accepted")},
		"freeze":   {second, now.AddDate(0, 0, 8), is[*channel.ExpiredError]("document 2 was valid until 2026-06-08T12:00:00Z, and it is 2026-06-09T12:00:00Z")},
		"two documents with a number": {v.publish(t, twin, good), now, func(t *testing.T, err error) {
			assert.ErrorIs(t, err, channel.ErrTwoDocuments)
		}},
		"another product":     {v.publish(t, elsewhere, good), now, is[*channel.OtherError](`product: want "acme", got "other"`)},
		"another variant":     {v.publish(t, debug, good), now, is[*channel.OtherError](`variant: want "", got "debug"`)},
		"another channel":     {v.publish(t, nightly, good), now, is[*channel.OtherError](`channel: want "stable", got "nightly"`)},
		"unsigned":            {v.publish(t, document(10, "10")), now, func(t *testing.T, err error) { assert.ErrorIs(t, err, cosign.ErrUnsigned) }},
		"somebody else's key": {v.publish(t, document(11, "11"), other), now, func(t *testing.T, err error) { assert.ErrorIs(t, err, cosign.ErrUntrusted) }},
		"a release as a document": {packed, now, func(t *testing.T, err error) {
			require.ErrorAs(t, err, new(*osmith.FormatError))
			assert.ErrorContains(t, err, `it is a "application/vnd.osmith.release.v1"`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m.shows = tt.shows
			r := request(state)
			r.Now = tt.now
			d, s, err := channel.Fetch(t.Context(), m, r)
			require.Error(t, err)
			assert.Nil(t, d)
			assert.Zero(t, s)
			tt.check(t, err)
		})
	}
	// A machine that saw nothing newer can be shown an old document for as long as that is valid:
	// this is what a short validity is for.
	m.shows = first
	_, _, err = channel.Fetch(t.Context(), m, request(channel.State{}))
	require.NoError(t, err)

	// What was withdrawn cannot be kept from a machine for longer than that, either.
	m.shows = v.publish(t, three, good)
	d, _, err := channel.Fetch(t.Context(), m, request(state))
	require.NoError(t, err)
	c := d.Choose(channel.Machine{ID: "m", Running: "2"})
	require.ErrorAs(t, c.Leave, new(*channel.WithdrawnError))
	assert.Equal(t, "1", c.Release.Version)
}

func is[E error](text string) func(t *testing.T, err error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var e E
		require.ErrorAs(t, err, &e)
		assert.EqualError(t, e, text)
	}
}

// Keys change with an overlap: machines that look in at any time of it follow without being
// touched, and the old key is worth nothing to an attacker who finds it later.
func TestKeysRotate(t *testing.T) {
	v := &vendor{store: new(cosign.Memory)}
	old, next, thief := newKey(t), newKey(t), newKey(t)
	m := &mirror{store: v.store, machine: cosign.Policy{Keys: []crypto.PublicKey{old.Public()}}}
	look := func(s channel.State) (channel.State, error) {
		_, s, err := channel.Fetch(t.Context(), m, request(s))
		return s, err
	}
	one := document(1, "1")
	m.shows = v.publish(t, one, old)
	early, err := look(channel.State{})
	require.NoError(t, err)

	// both keys count, and the old one signs what old machines have to believe
	two := one.Next(one.ValidUntil)
	two.Trust(signers(old, next))
	m.shows = v.publish(t, two, old, next)
	atBoth, err := look(early)
	require.NoError(t, err)

	three := two.Next(one.ValidUntil) // the new key alone counts, and both still sign
	three.Trust(signers(next))
	m.shows = v.publish(t, three, old, next)
	var states []channel.State
	for _, s := range []channel.State{early, atBoth, {}} {
		s, err := look(s)
		require.NoError(t, err)
		states = append(states, s)
	}
	four := three.Next(one.ValidUntil)
	m.shows = v.publish(t, four, next)
	for i := range states {
		states[i], err = look(states[i])
		require.NoError(t, err, "the old key is not needed any more")
	}
	_, err = look(early)
	require.ErrorIs(t, err, cosign.ErrUntrusted, "a machine that slept through all of it")

	five := four.Next(one.ValidUntil)
	five.Trust(signers(thief))
	m.shows = v.publish(t, five, old)
	for _, s := range states {
		_, err := look(s)
		require.ErrorIs(t, err, cosign.ErrUntrusted, "the old key was found by somebody")
	}
}

// A document and its signature can be made where the private key is, and joined here.
func TestSignedElsewhere(t *testing.T) {
	store, k := new(cosign.Memory), newKey(t)
	artifact, err := channel.Write(store, "", document(1, "1"))
	require.NoError(t, err)
	draft, err := cosign.Prepare(artifact, k.Public(), cosign.FormatBundle, cosign.SignOptions{})
	require.NoError(t, err)
	sum := crypto.SHA256.New()
	sum.Write(draft.Message())
	sig, err := ecdsa.SignASN1(rand.Reader, k, sum.Sum(nil)) // elsewhere
	require.NoError(t, err)
	require.NoError(t, draft.Join(t.Context(), store, sig))
	m := &mirror{store: store, shows: artifact, machine: cosign.Policy{Keys: []crypto.PublicKey{k.Public()}}}
	_, _, err = channel.Fetch(t.Context(), m, request(channel.State{}))
	require.NoError(t, err)
}

// What is not an artifact of a document, or not what its digest says, is refused.
func TestReadArtifact(t *testing.T) {
	ctx := t.Context()
	store := new(cosign.Memory)
	good, err := channel.Write(store, "stable", document(1, "1"))
	require.NoError(t, err)
	again, err := channel.Write(new(cosign.Memory), "", document(1, "1"))
	require.NoError(t, err)
	assert.Equal(t, good.Digest, again.Digest)
	b, err := channel.Read(ctx, store, good)
	require.NoError(t, err)
	assert.Equal(t, text(t, document(1, "1")), b)
	unknown := good
	unknown.Size = -1
	_, err = channel.Read(ctx, store, unknown)
	require.NoError(t, err)

	manifest := func(change func(m *ocispec.Manifest)) ocispec.Descriptor {
		layer, err := store.WriteBlob(channel.MediaType, bytes.NewReader(b))
		require.NoError(t, err)
		m := ocispec.Manifest{ArtifactType: channel.ArtifactType, Config: layer, Layers: []ocispec.Descriptor{layer}}
		change(&m)
		d, err := store.WriteManifest(m, "")
		require.NoError(t, err)
		return d
	}
	short := good
	short.Size--
	for want, d := range map[string]ocispec.Descriptor{
		`it is a "x", not a`:          manifest(func(m *ocispec.Manifest) { m.ArtifactType = "x" }),
		"0 layers, want one":          manifest(func(m *ocispec.Manifest) { m.Layers = nil }),
		"2 layers, want one":          manifest(func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }),
		"1 layers, want one of type":  manifest(func(m *ocispec.Manifest) { m.Layers[0].MediaType = "text/plain" }),
		"a layer of -1 bytes":         manifest(func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }),
		"1048577 bytes, want at most": manifest(func(m *ocispec.Manifest) { m.Layers[0].Size = 1<<20 + 1 }),
		"65537 bytes, want at most":   {Digest: good.Digest, Size: 64<<10 + 1},
		"not found":                   {Digest: digestOf("absent"), Size: 5},
		"digest":                      {Digest: "sha512:00", Size: 5},
		fmt.Sprint(good.Size):         short,
	} {
		_, err := channel.Read(ctx, store, d)
		assert.ErrorContains(t, err, want)
	}
	_, err = channel.Read(ctx, endless{}, unknown)
	assert.ErrorContains(t, err, "more than 65536 bytes")
	_, err = channel.Write(store, "", &channel.Document{})
	assert.ErrorContains(t, err, "channel: product: 0 characters")
}

// endless is a source of blobs without an end.
type endless struct{}

func (endless) Blob(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return zeros{}, nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
func (zeros) Close() error               { return nil }
