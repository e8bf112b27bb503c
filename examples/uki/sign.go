package main

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

func signFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	key := set.String("key", "", "private key in `PEM`, RSA or ECDSA")
	cert := set.String("cert", "", "certificate in `PEM` or DER; others in the file are carried along")
	out := set.String("o", "", "`file` for the signed image (default: the image is replaced)")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("key", *key, "cert", *cert); err != nil {
			return err
		}
		signer, err := readSigner(*key, *cert)
		if err != nil {
			return err
		}
		src, err := c.Open(operands[0])
		if err != nil {
			return err
		}
		name := *out
		if name == "" {
			name = operands[0]
		}
		o, err := cli.Create(name)
		if err != nil {
			return err
		}
		defer o.Drop()
		if o.InPlace() && *out == "" {
			return cli.Usagef("%s is a device: name the output with -o", name)
		}
		finish := c.WatchReads(src.Size())
		_, err = signer.through(o, func(w io.Writer) error {
			_, err := io.Copy(w, io.NewSectionReader(src, 0, src.Size()))
			return err
		})
		finish()
		if err != nil {
			return about{src.Name, err}
		}
		c.Close() // it may be what is replaced
		if err := cli.Keep(o); err != nil {
			return err
		}
		return signed(c, name)
	}
}

// signed answers for sign from the file itself.
func signed(c *cli.Call, name string) error {
	src, err := c.Open(name)
	if err != nil {
		return err
	}
	sum, err := authenticode.Digest(src, crypto.SHA256)
	if err != nil {
		return about{name, err}
	}
	signatures, err := authenticode.Signatures(src)
	if err != nil {
		return about{name, err}
	}
	return c.Answer(signResult{newHeader(c, name), src.Size(), hex.EncodeToString(sum), describeSignatures(signatures, sum)}, "")
}

// A signer is whose Secure Boot signature an image gets.
type signer struct {
	key     crypto.Signer
	cert    *x509.Certificate
	options authenticode.SignOptions
}

func readSigner(keyName, certName string) (*signer, error) {
	key, err := cli.ReadKey(keyName)
	if err != nil {
		return nil, err
	}
	certs, err := cli.ReadCertificates(certName)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("%s is not the key of the certificate in %s", keyName, certName)
	}
	when, err := cli.SourceDate(time.Time{})
	if err != nil {
		return nil, err
	}
	if cert := certs[0]; !when.IsZero() && (when.Before(cert.NotBefore) || when.After(cert.NotAfter)) {
		text := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH=%d is %s: the certificate %q in %s is valid from %s to %s, and U-Boot refuses an image that was signed at another time: set a time in between, or unset it to sign without one",
			when.Unix(), text(when), cert.Subject, certName, text(cert.NotBefore), text(cert.NotAfter))
	}
	return &signer{key, certs[0], authenticode.SignOptions{Time: when, Chain: certs[1:]}}, nil
}
