package main

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// readSigner reads a private key: PKCS #8, PKCS #1 or SEC 1, or cosign's own, which is encrypted.
func readSigner(name string) (crypto.Signer, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) {
		password, ok := os.LookupEnv("COSIGN_PASSWORD")
		if !ok {
			return nil, errors.New("it is encrypted, and COSIGN_PASSWORD is not set")
		}
		return []byte(password), nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T cannot sign", name, key)
	}
	return signer, nil
}

// readKeys reads the public keys of some files.
func readKeys(names []string) (keys []crypto.PublicKey, err error) {
	for _, name := range names {
		text, err := readSmall(name)
		if err != nil {
			return nil, err
		}
		some, err := cosign.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, some...)
	}
	return keys, nil
}

// fingerprint is the SHA-256 of a key's SubjectPublicKeyInfo.
func fingerprint(key crypto.PublicKey) (string, error) {
	der, err := cryptoutils.MarshalPublicKeyToDER(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// trustFlags say whom to believe.
type trustFlags struct {
	policy, repository, at string
	keys                   list
}

func addTrustFlags(set *flag.FlagSet) *trustFlags {
	f := new(trustFlags)
	set.StringVar(&f.policy, "policy", "", "`file` with a policy, JSON")
	set.Var(&f.keys, "key", "`file` with public keys, one of which must have signed; may be repeated")
	set.StringVar(&f.repository, "repository", "", "`name` by which the policy's rule is found (default: the address of the layout, if it has one)")
	set.StringVar(&f.at, "at", "", "`time` at which authorities must be valid, such as 2026-01-31T00:00:00Z (default: now)")
	return f
}

// load makes the policy for a layout.
func (f *trustFlags) load(l *layout) (p cosign.Policy, err error) {
	switch {
	case (f.policy == "") == (len(f.keys) == 0):
		return p, cli.Usagef("want either -policy or -key")
	case f.policy == "":
		p.Keys, err = readKeys(f.keys)
		return p, err
	}
	text, err := readSmall(f.policy)
	if err != nil {
		return p, err
	}
	rules, err := cosign.ParseRules(text, os.DirFS(filepath.Dir(f.policy)))
	if err != nil {
		return p, fmt.Errorf("%s: %w", f.policy, err)
	}
	repository := f.repository
	if repository == "" {
		repository = l.repository
	}
	if p, err = rules.For(repository); err != nil {
		return p, cli.No{Err: fmt.Errorf("%s: %w (see -repository)", f.policy, err)}
	}
	for _, a := range p.Authorities {
		if len(a.Identities) > 0 {
			return p, fmt.Errorf("%s: authority %q: %w; signing/cosign/keyless/examples/release verifies those", f.policy, a.Name, cosign.ErrNoIdentityVerifier)
		}
	}
	p.At = time.Now()
	if f.at != "" {
		if p.At, err = time.Parse(time.RFC3339, f.at); err != nil {
			return p, cli.Usagef("-at: %v", err)
		}
	}
	return p, nil
}
