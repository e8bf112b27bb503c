package sealing

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// AttestationKey is a key that only signs what a TPM says about itself: ECDSA on P-256, or RSASSA with 2048 bits where the
// TPM has no curve. It exists in the TPM that made it alone; this is its public half, and the private one encrypted by the
// TPM. Keep both, and trust the public half on a verifier only after the TPM has proved that the key is its own: see
// [NewChallenge].
type AttestationKey struct {
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE without its size; of use to the TPM alone
}

// CreateAttestationKey makes an attestation key under the storage root key.
func (t *TPM) CreateAttestationKey() (*AttestationKey, error) {
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

// attestationTemplate is a restricted signing key (TPM 2.0 Library, part 1, section 27.2.3): it signs no bytes from
// outside that look like a statement of the TPM.
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

// PublicKey is the public half for [tpm.VerifyQuote]: *ecdsa.PublicKey or *rsa.PublicKey. A key that is not a restricted
// signing key, bound to the TPM that made it, is an error: what it signs proves nothing.
func (k *AttestationKey) PublicKey() (crypto.PublicKey, error) {
	public, err := unmarshal[tpm2.TPMTPublic](k.Public)
	if err != nil {
		return nil, &FormatError{Field: "attestation key", Err: err}
	}
	a := public.ObjectAttributes
	if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.SignEncrypt || a.Decrypt {
		return nil, &FormatError{Field: "attestation key", Err: errors.New("not a restricted signing key of one TPM")}
	}
	key, err := guard(func() (crypto.PublicKey, error) { return tpm2.Pub(*public) })
	if err != nil {
		return nil, &FormatError{Field: "attestation key", Err: err}
	}
	return key, nil
}

// Name is the TPM's name of the key, which a [Challenge] is made out to.
func (k *AttestationKey) Name() ([]byte, error) { return policy.ObjectName(k.Public) }

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
		return tpm2.NamedHandle{}, &FormatError{Field: "attestation key", Err: err}
	}
	rsp, err := execute(t, tpm2.Load{
		ParentHandle: srk.authorized(encryptIn(srk)), InPrivate: tpm2.TPM2BPrivate{Buffer: k.Private}, InPublic: tpm2.New2B(*public),
	})
	if err != nil {
		return tpm2.NamedHandle{}, t.explain("load the attestation key", err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// Quote is what a TPM says about its PCRs, signed. Verify it with [tpm.VerifyQuote], anywhere.
type Quote struct {
	Attest    []byte                         `json:"attest"`    // TPMS_ATTEST
	Signature []byte                         `json:"signature"` // TPMT_SIGNATURE
	PCRs      map[crypto.Hash]map[int][]byte `json:"-"`         // the values that were quoted
}

// Quote has the TPM sign the values of PCRs of one or more banks, for a verifier that sent nonce (up to 32 bytes).
func (t *TPM) Quote(k *AttestationKey, nonce []byte, pcrs map[crypto.Hash][]int) (*Quote, error) {
	if len(nonce) == 0 || len(nonce) > 32 {
		return nil, fmt.Errorf("sealing: quote: a nonce of %d bytes: want 1 to 32", len(nonce))
	}
	var selected tpm2.TPMLPCRSelection
	for _, h := range tpm.Banks() {
		if list, ok := pcrs[h]; ok {
			if err := checkPCRs(list); err != nil || len(list) == 0 {
				return nil, fmt.Errorf("sealing: quote: %s PCRs %v: want some, ascending", tpm.BankName(h), list)
			}
			selected.PCRSelections = append(selected.PCRSelections, selection(h, list).PCRSelections...)
		}
	}
	if len(selected.PCRSelections) == 0 || len(selected.PCRSelections) != len(pcrs) {
		return nil, fmt.Errorf("sealing: quote: banks: %w", tpm.ErrBank)
	}
	key, err := t.loadAttestationKey(k)
	if err != nil {
		return nil, err
	}
	defer t.flush(key.Handle)
	// Somebody may extend a PCR between the reading and the quote; then both are made again.
	for range maxTries {
		q, err := t.quote(key, nonce, selected, pcrs)
		if !errors.Is(err, errMoved) {
			return q, err
		}
	}
	return nil, fmt.Errorf("sealing: quote: PCRs: %w", errMoved)
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
		return nil, fmt.Errorf("sealing: quote: %w: %w", ErrResponse, err)
	}
	var other *tpm.QuoteError
	if err := quoted.Check(values); errors.As(err, &other) {
		return nil, errMoved
	} else if err != nil {
		return nil, err
	}
	return q, nil
}
