package cosign

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// decode reads a document that was signed, or that leads to a signature: there must be one way to read it. Members that nothing
// here reads may be there, and may be of any kind.
func decode(document string, b []byte, into any, options ...strictjson.Option) error {
	err := strictjson.Unmarshal(b, into, append(options, strictjson.Complete, strictjson.ForeignKeys)...)
	if format, ok := errors.AsType[*osmith.FormatError](err); ok {
		return &osmith.FormatError{Offset: format.Offset, Field: document + ": " + format.Field, Err: format.Err}
	}
	return err
}

// malformed says what is wrong with a member of a document that could be decoded.
func malformed(field, format string, args ...any) error {
	return &osmith.FormatError{Offset: -1, Field: field, Err: fmt.Errorf(format, args...)}
}

// An envelope is a signature, what it signs, and how to read that.
type envelope struct {
	format    Format
	hint      string // of the key; not trustworthy
	message   []byte // the exact bytes that were signed
	signature []byte
	payload   []byte // what the message is about

	// bundle is a Sigstore bundle with the same signature by a certificate, for an
	// IdentityVerifier; nil if it is by a key.
	bundle []byte

	// read checks that the payload is about the artifact and says what it claims.
	read func(payload []byte, artifact digest.Digest) (*claim, error)
}

// parseLayer reads what a layer of a manifest with signatures holds. The artifact is the
// manifest that is being verified.
func parseLayer(format Format, layer ocispec.Descriptor, blob, artifact []byte) (*envelope, error) {
	var e *envelope
	var err error
	switch format {
	case FormatSimpleSigning:
		e, err = parseSimpleSigning(layer.Annotations[annotationSignature], blob)
	case FormatDSSE:
		e, err = parseDSSE(blob)
	default:
		e, err = parseBundle(blob, artifact)
	}
	if err != nil {
		return nil, err
	}
	e.format = format
	if format != FormatBundle && layer.Annotations[annotationCertificate] != "" {
		if e.bundle, err = bundleOf(e, layer.Annotations); err != nil {
			return nil, err
		}
		e.hint = "certificate"
	}
	return e, nil
}

const dssePayloadType = "application/vnd.in-toto+json"

// preAuthenticationEncoding is the PAE of DSSE 1.0, protocol.md, "Signature
// Definition".
func preAuthenticationEncoding(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// bundleTypes are the media types of the bundle versions that are read
// (protobuf-specs, sigstore_bundle.proto, "media_type").
var bundleTypes = []string{
	bundlePrefix + "+json;version=0.1",
	bundlePrefix + "+json;version=0.2",
	bundlePrefix + "+json;version=0.3",
	mediaTypeBundle,
}

// The members of bundles and envelopes in the order in which cosign writes them (protobuf-specs, sigstore_bundle.proto and
// sigstore_rekor.proto; DSSE 1.0, envelope.md).
type (
	bundle struct {
		MediaType            string            `json:"mediaType"`
		VerificationMaterial any               `json:"verificationMaterial"` // to be written, keyMaterial or certificateMaterial; see hintOf
		MessageSignature     *messageSignature `json:"messageSignature,omitempty"`
		DSSEEnvelope         *dsseEnvelope     `json:"dsseEnvelope,omitempty"`
	}
	keyMaterial struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	}
	certificateMaterial struct {
		Chain struct {
			Certificates []rawBytes `json:"certificates"`
		} `json:"x509CertificateChain"`
		LogEntries []logEntry  `json:"tlogEntries,omitempty"`
		Timestamps *timestamps `json:"timestampVerificationData,omitempty"`
	}
	rawBytes struct {
		RawBytes []byte `json:"rawBytes"`
	}
	logEntry struct {
		LogIndex string `json:"logIndex"`
		LogID    struct {
			KeyID []byte `json:"keyId"`
		} `json:"logId"`
		KindVersion struct {
			Kind    string `json:"kind"`
			Version string `json:"version"`
		} `json:"kindVersion"`
		IntegratedTime   string `json:"integratedTime"`
		InclusionPromise struct {
			SignedEntryTimestamp []byte `json:"signedEntryTimestamp"`
		} `json:"inclusionPromise"`
		CanonicalizedBody []byte `json:"canonicalizedBody"`
	}
	timestamps struct {
		RFC3161 []timestamp `json:"rfc3161Timestamps"`
	}
	timestamp struct {
		SignedTimestamp []byte `json:"signedTimestamp"`
	}
	messageSignature struct {
		MessageDigest *messageDigest `json:"messageDigest,omitempty"`
		Signature     []byte         `json:"signature"`
	}
	messageDigest struct {
		Algorithm string `json:"algorithm"`
		Digest    []byte `json:"digest"`
	}
	dsseEnvelope struct {
		Payload     []byte          `json:"payload"`
		PayloadType string          `json:"payloadType"`
		Signatures  []dsseSignature `json:"signatures"`
	}
	dsseSignature struct {
		Sig []byte `json:"sig"`
	}
)

// parseBundle reads a Sigstore bundle: a DSSE envelope, or a signature of the artifact's
// manifest itself.
func parseBundle(b, artifact []byte) (*envelope, error) {
	var parsed bundle
	if err := decode("bundle", b, &parsed); err != nil {
		return nil, err
	}
	if t := parsed.MediaType; !slices.Contains(bundleTypes, t) {
		return nil, malformed("bundle: mediaType", "%q: not a version from 0.1 to 0.3, such as %q", t, mediaTypeBundle)
	}
	var e *envelope
	var err error
	switch m, dsse := parsed.MessageSignature, parsed.DSSEEnvelope; {
	case m != nil && dsse != nil:
		err = malformed("bundle: messageSignature", "there is a dsseEnvelope, too")
	case m != nil:
		e, err = m.envelope(artifact)
	case dsse != nil:
		e, err = dsse.envelope("bundle: dsseEnvelope.")
	default:
		err = malformed("bundle: dsseEnvelope", "missing")
	}
	if err != nil {
		return nil, err
	}
	var certified bool
	if e.hint, certified = hintOf(b); certified {
		e.bundle = bytes.Clone(b)
	}
	return e, nil
}

// envelope is a signature over the bytes of the artifact's manifest.
func (m *messageSignature) envelope(artifact []byte) (*envelope, error) {
	if len(m.Signature) == 0 {
		return nil, malformed("bundle: messageSignature.signature", "empty")
	}
	// The digest is a hint: what counts is the signature over the artifact.
	if d := m.MessageDigest; d != nil {
		if d.Algorithm != "SHA2_256" {
			return nil, malformed("bundle: messageSignature.messageDigest.algorithm", "%q, want %q", d.Algorithm, "SHA2_256")
		}
		if want := sha256.Sum256(artifact); !bytes.Equal(d.Digest, want[:]) {
			return nil, fmt.Errorf("%w: sha256:%x", ErrOtherArtifact, d.Digest)
		}
	}
	return &envelope{
		message:   artifact,
		signature: m.Signature,
		payload:   artifact,
		// Verify has read the artifact by its digest.
		read: func([]byte, digest.Digest) (*claim, error) { return new(claim), nil },
	}, nil
}

// parseDSSE reads a document that is a DSSE envelope.
func parseDSSE(b []byte) (*envelope, error) {
	var dsse dsseEnvelope
	if err := decode("attestation", b, &dsse); err != nil {
		return nil, err
	}
	return dsse.envelope("attestation: ")
}

// envelope is the signature of a DSSE envelope around an in-toto statement. Where the envelope is begins the names of its
// members in errors.
func (d *dsseEnvelope) envelope(where string) (*envelope, error) {
	switch {
	case d.PayloadType != dssePayloadType:
		return nil, malformed(where+"payloadType", "%q, want %q", d.PayloadType, dssePayloadType)
	case len(d.Signatures) != 1: // sigstore_bundle.proto demands exactly one, and cosign writes no others
		return nil, malformed(where+"signatures", "%d, want 1", len(d.Signatures))
	case len(d.Signatures[0].Sig) == 0:
		return nil, malformed(where+"signatures[0].sig", "empty")
	}
	return &envelope{
		message:   preAuthenticationEncoding(dssePayloadType, d.Payload),
		signature: d.Signatures[0].Sig,
		payload:   d.Payload,
		read:      readStatement,
	}, nil
}

// hintOf returns the name of the key, or what the bundle has instead of one, and
// whether that is a certificate. A bundle without either, or with one that cannot be read, has no hint.
func hintOf(bundle []byte) (hint string, certified bool) {
	var b struct {
		Material map[string]json.RawMessage `json:"verificationMaterial"`
	}
	if decode("bundle", bundle, &b) != nil {
		return "", false
	}
	for _, name := range []string{"certificate", "x509CertificateChain"} {
		if b.Material[name] != nil {
			return name, true
		}
	}
	var key struct {
		Material keyMaterial `json:"verificationMaterial"`
	}
	if decode("bundle", bundle, &key) != nil {
		return "", false
	}
	return key.Material.PublicKey.Hint, false
}

func newDSSE(payload, sig []byte) *dsseEnvelope {
	return &dsseEnvelope{Payload: payload, PayloadType: dssePayloadType, Signatures: []dsseSignature{{sig}}}
}

func newBundle(hint string, payload, sig []byte) ([]byte, error) {
	var material keyMaterial
	material.PublicKey.Hint = hint
	return json.Marshal(bundle{MediaType: mediaTypeBundle, VerificationMaterial: material, DSSEEnvelope: newDSSE(payload, sig)})
}

// bundleOf makes a Sigstore bundle of version 0.1 from what cosign 1 and 2 keep in the annotations of a
// layer, so that a verifier needs to know one format. Nothing is judged here.
func bundleOf(e *envelope, annotations map[string]string) ([]byte, error) {
	var material certificateMaterial
	for _, name := range []string{annotationCertificate, annotationChain} {
		certs, err := certificates(annotations[name])
		if err != nil {
			return nil, malformed("manifest: annotation "+name, "%w", err)
		}
		material.Chain.Certificates = append(material.Chain.Certificates, certs...)
	}
	if len(material.Chain.Certificates) == 0 {
		return nil, malformed("manifest: annotation "+annotationCertificate, "no certificate")
	}
	if text := annotations[annotationLogEntry]; text != "" {
		entry, err := logEntryOf([]byte(text))
		if err != nil {
			return nil, err
		}
		material.LogEntries = append(material.LogEntries, *entry)
	}
	if text := annotations[annotationTimestamp]; text != "" {
		var stamp struct {
			SignedRFC3161Timestamp []byte
		}
		if err := decode("annotation "+annotationTimestamp, []byte(text), &stamp); err != nil {
			return nil, err
		}
		material.Timestamps = &timestamps{[]timestamp{{stamp.SignedRFC3161Timestamp}}}
	}
	b := bundle{MediaType: bundlePrefix + "+json;version=0.1", VerificationMaterial: material}
	if e.format == FormatDSSE {
		b.DSSEEnvelope = newDSSE(e.payload, e.signature)
	} else {
		sum := sha256.Sum256(e.message)
		b.MessageSignature = &messageSignature{&messageDigest{"SHA2_256", sum[:]}, e.signature}
	}
	return json.Marshal(b)
}

func certificates(text string) ([]rawBytes, error) {
	var list []rawBytes
	for rest := []byte(text); len(rest) > 0; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block %q, want CERTIFICATE", block.Type)
		}
		list, rest = append(list, rawBytes{block.Bytes}), more
	}
	if text != "" && len(list) == 0 {
		return nil, errors.New("not a PEM block")
	}
	return list, nil
}

// logEntryOf reads the annotation that holds a promise of the log Rekor
// (cosign, pkg/cosign/bundle, RekorBundle).
func logEntryOf(text []byte) (*logEntry, error) {
	const document = "annotation " + annotationLogEntry
	var promise struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte      `json:"body"`
			IntegratedTime json.Number `json:"integratedTime"`
			LogIndex       json.Number `json:"logIndex"`
			LogID          string      `json:"logID"`
		}
	}
	if err := decode(document, text, &promise); err != nil {
		return nil, err
	}
	p := promise.Payload
	e := &logEntry{CanonicalizedBody: p.Body, IntegratedTime: p.IntegratedTime.String(), LogIndex: p.LogIndex.String()}
	e.InclusionPromise.SignedEntryTimestamp = promise.SignedEntryTimestamp
	// protobuf's JSON mapping writes 64 bits as a string.
	for name, n := range map[string]string{"integratedTime": e.IntegratedTime, "logIndex": e.LogIndex} {
		if _, err := strconv.ParseInt(n, 10, 64); err != nil {
			return nil, malformed(document+": Payload."+name, "%w", err)
		}
	}
	var err error
	if e.LogID.KeyID, err = hex.DecodeString(p.LogID); err != nil {
		return nil, malformed(document+": Payload.logID", "%w", err)
	}
	var body struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	if err := decode("log entry", p.Body, &body); err != nil {
		return nil, err
	}
	e.KindVersion.Kind, e.KindVersion.Version = body.Kind, body.Version
	return e, nil
}
