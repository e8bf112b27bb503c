package cosign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// An IdentityVerifier checks signatures that were made with a short-lived certificate
// instead of a key that is known beforehand.
type IdentityVerifier interface {
	// VerifyIdentity checks a Sigstore bundle (JSON, version 0.1 to 0.3) that carries a
	// certificate: that the signature in it is over message or, in a DSSE envelope,
	// over the message that the envelope is encoded as; that the certificate was valid
	// when that was made, as far as the verifier demands proof; and that one of
	// the identities matches the certificate. It returns what the certificate says.
	VerifyIdentity(ctx context.Context, bundle, message []byte, ids []Identity) (*VerifiedIdentity, error)
}

// A VerifiedIdentity is whom a certificate names that made a signature.
type VerifiedIdentity struct {
	Issuer, Subject string
	Time            time.Time // of the signature, as a log or a timestamp authority attests it
}

// bundleOf makes a Sigstore bundle of version 0.1 from what cosign 1 and 2 keep in the annotations of a
// layer, so that a verifier needs to know one format. Nothing is judged here.
func bundleOf(e *envelope, annotations map[string]string) ([]byte, error) {
	bad := func(annotation string, err error) ([]byte, error) {
		return nil, &FormatError{Document: "manifest", Field: "annotation " + annotation, Err: err}
	}
	var b keylessBundle
	b.MediaType = bundlePrefix + "+json;version=0.1"
	material := &b.VerificationMaterial
	for _, name := range []string{annotationCertificate, annotationChain} {
		certs, err := certificates(annotations[name])
		if err != nil {
			return bad(name, err)
		}
		material.Chain.Certificates = append(material.Chain.Certificates, certs...)
	}
	if len(material.Chain.Certificates) == 0 {
		return bad(annotationCertificate, errors.New("no certificate"))
	}
	if text := annotations[annotationLogEntry]; text != "" {
		entry, err := logEntryOf(text)
		if err != nil {
			return nil, err
		}
		material.LogEntries = append(material.LogEntries, *entry)
	}
	if text := annotations[annotationTimestamp]; text != "" {
		o, err := parseObject("annotation "+annotationTimestamp, []byte(text))
		if err != nil {
			return nil, err
		}
		stamp, err := o.base64("SignedRFC3161Timestamp")
		if err != nil {
			return nil, err
		}
		material.Timestamps = &timestamps{[]timestamp{{stamp}}}
	}
	if e.format == DSSE {
		dsse := newEnvelope(e.payload, e.signature)
		b.DSSEEnvelope = &dsse
	} else {
		sum := sha256.Sum256(e.message)
		b.MessageSignature = &messageSignature{messageDigest{"SHA2_256", sum[:]}, e.signature}
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
func logEntryOf(text string) (*logEntry, error) {
	o, err := parseObject("annotation "+annotationLogEntry, []byte(text))
	if err != nil {
		return nil, err
	}
	promise, err := o.base64("SignedEntryTimestamp")
	if err != nil {
		return nil, err
	}
	p, err := o.object("Payload")
	if err != nil {
		return nil, err
	}
	e := &logEntry{InclusionPromise: inclusionPromise{promise}}
	if e.CanonicalizedBody, err = p.base64("body"); err != nil {
		return nil, err
	}
	if e.IntegratedTime, err = p.integer("integratedTime"); err != nil {
		return nil, err
	}
	if e.LogIndex, err = p.integer("logIndex"); err != nil {
		return nil, err
	}
	id, err := p.text("logID")
	if err != nil {
		return nil, err
	}
	if e.LogID.KeyID, err = hex.DecodeString(id); err != nil {
		return nil, p.errorf("logID", "%w", err)
	}
	body, err := parseObject("log entry", e.CanonicalizedBody)
	if err != nil {
		return nil, err
	}
	if e.KindVersion.Kind, err = body.text("kind"); err != nil {
		return nil, err
	}
	if e.KindVersion.Version, err = body.text("apiVersion"); err != nil {
		return nil, err
	}
	return e, nil
}

// The members of a bundle with a certificate (protobuf-specs, sigstore_bundle.proto and
// sigstore_rekor.proto).
type (
	keylessBundle struct {
		MediaType            string `json:"mediaType"`
		VerificationMaterial struct {
			Chain struct {
				Certificates []rawBytes `json:"certificates"`
			} `json:"x509CertificateChain"`
			LogEntries []logEntry  `json:"tlogEntries,omitempty"`
			Timestamps *timestamps `json:"timestampVerificationData,omitempty"`
		} `json:"verificationMaterial"`
		MessageSignature *messageSignature `json:"messageSignature,omitempty"`
		DSSEEnvelope     *dsseEnvelope     `json:"dsseEnvelope,omitempty"`
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
		IntegratedTime    string           `json:"integratedTime"`
		InclusionPromise  inclusionPromise `json:"inclusionPromise"`
		CanonicalizedBody []byte           `json:"canonicalizedBody"`
	}
	inclusionPromise struct {
		SignedEntryTimestamp []byte `json:"signedEntryTimestamp"`
	}
	timestamps struct {
		RFC3161 []timestamp `json:"rfc3161Timestamps"`
	}
	timestamp struct {
		SignedTimestamp []byte `json:"signedTimestamp"`
	}
	messageSignature struct {
		MessageDigest messageDigest `json:"messageDigest"`
		Signature     []byte        `json:"signature"`
	}
	messageDigest struct {
		Algorithm string `json:"algorithm"`
		Digest    []byte `json:"digest"`
	}
)
