package verity

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/cms"
)

var (
	// ErrSignature says that a signature is not one over this root hash.
	ErrSignature = errors.New("the signature is not one over the root hash")

	// ErrUntrusted says that a signature is right, but its signer is none of the given certificates, nor issued by one.
	ErrUntrusted = errors.New("the signer is not trusted")
)

// A Signature is a signed root hash, with the fields of the JSON text in a verity-sig partition
// (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/).
type Signature struct {
	RootHash []byte

	// CertificateFingerprint is the SHA-256 of the signer's certificate in DER.
	CertificateFingerprint [sha256.Size]byte

	// PKCS7 is the signature itself: what the kernel takes from the key that
	// root_hash_sig_key_desc names, and systemd from root-hash-signature=.
	PKCS7 []byte
}

// A SignatureRequest is what the key of a certificate has to sign. It depends on the root hash and the certificate alone, so the key
// can be elsewhere and Join can follow days later.
type SignatureRequest struct {
	Hash   crypto.Hash // SHA-256: how Digest was made
	Digest []byte      // input of the signature: RSA PKCS #1 v1.5 or ECDSA in ASN.1

	root     []byte
	template cms.Template
}

// PrepareSignature returns what is to be signed so that the kernel and systemd accept a root hash: its lower-case hexadecimal
// text, as detached PKCS #7 without signed attributes. The signature will carry the certificate, which must have an RSA or ECDSA
// key, and the further certificates of chain.
func PrepareSignature(root []byte, cert *x509.Certificate, chain ...*x509.Certificate) (*SignatureRequest, error) {
	if err := checkRootHash(root); err != nil {
		return nil, fmt.Errorf("verity: signature: %w", err)
	}
	sum := sha256.Sum256(signedText(root))
	r := &SignatureRequest{
		root:     append([]byte(nil), root...),
		template: cms.Template{Digest: sum[:], Certificate: cert, Chain: chain},
	}
	req, err := r.template.Prepare()
	if err != nil {
		return nil, fmt.Errorf("verity: signature: %w", err)
	}
	r.Hash, r.Digest = req.Hash, req.Digest
	return r, nil
}

// Join completes a request with the signature over its Digest. A signature that the certificate does not confirm is an error.
func (r *SignatureRequest) Join(signature []byte) (*Signature, error) {
	der, err := r.template.Join(signature)
	if err != nil {
		return nil, fmt.Errorf("verity: signature: %w", err)
	}
	return &Signature{
		RootHash:               append([]byte(nil), r.root...),
		CertificateFingerprint: sha256.Sum256(r.template.Certificate.Raw),
		PKCS7:                  der,
	}, nil
}

// SignRootHash signs a root hash: PrepareSignature, key.Sign and Join. RSA and *ecdsa.PrivateKey give the same bytes every time.
func SignRootHash(root []byte, key crypto.Signer, cert *x509.Certificate, chain ...*x509.Certificate) (*Signature, error) {
	r, err := PrepareSignature(root, cert, chain...)
	if err != nil {
		return nil, err
	}
	signature, err := cms.SignDigest(key, cert, r.Hash, r.Digest)
	if err != nil {
		return nil, fmt.Errorf("verity: signature: %w", err)
	}
	return r.Join(signature)
}

// Verify checks the signature against the root hash beside it, and that it was made by one of the trusted certificates or by one
// that they issued; see VerifySignature. The fingerprint must be that of the signer.
func (s *Signature) Verify(trusted []*x509.Certificate) (signer *x509.Certificate, err error) {
	signer, err = VerifySignature(s.PKCS7, s.RootHash, trusted)
	if err != nil {
		return nil, err
	}
	if have := sha256.Sum256(signer.Raw); have != s.CertificateFingerprint {
		return nil, fmt.Errorf("verity: signature: certificate fingerprint: want %x, the signer has %x: %w",
			s.CertificateFingerprint, have, ErrSignature)
	}
	return signer, nil
}

// VerifySignature checks a signature in PKCS #7 over a root hash and returns the certificate of the signer. Like the kernel, it
// takes a signer who is trusted or has a chain of certificates to one who is, and looks at no dates. It wants one signer, and takes
// signed attributes, which openssl smime writes unless told -noattr. systemd's own check in user space (verity.d) is
// narrower: there the signer's certificate itself must be trusted.
func VerifySignature(pkcs7, root []byte, trusted []*x509.Certificate) (signer *x509.Certificate, err error) {
	if err := checkRootHash(root); err != nil {
		return nil, fmt.Errorf("verity: signature: %w", err)
	}
	sd, rest, err := cms.Parse(pkcs7, 0)
	if err != nil {
		return nil, fmt.Errorf("verity: signature: %w", err)
	}
	switch {
	case len(rest) > 0:
		return nil, fmt.Errorf("verity: signature: %d bytes follow it", len(rest))
	case sd.Bare:
		return nil, errors.New("verity: signature: SignedData without the ContentInfo around it")
	case sd.Content != nil:
		return nil, errors.New("verity: signature: it carries content, but must be detached")
	case !sd.ContentType.Equal(cms.OIDData):
		return nil, fmt.Errorf("verity: signature: content of type %v, want data", sd.ContentType)
	case len(sd.Signers) != 1:
		return nil, fmt.Errorf("verity: signature: %d signers, want one", len(sd.Signers))
	}
	info := &sd.Signers[0]
	signer = sd.Certificate(info)
	if signer == nil { // openssl smime -nocerts: the verifier has it
		given := cms.SignedData{Certificates: trusted}
		if signer = given.Certificate(info); signer == nil {
			return nil, fmt.Errorf("verity: signature: the signer's certificate is neither in it nor among the trusted: %w", ErrUntrusted)
		}
	}
	if err := sd.Check(info, signer, signedText(root)); err != nil {
		return nil, fmt.Errorf("verity: signature: %w: root hash %x: %w", ErrSignature, root, err)
	}
	if cms.Chain(signer, sd.Certificates, trusted) == nil {
		return nil, fmt.Errorf("verity: signature: certificate %q: %w", signer.Subject, ErrUntrusted)
	}
	return signer, nil
}

// signedText is what is signed instead of the root hash: its text, as it stands in the table of the device.
func signedText(root []byte) []byte { return hex.AppendEncode(nil, root) }

// maxDigestSize is that of SHA-512, the largest hash in use with verity.
const maxDigestSize = 64

func checkRootHash(root []byte) error {
	if len(root) == 0 || len(root) > maxDigestSize {
		return fmt.Errorf("root hash: %d bytes, want 1 to %d", len(root), maxDigestSize)
	}
	return nil
}
