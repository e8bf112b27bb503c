package main

import (
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

func signFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	keyFile := set.String("key", "", "RSA key in `PEM`")
	phases := set.String("phases", "", "`paths` of boot phases, as enter-initrd,enter-initrd:leave-initrd; a lone : is the moment before")
	bankList := set.String("banks", "", "PCR banks to sign for, a `list` (default: all four)")
	ref := set.String("ref", "", "`name` of a policy reference, as initrd (systemd 262)")
	profile := set.Int("profile", -1, "sign for this `profile` alone")
	out := set.String("o", "", "`file` for the JSON of a .pcrsig section")
	return func(c *cli.Call, operands []string) error {
		if *keyFile == "" || *out == "" {
			return cli.Usagef("-key and -o are needed")
		}
		key, err := cli.ReadKey(*keyFile)
		if err != nil {
			return err
		}
		public, ok := key.Public().(*rsa.PublicKey)
		if !ok {
			return fmt.Errorf("%s: %w", *keyFile, policy.ErrKey)
		}
		banks, err := parseBanks(*bankList)
		if err != nil {
			return cli.Usagef("-banks: %v", err)
		}
		variants, err := measure(c, operands[0], *profile, banks)
		if err != nil {
			return err
		}
		var signed policy.Signatures
		for _, v := range variants {
			states, err := tpm.PCR11States(v.Sections, banks, parsePhases(*phases))
			if err != nil {
				return err
			}
			s, err := policy.Sign(key, states, *ref)
			if err != nil {
				return err
			}
			signed = signed.Merge(s...)
		}
		text, err := signed.MarshalJSON()
		if err != nil {
			return err
		}
		if err := cli.WriteFile(*out, text); err != nil {
			return err
		}
		fingerprint, err := policy.Fingerprint(public)
		if err != nil {
			return err
		}
		r := signResult{c.Header(), len(signed), hex.EncodeToString(fingerprint[:])}
		return c.Answer(r, fmt.Sprintf("%d policies signed by %s\n", r.Policies, r.Fingerprint))
	}
}

// parsePhases reads paths; empty is nil, the default ones.
func parsePhases(list string) [][]string {
	var out [][]string
	for _, path := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		words := strings.FieldsFunc(path, func(r rune) bool { return r == ':' })
		out = append(out, words)
	}
	return out
}

// measure hashes the sections of every way to boot an image, or those of one profile.
func measure(c *cli.Call, name string, profile int, banks []crypto.Hash) ([]uki.VariantMeasurements, error) {
	f, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	image, err := uki.Open(f)
	if err != nil {
		return nil, err
	}
	if banks == nil {
		banks = tpm.Banks()
	}
	all, err := image.MeasureVariants(banks...)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(all, func(v uki.VariantMeasurements) bool { return profile >= 0 && v.Profile != profile })
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no profile %d", name, profile)
	}
	return out, nil
}
