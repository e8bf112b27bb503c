package main

import (
	"crypto"
	"crypto/rsa"
	"encoding/pem"
	"flag"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// policyFlags say for which values of PCR 11 policies are signed, by whom.
type policyFlags struct {
	private, public, phases cli.List
	banks                   string
	digests                 bool
}

func addPolicyFlags(set *flag.FlagSet) *policyFlags {
	p := new(policyFlags)
	set.Var(&p.private, "pcr-private-key", "RSA key in `PEM` that signs policies for PCR 11, into .pcrsig; may be repeated")
	set.Var(&p.public, "pcr-public-key", "its public half in `PEM`, or a certificate of it, as often as the private one; a single one goes into .pcrpkey")
	set.Var(&p.phases, "phases", "`paths` of boot phases to sign for, as enter-initrd,enter-initrd:leave-initrd; as often as the keys")
	set.StringVar(&p.banks, "pcr-banks", "", "PCR banks to sign for, a `list` such as sha256,sha384 (default: all four)")
	set.BoolVar(&p.digests, "policy-digest", false, "print the policies to be signed elsewhere, as JSON; needs -pcr-public-key")
	return p
}

// policies are what a UKI gets signed for PCR 11.
type policies struct {
	keys    []build.PCRKey // without a Signer with -policy-digest
	banks   []crypto.Hash
	digests bool
}

// read checks the flags and reads the keys. embedded is the content of .pcrpkey, nil unless there
// is one key.
func (p *policyFlags) read() (ps *policies, embedded []byte, err error) {
	ps = &policies{digests: p.digests}
	count, what := len(p.private), "private"
	switch {
	case p.digests && count > 0:
		return nil, nil, cli.Usagef("-policy-digest with -pcr-private-key: sign here or elsewhere")
	case p.digests:
		count, what = len(p.public), "public"
		if count == 0 {
			return nil, nil, cli.Usagef("-policy-digest needs -pcr-public-key")
		}
	case count > 0 && len(p.public) > 0 && len(p.public) != count:
		return nil, nil, cli.Usagef("-pcr-public-key is given %d times, -pcr-private-key %d times", len(p.public), count)
	}
	if len(p.phases) > 0 && len(p.phases) != count {
		return nil, nil, cli.Usagef("-phases is given %d times for %d %s keys", len(p.phases), count, what)
	}
	if count == 0 && p.banks != "" {
		return nil, nil, cli.Usagef("-pcr-banks without a key to sign for")
	}
	if ps.banks, err = parseBanks(p.banks); err != nil {
		return nil, nil, err
	}
	for i := range count {
		key, err := p.key(i)
		if err != nil {
			return nil, nil, err
		}
		ps.keys = append(ps.keys, key)
	}
	switch {
	case len(p.public) == 1:
		embedded, err = publicText(p.public[0])
	case len(p.public) == 0 && len(ps.keys) == 1:
		embedded, err = policy.MarshalPublicKey(ps.keys[0].Public)
	}
	return ps, embedded, err
}

func (p *policyFlags) key(i int) (k build.PCRKey, err error) {
	if len(p.phases) > 0 {
		if k.Phases, err = parsePhases(p.phases[i]); err != nil {
			return k, err
		}
	}
	if len(p.public) > 0 {
		if k.Public, err = readRSA(p.public[i]); err != nil {
			return k, err
		}
	}
	if len(p.private) == 0 {
		return k, nil
	}
	if k.Signer, err = cli.ReadKey(p.private[i]); err != nil {
		return k, err
	}
	public, ok := k.Signer.Public().(*rsa.PublicKey)
	if !ok {
		return k, fmt.Errorf("%s: a key of type %T; TPM policies are signed with RSA", p.private[i], k.Signer)
	}
	if k.Public != nil && !k.Public.Equal(public) {
		return k, fmt.Errorf("%s is not the public half of %s", p.public[i], p.private[i])
	}
	k.Public = public
	return k, nil
}

// publicText is the file as it is, as ukify has it, or the key of a certificate.
func publicText(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	key, err := parseRSA(name, b)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block.Type == "PUBLIC KEY" {
		return b, nil
	}
	return policy.MarshalPublicKey(key)
}

func readRSA(name string) (*rsa.PublicKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseRSA(name, b)
}

func parseRSA(name string, b []byte) (*rsa.PublicKey, error) {
	key, err := cli.ParsePublicKey(name, b)
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T; TPM policies are signed with RSA", name, key)
	}
	return public, nil
}
