package secureboot

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// A KeyPair is a key and its certificate.
type KeyPair struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// CertificateOptions are what a self-signed certificate says.
type CertificateOptions struct {
	CommonName          string
	NotBefore, NotAfter time.Time

	// Serial is the serial number. Nil: made from the name, the dates and the public key, so that the same call gives the same number.
	Serial *big.Int

	// SignsOnly makes a certificate that cannot issue others.
	SignsOnly bool
}

// NewKeyPair makes a self-signed certificate for a key that exists, in an HSM or a KMS for example. With an RSA key or an
// *ecdsa.PrivateKey the same call gives the same bytes.
func NewKeyPair(key crypto.Signer, o CertificateOptions) (KeyPair, error) {
	if key == nil {
		return KeyPair{}, errors.New("secureboot: certificate: no key")
	}
	if o.CommonName == "" {
		return KeyPair{}, errors.New("secureboot: certificate: CommonName is empty")
	}
	if o.NotBefore.IsZero() || !o.NotAfter.After(o.NotBefore) {
		return KeyPair{}, fmt.Errorf("secureboot: certificate: NotBefore %v and NotAfter %v are not a period of time", o.NotBefore, o.NotAfter)
	}
	serial := o.Serial
	if serial == nil {
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return KeyPair{}, fmt.Errorf("secureboot: certificate: %w", err)
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%d\n%x", o.CommonName, o.NotBefore.Unix(), o.NotAfter.Unix(), public))
		sum[0] = sum[0]&0x3f | 0x40 // positive, and 20 bytes long
		serial = new(big.Int).SetBytes(sum[:20])
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: o.CommonName},
		NotBefore:             o.NotBefore,
		NotAfter:              o.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  !o.SignsOnly,
	}
	if t.IsCA {
		t.KeyUsage |= x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(nil, t, t, key.Public(), key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("secureboot: certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return KeyPair{}, fmt.Errorf("secureboot: certificate: %w", err)
	}
	return KeyPair{Key: key, Cert: cert}, nil
}

// matches reports whether the key is the one of the certificate.
func (p KeyPair) matches() bool {
	public, ok := p.Cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(p.Key.Public())
}

// same reports whether two pairs have the same certificate.
func (p KeyPair) same(q KeyPair) bool {
	return p.Cert != nil && q.Cert != nil && p.Cert.Equal(q.Cert)
}
