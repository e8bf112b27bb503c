package cosign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// manifests reads what may hold signatures of an artifact.
func manifests(t *testing.T, src cosign.ArtifactSource, artifact ocispec.Descriptor) (found []ocispec.Manifest) {
	t.Helper()
	list, err := src.Signatures(t.Context(), artifact)
	require.NoError(t, err)
	for _, d := range list {
		r, err := cosign.OpenBlob(t.Context(), src, d)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		var m ocispec.Manifest
		require.NoError(t, json.Unmarshal(b, &m))
		found = append(found, m)
	}
	return found
}

// A bundle's manifest has the artifact as its subject, with all that a registry needs to find it:
// type, digest and size. What else was said about the artifact is not repeated.
func TestSubjectWritten(t *testing.T) {
	_, dir, artifact := newArtifact(t)
	named := artifact
	named.Annotations = map[string]string{ocispec.AnnotationRefName: "v1"}
	named.ArtifactType = "application/vnd.example.os.v1"
	for _, attest := range []bool{false, true} {
		var store cosign.Memory
		o := cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}}
		if attest {
			require.NoError(t, cosign.Attest(t.Context(), &store, named, cosign.PredicateSPDX, []byte("{}"), testKeys()["p256"], o))
		} else {
			require.NoError(t, cosign.Sign(t.Context(), &store, named, testKeys()["p256"], o))
		}
		found := manifests(t, &store, artifact)
		require.Len(t, found, 1)
		require.Equal(t, &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: artifact.Digest, Size: artifact.Size}, found[0].Subject)
	}
	// In the older format it is the tag that says so.
	require.NoError(t, cosign.Sign(t.Context(), dir, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}))
	found := manifests(t, dir, artifact)
	require.Len(t, found, 1)
	require.Nil(t, found[0].Subject)
}

// indiscriminate is a source that takes every manifest for one that may hold signatures.
type indiscriminate struct {
	*cosign.Memory
	found []ocispec.Descriptor
}

func (s *indiscriminate) Signatures(context.Context, ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return s.found, nil
}

// A manifest whose subject is another artifact holds that one's signatures, whatever is in them.
func TestSubjectOfAnother(t *testing.T) {
	for _, format := range []cosign.Format{cosign.FormatBundle, cosign.FormatSimpleSigning} {
		src := &indiscriminate{Memory: new(cosign.Memory)}
		config, err := src.WriteBlob(ocispec.MediaTypeEmptyJSON, bytes.NewReader([]byte("{}")))
		require.NoError(t, err)
		artifact, err := src.WriteManifest(ocispec.Manifest{ArtifactType: "x", Config: config}, "v1")
		require.NoError(t, err)
		other, err := src.WriteManifest(ocispec.Manifest{ArtifactType: "y", Config: config}, "v2")
		require.NoError(t, err)
		var signed cosign.Memory
		require.NoError(t, cosign.Sign(t.Context(), &signed, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{format}}))
		m := manifests(t, &signed, artifact)[0]
		_, err = cosign.CopySignatures(t.Context(), src.Memory, &signed, artifact) // the blobs
		require.NoError(t, err)

		for subject, want := range map[*ocispec.Descriptor]error{&artifact: nil, &other: cosign.ErrUnsigned} {
			m.Subject = subject
			d, err := src.WriteManifest(m, "")
			require.NoError(t, err)
			src.found = []ocispec.Descriptor{d}
			result, err := cosign.Verify(t.Context(), src, artifact, cosign.Policy{Keys: public("p256")})
			require.ErrorIs(t, err, want, "%v with subject %s", format, subject.Digest)
			require.Equal(t, want != nil, result == nil)
			n, err := cosign.CopySignatures(t.Context(), new(cosign.Memory), src, artifact)
			require.NoError(t, err)
			require.Equal(t, want == nil, n == 1, "copied")
		}
	}
}
