package main

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

func verifyFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var certs cli.List
	set.Var(&certs, "cert", "trusted certificates in `PEM` or DER, as in db; may be repeated")
	return func(c *cli.Call, operands []string) error {
		if len(certs) == 0 {
			return cli.Usagef("-cert is missing")
		}
		var trusted []*x509.Certificate
		for _, name := range certs {
			found, err := cli.ReadCertificates(name)
			if err != nil {
				return err
			}
			trusted = append(trusted, found...)
		}
		src, err := c.Open(operands[0])
		if err != nil {
			return err
		}
		finish := c.WatchReads(2 * src.Size())
		signature, err := authenticode.Verify(src, trusted)
		finish()
		return verified(c, src, signature, err)
	}
}

// verified answers for verify: err is nil, the reason for a no, or an error of reading.
func verified(c *cli.Call, src *cli.Input, good *authenticode.Signature, err error) error {
	r := verifyResult{header: newHeader(c, src.Name), Verified: err == nil, Signatures: []signature{}}
	signatures, listErr := authenticode.Signatures(src)
	if listErr != nil && err == nil {
		return about{src.Name, listErr}
	}
	sum, digestErr := authenticode.Digest(src, crypto.SHA256)
	if digestErr == nil {
		r.SHA256 = hex.EncodeToString(sum)
	}
	r.Signatures = describeSignatures(signatures, sum)
	if err == nil {
		r.Signer = good.Signer.Subject.String()
		return c.Answer(r, fmt.Sprintf("%s: signed by %s\n", src.Name, r.Signer))
	}
	var changed *authenticode.DigestError
	var format *osmith.FormatError
	var unsigned = errors.Is(err, authenticode.ErrUnsigned)
	switch {
	case unsigned:
		r.Reason = "unsigned"
	case errors.As(err, &changed):
		r.Reason = "changed"
	case errors.Is(err, authenticode.ErrUntrusted):
		r.Reason = "untrusted"
	case errors.As(err, &format):
		r.Reason = "malformed"
	case len(signatures) > 0 && signatures[0].Err != nil:
		r.Reason = "invalid"
	default:
		return about{src.Name, err}
	}
	r.Error = err.Error()
	return errors.Join(cli.No{Err: about{src.Name, err}}, c.Answer(r, ""))
}
