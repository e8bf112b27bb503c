package main

import (
	"cmp"
	"flag"
	"fmt"

	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// predicateTypes are the short names of -type.
var predicateTypes = map[string]string{
	"slsaprovenance": cosign.PredicateSLSAProvenance, "slsaprovenance02": cosign.PredicateSLSAProvenance02,
	"spdx": cosign.PredicateSPDX, "cyclonedx": cosign.PredicateCycloneDX,
}

func signFlags(set *flag.FlagSet) func(*call, []string) error {
	key := set.String("key", "", "`file` with the private key, PEM")
	format := set.String("format", "", "`legacy` (of cosign 1 and 2) or bundle (of cosign 3) (default: both)")
	reference := set.String("reference", "", "`name` that a legacy signature says the release has, such as registry.example/os")
	return func(c *call, operands []string) error {
		if err := required("key", *key); err != nil {
			return err
		}
		which, err := releasecli.Formats(*format, cosign.FormatSimpleSigning, cosign.FormatSimpleSigning, cosign.FormatBundle)
		if err != nil {
			return err
		}
		return c.sign(operands, *key, "", which, nil, *reference)
	}
}

func attestFlags(set *flag.FlagSet) func(*call, []string) error {
	key := set.String("key", "", "`file` with the private key, PEM")
	format := set.String("format", "", "`legacy` (of cosign 1 and 2) or bundle (of cosign 3, the default)")
	kind := set.String("type", "", "`type` of the predicate: a URI, slsaprovenance, slsaprovenance02, spdx or cyclonedx")
	predicate := set.String("predicate", "", "`file` with the predicate, JSON")
	return func(c *call, operands []string) error {
		if err := required("key", *key, "type", *kind, "predicate", *predicate); err != nil {
			return err
		}
		which, err := releasecli.Formats(*format, cosign.FormatDSSE, cosign.FormatBundle)
		if err != nil {
			return err
		}
		text, err := releasecli.ReadFile(*predicate)
		if err != nil {
			return err
		}
		return c.sign(operands, *key, cmp.Or(predicateTypes[*kind], *kind), which, text, "")
	}
}

// sign signs an artifact, or with a predicate type a statement about it.
func (c *call) sign(operands []string, keyName, predicateType string, which []cosign.Format, predicate []byte, reference string) error {
	signer, err := releasecli.ReadSigner(keyName)
	if err != nil {
		return err
	}
	l, err := existing(operands[0])
	if err != nil {
		return err
	}
	artifact, err := l.Resolve(operands[1])
	if err != nil {
		return err
	}
	// What is signed is there, and is what its digest says.
	manifest, err := cosign.OpenBlob(c, l, artifact)
	if err != nil {
		return err
	}
	if err := discard(manifest); err != nil {
		return err
	}
	o := cosign.SignOptions{Formats: which, Reference: reference}
	if predicateType == "" {
		err = cosign.Sign(c, l, artifact, signer, o)
	} else {
		err = cosign.Attest(c, l, artifact, predicateType, predicate, signer, o)
	}
	if err != nil {
		return fmt.Errorf("%v", err) // no answer about the release, so its type is not kept
	}
	r := signResult{header: c.header(), Digest: string(artifact.Digest), Type: predicateType}
	if r.Key, err = releasecli.Fingerprint(signer.Public()); err != nil {
		return err
	}
	for _, f := range which {
		r.Formats = append(r.Formats, releasecli.FormatNames[f])
	}
	return c.Answer(r, fmt.Sprintf("%s by key %s\n", r.Digest, r.Key))
}
