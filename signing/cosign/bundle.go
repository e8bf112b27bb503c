package cosign

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// bundleTypes are the media types of the bundle versions that are read
// (protobuf-specs, sigstore_bundle.proto, "media_type").
var bundleTypes = []string{
	bundlePrefix + "+json;version=0.1",
	bundlePrefix + "+json;version=0.2",
	bundlePrefix + "+json;version=0.3",
	mediaTypeBundle,
}

// parseBundle reads a Sigstore bundle: a DSSE envelope, or a signature of the artifact's
// manifest itself.
func parseBundle(b, artifact []byte) (*envelope, error) {
	o, err := parseObject("bundle", b)
	if err != nil {
		return nil, err
	}
	mediaType, err := o.text("mediaType")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(bundleTypes, mediaType) {
		return nil, o.errorf("mediaType", "%q: not a version from 0.1 to 0.3, such as %q", mediaType, mediaTypeBundle)
	}
	var e *envelope
	if o.has("messageSignature") {
		if o.has("dsseEnvelope") {
			return nil, o.errorf("messageSignature", "there is a dsseEnvelope, too")
		}
		e, err = parseMessageSignature(o, artifact)
	} else {
		var dsse object
		if dsse, err = o.object("dsseEnvelope"); err == nil {
			e, err = parseEnvelope(dsse)
		}
	}
	if err != nil {
		return nil, err
	}
	var certified bool
	if e.hint, certified = bundleHint(o); certified {
		e.bundle = bytes.Clone(b)
	}
	return e, nil
}

// parseMessageSignature reads a signature over the bytes of the artifact's manifest.
func parseMessageSignature(o object, artifact []byte) (*envelope, error) {
	m, err := o.object("messageSignature")
	if err != nil {
		return nil, err
	}
	sig, err := m.base64("signature")
	if err != nil {
		return nil, err
	}
	if len(sig) == 0 {
		return nil, m.errorf("signature", "empty")
	}
	// The digest is a hint: what counts is the signature over the artifact.
	if m.has("messageDigest") {
		d, err := m.object("messageDigest")
		if err != nil {
			return nil, err
		}
		if err := d.expect("algorithm", "SHA2_256"); err != nil {
			return nil, err
		}
		got, err := d.base64("digest")
		if err != nil {
			return nil, err
		}
		if want := sha256.Sum256(artifact); !bytes.Equal(got, want[:]) {
			return nil, fmt.Errorf("%w: sha256:%x", ErrOtherArtifact, got)
		}
	}
	return &envelope{
		message:   artifact,
		signature: sig,
		payload:   artifact,
		// Verify has read the artifact by its digest.
		read: func([]byte, digest.Digest) (*claim, error) { return new(claim), nil },
	}, nil
}

// bundleHint returns the name of the key, or what the bundle has instead of one, and
// whether that is a certificate.
func bundleHint(o object) (string, bool) {
	material, err := o.object("verificationMaterial")
	if err != nil {
		return "", false
	}
	for _, name := range []string{"certificate", "x509CertificateChain"} {
		if material.has(name) {
			return name, true
		}
	}
	key, err := material.object("publicKey")
	if err != nil {
		return "", false
	}
	hint, err := key.text("hint")
	if err != nil {
		return "", false
	}
	return hint, false
}

// base64 decodes a member as protobuf's JSON mapping writes bytes.
func (o object) base64(key string) ([]byte, error) {
	s, err := o.text(key)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, o.errorf(key, "%w", err)
	}
	return b, nil
}

// A bundle has the members of a key's bundle in the order in which cosign writes them.
type bundle struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	} `json:"verificationMaterial"`
	DSSEEnvelope dsseEnvelope `json:"dsseEnvelope"`
}

func newBundle(hint string, payload, sig []byte) ([]byte, error) {
	b := bundle{MediaType: mediaTypeBundle, DSSEEnvelope: newEnvelope(payload, sig)}
	b.VerificationMaterial.PublicKey.Hint = hint
	return json.Marshal(b)
}
