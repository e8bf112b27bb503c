package sealing

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// SRKHandle is where the storage root key lives (TCG TPM v2.0 Provisioning Guidance 1.0, section
// 7.8; systemd alike).
const SRKHandle = 0x81000001

// storageKey is the key that objects are sealed under.
type storageKey struct {
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   []byte // computed from public
}

func (k *storageKey) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: k.handle, Name: tpm2.TPM2BName{Buffer: k.name}}
}

// authorized is the key as the parent of a command; the session holds the key's empty authorisation
// value.
func (k *storageKey) authorized(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: tpm2.TPM2BName{Buffer: k.name}, Auth: session}
}

// serialize is the key in the form of tpm2_srk.
func (k *storageKey) serialize() []byte {
	r := resource{handle: uint32(k.handle), name: k.name, kind: resourceKey, public: tpm2.Marshal(k.public)}
	return r.bytes()
}

// parseSRK reads what serialize writes.
func parseSRK(b []byte) (*storageKey, error) {
	const what = "tpm2_srk"
	r, err := parseResource(what, resourceKey, b)
	if err != nil {
		return nil, err
	}
	if r.handle>>24 != 0x81 {
		return nil, r.fail(what, errors.New("want the handle of a persistent object"))
	}
	k, err := newStorageKey(tpm2.TPMHandle(r.handle), r.public)
	if err == nil && !bytes.Equal(k.name, r.name) {
		err = errName
	}
	if err != nil {
		return nil, r.fail(what, err)
	}
	return k, nil
}

func newStorageKey(handle tpm2.TPMHandle, area []byte) (*storageKey, error) {
	public, err := unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		return nil, err
	}
	name, err := guard(func() (*tpm2.TPM2BName, error) { return tpm2.ObjectName(public) })
	if err != nil {
		return nil, err
	}
	k := &storageKey{handle: handle, public: *public, name: name.Buffer}
	return k, k.check()
}

// check refuses what cannot protect sealed objects or encrypt the salt of a session: a key must be
// bound to this TPM, made in it, restricted to storage, and need no policy; RSA of 2048 bits or
// more, or a NIST curve.
func (k *storageKey) check() error {
	a := k.public.ObjectAttributes
	switch {
	case k.public.NameAlg != tpm2.TPMAlgSHA256:
		return fmt.Errorf("name algorithm 0x%04x: want SHA-256", uint16(k.public.NameAlg))
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.UserWithAuth || !a.Restricted || !a.Decrypt || a.SignEncrypt:
		return errors.New("not a storage key of this TPM alone")
	}
	switch k.public.Type {
	case tpm2.TPMAlgRSA:
		p, err := k.public.Parameters.RSADetail()
		if err != nil {
			return err
		}
		if p.KeyBits < 2048 || p.KeyBits > 4096 {
			return fmt.Errorf("RSA with %d bits: want 2048 to 4096", p.KeyBits)
		}
		return checkSymmetric(p.Symmetric)
	case tpm2.TPMAlgECC:
		p, err := k.public.Parameters.ECCDetail()
		if err != nil {
			return err
		}
		if p.CurveID != tpm2.TPMECCNistP256 && p.CurveID != tpm2.TPMECCNistP384 && p.CurveID != tpm2.TPMECCNistP521 {
			return fmt.Errorf("elliptic curve 0x%04x: want a NIST curve", uint16(p.CurveID))
		}
		return checkSymmetric(p.Symmetric)
	}
	return fmt.Errorf("key type 0x%04x: want RSA or ECC", uint16(k.public.Type))
}

func checkSymmetric(s tpm2.TPMTSymDefObject) error {
	if s.Algorithm != tpm2.TPMAlgAES {
		return fmt.Errorf("symmetric algorithm 0x%04x: want AES", uint16(s.Algorithm))
	}
	return nil
}

// algorithm is the name in tpm2-primary-alg.
func (k *storageKey) algorithm() string {
	if k.public.Type == tpm2.TPMAlgRSA {
		return "rsa"
	}
	return "ecc"
}

// readKey reads the public half of a persistent key; nil if there is none.
func (t *TPM) readKey(handle tpm2.TPMHandle) (*storageKey, error) {
	rsp, err := execute(t, tpm2.ReadPublic{ObjectHandle: handle})
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the key 0x%08x: %w", handle, err)
	}
	k, err := newStorageKey(handle, rsp.OutPublic.Bytes())
	if err != nil {
		return nil, fmt.Errorf("storage root key 0x%08x: %w: %w", handle, ErrSRK, err)
	}
	return k, nil
}

// srk is the storage root key, which is made and kept at [SRKHandle] if there is none: ECC P-256,
// or RSA 2048 where the TPM has no curve, after the TCG's template. It can be made anew at any time
// from the seed of the TPM, until that is cleared.
func (t *TPM) srk() (*storageKey, error) {
	k, err := t.readKey(SRKHandle)
	if k != nil || err != nil {
		return k, err
	}
	created, err := t.createPrimary(eccTemplate())
	if errors.Is(err, tpm2.TPMRCCurve) || errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCType) {
		created, err = t.createPrimary(rsaTemplate())
	}
	if err != nil {
		return nil, fmt.Errorf("make the storage root key: %w", err)
	}
	defer t.flush(created.ObjectHandle)
	_, err = execute(t, tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     tpm2.NamedHandle{Handle: created.ObjectHandle, Name: created.Name},
		PersistentHandle: SRKHandle,
	})
	if err != nil {
		return nil, fmt.Errorf("keep the storage root key at 0x%08x: %w", uint32(SRKHandle), err)
	}
	if k, err = t.readKey(SRKHandle); err == nil && k == nil {
		err = fmt.Errorf("storage root key: %w: created but not found", ErrSRK)
	}
	return k, err
}

// eccTemplate and rsaTemplate are the TCG's templates (TPM v2.0 Provisioning Guidance 1.0), but
// with nothing in "unique", as systemd has them: what is there decides which key the TPM makes of
// its seed.
func eccTemplate() tpm2.TPMTPublic {
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return template
}

func rsaTemplate() tpm2.TPMTPublic {
	template := tpm2.RSASRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	return template
}

func (t *TPM) createPrimary(template tpm2.TPMTPublic) (*tpm2.CreatePrimaryResponse, error) {
	return execute(t, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)})
}

// legacyKey is the primary key that systemd before 254 sealed under. It has no handle and is made
// anew each time from the TPM's seed. The salt of the sessions goes to the key that the TPM shows:
// the token pins none.
func (t *TPM) legacyKey(token *Token) (*storageKey, func(), error) {
	template := eccTemplate()
	if token.PrimaryAlgorithm == "rsa" {
		template = rsaTemplate()
	}
	template.ObjectAttributes.NoDA = false
	created, err := t.createPrimary(template)
	if err != nil {
		return nil, nil, t.explain("make the primary key", err)
	}
	k, err := newStorageKey(created.ObjectHandle, created.OutPublic.Bytes())
	if err != nil {
		t.flush(created.ObjectHandle)
		return nil, nil, fmt.Errorf("primary key: %w: %w", ErrSRK, err)
	}
	return k, func() { t.flush(created.ObjectHandle) }, nil
}

// Has returns nil if the TPM sealed the token and still has the key for it, otherwise
// [ErrMissingKey].
func (t *TPM) Has(token *Token) (err error) {
	defer prefix.Add(pkg, &err)
	if err := token.check(); err != nil {
		return err
	}
	k, release, err := t.sealedUnder(token)
	if err != nil {
		return err
	}
	defer release()
	for _, raw := range token.Blobs {
		b, err := parseBlob(raw)
		if err != nil {
			return err
		}
		object, _, err := t.load(k, b)
		if err != nil {
			return err
		}
		t.flush(object.Handle)
	}
	return nil
}
