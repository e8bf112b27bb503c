package secureboot

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// maxKeyFile bounds what is read of the file of a key or a certificate, in bytes.
const maxKeyFile = 1 << 20

// keyFiles are the base names of the files of a hierarchy.
func (h *Hierarchy) keyFiles() []struct {
	name string
	pair *KeyPair
} {
	return []struct {
		name string
		pair *KeyPair
	}{{"PK", &h.PK}, {"KEK", &h.KEK}, {"db", &h.DB}, {"PCR", &h.PCR}, {"verity", &h.Verity}}
}

// ReadHierarchy reads the keys of a directory: PK, KEK, db, PCR and verity, of each NAME.crt, the
// certificate, and NAME.key, the private key, as [ParseKeyPair] takes them. Owner is that of the
// first certificate in PK.esl, KEK.esl or db.esl, if one of these files is there.
//
// Files that are not there leave their field empty: a key in an HSM has a certificate alone, and a
// machine that signs images has no PK. [Hierarchy.Check] tells whether the hierarchy is whole. A
// directory without any certificate is an error that is [fs.ErrNotExist], and so is a key without
// its certificate.
func ReadHierarchy(dir fs.FS) (h *Hierarchy, err error) {
	defer prefix.Add("secureboot", &err)
	h = new(Hierarchy)
	found, owned := false, false
	for _, f := range h.keyFiles() {
		if *f.pair, err = readKeyPair(dir, f.name); err != nil {
			return nil, err
		}
		if f.pair.Cert == nil {
			continue
		}
		found = true
		lists, err := readKeyFile(dir, f.name+".esl")
		if err != nil {
			return nil, err
		}
		if lists == nil || owned {
			continue
		}
		parsed, err := ParseSignatureLists(lists)
		if err != nil {
			return nil, fmt.Errorf("%s.esl: %w", f.name, err)
		}
		if len(parsed) > 0 && len(parsed[0].Signatures) > 0 {
			h.Owner, owned = parsed[0].Signatures[0].Owner, true
		}
	}
	if !found {
		return nil, fmt.Errorf("the directory has none of PK.crt, KEK.crt, db.crt, PCR.crt and verity.crt: %w", fs.ErrNotExist)
	}
	return h, nil
}

// ReadKeyPair reads NAME.crt and NAME.key of a directory, as [ParseKeyPair] takes them. The key
// file may be missing: the key is then kept elsewhere. A missing certificate is [fs.ErrNotExist].
func ReadKeyPair(dir fs.FS, name string) (pair KeyPair, err error) {
	defer prefix.Add("secureboot", &err)
	if pair, err = readKeyPair(dir, name); err == nil && pair.Cert == nil {
		err = fmt.Errorf("%s.crt: %w", name, fs.ErrNotExist)
	}
	return pair, err
}

// readKeyPair returns an empty pair if neither file is there.
func readKeyPair(dir fs.FS, name string) (pair KeyPair, err error) {
	key, err := readKeyFile(dir, name+".key")
	if err != nil {
		return KeyPair{}, err
	}
	cert, err := readKeyFile(dir, name+".crt")
	switch {
	case err != nil || cert == nil && key == nil:
		return KeyPair{}, err
	case cert == nil:
		return KeyPair{}, fmt.Errorf("%s.key has no certificate: add %s.crt: %w", name, name, fs.ErrNotExist)
	}
	if pair, err = parseKeyPair(cert, key); err != nil {
		return KeyPair{}, fmt.Errorf("%s: %w", name, err)
	}
	return pair, nil
}

// readKeyFile returns nil if the file is not there.
func readKeyFile(dir fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s has %d bytes, want at most %d", name, info.Size(), maxKeyFile)
	}
	b, err := fs.ReadFile(dir, name)
	if err == nil && b == nil {
		b = []byte{}
	}
	return b, err
}

// ParseKeyPair parses a certificate, PEM or DER, and its private key in PEM, in the forms that
// openssl writes: PKCS #8, PKCS #1 and SEC 1. Of a chain of certificates it takes the first. An
// empty key means that the key is kept elsewhere: Key of the result is then nil.
func ParseKeyPair(cert, key []byte) (pair KeyPair, err error) {
	defer prefix.Add("secureboot", &err)
	if len(key) == 0 {
		key = nil
	}
	return parseKeyPair(cert, key)
}

func parseKeyPair(cert, key []byte) (pair KeyPair, err error) {
	der := cert
	if len(cert) == 0 || cert[0] != 0x30 { // PEM is text, DER a sequence
		der = nil
		for block, rest := pem.Decode(cert); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				der = block.Bytes
				break
			}
		}
		if der == nil {
			return KeyPair{}, errors.New("certificate: no certificate in PEM or DER")
		}
	}
	if pair.Cert, err = x509.ParseCertificate(der); err != nil {
		return KeyPair{}, fmt.Errorf("certificate: %w", err)
	}
	if key == nil {
		return pair, nil
	}
	if pair.Key, err = ParsePrivateKey(key); err != nil {
		return KeyPair{}, err
	}
	if !pair.matches() {
		return KeyPair{}, fmt.Errorf("the private key does not belong to the certificate of %q", pair.Cert.Subject)
	}
	return pair, nil
}

// ParsePrivateKey parses the first private key in PEM: PKCS #8, PKCS #1 or SEC 1. An encrypted key
// is an error.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			err = errors.New("the key is encrypted: decrypt it first, as by openssl pkey")
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("private key: a key of type %T cannot sign", key)
		}
		return signer, nil
	}
	return nil, errors.New("private key: no private key in PEM")
}

// MarshalPEM returns the certificate and, as PKCS #8, the private key. key is empty if Key is nil;
// a key that cannot leave its device is an error.
func (p KeyPair) MarshalPEM() (cert, key []byte, err error) {
	defer prefix.Add("secureboot", &err)
	if p.Cert == nil {
		return nil, nil, errors.New("the key pair has no certificate")
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
	if p.Key == nil {
		return cert, nil, nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("the key of %q: %w", p.Cert.Subject, err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Files are the files that [ReadHierarchy] reads, by name: those of the pairs that the hierarchy
// has. Files with the suffix .key are secret.
func (h *Hierarchy) Files() (files map[string][]byte, err error) {
	files = map[string][]byte{}
	for _, f := range h.keyFiles() {
		if f.pair.Cert == nil {
			continue
		}
		cert, key, err := f.pair.MarshalPEM()
		if err != nil {
			return nil, err
		}
		files[f.name+".crt"] = cert
		if key != nil {
			files[f.name+".key"] = key
		}
	}
	return files, nil
}
