package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// join puts policies that were signed elsewhere into an image that build -policy-digest made.
func join(c *cli.Call, image string, signatures *text, by *signer, name string) error {
	if !signatures.given {
		return cli.Usagef("-pcrsig is missing: what is to be joined to %s", image)
	}
	content, err := signatures.bytes()
	if err != nil {
		return err
	}
	signed, err := policy.ParseSignatures(content)
	if err != nil {
		return cannot("-pcrsig", err)
	}
	src, err := c.Open(image)
	if err != nil {
		return err
	}
	f, err := uki.Open(src)
	if err != nil {
		return cannot(image, err)
	}
	edit := f.Edit()
	used := 0
	for profile := range max(len(f.Profiles()), 1) {
		joined, err := waiting(f, profile, signed)
		if err != nil {
			return cannot(image, fmt.Errorf("profile %d: %w", profile, err))
		}
		used += len(joined)
		b, err := joined.MarshalJSON()
		if err != nil {
			return err
		}
		if err := edit.JoinPCRSignature(profile, b); err != nil {
			return about{image, err}
		}
	}
	if used < len(signed) {
		return fmt.Errorf("-pcrsig: %d of %d signatures are for policies that %s does not wait for", len(signed)-used, len(signed), image)
	}
	assembled, err := edit.Assemble()
	if err != nil {
		return about{image, err}
	}
	r := &buildResult{header: newHeader(c, name), Signed: by != nil, PCRSignature: true, FreeSections: assembled.FreeSections()}
	finish := c.WatchReads(src.Size())
	r.Size, r.SHA256, err = write(name, by, writerTo(assembled))
	finish()
	if err != nil {
		return err
	}
	return c.Answer(r, "")
}

// waiting are the signatures for the policies that stand in a profile's .pcrsig, in their order.
func waiting(f *uki.File, profile int, signed policy.Signatures) (out policy.Signatures, err error) {
	section, ok := f.ProfileSection(profile, ".pcrsig")
	if !ok {
		return nil, errors.New("no .pcrsig: build the image with -policy-digest")
	}
	content, err := io.ReadAll(io.LimitReader(section, maxPCRSig))
	if err != nil {
		return nil, err
	}
	policies, err := policy.ParsePCRPolicies(content)
	if err != nil {
		return nil, fmt.Errorf("its .pcrsig does not wait for signatures: %v", err)
	}
	for _, p := range policies {
		s, ok := signed.Find(p)
		if !ok {
			return nil, fmt.Errorf("-pcrsig has no signature for policy %s (%s)", p.Digest, tpm.BankName(p.Bank))
		}
		out = append(out, s)
	}
	return out, verify(f, profile, out)
}

// maxPCRSig is more than any .pcrsig has.
const maxPCRSig = 16 << 20

// verify checks the signatures by the key in .pcrpkey, as far as they are by that.
func verify(f *uki.File, profile int, signatures policy.Signatures) error {
	section, ok := f.ProfileSection(profile, ".pcrpkey")
	if !ok || section.Size() > maxText {
		return nil
	}
	content, err := io.ReadAll(section)
	if err != nil {
		return err
	}
	key, err := parseRSA(".pcrpkey", content)
	if err != nil {
		return err
	}
	fingerprint, err := policy.Fingerprint(key)
	if err != nil {
		return err
	}
	for _, s := range signatures {
		if s.Fingerprint != fingerprint {
			continue
		}
		if err := s.Verify(key); err != nil {
			return cannot("-pcrsig", err)
		}
	}
	return nil
}
