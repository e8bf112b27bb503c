package cosign_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// simple makes one more signature of the older format, another one each time.
func simple(ctx context.Context, store cosign.Store, artifact ocispec.Descriptor) error {
	return cosign.Sign(ctx, store, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}, Rand: rand.Reader})
}

// A signature that readers would not look at is refused before anything is written, and those that
// are there stay.
func TestLastSignature(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	memory := new(cosign.Memory)
	require.NoError(t, func() error {
		for range 256 {
			if err := simple(t.Context(), memory, artifact); err != nil {
				return err
			}
		}
		return nil
	}())
	_, err := cosign.CopySignatures(t.Context(), dir, memory, artifact)
	require.NoError(t, err)
	for range 3 {
		err := simple(t.Context(), dir, artifact)
		var limit *cosign.LimitError
		require.ErrorAs(t, err, &limit)
		require.ErrorIs(t, err, cosign.ErrTooLarge)
		require.EqualValues(t, 257, limit.Got)
		require.EqualValues(t, 256, limit.Max)
		result, err := cosign.Verify(t.Context(), dir, artifact, cosign.Policy{Keys: public("p256")})
		require.NoError(t, err)
		require.Len(t, result.Signatures, 256)
	}
}

// What one signature adds to the work of the next is in proportion to itself: the layout is not
// searched again.
func TestSignaturesAddUp(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	counting := &countingStore{Dir: dir}
	for range 40 {
		require.NoError(t, simple(t.Context(), counting, artifact))
	}
	require.LessOrEqual(t, counting.blobs, 40, "one manifest is read for each")
	require.LessOrEqual(t, counting.searches, 1)
}

type countingStore struct {
	*cosign.Dir
	blobs, searches int
}

func (c *countingStore) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	c.blobs++
	return c.Dir.Blob(ctx, d)
}

func (c *countingStore) Signatures(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	c.searches++
	return c.Dir.Signatures(ctx, d)
}

// Every limit of a reader is one of the writer, who says so before anything is written.
func TestWritersObeyReaders(t *testing.T) {
	key := testKeys()["p256"]
	large := bytes.Repeat([]byte("x"), 5<<20)
	for name, write := range map[string]func(*cosign.Dir, ocispec.Descriptor) error{
		"payload": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			return cosign.Sign(t.Context(), dir, artifact, key, cosign.SignOptions{Reference: string(large[:1<<20])})
		},
		"predicate": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			return cosign.Attest(t.Context(), dir, artifact, "x", fmt.Appendf(nil, `{"a":"%s"}`, large), key, cosign.SignOptions{Limits: cosign.Limits{Attestation: 4 << 20}})
		},
		"statement": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			predicate := fmt.Appendf(nil, `{"a":"%s"}`, large)
			return cosign.Attest(t.Context(), dir, artifact, "x", predicate, key, cosign.SignOptions{Limits: cosign.Limits{Attestation: int64(len(predicate))}})
		},
		"statement by default": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			_, err := cosign.PrepareAttestation(artifact, key.Public(), cosign.FormatBundle, "x", fmt.Appendf(nil, `{"a":"%s"}`, bytes.Repeat(large, 7)))
			return err
		},
		"manifest of a bundle": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			return cosign.Attest(t.Context(), dir, artifact, string(large), []byte("{}"), key, cosign.SignOptions{})
		},
		"manifest of a tag": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			return cosign.Attest(t.Context(), dir, artifact, string(large), []byte("{}"), key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}})
		},
		"manifest of a layout": func(dir *cosign.Dir, _ ocispec.Descriptor) error {
			_, err := dir.WriteManifest(ocispec.Manifest{Annotations: map[string]string{"a": string(large)}}, "")
			return err
		},
		"candidates": func(dir *cosign.Dir, artifact ocispec.Descriptor) error {
			return cosign.Sign(t.Context(), full{dir}, artifact, key, cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, dir, artifact := newArtifact(t)
			before, err := os.ReadFile(filepath.Join(path, "index.json"))
			require.NoError(t, err)
			err = write(dir, artifact)
			require.ErrorIs(t, err, cosign.ErrTooLarge)
			if name == "predicate" {
				require.ErrorContains(t, err, "bytes of the predicate", "before it is decoded")
			}
			after, err := os.ReadFile(filepath.Join(path, "index.json"))
			require.NoError(t, err)
			require.Equal(t, string(before), string(after))
		})
	}
}

// full has as many manifests with signatures as are looked at.
type full struct{ *cosign.Dir }

func (full) Signatures(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return make([]ocispec.Descriptor, 1024), nil
}

// The largest attestation that can be signed is one that is believed.
func TestLargeAttestation(t *testing.T) {
	for _, format := range []cosign.Format{cosign.FormatBundle, cosign.FormatDSSE} {
		_, dir, artifact := newArtifact(t)
		key := testKeys()["p256"]
		require.NoError(t, cosign.Sign(t.Context(), dir, artifact, key, cosign.SignOptions{}))
		document := fmt.Appendf(nil, `{"a":"%s"}`, bytes.Repeat([]byte("x"), 32<<20-1000))
		require.NoError(t, cosign.Attest(t.Context(), dir, artifact, cosign.PredicateSPDX, document, key, cosign.SignOptions{Formats: []cosign.Format{format}}))
		policy := cosign.Policy{Keys: public("p256"), Attestations: []cosign.AttestationRule{{PredicateTypes: []string{cosign.PredicateSPDX}}}}
		result, err := cosign.Verify(t.Context(), dir, artifact, policy)
		require.NoError(t, err)
		require.Len(t, result.Attestations, 1)
		require.Equal(t, len(document), len(result.Attestations[0].Predicate))

		policy.Limits.Attestation = 1 << 20
		_, err = cosign.Verify(t.Context(), dir, artifact, policy)
		require.ErrorIs(t, err, cosign.ErrUntrusted)
		policy.Attestations = nil
		result, err = cosign.Verify(t.Context(), dir, artifact, policy)
		require.NoError(t, err, "a large referrer does not make a signature worse")
		require.Len(t, result.Rejected, 1)
		require.ErrorIs(t, result.Rejected[0].Err, cosign.ErrTooLarge)
	}
}

// addTagged puts another signer's layers under a tag of the artifact.
func addTagged(t testing.TB, store cosign.Store, tag string, layers ...ocispec.Descriptor) {
	t.Helper()
	config, err := store.WriteBlob(ocispec.MediaTypeImageConfig, strings.NewReader("{}"))
	require.NoError(t, err)
	_, err = store.WriteManifest(ocispec.Manifest{Config: config, Layers: layers, Annotations: map[string]string{"whose": "theirs"}}, tag)
	require.NoError(t, err)
}

// underTag reads the manifest that has a tag.
func underTag(t testing.TB, store interface {
	cosign.Store
	cosign.TagResolver
}, tag string) (m ocispec.Manifest) {
	t.Helper()
	d, err := store.ResolveTag(t.Context(), tag)
	require.NoError(t, err)
	r, err := cosign.OpenBlob(t.Context(), store, d)
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(r).Decode(&m))
	require.NoError(t, r.Close())
	return m
}

// What others have put under the tag stays there, whether it can be read here or not.
func TestOthersSurvive(t *testing.T) {
	path, dir, artifact := newArtifact(t)
	for name, store := range map[string]interface {
		cosign.Store
		cosign.TagResolver
	}{"directory": dir, "memory": new(cosign.Memory)} {
		tag := "sha256-" + artifact.Digest.Encoded() + ".att"
		blob, err := store.WriteBlob("application/vnd.dsse.envelope.v1+json", strings.NewReader(`{"payloadType":"of tomorrow"}`))
		require.NoError(t, err)
		blob.Annotations = map[string]string{"predicateType": "https://slsa.dev/provenance/v9"}
		gone := ocispec.Descriptor{MediaType: "application/x", Digest: digest.FromString("not here"), Size: 1 << 40}
		addTagged(t, store, tag, blob, gone)
		require.NoError(t, cosign.Attest(t.Context(), store, artifact, "x", []byte("{}"), testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}}))
		m := underTag(t, store, tag)
		require.Len(t, m.Layers, 3, name)
		require.Equal(t, []ocispec.Descriptor{blob, gone}, m.Layers[:2], name)
		require.Equal(t, "theirs", m.Annotations["whose"], name)
	}
	// What is no manifest of signatures is not written over.
	tag := "sha256-" + artifact.Digest.Encoded() + ".sig"
	d, err := dir.ResolveTag(t.Context(), "sha256-"+artifact.Digest.Encoded()+".att")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, "blobs", "sha256", d.Digest.Encoded()), []byte("{}"), 0o600))
	err = cosign.Attest(t.Context(), dir, artifact, "y", []byte("{}"), testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatDSSE}})
	require.ErrorContains(t, err, "cannot read the manifest, so the signature is not added")
	other := &cosign.Memory{}
	foreign := resolving{other, ocispec.Descriptor{Digest: digest.FromString("{}"), Size: 2}}
	_, err = other.WriteBlob("x", strings.NewReader("{}"))
	require.NoError(t, err)
	require.ErrorContains(t, simple(t.Context(), foreign, artifact), "tag sha256-11015b5b7cb6a325a58eb50786bec263bae1b4a220a9562df4ccf93e3314b288.sig: cannot read the manifest, so")
	index := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	foreign.desc, err = other.WriteBlob("x", strings.NewReader(index))
	require.NoError(t, err)
	require.ErrorContains(t, simple(t.Context(), foreign, artifact), `names a "application/vnd.oci.image.index.v1+json"`)
	_, err = other.ResolveTag(t.Context(), tag)
	require.ErrorIs(t, err, cosign.ErrNotFound, "nothing was written")
}

// resolving has one manifest under every tag.
type resolving struct {
	*cosign.Memory
	desc ocispec.Descriptor
}

func (r resolving) ResolveTag(context.Context, string) (ocispec.Descriptor, error) {
	return r.desc, nil
}

// Signers at the same time lose nothing of each other's.
func TestConcurrentSigners(t *testing.T) {
	_, _, artifact := newArtifact(t)
	memory := new(cosign.Memory)
	errs := make([]error, 6)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = simple(t.Context(), memory, artifact) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Len(t, underTag(t, memory, "sha256-"+artifact.Digest.Encoded()+".sig").Layers, 6)
}

// racing lets another signer write at certain moments.
type racing struct {
	*cosign.Memory
	resolve, settle func()
}

func (r *racing) ResolveTag(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	d, err := r.Memory.ResolveTag(ctx, tag)
	if f := r.resolve; f != nil {
		r.resolve = nil
		f()
	}
	return d, err
}

func (r *racing) Settle(ctx context.Context) error {
	if f := r.settle; f != nil {
		r.settle = nil
		f()
	}
	return r.Memory.Settle(ctx)
}

// A signer that writes between our look at the tag and our write, or right after it from an older
// look, is merged.
func TestMergedSigners(t *testing.T) {
	_, _, artifact := newArtifact(t)
	tag := "sha256-" + artifact.Digest.Encoded() + ".sig"
	layer := func(m *cosign.Memory, text string) ocispec.Descriptor {
		d, err := m.WriteBlob("application/vnd.dev.cosign.simplesigning.v1+json", strings.NewReader(text))
		require.NoError(t, err)
		return d
	}
	before := &racing{Memory: new(cosign.Memory)}
	before.resolve = func() { addTagged(t, before.Memory, tag, layer(before.Memory, "theirs")) }
	require.NoError(t, simple(t.Context(), before, artifact))
	require.Len(t, underTag(t, before, tag).Layers, 2)

	after := &racing{Memory: new(cosign.Memory)}
	after.settle = func() { addTagged(t, after.Memory, tag, layer(after.Memory, "theirs")) }
	require.NoError(t, simple(t.Context(), after, artifact))
	require.Len(t, underTag(t, after, tag).Layers, 2)

	// A signer that writes again and again is an error, and not an endless loop.
	never := &racing{Memory: new(cosign.Memory)}
	n := 0
	var again func()
	again = func() {
		n++
		addTagged(t, never.Memory, tag, layer(never.Memory, fmt.Sprint("theirs ", n)))
		never.settle = again
	}
	never.settle = again
	require.ErrorIs(t, simple(t.Context(), never, artifact), cosign.ErrBusy)
	require.Less(t, n, 100)
}

// lost loses the answer of the first write of a tag.
type lost struct {
	*racing
	writes int
}

func (l *lost) ReplaceManifest(ctx context.Context, m ocispec.Manifest, tag string, before digest.Digest) (ocispec.Descriptor, error) {
	d, err := l.racing.ReplaceManifest(ctx, m, tag, before)
	if l.writes++; err == nil && l.writes == 1 {
		err = cosign.ErrBusy
	}
	return d, err
}

// A signature whose write had no answer is found under the tag, and looked after there as one that
// had: a signer that writes from an older look is merged.
func TestAnswerIsLost(t *testing.T) {
	_, _, artifact := newArtifact(t)
	tag := "sha256-" + artifact.Digest.Encoded() + ".sig"
	store := &lost{racing: &racing{Memory: new(cosign.Memory)}}
	store.settle = func() {
		theirs, err := store.WriteBlob("application/vnd.dev.cosign.simplesigning.v1+json", strings.NewReader("theirs"))
		require.NoError(t, err)
		addTagged(t, store, tag, theirs)
	}
	require.NoError(t, simple(t.Context(), store, artifact))
	require.Nil(t, store.settle)
	require.Len(t, underTag(t, store, tag).Layers, 2)
}

// Rules that cannot be read again are not written.
func TestRulesLimits(t *testing.T) {
	for name, p := range map[string]cosign.Policy{
		"size":      {Keys: public("p256"), Authorities: []cosign.Authority{{Name: strings.Repeat("x", 1<<20), Keys: public("rsa")}}},
		"threshold": {Keys: public("p256"), Threshold: 1001},
		"attested":  {Keys: public("p256"), Attestations: []cosign.AttestationRule{{PredicateTypes: []string{"x"}, Threshold: 1001}}},
	} {
		_, err := json.Marshal(cosign.Rules{{Repository: "**", Policy: p}})
		require.Error(t, err, name)
	}
	var all []crypto.PublicKey
	all = append(all, public("p256")...)
	_, err := json.Marshal(cosign.Rules{{Repository: "**", Policy: cosign.Policy{Keys: all, Threshold: 1}}})
	require.NoError(t, err)
}
