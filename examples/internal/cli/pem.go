package cli

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/signing/secureboot"
)

// ReadKey reads a private key in PEM, in the forms that openssl writes: PKCS #8, PKCS #1 and SEC 1.
func ReadKey(name string) (crypto.Signer, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	key, err := secureboot.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// ReadSigner reads a private key and its certificates, of which the first is that of the key.
func ReadSigner(keyName, certName string) (crypto.Signer, []*x509.Certificate, error) {
	key, err := ReadKey(keyName)
	if err != nil {
		return nil, nil, err
	}
	certs, err := ReadCertificates(certName)
	if err != nil {
		return nil, nil, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certs[0].PublicKey) {
		return nil, nil, fmt.Errorf("%s is not the key of the certificate in %s", keyName, certName)
	}
	return key, certs, nil
}

// ReadPublicKey reads a public key: PEM of a key or of a certificate.
func ReadPublicKey(name string) (crypto.PublicKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return ParsePublicKey(name, b)
}

// ParsePublicKey is [ReadPublicKey] of the content of a file of that name.
func ParsePublicKey(name string, b []byte) (crypto.PublicKey, error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PUBLIC KEY":
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return key, nil
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return cert.PublicKey, nil
		}
	}
	return nil, fmt.Errorf("%s: no public key in PEM", name)
}

// ReadCertificates reads the certificates of a file: PEM, any number, or DER, one.
func ReadCertificates(name string) (certs []*x509.Certificate, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(b) > 0 && b[0] == 0x30 { // a DER sequence; PEM is text
		cert, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return []*x509.Certificate{cert}, nil
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM or DER", name)
	}
	return certs, nil
}
