package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

func sealFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	open := tpmFlag(set)
	secretFile := set.String("secret", "", "`file` with the secret, up to 128 bytes")
	out := set.String("o", "", "`file` for the token")
	pcrs := set.String("pcrs", "", "`list` of PCRs that must have a value: 7,11 as they are, 7=HEX for another")
	bank := set.String("bank", "", "PCR `bank`: sha256, sha384, sha512, sha1; the first that firmware uses if not given")
	key := set.String("public-key", "", "`file` with the RSA key that signs policies")
	keyPCRs := set.String("public-key-pcrs", "", "`list` of PCRs that it signs for; 11 if not given")
	ref := set.String("public-key-ref", "", "`name` of the policy reference")
	slot := set.Int("keyslot", -1, "`number` of the key slot that the secret opens")
	unlock := addUnlockFlags(set)
	return func(c *cli.Call, _ []string) error {
		if *secretFile == "" || *out == "" {
			return cli.Usagef("-secret and -o are needed")
		}
		secret, err := os.ReadFile(*secretFile)
		if err != nil {
			return err
		}
		with, err := unlock.read()
		if err != nil {
			return err
		}
		p := sealing.Policy{PublicKeyRef: *ref, PIN: with.PIN, PCRLock: with.PCRLock}
		if p.Bank, err = bankFlag(*bank); err != nil {
			return err
		}
		if *key != "" {
			if p.PublicKey, err = publicKey(*key); err != nil {
				return err
			}
		}
		if *keyPCRs != "" {
			if p.PublicKeyPCRs, _, err = pcrList("public-key-pcrs", *keyPCRs); err != nil {
				return err
			}
		}
		if err := literalPCRs(&p, *pcrs); err != nil {
			return err
		}
		t, err := open(c)
		if err != nil {
			return err
		}
		token, err := t.Seal(secret, p, with)
		if err != nil {
			return err
		}
		if *slot >= 0 {
			token.Keyslots = []int{*slot}
		}
		text, err := token.MarshalJSON()
		if err != nil {
			return err
		}
		if err := cli.WriteFile(*out, append(text, '\n')); err != nil {
			return err
		}
		return c.Answer(sealResult{c.Header(), tokenObject(token), *out}, describe(token))
	}
}

// literalPCRs takes the values that are given; the TPM has the others.
func literalPCRs(p *sealing.Policy, list string) error {
	pcrs, values, err := pcrList("pcrs", list)
	if err != nil || len(pcrs) == 0 {
		return err
	}
	p.PCRs = pcrs
	if len(values) == 0 {
		return nil
	}
	if p.Bank == 0 {
		return cli.Usagef("-pcrs %s: values need a -bank", list)
	}
	for _, n := range pcrs {
		if v, given := values[n]; given && len(v) != p.Bank.Size() {
			return cli.Usagef("-pcrs %s: PCR %d: a value of %d bytes, want %d", list, n, len(v), p.Bank.Size())
		}
	}
	p.Values = values
	return nil
}

// describe is what a token asks for, in lines.
func describe(token *sealing.Token) string {
	o := tokenObject(token)
	text := fmt.Sprintf("type: %s\n", o.Type)
	if o.Bank != "" {
		text += fmt.Sprintf("bank: %s\n", o.Bank)
	}
	if len(o.PCRs) > 0 {
		text += fmt.Sprintf("PCRs: %v\n", o.PCRs)
	}
	if len(o.SignedPCRs) > 0 {
		text += fmt.Sprintf("signed PCRs: %v\n", o.SignedPCRs)
	}
	if o.PCRLock {
		text += "pcrlock: yes\n"
	}
	text += fmt.Sprintf("PIN: %v\n", o.PIN)
	for _, p := range o.Policies {
		text += fmt.Sprintf("policy: %s\n", p)
	}
	return text
}
