package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// maxStore bounds the file of a variable store.
const maxStore = 64 << 20

// readVariables takes a directory of efivarfs or the variable store of a virtual machine.
func readVariables(name string) (v osmith.FirmwareVariables, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return v, err
	}
	if info.IsDir() {
		v, err = secureboot.ReadVariables(os.DirFS(name))
	} else {
		var b []byte
		if b, err = cli.ReadFile(name, maxStore); err != nil {
			return v, err
		}
		v, err = secureboot.ParseStore(b)
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// readImages reads PE images.
func readImages(c *cli.Call, names []string) (images []secureboot.Image, err error) {
	for _, name := range names {
		im, err := readImage(c, name)
		if err != nil {
			return nil, err
		}
		images = append(images, im)
	}
	return images, nil
}

func readImage(c *cli.Call, name string) (im secureboot.Image, err error) {
	f, err := c.Open(name)
	if err != nil {
		return im, err
	}
	if im, err = secureboot.ReadImage(f); err != nil {
		return im, fmt.Errorf("%s: %w", name, err)
	}
	im.Name = name
	return im, nil
}

// names of the keys in a directory.
var names = []string{"PK", "KEK", "db", "PCR", "verity"}

func pairs(h *secureboot.Hierarchy) []*secureboot.KeyPair {
	return []*secureboot.KeyPair{&h.PK, &h.KEK, &h.DB, &h.PCR, &h.Verity}
}

// readHierarchy reads PK, KEK and db from a directory of generate. With partly, those that are not
// there stay empty. A key may be missing where its certificate is.
func readHierarchy(dir string, partly bool) (*secureboot.Hierarchy, error) {
	h := new(secureboot.Hierarchy)
	found := 0
	for i, p := range pairs(h)[:3] {
		base := filepath.Join(dir, names[i])
		certs, err := cli.ReadCertificates(base + ".crt")
		if errors.Is(err, fs.ErrNotExist) && partly {
			continue
		}
		if err != nil {
			return nil, err
		}
		p.Cert = certs[0]
		if p.Key, err = cli.ReadKey(base + ".key"); errors.Is(err, fs.ErrNotExist) {
			p.Key = nil // it is elsewhere
		} else if err != nil {
			return nil, err
		}
		found++
		if esl, err := os.ReadFile(base + ".esl"); err == nil && h.Owner == (osmith.GUID{}) {
			lists, err := secureboot.ParseSignatureLists(esl)
			if err != nil {
				return nil, fmt.Errorf("%s.esl: %w", base, err)
			}
			if len(lists) > 0 && len(lists[0].Signatures) > 0 {
				h.Owner = lists[0].Signatures[0].Owner
			}
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("%s has none of PK, KEK, db (.crt)", dir)
	}
	return h, nil
}

// writeKey writes a private key that only its owner can read.
func writeKey(name string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return cli.WriteSecret(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func certificatePEM(c *x509.Certificate) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	return b.Bytes()
}
