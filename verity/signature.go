package verity

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

var (
	// ErrSignature says that a signature is not valid for this root hash.
	ErrSignature = errors.New("the signature is not over this root hash")

	// ErrUntrusted says that a signature is valid, but its signer is neither one of the given
	// certificates nor issued by one.
	ErrUntrusted = errors.New("the signer is not trusted")
)

// A Signature is a signed root hash, with the fields of the JSON text in a verity-sig partition
// (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/).
type Signature struct {
	RootHash []byte

	// CertificateFingerprint is the SHA-256 of the signer's certificate in DER.
	CertificateFingerprint [sha256.Size]byte

	// PKCS7 is the signature itself: the kernel reads it from the key that root_hash_sig_key_desc
	// names, and systemd from root-hash-signature=.
	PKCS7 []byte
}

// A SignatureRequest is what the key of a certificate has to sign. It depends on the root hash and
// the certificate alone, so the key can be elsewhere and Join can follow days later.
type SignatureRequest struct {
	Hash   crypto.Hash // SHA-256: how Digest was made
	Digest []byte      // input of the signature: RSA PKCS #1 v1.5 or ECDSA in ASN.1

	root     []byte
	template cms.Template
}

// PrepareSignature returns what is to be signed so that the kernel and systemd accept a root hash:
// its lower-case hexadecimal text, as detached PKCS #7 without signed attributes. The signature
// will carry the certificate, which must have an RSA or ECDSA key, and the further certificates of
// chain.
func PrepareSignature(root []byte, cert *x509.Certificate, chain ...*x509.Certificate) (r *SignatureRequest, err error) {
	defer prefix.Add("verity", &err)
	if err := checkRootHash(root); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	sum := sha256.Sum256(signedText(root))
	r = &SignatureRequest{
		root:     append([]byte(nil), root...),
		template: cms.Template{Digest: sum[:], Certificate: cert, Chain: chain},
	}
	req, err := r.template.Prepare()
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	r.Hash, r.Digest = req.Hash, req.Digest
	return r, nil
}

// Join completes a request with the signature over its Digest. A signature that the certificate
// does not confirm is an error.
func (r *SignatureRequest) Join(signature []byte) (s *Signature, err error) {
	defer prefix.Add("verity", &err)
	der, err := r.template.Join(signature)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return &Signature{
		RootHash:               append([]byte(nil), r.root...),
		CertificateFingerprint: sha256.Sum256(r.template.Certificate.Raw),
		PKCS7:                  der,
	}, nil
}

// SignRootHash signs a root hash: PrepareSignature, key.Sign and Join. RSA and *ecdsa.PrivateKey
// give the same bytes every time.
func SignRootHash(root []byte, key crypto.Signer, cert *x509.Certificate, chain ...*x509.Certificate) (s *Signature, err error) {
	defer prefix.Add("verity", &err)
	r, err := PrepareSignature(root, cert, chain...)
	if err != nil {
		return nil, err
	}
	signature, err := cms.SignDigest(key, cert, r.Hash, r.Digest)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return r.Join(signature)
}

// Verify checks the signature against the root hash beside it, and that it was made by one of the
// trusted certificates or by one that they issued; see VerifySignature. The fingerprint must be
// that of the signer.
func (s *Signature) Verify(trusted []*x509.Certificate) (signer *x509.Certificate, err error) {
	defer prefix.Add("verity", &err)
	signer, err = VerifySignature(s.PKCS7, s.RootHash, trusted)
	if err != nil {
		return nil, err
	}
	if have := sha256.Sum256(signer.Raw); have != s.CertificateFingerprint {
		return nil, fmt.Errorf("signature: certificate fingerprint: want %x, the signer has %x: %w",
			s.CertificateFingerprint, have, ErrSignature)
	}
	return signer, nil
}

// VerifySignature checks a signature in PKCS #7 over a root hash and returns the certificate of the
// signer. Like the kernel, it accepts a signer whose certificate is trusted or has a chain of
// certificates to a trusted one, and ignores dates. There must be exactly one signer; signed
// attributes, which openssl smime writes without -noattr, are accepted. systemd's own check in user
// space (verity.d) is narrower: there the signer's certificate itself must be trusted.
func VerifySignature(pkcs7, root []byte, trusted []*x509.Certificate) (signer *x509.Certificate, err error) {
	defer prefix.Add("verity", &err)
	if err := checkRootHash(root); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	sd, rest, err := cms.Parse(pkcs7, 0)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	switch {
	case len(rest) > 0:
		return nil, fmt.Errorf("signature: %d bytes follow it", len(rest))
	case sd.Bare:
		return nil, errors.New("signature: SignedData without the ContentInfo around it")
	case sd.Content != nil:
		return nil, errors.New("signature: contains its content, want a detached signature")
	case !sd.ContentType.Equal(cms.OIDData):
		return nil, fmt.Errorf("signature: content of type %v, want data", sd.ContentType)
	case len(sd.Signers) != 1:
		return nil, fmt.Errorf("signature: %d signers, want one", len(sd.Signers))
	}
	info := &sd.Signers[0]
	signer = sd.Certificate(info)
	if signer == nil { // openssl smime -nocerts: the verifier has it
		given := cms.SignedData{Certificates: trusted}
		if signer = given.Certificate(info); signer == nil {
			return nil, fmt.Errorf("signature: the signer's certificate is neither in the signature nor among the trusted certificates: %w", ErrUntrusted)
		}
	}
	if err := sd.Check(info, signer, signedText(root)); err != nil {
		return nil, fmt.Errorf("signature: %w: root hash %x: %w", ErrSignature, root, err)
	}
	if cms.Chain(signer, sd.Certificates, trusted) == nil {
		return nil, fmt.Errorf("signature: certificate %q: %w", signer.Subject, ErrUntrusted)
	}
	return signer, nil
}

// signedText is what is signed instead of the root hash: its text, as it stands in the table of the
// device.
func signedText(root []byte) []byte { return hex.AppendEncode(nil, root) }

// maxDigestSize is that of SHA-512, the largest hash in use with verity.
const maxDigestSize = 64

func checkRootHash(root []byte) error {
	if len(root) == 0 || len(root) > maxDigestSize {
		return fmt.Errorf("root hash: %d bytes, want 1 to %d", len(root), maxDigestSize)
	}
	return nil
}

// MaxSignaturePartition is the largest verity-sig partition that is read, in bytes; systemd has the
// same limit.
const MaxSignaturePartition = 4 << 20

// signatureUnit is what the content of a verity-sig partition is padded to, in bytes.
const signatureUnit = 4096

// Partition returns the content of a verity-sig partition as systemd-repart writes it: a JSON text
// and NULs up to size bytes. 0 means the next multiple of 4096.
func (s *Signature) Partition(size int64) (content []byte, err error) {
	defer prefix.Add("verity", &err)
	if err := checkRootHash(s.RootHash); err != nil {
		return nil, fmt.Errorf("signature partition: %w", err)
	}
	if len(s.PKCS7) == 0 {
		return nil, errors.New("signature partition: no signature")
	}
	// The order of the keys is systemd-repart's.
	text := fmt.Appendf(nil, `{"rootHash":"%x","certificateFingerprint":"%x","signature":"%s"}`,
		s.RootHash, s.CertificateFingerprint, base64.StdEncoding.EncodeToString(s.PKCS7))
	if size == 0 {
		size = (int64(len(text)) + signatureUnit - 1) / signatureUnit * signatureUnit
	}
	if size > MaxSignaturePartition || int64(len(text)) > MaxSignaturePartition {
		return nil, fmt.Errorf("signature partition: %d bytes, want at most %d", max(size, int64(len(text))), MaxSignaturePartition)
	}
	if int64(len(text)) > size {
		return nil, fmt.Errorf("signature partition: %d bytes, but the signature text needs %d", size, len(text))
	}
	return append(text, make([]byte, size-int64(len(text)))...), nil
}

// ReadSignature reads the content of a verity-sig partition: one JSON object with exactly the three
// fields, then only NULs. The signature is not checked: see Verify.
func ReadSignature(src osmith.Source) (s *Signature, err error) {
	defer prefix.Add("verity", &err)
	if src == nil {
		return nil, errNone("signature partition")
	}
	size := src.Size()
	if size < 0 || size > MaxSignaturePartition {
		return nil, fmt.Errorf("signature partition: %d bytes, want at most %d", size, MaxSignaturePartition)
	}
	b := make([]byte, size)
	if n, err := src.ReadAt(b, 0); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("signature partition: %d of %d bytes: %w", n, len(b), err)
	}
	s, field, at, err := parseSignature(b)
	if err != nil {
		return nil, &osmith.FormatError{Offset: at, Field: "signature partition: " + field, Err: err}
	}
	return s, nil
}

// parseSignature returns, with an error, the field and the offset that it is about.
func parseSignature(b []byte) (s *Signature, field string, at int64, err error) {
	text := b
	if end := bytes.IndexByte(b, 0); end >= 0 {
		text = b[:end]
		for i, c := range b[end:] {
			if c != 0 {
				return nil, "padding", int64(end + i), fmt.Errorf("byte %#02x, want NUL", c)
			}
		}
	}
	members, err := strictjson.Object(text)
	if err != nil {
		format, ok := errors.AsType[*osmith.FormatError](err)
		if !ok {
			return nil, "object", 0, err
		}
		return nil, format.Field, format.Offset, format.Err
	}
	s = new(Signature)
	seen := map[string]bool{}
	for _, m := range members {
		seen[m.Key] = true
		var value string
		if err := strictjson.Unmarshal(m.Value, &value, strictjson.Complete); err != nil {
			return nil, m.Key, m.Offset, errors.New("not a string")
		}
		if err := s.set(m.Key, value); err != nil {
			return nil, m.Key, m.Offset, err
		}
	}
	for _, name := range []string{"rootHash", "certificateFingerprint", "signature"} {
		if !seen[name] {
			return nil, name, int64(len(text)), errors.New("missing")
		}
	}
	return s, "", 0, nil
}

// set takes one value of the object.
func (s *Signature) set(name, text string) (err error) {
	switch name {
	case "rootHash":
		if s.RootHash, err = parseHex(text); err != nil {
			return err
		}
		return checkRootHash(s.RootHash)
	case "certificateFingerprint":
		b, err := parseHex(text)
		if err != nil {
			return err
		}
		if len(b) != sha256.Size {
			return fmt.Errorf("%d bytes, want the %d of a SHA-256", len(b), sha256.Size)
		}
		s.CertificateFingerprint = [sha256.Size]byte(b)
		return nil
	case "signature":
		if s.PKCS7, err = base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return err
		}
		// The decoder passes over line breaks.
		if len(s.PKCS7) == 0 || base64.StdEncoding.EncodedLen(len(s.PKCS7)) != len(text) {
			return errors.New("not base64 of a signature in one line")
		}
		return nil
	}
	return errors.New("unknown field")
}

// parseHex accepts the one spelling that is signed: lower case.
func parseHex(text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if hex.EncodeToString(b) != text {
		return nil, errors.New("hexadecimal digits must be lower-case")
	}
	return b, nil
}
