package secureboot

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// A Hierarchy is the keys of a machine's owner: PK changes PK and KEK, KEK changes db and dbx, DB
// signs images. Keys may come from anywhere ([NewKeyPair] makes certificates for them); [Generate]
// makes new ones.
type Hierarchy struct {
	PK, KEK, DB KeyPair

	// PCR signs PCR policies (.pcrsig; systemd takes its public key, not the certificate), Verity
	// root hashes of dm-verity (the kernel needs the certificate in one of its keyrings). Firmware
	// uses neither of them; both are optional.
	PCR, Verity KeyPair

	// Owner is stored with each certificate in the variables. It has no effect, except that it is
	// measured into PCR 7. Zero is allowed; systemd uses it.
	Owner osmith.GUID
}

// GenerateOptions are the choices of [Generate].
type GenerateOptions struct {
	// CommonName starts the subject of each certificate: "NAME Platform Key", "NAME Key Exchange
	// Key", "NAME Signature Database Key", "NAME PCR Signing Key", "NAME Verity Signing Key".
	CommonName string

	// Owner becomes Hierarchy.Owner.
	Owner osmith.GUID

	// NotBefore and NotAfter are written into the certificates. Firmware looks at neither; build
	// tools may.
	NotBefore, NotAfter time.Time

	// Bits is the size of the RSA keys: 2048 when zero, which all firmware accepts, 3072 or 4096.
	Bits int
}

// Generate makes new RSA keys and self-signed certificates. random is the system's generator when
// nil. A different generator is used only for the serial numbers; the keys always come from the
// system's generator, unless the program runs with GODEBUG=cryptocustomrand=1.
//
// The certificates of PK, KEK and DB are authorities without a limit on what they issue, like those
// of "openssl req -x509": images can be signed by the key of DB itself or by keys for which it
// issues certificates.
func Generate(random io.Reader, o GenerateOptions) (h *Hierarchy, err error) {
	defer prefix.Add("secureboot", &err)
	if random == nil {
		random = rand.Reader
	}
	if o.CommonName == "" {
		return nil, errors.New("generate: CommonName is empty")
	}
	if o.NotBefore.IsZero() || !o.NotAfter.After(o.NotBefore) {
		return nil, fmt.Errorf("generate: NotBefore %v and NotAfter %v are not a period of time", o.NotBefore, o.NotAfter)
	}
	switch o.Bits {
	case 0:
		o.Bits = 2048
	case 2048, 3072, 4096:
	default:
		return nil, fmt.Errorf("generate: %d bits, want 2048, 3072 or 4096", o.Bits)
	}
	h = &Hierarchy{Owner: o.Owner}
	for _, k := range []struct {
		pair      *KeyPair
		name      string
		authority bool
	}{
		{&h.PK, "Platform Key", true}, {&h.KEK, "Key Exchange Key", true}, {&h.DB, "Signature Database Key", true},
		{&h.PCR, "PCR Signing Key", false}, {&h.Verity, "Verity Signing Key", false},
	} {
		pair, err := generatePair(random, o, o.CommonName+" "+k.name, k.authority)
		if err != nil {
			return nil, fmt.Errorf("generate %s: %w", k.name, err)
		}
		*k.pair = pair
	}
	return h, nil
}

func generatePair(random io.Reader, o GenerateOptions, name string, authority bool) (KeyPair, error) {
	key, err := rsa.GenerateKey(random, o.Bits)
	if err != nil {
		return KeyPair{}, err
	}
	// 159 random bits below a leading one: never negative, zero or longer than RFC 5280 allows.
	serial := make([]byte, 20)
	if _, err := io.ReadFull(random, serial); err != nil {
		return KeyPair{}, err
	}
	serial[0] = serial[0]&0x3f | 0x40
	return newKeyPair(key, CertificateOptions{
		CommonName: name, NotBefore: o.NotBefore, NotAfter: o.NotAfter, Serial: new(big.Int).SetBytes(serial), SignsOnly: !authority,
	})
}

// SignUpdate signs an update with the key that firmware requires for the variable: that of PK for
// PK and KEK, that of KEK for db, dbx, dbt and dbr. The first PK of a machine in Setup Mode is
// signed by its own key, which is also the key of this hierarchy.
func (h *Hierarchy) SignUpdate(u Update) ([]byte, error) {
	signer := h.KEK
	if u.Variable == "PK" || u.Variable == "KEK" {
		signer = h.PK
	}
	return u.Sign(signer.Key, signer.Cert)
}

// Check reports whether the hierarchy is complete: PK, KEK and DB have a key and its certificate,
// PCR and Verity both or neither, and no two share a key, since a thief of one would then have
// both.
func (h *Hierarchy) Check() (err error) {
	defer prefix.Add("secureboot", &err)
	pairs := []struct {
		name string
		KeyPair
	}{{"PK", h.PK}, {"KEK", h.KEK}, {"db", h.DB}, {"PCR", h.PCR}, {"verity", h.Verity}}
	for i, p := range pairs {
		if i > 2 && p.Key == nil && p.Cert == nil {
			continue
		}
		if p.Key == nil || p.Cert == nil {
			return fmt.Errorf("the hierarchy lacks key or certificate of %s: give both", p.name)
		}
		if !p.matches() {
			return fmt.Errorf("the key of %s is not that of its certificate %q", p.name, p.Cert.Subject)
		}
		for _, other := range pairs[:i] {
			if other.Cert != nil && bytes.Equal(other.Cert.RawSubjectPublicKeyInfo, p.Cert.RawSubjectPublicKeyInfo) {
				return fmt.Errorf("%s and %s have the same key: make a separate key for each", other.name, p.name)
			}
		}
	}
	return nil
}

// A KeyPair is a key and its certificate.
type KeyPair struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// CertificateOptions are what a self-signed certificate says.
type CertificateOptions struct {
	CommonName          string
	NotBefore, NotAfter time.Time

	// Serial is the serial number. Nil: made from the name, the dates and the public key, so that
	// the same call gives the same number.
	Serial *big.Int

	// SignsOnly makes a certificate that cannot issue others.
	SignsOnly bool
}

// NewKeyPair makes a self-signed certificate for a key that exists, in an HSM or a KMS for example.
// With an RSA key or an *ecdsa.PrivateKey the same call gives the same bytes.
func NewKeyPair(key crypto.Signer, o CertificateOptions) (KeyPair, error) {
	p, err := newKeyPair(key, o)
	return p, prefix.Error("secureboot", err)
}

func newKeyPair(key crypto.Signer, o CertificateOptions) (KeyPair, error) {
	if key == nil {
		return KeyPair{}, errors.New("certificate: no key")
	}
	if o.CommonName == "" {
		return KeyPair{}, errors.New("certificate: CommonName is empty")
	}
	if o.NotBefore.IsZero() || !o.NotAfter.After(o.NotBefore) {
		return KeyPair{}, fmt.Errorf("certificate: NotBefore %v and NotAfter %v are not a period of time", o.NotBefore, o.NotAfter)
	}
	serial := o.Serial
	if serial == nil {
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return KeyPair{}, fmt.Errorf("certificate: %w", err)
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
		return KeyPair{}, fmt.Errorf("certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return KeyPair{}, fmt.Errorf("certificate: %w", err)
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
