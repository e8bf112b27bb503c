package sealing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/keycheck"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// AttestationKey is a key that only signs what a TPM says about itself: ECDSA on P-256, or RSASSA
// with 2048 bits if the TPM lacks the curve. The key exists only in the TPM that made it;
// AttestationKey holds its public half, and its private half encrypted by the TPM. Keep both. A
// verifier may trust the public half only after the TPM has proved that the key is its own: see
// [NewChallenge].
type AttestationKey struct {
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE without its size; only the TPM can use it
}

// CreateAttestationKey makes an attestation key under the storage root key.
func (t *TPM) CreateAttestationKey() (_ *AttestationKey, err error) {
	defer prefix.Add(pkg, &err)
	srk, err := t.srk()
	if err != nil {
		return nil, err
	}
	rsp, err := execute(t, tpm2.Create{ParentHandle: srk.authorized(encryptIn(srk)), InPublic: tpm2.New2B(attestationTemplate(srk))})
	if err != nil {
		return nil, t.explain("make an attestation key", err)
	}
	k := &AttestationKey{Public: rsp.OutPublic.Bytes(), Private: rsp.OutPrivate.Buffer}
	if _, err := k.PublicKey(); err != nil {
		return nil, err
	}
	return k, nil
}

// attestationTemplate is a restricted signing key (TPM 2.0 Library, part 1, section 27.2.3): it
// signs no bytes from outside that look like a statement of the TPM.
func attestationTemplate(srk *storageKey) tpm2.TPMTPublic {
	template := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
	}
	if srk.public.Type == tpm2.TPMAlgRSA {
		template.Type = tpm2.TPMAlgRSA
		template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{
				Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		})
		return template
	}
	template.Type = tpm2.TPMAlgECC
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		CurveID: tpm2.TPMECCNistP256,
		Scheme: tpm2.TPMTECCScheme{
			Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
	})
	return template
}

// PublicKey is the public half for [tpm.VerifyQuote]: *ecdsa.PublicKey or *rsa.PublicKey. A key
// that is not a restricted signing key, bound to the TPM that made it, is an error: its signatures
// prove nothing. A key whose name is by SHA-1 is [ErrName].
func (k *AttestationKey) PublicKey() (_ crypto.PublicKey, err error) {
	defer prefix.Add(pkg, &err)
	public, err := unmarshal[tpm2.TPMTPublic](k.Public)
	if err != nil {
		return nil, &osmith.FormatError{Offset: -1, Field: "attestation key", Err: err}
	}
	a := public.ObjectAttributes
	if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.SignEncrypt || a.Decrypt {
		return nil, &osmith.FormatError{Offset: -1, Field: "attestation key", Err: errors.New("not a restricted signing key of one TPM")}
	}
	if !strongName(uint16(public.NameAlg)) {
		return nil, &osmith.FormatError{Offset: -1, Field: "attestation key", Err: fmt.Errorf("name algorithm 0x%04x: %w", uint16(public.NameAlg), ErrName)}
	}
	key, err := guard(func() (crypto.PublicKey, error) { return tpm2.Pub(*public) })
	if err == nil {
		err = keycheck.Public(key)
	}
	if k, ok := key.(*ecdsa.PublicKey); ok && err == nil {
		_, err = k.ECDH() // which wants a point of the curve
	}
	if err != nil {
		return nil, &osmith.FormatError{Offset: -1, Field: "attestation key", Err: err}
	}
	return key, nil
}

// Name is the TPM's name of the key, for [NewChallenge]. It fails as [AttestationKey.PublicKey]
// does.
func (k *AttestationKey) Name() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if _, err := k.PublicKey(); err != nil {
		return nil, err
	}
	return policy.ObjectName(k.Public)
}

// ErrName is the cause of every error about a name that does not identify one key: its hash is
// SHA-1, so a second key may have the same name, or its length is not that of its algorithm.
var ErrName = errors.New("want a name by SHA-256, SHA-384 or SHA-512")

// strongName reports whether names by the algorithm (TPM_ALG_ID) are taken for one key's alone.
func strongName(algorithm uint16) bool {
	a, ok := pcrbank.ByID(algorithm)
	return ok && a.Hash != crypto.SHA1
}

// checkName refuses what is no name to make a challenge out to.
func checkName(name []byte) error {
	fail := func(err error) error {
		return &osmith.FormatError{Offset: -1, Field: "name of the attestation key", Err: err}
	}
	if len(name) < 2 {
		return fail(fmt.Errorf("%d bytes: %w", len(name), ErrName))
	}
	algorithm := binary.BigEndian.Uint16(name)
	if !strongName(algorithm) {
		return fail(fmt.Errorf("algorithm 0x%04x: %w", algorithm, ErrName))
	}
	a, _ := pcrbank.ByID(algorithm)
	if len(name) != 2+a.Hash.Size() {
		return fail(fmt.Errorf("%d bytes, %d for %s: %w", len(name), 2+a.Hash.Size(), a.Name, ErrName))
	}
	return nil
}

// load loads the key, which only the TPM that made it can.
func (t *TPM) loadAttestationKey(k *AttestationKey) (tpm2.NamedHandle, error) {
	if _, err := k.PublicKey(); err != nil {
		return tpm2.NamedHandle{}, err
	}
	srk, err := t.srk()
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	public, err := unmarshal[tpm2.TPMTPublic](k.Public)
	if err != nil {
		return tpm2.NamedHandle{}, &osmith.FormatError{Offset: -1, Field: "attestation key", Err: err}
	}
	rsp, err := execute(t, tpm2.Load{
		ParentHandle: srk.authorized(encryptIn(srk)), InPrivate: tpm2.TPM2BPrivate{Buffer: k.Private}, InPublic: tpm2.New2B(*public),
	})
	if err != nil {
		return tpm2.NamedHandle{}, t.explain("load the attestation key", err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// Quote has the TPM sign the values of PCRs of one or more banks, for a verifier that sent nonce (1
// to 32 bytes, not all zero).
func (t *TPM) Quote(k *AttestationKey, nonce []byte, pcrs map[crypto.Hash][]int) (_ *Quote, err error) {
	defer prefix.Add(pkg, &err)
	if len(nonce) > 32 {
		return nil, fmt.Errorf("quote: a nonce of %d bytes: want 1 to 32", len(nonce))
	}
	if allBytes(nonce, 0) {
		return nil, fmt.Errorf("quote: %w", tpm.ErrNoNonce)
	}
	var selected tpm2.TPMLPCRSelection
	for _, h := range pcrbank.Hashes() {
		if list, ok := pcrs[h]; ok {
			if err := pcrbank.CheckPCRs(list); err != nil || len(list) == 0 {
				return nil, fmt.Errorf("quote: %s PCRs %v: want some, ascending", pcrbank.Name(h), list)
			}
			selected.PCRSelections = append(selected.PCRSelections, selection(h, list).PCRSelections...)
		}
	}
	if len(selected.PCRSelections) == 0 || len(selected.PCRSelections) != len(pcrs) {
		return nil, fmt.Errorf("quote: banks: %w", pcrbank.ErrUnknown)
	}
	key, err := t.loadAttestationKey(k)
	if err != nil {
		return nil, err
	}
	defer t.flush(key.Handle)
	// A PCR may be extended between the reading and the quote; then both are made again.
	for range maxTries {
		q, err := t.quote(key, nonce, selected, pcrs)
		if !errors.Is(err, errMoved) {
			return q, err
		}
	}
	return nil, fmt.Errorf("quote: PCRs: %w", errMoved)
}

func (t *TPM) quote(key tpm2.NamedHandle, nonce []byte, selected tpm2.TPMLPCRSelection, pcrs map[crypto.Hash][]int) (*Quote, error) {
	values := map[crypto.Hash]map[int][]byte{}
	for h, list := range pcrs {
		v, err := t.PCRs(h, list...)
		if err != nil {
			return nil, err
		}
		values[h] = v
	}
	rsp, err := execute(t, tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: nonce},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      selected,
	})
	if err != nil {
		return nil, t.explain("quote", err)
	}
	signature, err := guard(func() ([]byte, error) { return tpm2.Marshal(rsp.Signature), nil })
	if err != nil {
		return nil, err
	}
	q := &Quote{Attest: rsp.Quoted.Bytes(), Signature: signature, PCRs: values}
	quoted, err := tpm.ParseQuote(q.Attest)
	if err != nil {
		return nil, fmt.Errorf("quote: %w: %w", ErrResponse, err)
	}
	var other *tpm.QuoteError
	if err := quoted.Check(values); errors.As(err, &other) {
		return nil, errMoved
	} else if err != nil {
		return nil, err
	}
	return q, nil
}

// EKHandle is where the endorsement key lives if it was made persistent (TCG TPM v2.0
// Provisioning Guidance 1.0, section 7.8; systemd 262).
const EKHandle = 0x81010001

// Challenge asks a TPM to prove that an attestation key is its own (TPM 2.0 Library, part 1,
// section 24): only the TPM with the endorsement key can answer, and it answers only if it also has
// the attestation key.
type Challenge struct {
	Credential []byte `json:"credential"` // TPMS_ID_OBJECT
	Secret     []byte `json:"secret"`     // TPM2B_ENCRYPTED_SECRET without its size
}

// EndorsementKey returns the public half (TPMT_PUBLIC) of the TPM's endorsement key: the key at
// [EKHandle] or, if there is none, the key made from the TCG's template for ECC P-256. A verifier
// compares it with the TPM's certificate, or with the key recorded when the machine was installed.
func (t *TPM) EndorsementKey() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	ek, done, err := t.endorsementKey()
	if err != nil {
		return nil, err
	}
	defer done()
	return tpm2.Marshal(ek.public), nil
}

func (t *TPM) endorsementKey() (*storageKey, func(), error) {
	rsp, err := execute(t, tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(EKHandle)})
	switch {
	case err == nil:
		ek, err := parseEK(EKHandle, rsp.OutPublic.Bytes())
		return ek, func() {}, err
	case !errors.Is(err, tpm2.TPMRCHandle):
		return nil, nil, fmt.Errorf("read the endorsement key: %w", err)
	}
	created, err := execute(t, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate)})
	if err != nil {
		return nil, nil, fmt.Errorf("make the endorsement key: %w", err)
	}
	done := func() { t.flush(created.ObjectHandle) }
	ek, err := parseEK(created.ObjectHandle, created.OutPublic.Bytes())
	if err != nil {
		done()
		return nil, nil, err
	}
	return ek, done, nil
}

// parseEK reads a TPMT_PUBLIC that must be a storage key for which PolicySecret of the endorsement
// hierarchy is asked, as the TCG's templates are.
func parseEK(handle tpm2.TPMHandle, area []byte) (*storageKey, error) {
	fail := func(err error) (*storageKey, error) {
		return nil, &osmith.FormatError{Offset: -1, Field: "endorsement key", Err: err}
	}
	public, err := unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		return fail(err)
	}
	a := public.ObjectAttributes
	if public.NameAlg != tpm2.TPMAlgSHA256 || !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.Decrypt || a.SignEncrypt ||
		!bytes.Equal(public.AuthPolicy.Buffer, tpm2.ECCEKTemplate.AuthPolicy.Buffer) {
		return fail(errors.New("not made after a template of the TCG with SHA-256"))
	}
	name, err := policy.ObjectName(area)
	if err != nil {
		return fail(err)
	}
	return &storageKey{handle: handle, public: *public, name: name}, nil
}

// NewChallenge makes a challenge for the TPM with an endorsement key (TPMT_PUBLIC) to prove that it
// has the attestation key with this name ([AttestationKey.Name]); a name that is not by SHA-256 or
// better is [ErrName]. answer is 32 random bytes, which [TPM.Answer] must return. NewChallenge
// needs no TPM.
func NewChallenge(ek, name []byte) (challenge *Challenge, answer []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	key, err := parseEK(0, ek)
	if err != nil {
		return nil, nil, err
	}
	answer = make([]byte, 32)
	rand.Read(answer) // never fails
	challenge, err = guard(func() (*Challenge, error) {
		to, err := tpm2.ImportEncapsulationKey(&key.public)
		if err != nil {
			return nil, err
		}
		credential, secret, err := tpm2.CreateCredential(rand.Reader, to, name, answer)
		return &Challenge{Credential: credential, Secret: secret}, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("challenge: %w", err)
	}
	return challenge, answer, nil
}

// Answer answers a challenge (TPM2_ActivateCredential).
func (t *TPM) Answer(k *AttestationKey, c *Challenge) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	ek, done, err := t.endorsementKey()
	if err != nil {
		return nil, err
	}
	defer done()
	key, err := t.loadAttestationKey(k)
	if err != nil {
		return nil, err
	}
	defer t.flush(key.Handle)
	srk, err := t.srk()
	if err != nil {
		return nil, err
	}
	session, err := t.startPolicy(srk, nil)
	if err != nil {
		return nil, t.explain("start a session", err)
	}
	defer t.flush(session.handle)
	_, err = execute(t, tpm2.PolicySecret{AuthHandle: tpm2.TPMRHEndorsement, PolicySession: session.handle, NonceTPM: session.NonceTPM()})
	if err != nil {
		return nil, fmt.Errorf("answer: PolicySecret: %w", err)
	}
	rsp, err := execute(t, tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: tpm2.TPM2BName{Buffer: ek.name}, Auth: session},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Credential},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
	})
	if errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCSize) {
		return nil, fmt.Errorf("answer: %w: %w", ErrChallenge, err)
	}
	if err != nil {
		return nil, t.explain("answer", err)
	}
	return rsp.CertInfo.Buffer, nil
}

// ErrChallenge says that the challenge was made for a different TPM, or for a different attestation
// key.
var ErrChallenge = errors.New("the challenge is not for this TPM and key")
