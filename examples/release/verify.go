package main

import (
	"errors"
	"flag"
	"io"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
)

func verifyFlags(set *flag.FlagSet) func(*call, []string) error {
	trust := releasecli.AddTrust(set)
	return func(c *call, operands []string) error {
		l, artifact, err := c.find(operands[0], operands[1])
		if err != nil {
			return err
		}
		policy, err := trust.Load(l.repository, nil)
		if err != nil {
			return err
		}
		result, refused := cosign.Verify(c, l, artifact, policy)
		v, err := releasecli.NewVerification(artifact.Digest, result, refused)
		if err != nil {
			return err
		}
		r := verifyResult{c.header(), *v}
		if refused != nil {
			return errors.Join(cli.No{Err: refused}, c.Answer(r, ""))
		}
		return c.Answer(r, v.String())
	}
}

// discard reads a blob to its end, which checks it.
func discard(r io.ReadCloser) error {
	_, err := io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
