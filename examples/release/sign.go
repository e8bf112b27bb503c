package main

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// predicateTypes are the short names of -type.
var predicateTypes = map[string]string{
	"slsaprovenance": cosign.PredicateSLSAProvenance, "slsaprovenance02": cosign.PredicateSLSAProvenance02,
	"spdx": cosign.PredicateSPDX, "cyclonedx": cosign.PredicateCycloneDX,
}

func signFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	access := accessFlags(set)
	key := set.String("key", "", "`file` with the private key, PEM")
	format := set.String("format", "", "`legacy` (simple signing, of cosign 1 and 2) or bundle (of cosign 3) (default: both)")
	reference := set.String("reference", "", "`name` that a simple-signing payload says the release has, such as registry.example/os")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("key", *key); err != nil {
			return err
		}
		which, err := formats(*format, cosign.FormatSimpleSigning, cosign.FormatSimpleSigning, cosign.FormatBundle)
		if err != nil {
			return err
		}
		return sign(c, operands, access, *key, "", nil, cosign.SignOptions{Formats: which, Reference: *reference})
	}
}

func attestFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	access := accessFlags(set)
	key := set.String("key", "", "`file` with the private key, PEM")
	format := set.String("format", "", "`legacy` (DSSE, of cosign 1 and 2) or bundle (of cosign 3, the default)")
	kind := set.String("type", "", "`type` of the predicate: a URI, slsaprovenance, slsaprovenance02, spdx or cyclonedx")
	predicate := set.String("predicate", "", "`file` with the predicate, JSON")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("key", *key, "type", *kind, "predicate", *predicate); err != nil {
			return err
		}
		which, err := formats(*format, cosign.FormatDSSE, cosign.FormatBundle)
		if err != nil {
			return err
		}
		text, err := cli.ReadFile(*predicate, maxFile)
		if err != nil {
			return err
		}
		return sign(c, operands, access, *key, cmp.Or(predicateTypes[*kind], *kind), text, cosign.SignOptions{Formats: which})
	}
}

// sign signs an artifact, or with a predicate type a statement about it.
func sign(c *cli.Call, operands []string, a *access, keyName, predicateType string, predicate []byte, o cosign.SignOptions) error {
	signer, err := readSigner(keyName)
	if err != nil {
		return err
	}
	p, store, name, err := openStore(c, operands, a, o.Reference)
	if err != nil {
		return err
	}
	o.Reference = name
	artifact, err := p.resolve(c, p.ref)
	if err != nil {
		return err
	}
	// What is signed is there, and is what its digest says.
	manifest, err := cosign.OpenBlob(c, p, artifact)
	if err != nil {
		return err
	}
	if err := discard(manifest); err != nil {
		return err
	}
	if predicateType == "" {
		err = cosign.Sign(c, store, artifact, signer, o)
	} else {
		err = cosign.Attest(c, store, artifact, predicateType, predicate, signer, o)
	}
	if err != nil {
		return fmt.Errorf("%v", err) // no answer about the release, so its type is not kept
	}
	r := signResult{Header: c.Header(), Digest: string(artifact.Digest), Type: predicateType}
	if r.Key, err = fingerprint(signer.Public()); err != nil {
		return err
	}
	for _, f := range o.Formats {
		r.Formats = append(r.Formats, formatNames[f])
	}
	text := fmt.Sprintf("%s by key %s\n", r.Digest, r.Key)
	if p.registry != nil {
		return c.Answer(registryResult{Header: r.Header, Name: p.repository, Digest: r.Digest, Key: r.Key, Formats: r.Formats, Type: r.Type}, text)
	}
	return c.Answer(r, text)
}

// readSigner reads a private key: PKCS #8, PKCS #1 or SEC 1, or cosign's own, which is encrypted
// with what COSIGN_PASSWORD holds.
func readSigner(name string) (crypto.Signer, error) {
	text, err := cli.ReadFile(name, maxFile)
	if err != nil {
		return nil, err
	}
	switch block, _ := pem.Decode(text); {
	case block == nil:
		return cli.ReadKey(name)
	case block.Type != string(cryptoutils.EncryptedSigstorePrivateKeyPEMType) && block.Type != "ENCRYPTED COSIGN PRIVATE KEY":
		return cli.ReadKey(name)
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) {
		if password, ok := os.LookupEnv("COSIGN_PASSWORD"); ok {
			return []byte(password), nil
		}
		return nil, errors.New("the key is encrypted, and COSIGN_PASSWORD is not set")
	})
	signer, ok := key.(crypto.Signer)
	if err == nil && !ok {
		err = fmt.Errorf("a key of type %T cannot sign", key)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return signer, nil
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

// formatNames are those of -format, for signatures and for attestations.
var formatNames = map[cosign.Format]string{cosign.FormatSimpleSigning: "legacy", cosign.FormatDSSE: "legacy", cosign.FormatBundle: "bundle"}

// formats returns what -format asks for: "legacy" is the format of cosign 1 and 2, which is not the
// same for signatures and attestations, and without the flag it is unsaid.
func formats(name string, older cosign.Format, unsaid ...cosign.Format) ([]cosign.Format, error) {
	switch name {
	case "":
		return unsaid, nil
	case "legacy":
		return []cosign.Format{older}, nil
	case "bundle":
		return []cosign.Format{cosign.FormatBundle}, nil
	}
	return nil, cli.Usagef("-format %q: want legacy or bundle", name)
}
