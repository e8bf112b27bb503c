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

func sessionOptions(srk *storageKey) []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(srk.handle, srk.public)}
}

// encryptIn is a session, used once, that authorises with an empty value and hides what is sent.
func encryptIn(srk *storageKey) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, append(sessionOptions(srk), tpm2.AESEncryption(aesBits, tpm2.EncryptIn))...)
}

// policySession starts a session to satisfy a policy in; close ends it. What the TPM returns in it is encrypted. auth is
// the value of the object that a policy with PolicyAuthValue asks for.
func (t *TPM) policySession(srk *storageKey, auth []byte, more ...tpm2.AuthOption) (s tpm2.Session, closeSession func(), err error) {
	options := append(sessionOptions(srk), tpm2.AESEncryption(aesBits, tpm2.EncryptOut))
	if auth != nil {
		options = append(options, tpm2.Auth(auth))
	}
	started, err := guard(func() (started, error) {
		s, end, err := tpm2.PolicySession(t.transport, tpm2.TPMAlgSHA256, nonceSize, append(options, more...)...)
		return started{s, end}, err
	})
	if err != nil {
		return nil, nil, err
	}
	// A session that cannot be ended is the TPM's loss: nothing that was done in it depends on it.
	return started.session, func() { _, _ = guard(func() (struct{}, error) { return struct{}{}, started.end() }) }, nil
}

type started struct {
	session tpm2.Session
	end     func() error
}

// digest is what the TPM has for the policy of a session.
func (t *TPM) digest(session tpm2.Session) ([]byte, error) {
	rsp, err := execute(t, tpm2.PolicyGetDigest{PolicySession: session.Handle()})
	if err != nil {
		return nil, err
	}
	return rsp.PolicyDigest.Buffer, nil
}

// flush unloads an object. One that cannot be unloaded takes room in a TPM without resource manager and harms nothing
// else.
func (t *TPM) flush(h tpm2.TPMHandle) {
	_, _ = execute(t, tpm2.FlushContext{FlushHandle: h})
}
