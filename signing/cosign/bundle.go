package cosign

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// decode reads a document that was signed, or that leads to a signature: there must be one way to
// read it. Members that nothing here reads may be there, and may be of any kind.
func decode(document string, b []byte, into any, options ...strictjson.Option) error {
	err := strictjson.Unmarshal(b, into, append(options, strictjson.Complete, strictjson.ForeignKeys)...)
	if format, ok := errors.AsType[*osmith.FormatError](err); ok {
		return &osmith.FormatError{Offset: format.Offset, Field: document + ": " + format.Field, Err: format.Err}
	}
	return err
}

// decodeProto is decode for what is JSON of a protobuf message: members may be absent or null.
func decodeProto(document string, b []byte, into any) error {
	err := strictjson.Unmarshal(b, into, strictjson.ForeignKeys)
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
	return append(preAuthenticationHead(payloadType, len(payload)), payload...)
}

// preAuthenticationHead is what stands before the payload.
func preAuthenticationHead(payloadType string, payload int) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, payload)
}

// bundleType matches the media types of the bundle versions that are read, 0.1 to 0.3 and their
// patches (protobuf-specs, sigstore_bundle.proto, "media_type"; cosign 3.1 takes v0.3.1, too).
var bundleType = regexp.MustCompile(`^` + regexp.QuoteMeta(bundlePrefix) + `(\+json;version=0\.[123]|\.v0\.[123](\.[0-9]{1,4})?\+json)$`)

// The members of bundles and envelopes in the order in which cosign writes them (protobuf-specs,
// sigstore_bundle.proto and sigstore_rekor.proto; DSSE 1.0, envelope.md).
type (
	bundle struct {
		MediaType string `json:"mediaType"`
		// to be written, keyMaterial or certificateMaterial; see hintOf
		VerificationMaterial any               `json:"verificationMaterial"`
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

// What is read of a bundle. By the JSON mapping of protobuf, null stands for an absent member.
type (
	readBundle struct {
		MediaType            word                  `json:"mediaType"`
		VerificationMaterial inPlace               `json:"verificationMaterial"`
		MessageSignature     *readMessageSignature `json:"messageSignature"`
		DSSEEnvelope         *readEnvelope         `json:"dsseEnvelope"`
	}
	readMessageSignature struct {
		MessageDigest *struct {
			Algorithm word    `json:"algorithm"`
			Digest    inPlace `json:"digest"`
		} `json:"messageDigest"`
		Signature inPlace `json:"signature"`
	}
	readEnvelope struct {
		Payload     inPlace `json:"payload"`
		PayloadType word    `json:"payloadType"`
		Signatures  []struct {
			Sig inPlace `json:"sig"`
		} `json:"signatures"`
	}
)

// inPlace is a JSON value where it stands in the document, which may be large.
type inPlace []byte

// UnmarshalJSON implements [json.Unmarshaler]. It keeps what it is given: documents here are not
// changed while they are decoded.
func (v *inPlace) UnmarshalJSON(b []byte) error {
	*v = b
	return nil
}

// A word is a short string: a name or a type.
type word string

// UnmarshalJSON implements [json.Unmarshaler].
func (w *word) UnmarshalJSON(b []byte) error {
	if len(b) > 4096 {
		return malformed("string", "%w: %d bytes", ErrTooLarge, len(b))
	}
	return json.Unmarshal(b, (*string)(w))
}

func (v inPlace) absent() bool { return len(v) == 0 || string(v) == "null" }

// base64 decodes a string in the alphabets of RFC 4648, sections 4 and 5, with or without padding,
// as readers of protobuf's JSON do. The result takes the place of the text.
func (v inPlace) base64(field string) ([]byte, error) {
	if v.absent() {
		return nil, nil
	}
	if v[0] != '"' {
		return nil, malformed(field, "%.20s: want a string", v)
	}
	text, n := v[1:len(v)-1], 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' { // scanned before, so these are whole escapes
			if c, i = text[i+1], i+1; c == 'u' {
				r, err := strconv.ParseUint(string(text[i+1:i+5]), 16, 16)
				if err != nil || r >= utf8.RuneSelf {
					return nil, malformed(field, "not base64: \\u%s", text[i+1:i+5])
				}
				c, i = byte(r), i+4
			} else if c != '/' {
				return nil, malformed(field, "not base64: \\%c", c)
			}
		}
		switch c {
		case '-':
			c = '+'
		case '_':
			c = '/'
		case '\r', '\n':
			return nil, malformed(field, "not base64: contains a line break")
		}
		text[n] = c
		n++
	}
	text = text[:n]
	for range 2 {
		text = bytes.TrimSuffix(text, []byte("="))
	}
	if n%4 != 0 && n != len(text) {
		return nil, malformed(field, "not base64: %d characters with padding", n)
	}
	n, err := base64.RawStdEncoding.Strict().Decode(text, text)
	if err != nil {
		return nil, malformed(field, "not base64: %w", err)
	}
	return v[1 : 1+n], nil
}

// maxCertified bounds bundles by certificate, in bytes: an IdentityVerifier decodes them again, in
// its own way.
const maxCertified = 8 << 20

// parseBundle reads a Sigstore bundle: a DSSE envelope, or a signature of the artifact's
// manifest itself. The text is used up.
func parseBundle(b, artifact []byte) (*envelope, error) {
	if err := fewValues("the bundle", b); err != nil {
		return nil, err
	}
	var parsed readBundle
	if err := decodeProto("bundle", b, &parsed); err != nil {
		return nil, err
	}
	if t := parsed.MediaType; !bundleType.MatchString(string(t)) {
		return nil, malformed("bundle: mediaType", "%.100q: not a version from 0.1 to 0.3, such as %q", t, mediaTypeBundle)
	}
	hint, certified := hintOf(parsed.VerificationMaterial)
	var original []byte
	if certified {
		if err := atMost("bytes of the bundle by certificate", len(b), maxCertified); err != nil {
			return nil, err
		}
		original = bytes.Clone(b)
	}
	var e *envelope
	var err error
	switch m, dsse := parsed.MessageSignature, parsed.DSSEEnvelope; {
	case m != nil && dsse != nil:
		err = malformed("bundle: messageSignature", "the bundle also has a dsseEnvelope")
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
	e.hint, e.bundle = hint, original
	return e, nil
}

// envelope is a signature over the bytes of the artifact's manifest.
func (m *readMessageSignature) envelope(artifact []byte) (*envelope, error) {
	sig, err := m.Signature.base64("bundle: messageSignature.signature")
	if err == nil && len(sig) == 0 {
		err = malformed("bundle: messageSignature.signature", "empty")
	}
	if err != nil {
		return nil, err
	}
	// The digest is a hint: what counts is the signature over the artifact.
	if d := m.MessageDigest; d != nil {
		if d.Algorithm != "SHA2_256" {
			return nil, malformed("bundle: messageSignature.messageDigest.algorithm", "%.100q, want %q", d.Algorithm, "SHA2_256")
		}
		got, err := d.Digest.base64("bundle: messageSignature.messageDigest.digest")
		if err != nil {
			return nil, err
		}
		if want := sha256.Sum256(artifact); !bytes.Equal(got, want[:]) {
			return nil, fmt.Errorf("%w: sha256:%.64x", ErrOtherArtifact, got)
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

// parseDSSE reads a document that is a DSSE envelope. The text is used up.
func parseDSSE(b []byte) (*envelope, error) {
	if err := fewValues("the attestation", b); err != nil {
		return nil, err
	}
	var dsse readEnvelope
	if err := decodeProto("attestation", b, &dsse); err != nil {
		return nil, err
	}
	return dsse.envelope("attestation: ")
}

// envelope is the signature of a DSSE envelope around an in-toto statement. Where the envelope is
// begins the names of its members in errors.
func (d *readEnvelope) envelope(where string) (*envelope, error) {
	switch {
	case d.PayloadType != dssePayloadType:
		return nil, malformed(where+"payloadType", "%.100q, want %q", d.PayloadType, dssePayloadType)
	case len(d.Signatures) != 1:
		// sigstore_bundle.proto demands exactly one, and cosign writes no others
		return nil, malformed(where+"signatures", "%d, want 1", len(d.Signatures))
	}
	sig, err := d.Signatures[0].Sig.base64(where + "signatures[0].sig")
	if err == nil && len(sig) == 0 {
		err = malformed(where+"signatures[0].sig", "empty")
	}
	if err != nil {
		return nil, err
	}
	payload, err := d.Payload.base64(where + "payload")
	if err != nil {
		return nil, err
	}
	// The message is the payload with something before it. Where the payload was encoded there is
	// room for both.
	before := preAuthenticationHead(dssePayloadType, len(payload))
	var message []byte
	if n := len(before) + len(payload); n <= len(d.Payload) {
		message = d.Payload[:n]
		copy(message[len(before):], payload)
		copy(message, before)
	} else {
		message = append(before, payload...)
	}
	return &envelope{
		message:   message,
		signature: sig,
		payload:   message[len(message)-len(payload):],
		read:      readStatement,
	}, nil
}

// hintOf returns the name of the key, or what the bundle has instead of one, and whether that is a
// certificate. Material without either, or with one that cannot be read, has no hint.
func hintOf(material inPlace) (hint string, certified bool) {
	if material.absent() {
		return "", false
	}
	var m struct {
		Certificate inPlace `json:"certificate"`
		Chain       inPlace `json:"x509CertificateChain"`
		PublicKey   inPlace `json:"publicKey"`
	}
	if decodeProto("bundle", material, &m) != nil {
		return "", false
	}
	switch {
	case !m.Certificate.absent():
		return "certificate", true
	case !m.Chain.absent():
		return "x509CertificateChain", true
	}
	var key struct {
		Hint word `json:"hint"`
	}
	if m.PublicKey.absent() || decodeProto("bundle", m.PublicKey, &key) != nil {
		return "", false
	}
	return string(key.Hint), false
}

func newDSSE(payload, sig []byte) *dsseEnvelope {
	return &dsseEnvelope{Payload: payload, PayloadType: dssePayloadType, Signatures: []dsseSignature{{sig}}}
}

func newBundle(hint string, payload, sig []byte) ([]byte, error) {
	var material keyMaterial
	material.PublicKey.Hint = hint
	return json.Marshal(bundle{MediaType: mediaTypeBundle, VerificationMaterial: material, DSSEEnvelope: newDSSE(payload, sig)})
}

// bundleOf makes a Sigstore bundle of version 0.1 from what cosign 1 and 2 keep in the annotations
// of a layer, so that a verifier needs to know one format. Nothing is judged here.
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
