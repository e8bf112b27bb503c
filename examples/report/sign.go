package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/releaseflags"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// errNoTrust says that the call names no key and no policy.
var errNoTrust = errors.New("no key and no policy is given: name those that may sign, by -key or -policy")

// sign tells who vouches for what.
func (o *opened) sign(ctx context.Context, image *uki.File, trust *releaseflags.Trust, date time.Time) error {
	s := &o.facts.Signatures
	s.Release, s.ReleaseBy, s.Secure, s.PCRKeys = []vouch{}, []string{}, []signed{}, []pcrKey{}
	if err := o.cosign(ctx, trust, date); err != nil {
		return err
	}
	sources := []struct {
		what string
		src  osmith.Source
	}{{"UKI", o.UKI}, {"boot loader", o.Loader}}
	for _, a := range o.Addons {
		sources = append(sources, struct {
			what string
			src  osmith.Source
		}{"add-on " + a.Name, a.Content})
	}
	for _, x := range sources {
		if x.src == nil || len(s.Secure) >= maxList {
			continue
		}
		list, err := authenticode.Signatures(x.src)
		if err != nil {
			// a table that cannot be read is no signature
			list = []authenticode.Signature{{Err: err}}
		}
		for _, a := range list {
			s.Secure = append(s.Secure, describeSignature(name(x.what), x.src, a, date))
		}
	}
	s.RootHash = o.rootHashSignature(date)
	return o.pcrKeys(ctx, image)
}

// cosign lists what is attached to the release, and asks whether those have signed whom the call
// trusts.
func (o *opened) cosign(ctx context.Context, trust *releaseflags.Trust, date time.Time) error {
	s := &o.facts.Signatures
	candidates, err := o.layout.Signatures(ctx, o.artifact)
	if err != nil {
		return err
	}
	for _, d := range candidates {
		if len(s.Release) == maxList {
			break
		}
		v, err := o.attached(ctx, d)
		if err != nil {
			return err
		}
		if v != nil {
			s.Release = append(s.Release, *v)
		}
	}
	if s.verifyErr = errNoTrust; trust.File == "" && trust.Keys == nil {
		return nil
	}
	p, err := trust.Policy(date)
	if err != nil {
		return err
	}
	result, err := cosign.Verify(ctx, o.layout, o.artifact, p)
	if s.verifyErr = err; err != nil {
		return ctx.Err()
	}
	for i := range result.Signatures {
		by := result.Signatures[i].Signer()
		if key := result.Signatures[i].Key; key != nil {
			hint, err := cosign.KeyHint(key)
			if err != nil {
				return err
			}
			by += ", " + keyName(key) + ", SHA-256 " + hint
		}
		s.ReleaseBy = append(s.ReleaseBy, name(by))
	}
	slices.Sort(s.ReleaseBy) // one who has signed in both formats is one
	s.ReleaseBy = slices.Compact(s.ReleaseBy)
	return nil
}

// attached reads a manifest that may hold signatures; nil if it belongs to something else.
func (o *opened) attached(ctx context.Context, d ocispec.Descriptor) (*vouch, error) {
	blob, err := cosign.OpenBlob(ctx, o.layout, d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	var m ocispec.Manifest
	if err := json.NewDecoder(io.LimitReader(blob, 4<<20)).Decode(&m); err != nil {
		return nil, nil // whatever it is, it signs nothing
	}
	if m.Subject != nil && m.Subject.Digest != o.artifact.Digest || m.Subject == nil && m.ArtifactType != "" {
		return nil, nil
	}
	v := &vouch{Manifest: d.Digest.String(), MediaTypes: []string{}}
	for i, l := range m.Layers {
		if i < maxList {
			v.MediaTypes = append(v.MediaTypes, name(l.MediaType))
		}
	}
	return v, nil
}

// describeSignature tells of an Authenticode signature.
func describeSignature(what string, src osmith.Source, a authenticode.Signature, date time.Time) signed {
	out := signed{What: what, Answer: yes, Hash: hashName(a.Hash), Certificates: []certificate{}}
	if !a.SigningTime.IsZero() {
		out.Time = a.SigningTime.UTC().Format(time.RFC3339)
	}
	chain := a.Certificates
	if a.Signer != nil {
		chain = append([]*x509.Certificate{a.Signer}, slices.DeleteFunc(slices.Clone(chain), a.Signer.Equal)...)
	}
	out.Certificates = certificates(chain, date)
	err := a.Err
	if err == nil {
		var sum []byte
		if sum, err = authenticode.Digest(src, a.Hash); err == nil && !slices.Equal(sum, a.Digest) {
			err = fmt.Errorf("the image changed after it was signed: digest %x, signed %x", sum, a.Digest)
		}
	}
	if err != nil {
		out.Answer, out.Error = no, text(err.Error())
	}
	return out
}

func hashName(h crypto.Hash) string {
	if h == 0 {
		return ""
	}
	return h.String()
}

// certificates tells of a chain as a signature carries it.
func certificates(list []*x509.Certificate, date time.Time) []certificate {
	const day = "2006-01-02"
	out := []certificate{}
	for i, c := range list {
		if i == 16 {
			break
		}
		sum := sha256.Sum256(c.Raw)
		d := certificate{Subject: name(c.Subject.String()), Issuer: name(c.Issuer.String()), NotBefore: c.NotBefore.UTC().Format(day), NotAfter: c.NotAfter.UTC().Format(day),
			Fingerprint: hex.EncodeToString(sum[:]), Key: keyName(c.PublicKey), Valid: unknown}
		switch {
		case date.IsZero():
		case date.Before(c.NotBefore), date.After(c.NotAfter):
			d.Valid = no
		default:
			d.Valid = yes
		}
		out = append(out, d)
	}
	return out
}

func keyName(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}

// rootHashSignature is the PKCS #7 over the root hash; nil if there is none.
func (o *opened) rootHashSignature(date time.Time) *signed {
	if o.RootHashSignature == nil {
		return nil
	}
	out := &signed{What: "root hash", Answer: yes, Certificates: []certificate{}}
	signature, err := o.Signature()
	var sd *cms.SignedData
	if err == nil {
		sd, _, err = cms.Parse(signature.PKCS7, 0)
	}
	if err == nil {
		out.Certificates = certificates(sd.Certificates, date)
		err = errors.New("the signature has no signer")
		for i := range sd.Signers {
			err = errors.New("the certificate of the signer is not in the signature: systemd finds it in /etc/verity.d, the kernel in its keyring")
			if cert := sd.Certificate(&sd.Signers[i]); cert != nil {
				err = sd.Check(&sd.Signers[i], cert, []byte(hex.EncodeToString(o.RootHash)))
			} else {
				out.Answer = unknown
			}
		}
	}
	if err != nil {
		out.Error = text(err.Error())
		if out.Answer == yes {
			out.Answer = no
		}
	}
	return out
}

// pcrKeys are the keys by which the UKI has signed policies. That a key has signed what its own UKI
// leads to is what build.Compare says of a release and itself.
func (o *opened) pcrKeys(ctx context.Context, image *uki.File) error {
	s := &o.facts.Signatures
	embedded, signatures, err := pcrSections(image)
	if err != nil {
		s.PCRKeys = append(s.PCRKeys, pcrKey{Banks: []string{}, Answer: no, Missing: texts([]string{err.Error()})})
		return nil
	}
	o.policies = signatures
	c, err := build.Compare(ctx, o.Release, o.Release)
	if err != nil {
		return err
	}
	for i, u := range c.Unlocks {
		if i == maxList {
			break
		}
		k := pcrKey{Fingerprint: u.Fingerprint, Embedded: u.Fingerprint == embedded, Banks: []string{}, Answer: no, Missing: texts(u.Missing)}
		if u.Signed {
			k.Answer = yes
		} else if !k.Embedded {
			k.Answer = unknown // without the key nothing can be verified
		}
		for _, b := range tpm.Banks() {
			n := 0
			for _, x := range signatures {
				if hex.EncodeToString(x.Fingerprint[:]) == u.Fingerprint && x.Bank == b {
					n++
				}
			}
			if n > 0 {
				k.Policies += n
				k.Banks = append(k.Banks, tpm.BankName(b))
			}
		}
		s.PCRKeys = append(s.PCRKeys, k)
	}
	return nil
}

// pcrSections are the fingerprint of the key in .pcrpkey, and the signatures of all profiles.
func pcrSections(image *uki.File) (embedded string, all policy.Signatures, err error) {
	if section, ok := image.Section(".pcrpkey"); ok {
		pem, err := readSection(section)
		if err != nil {
			return "", nil, err
		}
		key, err := policy.ParsePublicKey(pem)
		if err != nil {
			return "", nil, fmt.Errorf(".pcrpkey: %w", err)
		}
		sum, err := policy.Fingerprint(key)
		if err != nil {
			return "", nil, fmt.Errorf(".pcrpkey: %w", err)
		}
		embedded = hex.EncodeToString(sum[:])
	}
	for i := range max(1, len(image.Profiles())) {
		section, ok := image.ProfileSection(i, ".pcrsig")
		if !ok {
			continue
		}
		b, err := readSection(section)
		if err != nil {
			return "", nil, err
		}
		list, err := policy.ParseSignatures(b)
		if err != nil {
			return "", nil, fmt.Errorf(".pcrsig: %w", err)
		}
		all = all.Merge(list...)
	}
	return embedded, all, nil
}

// maxSection bounds a section that is read as a whole, in bytes.
const maxSection = 16 << 20

func readSection(section *io.SectionReader) ([]byte, error) {
	if section.Size() > maxSection {
		return nil, fmt.Errorf("a section of %d bytes: want at most %d", section.Size(), maxSection)
	}
	b, err := io.ReadAll(section)
	return []byte(strings.TrimRight(string(b), "\x00")), err
}
