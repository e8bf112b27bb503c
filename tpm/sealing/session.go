package sealing

import (
	"github.com/google/go-tpm/tpm2"
)

// Sessions are salted with the storage root key, whose public half is compared with the one that the secret was sealed
// under, and encrypt the first parameter: what listens on the bus between here and the TPM learns nothing.
const (
	nonceSize = 16
	aesBits   = 128
)

// encryptIn is a session, used once, that authorises with an empty value and hides what is sent.
func encryptIn(srk *storageKey) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize,
		tpm2.Salted(srk.handle, srk.public), tpm2.AESEncryption(aesBits, tpm2.EncryptIn))
}

// digest is what the TPM has for the policy of a session.
func (t *TPM) digest(session tpm2.Session) ([]byte, error) {
	rsp, err := execute(t, tpm2.PolicyGetDigest{PolicySession: session.Handle()})
	if err != nil {
		return nil, err
	}
	return rsp.PolicyDigest.Buffer, nil
}

// flush unloads an object or a session. One that cannot be unloaded takes room in a TPM without resource manager and
// harms nothing else.
func (t *TPM) flush(h tpm2.TPMHandle) {
	_, _ = execute(t, tpm2.FlushContext{FlushHandle: h})
}
