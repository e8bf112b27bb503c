package cosign_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// A badInput prepares a layout and returns what will be verified, and the error to find: in the
// error of Verify itself, or as the reason for its only rejection.
type badInput struct {
	prepare  func(t *testing.T, path string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor
	err      error // that errors.Is finds; nil: a *FormatError
	rejected bool
	names    []string // besides the artifact
}

const badStatement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"HEX"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`

// TestBadInput has a row for each way in which an artifact or its signature can be bad: the error
// is one to branch on, and names the artifact and the authority whose signature is missing or
// worthless.
func TestBadInput(t *testing.T) {
	bundle := func(change func(statement string) string, outside func(bundle string) string) func(*testing.T, string, *cosign.Dir, ocispec.Descriptor) ocispec.Descriptor {
		return func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			statement := strings.ReplaceAll(badStatement, "HEX", artifact.Digest.Encoded())
			addBundle(t, dir, artifact, outside(bundleText(t, change(statement))))
			return artifact
		}
	}
	same := func(s string) string { return s }
	replace := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	sign := func(t *testing.T, dir *cosign.Dir, artifact ocispec.Descriptor, format cosign.Format) {
		require.NoError(t, cosign.Sign(context.Background(), dir, artifact, testKeys()["p256"], cosign.SignOptions{Formats: []cosign.Format{format}}))
	}
	for name, test := range map[string]badInput{
		"tampered payload": {func(t *testing.T, path string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			const altered = `{"critical":{"identity":{"docker-reference":"else"}}}`
			addSimple(t, dir, artifact, altered, signPayload(t, []byte("what was signed")))
			return artifact
		}, cosign.ErrOtherKey, true, nil},
		"tampered manifest": {func(t *testing.T, path string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			sign(t, dir, artifact, cosign.FormatBundle)
			overwrite(t, path, artifact, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
			return artifact
		}, new(osmith.DigestError), false, nil},
		"tampered blob": {func(t *testing.T, path string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			addBundle(t, dir, artifact, "{}")
			overwrite(t, path, ocispec.Descriptor{Digest: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}, func(b []byte) []byte { return []byte("[]") })
			return artifact
		}, new(osmith.DigestError), true, []string{"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}},
		"tag that names another now": {func(t *testing.T, path string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			sign(t, dir, artifact, cosign.FormatSimpleSigning)
			evil := addArtifact(t, dir, "evil")
			index := layoutIndex(t, path)
			for i, d := range index.Manifests {
				if d.Digest == evil.Digest {
					index.Manifests[i].Annotations[ocispec.AnnotationRefName] = "v1"
				} else if d.Digest == artifact.Digest {
					index.Manifests[i].Annotations = nil
				}
			}
			text, err := json.Marshal(index)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(path, "index.json"), text, 0o600))
			d, err := dir.Resolve("v1")
			require.NoError(t, err)
			require.Equal(t, evil.Digest, d.Digest)
			return d
		}, cosign.ErrUnsigned, false, []string{`"vendor"`}},
		"tag in place of a digest": {func(t *testing.T, path string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			sign(t, dir, artifact, cosign.FormatSimpleSigning)
			artifact.Digest = "sha256:v1"
			return artifact
		}, digest.ErrDigestInvalidLength, false, nil},
		"duplicate key":           {bundle(replace(`"subject"`, `"subject":[],"subject"`), same), nil, true, []string{`signed by "vendor"`, "appears twice"}},
		"duplicate key around it": {bundle(same, replace(`"mediaType"`, `"mediaType":"","mediaType"`)), nil, true, []string{"appears twice"}},
		"signature over another image": {bundle(func(s string) string {
			i := strings.Index(s, `"sha256":"`) + 10
			return s[:i] + strings.Repeat("0", 64) + s[i+64:]
		}, same), cosign.ErrOtherArtifact, true, []string{`signed by "vendor"`, "sha256:" + strings.Repeat("0", 64)}},
		"unknown bundle version": {bundle(same, replace("bundle.v0.3", "bundle.v0.4")), nil, true, []string{"v0.4", "mediaType"}},
		"oversized manifest": {func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			artifact.Size = 5 << 20
			return artifact
		}, cosign.ErrTooLarge, false, nil},
		"oversized payload": {func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			addSimple(t, dir, artifact, strings.Repeat(" ", 2<<20), []byte("x"))
			return artifact
		}, cosign.ErrTooLarge, true, nil},
		"too many signatures": {func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			layer := ocispec.Descriptor{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Digest: artifact.Digest, Size: artifact.Size}
			m := ocispec.Manifest{Subject: &artifact}
			for range 300 {
				m.Layers = append(m.Layers, layer)
			}
			_, err := dir.WriteManifest(m, "sha256-"+artifact.Digest.Encoded()+".sig")
			require.NoError(t, err)
			return artifact
		}, cosign.ErrTooLarge, true, []string{`"vendor"`, "300, at most 256 are read"}},
		"no signature": {func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			return artifact
		},
			cosign.ErrUnsigned, false, []string{`"vendor"`}},
		"empty list of signatures": {func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			_, err := dir.WriteManifest(ocispec.Manifest{}, "sha256-"+artifact.Digest.Encoded()+".sig")
			require.NoError(t, err)
			return artifact
		}, cosign.ErrUnsigned, false, []string{`"vendor"`}},
		"empty list of signatures in a bundle": {bundle(same, func(s string) string {
			i := strings.Index(s, `"signatures":[`) + 14
			return s[:i] + s[strings.Index(s[i:], "]")+i:]
		}), nil, true, []string{"signatures"}},
		"signed by somebody else": {func(t *testing.T, _ string, dir *cosign.Dir, artifact ocispec.Descriptor) ocispec.Descriptor {
			require.NoError(t, cosign.Sign(context.Background(), dir, artifact, testKeys()["rsa"], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatBundle}}))
			return artifact
		}, cosign.ErrOtherKey, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path, dir, artifact := newArtifact(t)
			artifact = test.prepare(t, path, dir, artifact)
			result, err := cosign.Verify(context.Background(), dir, artifact,
				cosign.Policy{Authorities: []cosign.Authority{{Name: "vendor", Keys: public("p256")}}})
			require.Nil(t, result)
			require.ErrorContains(t, err, string(artifact.Digest))
			for _, name := range test.names {
				require.ErrorContains(t, err, name)
			}
			if test.rejected {
				var untrusted *cosign.UntrustedError
				require.ErrorAs(t, err, &untrusted)
				assert.Equal(t, artifact.Digest, untrusted.Subject)
				assert.Equal(t, []string{"vendor"}, untrusted.Absent)
				require.ErrorContains(t, err, `"vendor"`)
				require.Len(t, untrusted.Rejected, 1)
				err = untrusted.Rejected[0].Err
			}
			var mismatch *osmith.DigestError
			var format *osmith.FormatError
			switch test.err.(type) {
			case nil:
				require.ErrorAs(t, err, &format)
			case *osmith.DigestError:
				require.ErrorAs(t, err, &mismatch)
			default:
				require.ErrorIs(t, err, test.err)
			}
		})
	}
}

// overwrite changes a blob of a layout.
func overwrite(t *testing.T, path string, d ocispec.Descriptor, change func([]byte) []byte) {
	t.Helper()
	name := filepath.Join(path, "blobs", "sha256", d.Digest.Encoded())
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, change(b), 0o600))
}
