package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the digests a message may name
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/keycheck"
)

// Identifiers that appear in messages (RFC 5652 section 12, RFC 3370, RFC 5754, RFC 5758).
var (
	OIDData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}

	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

// hashes is the one table of digests: identifier, and the signature identifiers that name the
// digest themselves.
var hashes = []struct {
	hash              crypto.Hash
	oid, rsa, ecdsaID asn1.ObjectIdentifier
}{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// HashOID returns the identifier of SHA-256, SHA-384 or SHA-512; nil for any other.
func HashOID(h crypto.Hash) asn1.ObjectIdentifier {
	for _, r := range hashes {
		if r.hash == h {
			return r.oid
		}
	}
	return nil
}

// HashByOID is the inverse of [HashOID]; 0 for any other identifier, SHA-1 and MD5 among them.
func HashByOID(id asn1.ObjectIdentifier) crypto.Hash {
	for _, r := range hashes {
		if r.oid.Equal(id) {
			return r.hash
		}
	}
	return 0
}

// known reports whether an identifier is one of this file's.
func known(id asn1.ObjectIdentifier) bool {
	if id.Equal(oidRSA) {
		return true
	}
	for _, r := range hashes {
		if id.Equal(r.oid) || id.Equal(r.rsa) || id.Equal(r.ecdsaID) {
			return true
		}
	}
	return false
}

// DigestAlgorithm encodes the AlgorithmIdentifier of h with NULL parameters, as OpenSSL does. It
// returns nil for a digest that [HashOID] does not know.
func DigestAlgorithm(h crypto.Hash) []byte {
	id := HashOID(h)
	if id == nil {
		return nil
	}
	b, err := oidDER(id)
	if err != nil {
		return nil
	}
	return tlv(tagSequence, b, []byte{tagNull, 0})
}

// signatureAlgorithm encodes the AlgorithmIdentifier for a key and a digest: rsaEncryption with
// NULL, or ecdsa-with-SHA* without parameters.
func signatureAlgorithm(pub crypto.PublicKey, h crypto.Hash) ([]byte, error) {
	switch pub.(type) {
	case *rsa.PublicKey:
		b, err := oidDER(oidRSA)
		if err != nil {
			return nil, err
		}
		return tlv(tagSequence, b, []byte{tagNull, 0}), nil
	case *ecdsa.PublicKey:
		for _, r := range hashes {
			if r.hash == h {
				b, err := oidDER(r.ecdsaID)
				if err != nil {
					return nil, err
				}
				return tlv(tagSequence, b), nil
			}
		}
	}
	return nil, fmt.Errorf("a key of type %T with %v: want RSA or ECDSA with SHA-256, SHA-384 or SHA-512", pub, h)
}

// checkSignature checks a signature over a digest. alg is the signature algorithm of the message,
// nil to take it from the key.
func checkSignature(cert *x509.Certificate, alg asn1.ObjectIdentifier, h crypto.Hash, digest, signature []byte) error {
	if err := keycheck.Public(cert.PublicKey); err != nil {
		return err
	}
	switch pub := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if alg != nil && !alg.Equal(oidRSA) && !matches(alg, h, false) {
			return fmt.Errorf("signature algorithm %v does not fit an RSA key and %v", alg, h)
		}
		if err := rsa.VerifyPKCS1v15(pub, h, digest, signature); err != nil {
			return errors.New("the RSA signature is not one of this key over this digest")
		}
	case *ecdsa.PublicKey:
		if alg != nil && !matches(alg, h, true) {
			return fmt.Errorf("signature algorithm %v does not fit an ECDSA key and %v", alg, h)
		}
		if !ecdsa.VerifyASN1(pub, digest, signature) {
			return errors.New("the ECDSA signature is not one of this key over this digest")
		}
	default:
		return fmt.Errorf("key of type %T: want RSA or ECDSA", pub)
	}
	return nil
}

func matches(alg asn1.ObjectIdentifier, h crypto.Hash, ec bool) bool {
	for _, r := range hashes {
		if r.hash == h {
			return (ec && alg.Equal(r.ecdsaID)) || (!ec && alg.Equal(r.rsa))
		}
	}
	return false
}
