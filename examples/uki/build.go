package main

import (
	"crypto"
	"encoding/hex"
	"flag"

	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

func buildFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	parts := addPartFlags(set)
	policy := addPolicyFlags(set)
	out := addOutputFlags(set)
	return func(c *cli.Call, _ []string) error {
		by, err := out.signer()
		if err != nil {
			return err
		}
		ps, key, err := policy.read()
		if err != nil {
			return err
		}
		switch {
		case parts.joinPCRSig != "" && (parts.linux != "" || parts.profile.given || len(ps.keys) > 0):
			return cli.Usagef("-join-pcrsig completes an image that is built: no parts and no keys for policies with it")
		case parts.joinPCRSig != "":
			return join(c, parts.joinPCRSig, &parts.pcrsig, by, out.name)
		case parts.pcrsig.given:
			return cli.Usagef("-pcrsig without -join-pcrsig")
		case parts.linux == "":
			return buildProfile(c, parts, key, ps, by, out.name)
		}
		im, err := parts.image(c)
		if err != nil {
			return err
		}
		im.PCRPublicKey = key
		finish := c.WatchReads(c.InputSize())
		r, err := buildImage(c, im, ps, by, out.name)
		finish()
		if err != nil {
			return byFlag(err)
		}
		return c.Answer(r, r.text())
	}
}

// buildImage writes the image in one pass, which also measures it and signs the policies.
func buildImage(c *cli.Call, im *uki.Image, ps *policies, by *signer, name string) (*buildResult, error) {
	out, err := cli.Create(name)
	if err != nil {
		return nil, err
	}
	defer out.Drop()
	keys := build.Keys{PCR: ps.keys}
	if by != nil {
		keys.SecureBoot, keys.SignOptions = secureboot.KeyPair{Key: by.key, Cert: by.cert}, by.options
	}
	made, err := build.UKI(c, out, build.UKIParts{Image: *im, Banks: ps.banks}, keys)
	if err != nil {
		return nil, err
	}
	r := &buildResult{header: newHeader(c, name), Size: made.Size, SHA256: hex.EncodeToString(made.Digests[crypto.SHA256]), Signed: made.Signed,
		PCRSignature: len(ps.keys) > 0 && !ps.digests, FreeSections: made.FreeSections}
	if ps.digests {
		if r.Policies, err = made.ToSign.MarshalJSON(); err != nil {
			return nil, err
		}
	}
	return r, cli.Keep(out)
}

// buildProfile writes a profile alone.
func buildProfile(c *cli.Call, parts *partFlags, key []byte, ps *policies, by *signer, name string) error {
	switch {
	case len(parts.profile.value) == 0:
		return cli.Usagef("-linux is missing (only a -profile to be joined goes without; see also the verb addon)")
	case len(ps.keys) > 0:
		return cli.Usagef("a profile alone cannot be measured: sign the image that it is joined to")
	}
	profile, stub, err := parts.profileAlone(c)
	if err != nil {
		return err
	}
	profile.PCRPublicKey = key
	assembled, err := profile.Assemble(stub)
	if err != nil {
		return byFlag(err)
	}
	r := &buildResult{header: newHeader(c, name), Signed: by != nil, FreeSections: assembled.FreeSections()}
	if r.Size, r.SHA256, err = write(name, by, writerTo(assembled)); err != nil {
		return err
	}
	return c.Answer(r, "")
}
