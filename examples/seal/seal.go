package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
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
	var states cli.List
	set.Var(&states, "for", "seal for a state, `NAME=F`, of any number of which one must be there: a prediction, values of PCRs, or now")
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
		if len(states) > 0 && (p.Bank == 0 || len(p.PCRs) == 0 || p.Values != nil) {
			return cli.Usagef("-for: want -pcrs without values, and a -bank")
		}
		t, err := open(c)
		if err != nil {
			return err
		}
		union, err := union(t, &p, states)
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
		shown := describe(token)
		if union != nil {
			shown += union.String()
		}
		return c.Answer(sealResult{c.Header(), tokenObject(token), *out, union}, shown)
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

// union seals for the states that are named.
func union(t *sealing.TPM, p *sealing.Policy, list []string) (*policy.Union, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var states []policy.NamedState
	for _, text := range list {
		name, file, ok := strings.Cut(text, "=")
		if !ok || name == "" || file == "" {
			return nil, cli.Usagef("-for %s: want NAME=F", text)
		}
		values, err := stateValues(t, p, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		states = append(states, policy.NamedState{Name: name, Values: values})
	}
	u, err := policy.NewUnion(p.Bank, p.PCRs, states...)
	if err != nil {
		return nil, err
	}
	*p = p.In(u)
	return u, nil
}

// stateValues are the PCRs of the machine as it is, of a prediction, or of a JSON file.
func stateValues(t *sealing.TPM, p *sealing.Policy, file string) (map[int][]byte, error) {
	if file == "now" {
		return t.VouchedPCRs(p.Bank, p.PCRs...)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte{'{'}) {
		values, err := readPCRs(file)
		return values[p.Bank], err
	}
	log, err := tpm.ParsePrediction(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s, err := sealing.StateOf(log, nil)
	if err != nil {
		return nil, err
	}
	for _, n := range p.PCRs {
		if _, known := s.PCRs[p.Bank][n]; !known {
			return nil, cli.No{Err: fmt.Errorf("%s: %s PCR %d: %s", file, tpm.BankName(p.Bank), n, cmp.Or(s.Unknown[n], "not predicted"))}
		}
	}
	return s.PCRs[p.Bank], nil
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
