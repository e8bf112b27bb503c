package main

import (
	"encoding/hex"
	"flag"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/verity"
)

func signFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	root := set.String("root", "", "root hash in `HEX`")
	keyName := set.String("key", "", "private key in `PEM`, RSA or ECDSA")
	certName := set.String("cert", "", "certificate in `PEM`; others in the file are carried along")
	out := set.String("o", "", "`file` for the signature")
	der := set.Bool("der", false, "write the PKCS #7 message alone, not the content of a verity-sig partition")
	return func(c *cli.Call, _ []string) error {
		if err := cli.Required("root", *root, "key", *keyName, "cert", *certName, "o", *out); err != nil {
			return err
		}
		rootHash, err := parseRoot(*root)
		if err != nil {
			return err
		}
		key, certs, err := cli.ReadSigner(*keyName, *certName)
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
		if err := cli.WriteFile(*out, content); err != nil {
			return err
		}
		return c.Answer(signResult{
			Header: c.Header(), RootHash: hex.EncodeToString(s.RootHash),
			CertificateFingerprint: hex.EncodeToString(s.CertificateFingerprint[:]), Size: int64(len(content)),
		}, "")
	}
}
