package main

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/verity"
)

func signFlags(set *flag.FlagSet) func(*call, []string) error {
	root := set.String("root", "", "root hash in `HEX`")
	keyName := set.String("key", "", "private key in `PEM`, RSA or ECDSA")
	certName := set.String("cert", "", "certificate in `PEM`; others in the file are carried along")
	out := set.String("o", "", "`file` for the signature")
	der := set.Bool("der", false, "write the PKCS #7 message alone, not the content of a verity-sig partition")
	return func(c *call, _ []string) error {
		if err := required("root", *root, "key", *keyName, "cert", *certName, "o", *out); err != nil {
			return err
		}
		rootHash, err := parseRoot(*root)
		if err != nil {
			return err
		}
		key, err := readKey(*keyName)
		if err != nil {
			return err
		}
		certs, err := readCertificates(*certName)
		if err != nil {
			return err
		}
		s, err := verity.SignRootHash(rootHash, key, certs[0], certs[1:]...)
		if err != nil {
			return err
		}
		content := s.PKCS7
		if !*der {
			if content, err = s.Partition(0); err != nil {
				return err
			}
		}
		o, err := createOutput(*out)
		if err != nil {
			return err
		}
		defer o.drop()
		if _, err := o.Write(content); err != nil {
			return err
		}
		if err := keep(o); err != nil {
			return err
		}
		return c.Answer(signResult{
			header: c.header(), RootHash: hex.EncodeToString(s.RootHash),
			CertificateFingerprint: hex.EncodeToString(s.CertificateFingerprint[:]), Size: int64(len(content)),
		}, "")
	}
}

// readKey takes the forms that openssl writes: PKCS #8, PKCS #1 and SEC 1.
func readKey(name string) (crypto.Signer, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			err = errors.New("it is encrypted")
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%s: a key of type %T cannot sign", name, key)
		}
		return signer, nil
	}
	return nil, fmt.Errorf("%s: no private key in PEM", name)
}

func readCertificates(name string) (certs []*x509.Certificate, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
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
		return nil, fmt.Errorf("%s: no certificate in PEM", name)
	}
	return certs, nil
}
