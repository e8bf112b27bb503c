package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/tpmwire"
)

// Signature schemes of the TCG Algorithm Registry.
const (
	algRSASSA = 0x0014
	algRSAPSS = 0x0016
	algECDSA  = 0x0018
)

// TPMSignature is a TPMT_SIGNATURE (TPM 2.0 Library, part 2, section 11.3.4) by RSASSA, RSAPSS or ECDSA.
type TPMSignature struct {
	Scheme string // "rsassa", "rsapss" or "ecdsa"
	Hash   crypto.Hash
	RSA    []byte   // of rsassa and rsapss
	R, S   *big.Int // of ecdsa
}

// ParseTPMSignature reads a TPMT_SIGNATURE, as TPM2_Quote returns it and tpm2_quote -s writes it.
func ParseTPMSignature(b []byte) (_ *TPMSignature, err error) {
	defer prefix.Add(pkg, &err)
	r := tpmwire.NewReader("TPM signature", bytes.Clone(b))
	scheme := r.U16("scheme")
	at := r.Pos()
	id := r.U16("hash")
	a, ok := pcrbank.ByID(id)
	if !ok {
		r.Fail(at, "hash", fmt.Errorf("algorithm 0x%04x: %w", id, ErrBank))
	}
	s := &TPMSignature{Hash: a.Hash}
	switch scheme {
	case algRSASSA, algRSAPSS:
		s.Scheme = "rsassa"
		if scheme == algRSAPSS {
			s.Scheme = "rsapss"
		}
		s.RSA = r.Sized("signature")
	case algECDSA:
		s.Scheme = "ecdsa"
		s.R, s.S = new(big.Int).SetBytes(r.Sized("r")), new(big.Int).SetBytes(r.Sized("s"))
	default:
		r.Fail(0, "scheme", fmt.Errorf("0x%04x, want RSASSA, RSAPSS or ECDSA", scheme))
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	return s, nil
}

// Verify reports whether the key made the signature over message. A SHA-1 signature is refused.
func (s *TPMSignature) Verify(key crypto.PublicKey, message []byte) (err error) {
	defer prefix.Add(pkg, &err)
	if err := checkBank(s.Hash); err != nil {
		return err
	}
	if s.Hash == crypto.SHA1 {
		return errors.New("a signature over SHA-1 proves nothing")
	}
	digest := sum(s.Hash, message)
	switch k := key.(type) {
	case *rsa.PublicKey:
		if s.Scheme == "rsassa" {
			return wrapVerify(rsa.VerifyPKCS1v15(k, s.Hash, digest, s.RSA))
		}
		if s.Scheme == "rsapss" { // the TPM's salt is as long as fits or as the hash
			return wrapVerify(rsa.VerifyPSS(k, s.Hash, digest, s.RSA, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}))
		}
	case *ecdsa.PublicKey:
		if s.Scheme == "ecdsa" {
			if s.R == nil || s.S == nil || !ecdsa.Verify(k, digest, s.R, s.S) {
				return errors.New("not a signature by this key over this message")
			}
			return nil
		}
	}
	return fmt.Errorf("a signature by %s and a key of type %T", s.Scheme, key)
}

func wrapVerify(err error) error {
	if err != nil {
		return fmt.Errorf("not a signature by this key over this message: %w", err)
	}
	return nil
}
