package sealing

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/tpm/policy"
)

// EKHandle is where the endorsement key lives if somebody has made it persistent (TCG TPM v2.0 Provisioning Guidance 1.0,
// section 7.8; systemd 262).
const EKHandle = 0x81010001

// Challenge asks a TPM to prove that an attestation key is its own (TPM 2.0 Library, part 1, section 24): only the TPM
// with the endorsement key can answer, and it does so only if it has the attestation key, too.
type Challenge struct {
	Credential []byte `json:"credential"` // TPMS_ID_OBJECT
	Secret     []byte `json:"secret"`     // TPM2B_ENCRYPTED_SECRET without its size
}

// EndorsementKey is the public half (TPMT_PUBLIC) of the TPM's endorsement key: of the one at [EKHandle], or else made
// of the TCG's template for ECC P-256. Whoever relies on it compares it with the TPM's certificate, or with what was
// noted when the machine was installed.
func (t *TPM) EndorsementKey() ([]byte, error) {
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
		return nil, nil, fmt.Errorf("sealing: read the endorsement key: %w", err)
	}
	created, err := execute(t, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate)})
	if err != nil {
		return nil, nil, fmt.Errorf("sealing: make the endorsement key: %w", err)
	}
	done := func() { t.flush(created.ObjectHandle) }
	ek, err := parseEK(created.ObjectHandle, created.OutPublic.Bytes())
	if err != nil {
		done()
		return nil, nil, err
	}
	return ek, done, nil
}

// parseEK reads a TPMT_PUBLIC that must be a storage key for which PolicySecret of the endorsement hierarchy is asked, as
// the TCG's templates are.
func parseEK(handle tpm2.TPMHandle, area []byte) (*storageKey, error) {
	fail := func(err error) (*storageKey, error) { return nil, &FormatError{Field: "endorsement key", Err: err} }
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

// NewChallenge makes a challenge for the TPM with an endorsement key (TPMT_PUBLIC) to prove that it has the attestation
// key with this name. answer is random, 32 bytes: what [TPM.Answer] must give. It needs no TPM.
func NewChallenge(ek, name []byte) (challenge *Challenge, answer []byte, err error) {
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
		return nil, nil, fmt.Errorf("sealing: challenge: %w", err)
	}
	return challenge, answer, nil
}

// Answer answers a challenge (TPM2_ActivateCredential).
func (t *TPM) Answer(k *AttestationKey, c *Challenge) ([]byte, error) {
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
	session, err := t.startPolicy(srk, nil, false)
	if err != nil {
		return nil, t.explain("start a session", err)
	}
	defer t.flush(session.handle)
	_, err = execute(t, tpm2.PolicySecret{AuthHandle: tpm2.TPMRHEndorsement, PolicySession: session.handle, NonceTPM: session.NonceTPM()})
	if err != nil {
		return nil, fmt.Errorf("sealing: answer: PolicySecret: %w", err)
	}
	rsp, err := execute(t, tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: tpm2.TPM2BName{Buffer: ek.name}, Auth: session},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Credential},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
	})
	if errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCValue) || errors.Is(err, tpm2.TPMRCSize) {
		return nil, fmt.Errorf("sealing: answer: %w: %w", ErrChallenge, err)
	}
	if err != nil {
		return nil, t.explain("answer", err)
	}
	return rsp.CertInfo.Buffer, nil
}

// ErrChallenge says that a challenge is for another TPM, or for another attestation key.
var ErrChallenge = errors.New("the challenge is not for this TPM and key")
