package osset

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity"
)

// ErrNoCertificate says that a signature cannot be checked by itself.
var ErrNoCertificate = errors.New("the certificate of its signer is missing")

// maxPKCS7 bounds a signature that is not yet in the form of a partition.
const maxPKCS7 = 1 << 20

// RootHashSignature reads a release's signature of its root hash, which errors call by a name: the
// content of a verity-sig partition, or PKCS #7 alone as a signing service returns it. It must be
// one over the root hash; whose it is, is not looked at. Both are nil if there is none.
func RootHashSignature(name string, src osmith.Source, rootHash []byte) (*verity.Signature, *x509.Certificate, error) {
	if src == nil {
		return nil, nil, nil
	}
	s, err := verity.ReadSignature(src)
	var format *osmith.FormatError
	if errors.As(err, &format) && src.Size() <= maxPKCS7 {
		der := make([]byte, src.Size())
		if _, err := src.ReadAt(der, 0); err != nil && err != io.EOF {
			return nil, nil, err
		}
		if _, _, parseErr := cms.Parse(der, 0); parseErr == nil {
			s, err = &verity.Signature{RootHash: rootHash, PKCS7: der}, nil
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, prefix.Bare(err))
	}
	if !bytes.Equal(s.RootHash, rootHash) {
		return nil, nil, &RootHashError{Where: "the " + name, Want: rootHash, Got: s.RootHash}
	}
	signer, err := signerOf(s)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.Sum256(signer.Raw)
	switch {
	case s.CertificateFingerprint == [sha256.Size]byte{}:
		s.CertificateFingerprint = sum
	case s.CertificateFingerprint != sum:
		return nil, nil, fmt.Errorf("%s: names the certificate %x, but the signer's is %x", name, s.CertificateFingerprint, sum)
	}
	return s, signer, nil
}

// signerOf checks a signature by the certificate that it carries.
func signerOf(s *verity.Signature) (*x509.Certificate, error) {
	sd, _, err := cms.Parse(s.PKCS7, 0)
	if err != nil {
		return nil, err
	}
	// Each certificate stands for a keyring that has it: what is looked for is the one that made
	// the signature.
	for _, c := range sd.Certificates {
		signer, err := verity.VerifySignature(s.PKCS7, s.RootHash, []*x509.Certificate{c})
		if err == nil {
			return signer, nil
		}
		if errors.Is(err, verity.ErrSignature) {
			return nil, err
		}
	}
	return nil, ErrNoCertificate
}
