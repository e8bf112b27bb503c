package secureboot

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// A KeyPair is a key and its certificate.
type KeyPair struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// A Hierarchy is the keys of a machine's owner: PK changes PK and KEK, KEK changes db and dbx, DB signs images. Keys may
// come from anywhere; [Generate] makes new ones.
type Hierarchy struct {
	PK, KEK, DB KeyPair

	// Owner is noted with each certificate in the variables; it has no effect but is measured into PCR 7. Zero is allowed, systemd uses it.
	Owner GUID
}

// GenerateOptions are the choices of [Generate].
type GenerateOptions struct {
	// CommonName starts the subject of each certificate: "NAME Platform Key", "NAME Key Exchange Key", "NAME Signature Database Key".
	CommonName string

	// Owner becomes Hierarchy.Owner.
	Owner GUID

	// NotBefore and NotAfter are written into the certificates. Firmware looks at neither; build tools may.
	NotBefore, NotAfter time.Time

	// Bits of the RSA keys: 2048 when zero, which is what all firmware takes, 3072 or 4096.
	Bits int
}

// Generate makes new RSA keys and self-signed certificates. random is the system's generator when nil. Another one decides about the serial
// numbers; the keys always come from the system's, unless the program runs with GODEBUG=cryptocustomrand=1.
//
// The certificates are authorities without a limit on what they issue, like those of "openssl req -x509": images can be signed by the key of DB
// itself or by keys for which it issues certificates.
func Generate(random io.Reader, o GenerateOptions) (*Hierarchy, error) {
	if random == nil {
		random = rand.Reader
	}
	if o.CommonName == "" {
		return nil, errors.New("secureboot: generate: CommonName is empty")
	}
	if o.NotBefore.IsZero() || !o.NotAfter.After(o.NotBefore) {
		return nil, fmt.Errorf("secureboot: generate: NotBefore %v and NotAfter %v are not a period of time", o.NotBefore, o.NotAfter)
	}
	switch o.Bits {
	case 0:
		o.Bits = 2048
	case 2048, 3072, 4096:
	default:
		return nil, fmt.Errorf("secureboot: generate: %d bits, want 2048, 3072 or 4096", o.Bits)
	}
	h := &Hierarchy{Owner: o.Owner}
	for _, k := range []struct {
		pair *KeyPair
		name string
	}{{&h.PK, "Platform Key"}, {&h.KEK, "Key Exchange Key"}, {&h.DB, "Signature Database Key"}} {
		pair, err := generatePair(random, o, o.CommonName+" "+k.name)
		if err != nil {
			return nil, fmt.Errorf("secureboot: generate %s: %w", k.name, err)
		}
		*k.pair = pair
	}
	return h, nil
}

func generatePair(random io.Reader, o GenerateOptions, name string) (KeyPair, error) {
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
	t := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             o.NotBefore,
		NotAfter:              o.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(random, t, t, key.Public(), key)
	if err != nil {
		return KeyPair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{Key: key, Cert: cert}, nil
}

// Enrollment is the .auth files that put a hierarchy into a machine in Setup Mode, to be written in the order db, KEK, PK: with PK,
// Setup Mode ends. systemd-boot takes them from /loader/keys/NAME/{db,KEK,PK}.auth.
type Enrollment struct {
	PK, KEK, DB []byte
}

// EnrollOwnKeysOnly signs an enrolment after which the machine believes in this hierarchy and in nothing else. Option
// ROMs of graphics, network and storage cards are signed by Microsoft; a machine that needs one to show a picture or to find its disk, and
// whose db has lost Microsoft's certificate, may not get as far as its setup menu. Use it for virtual machines and for
// hardware that is known to do without.
func (h *Hierarchy) EnrollOwnKeysOnly(at time.Time) (*Enrollment, error) {
	var e Enrollment
	for _, v := range []struct {
		name         string
		content, key KeyPair
		auth         *[]byte
	}{{"PK", h.PK, h.PK, &e.PK}, {"KEK", h.KEK, h.PK, &e.KEK}, {"db", h.DB, h.KEK, &e.DB}} {
		payload, err := h.payload(v.content)
		if err != nil {
			return nil, err
		}
		if *v.auth, err = SignVariable(v.name, payload, at, v.key.Key, v.key.Cert, false); err != nil {
			return nil, err
		}
	}
	return &e, nil
}

func (h *Hierarchy) payload(p KeyPair) ([]byte, error) {
	if p.Cert == nil {
		return nil, errors.New("secureboot: the hierarchy lacks a certificate")
	}
	return AppendSignatureLists(nil, CertificateList(h.Owner, p.Cert))
}

// Variables are those of a machine after [Hierarchy.EnrollOwnKeysOnly] and a reboot: Secure Boot on, dbx absent.
func (h *Hierarchy) Variables() (Variables, error) {
	v := Variables{SecureBoot: true}
	for _, c := range []struct {
		pair KeyPair
		data *[]byte
	}{{h.PK, &v.PK}, {h.KEK, &v.KEK}, {h.DB, &v.DB}} {
		var err error
		if *c.data, err = h.payload(c.pair); err != nil {
			return Variables{}, err
		}
	}
	return v, nil
}
