package sealing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// saltedSession is a session whose key is known only with the private half of the storage root key:
// a policy session whose responses are encrypted, or one that does nothing but vouch for commands
// and responses (audit; TPM 2.0 Library, part 1, sections 17.7, 19.6 and 21). It stands in for
// go-tpm's, which cuts an authorisation value at its first zero byte where only zeros at the end
// are to be dropped: one PIN in eight would be refused.
type saltedSession struct {
	handle                tpm2.TPMHandle
	key                   []byte // of the session
	auth                  []byte // of the object, without zeros at the end
	attributes            byte   // of each command
	nonceCaller, nonceTPM []byte
}

var _ tpm2.Session = (*saltedSession)(nil)

// startPolicy starts a policy session. What is done in it is not secret, what it returns is.
func (t *TPM) startPolicy(srk *storageKey, auth []byte) (*saltedSession, error) {
	return t.startSession(srk, tpm2.TPMSEPolicy, sessionContinue|sessionEncrypt, auth)
}

// startAudit starts a session that vouches for what a command without authorisation says and is
// answered: an attacker on the way to the TPM cannot change either.
func (t *TPM) startAudit(srk *storageKey) (*saltedSession, error) {
	return t.startSession(srk, tpm2.TPMSEHMAC, sessionContinue|sessionAudit, nil)
}

func (t *TPM) startSession(srk *storageKey, kind tpm2.TPMSE, attributes byte, auth []byte) (*saltedSession, error) {
	s := &saltedSession{auth: bytes.TrimRight(auth, "\x00"), attributes: attributes, nonceCaller: make([]byte, nonceSize)}
	rand.Read(s.nonceCaller) // never fails
	type secret struct{ salt, encrypted []byte }
	salt, err := guard(func() (secret, error) {
		key, err := tpm2.ImportEncapsulationKey(&srk.public)
		if err != nil {
			return secret{}, err
		}
		salt, encrypted, err := tpm2.CreateEncryptedSalt(rand.Reader, key)
		return secret{salt, encrypted}, err
	})
	if err != nil {
		return nil, err
	}
	rsp, err := execute(t, tpm2.StartAuthSession{
		TPMKey:        srk.handle,
		Bind:          tpm2.TPMRHNull,
		NonceCaller:   tpm2.TPM2BNonce{Buffer: s.nonceCaller},
		EncryptedSalt: tpm2.TPM2BEncryptedSecret{Buffer: salt.encrypted},
		SessionType:   kind,
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(aesBits)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		AuthHash: tpm2.TPMAlgSHA256,
	})
	if err != nil {
		return nil, err
	}
	s.handle, s.nonceTPM = tpm2.TPMHandle(rsp.SessionHandle.HandleValue()), rsp.NonceTPM.Buffer
	s.key = tpm2.KDFa(crypto.SHA256, salt.salt, "ATH", s.nonceTPM, s.nonceCaller, 8*sha256.Size)
	return s, nil
}

func (s *saltedSession) Init(transport.TPM) error           { return nil }
func (s *saltedSession) CleanupFailure(transport.TPM) error { return nil }
func (s *saltedSession) NonceTPM() tpm2.TPM2BNonce          { return tpm2.TPM2BNonce{Buffer: s.nonceTPM} }
func (s *saltedSession) IsEncryption() bool                 { return s.attributes&sessionEncrypt != 0 }
func (s *saltedSession) IsDecryption() bool                 { return false }
func (s *saltedSession) Encrypt([]byte) error               { return nil }
func (s *saltedSession) Handle() tpm2.TPMHandle             { return s.handle }

func (s *saltedSession) NewNonceCaller() error {
	s.nonceCaller = make([]byte, nonceSize)
	rand.Read(s.nonceCaller) // never fails
	return nil
}

// Attributes of a session (TPMA_SESSION; part 2, section 8.4): it goes on after the command,
// nothing else was done since it began, the response is encrypted, it vouches.
const (
	sessionContinue  = 1 << 0
	sessionExclusive = 1 << 1
	sessionEncrypt   = 1 << 6
	sessionAudit     = 1 << 7
)

func (s *saltedSession) mac(attributes byte, parts ...[]byte) []byte {
	w := hmac.New(sha256.New, s.secret())
	for _, p := range parts {
		w.Write(p)
	}
	w.Write([]byte{attributes})
	return w.Sum(nil)
}

func (s *saltedSession) secret() []byte { return append(bytes.Clone(s.key), s.auth...) }

func (s *saltedSession) Authorize(cc tpm2.TPMCC, parms, addNonces []byte, names []tpm2.TPM2BName, _ int) (*tpm2.TPMSAuthCommand, error) {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	for _, n := range names {
		h.Write(n.Buffer)
	}
	h.Write(parms)
	return &tpm2.TPMSAuthCommand{
		Handle:     s.handle,
		Nonce:      tpm2.TPM2BNonce{Buffer: s.nonceCaller},
		Attributes: tpm2.TPMASession{ContinueSession: true, Encrypt: s.IsEncryption(), Audit: s.attributes&sessionAudit != 0},
		Authorization: tpm2.TPM2BData{
			Buffer: s.mac(s.attributes, h.Sum(nil), s.nonceCaller, s.nonceTPM, addNonces),
		},
	}, nil
}

func (s *saltedSession) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, parms []byte, _ []tpm2.TPM2BName, _ int, auth *tpm2.TPMSAuthResponse) error {
	s.nonceTPM = auth.Nonce.Buffer
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(rc)))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	h.Write(parms)
	// The other attributes are those of the command, or the HMAC differs.
	attributes := s.attributes
	if auth.Attributes.AuditExclusive {
		attributes |= sessionExclusive
	}
	want := s.mac(attributes, h.Sum(nil), s.nonceTPM, s.nonceCaller)
	if !hmac.Equal(want, auth.Authorization.Buffer) {
		return ErrTampered
	}
	return nil
}

// Decrypt decrypts what a command returned (part 1, section 21.3).
func (s *saltedSession) Decrypt(parameter []byte) error {
	const keySize = aesBits / 8
	keyIV := tpm2.KDFa(crypto.SHA256, s.secret(), "CFB", s.nonceTPM, s.nonceCaller, 8*(keySize+aes.BlockSize))
	block, err := aes.NewCipher(keyIV[:keySize])
	if err != nil {
		return err
	}
	//lint:ignore SA1019 the mode that TPMs encrypt parameters in
	cipher.NewCFBDecrypter(block, keyIV[keySize:]).XORKeyStream(parameter, parameter)
	return nil
}

// Sessions are salted with the storage root key, whose public half is compared with the one that
// the secret was sealed under, and encrypt the first parameter: what listens on the bus between
// here and the TPM learns nothing.
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

// flush unloads an object or a session, also where the context has ended between two commands. One
// that cannot be unloaded takes room in a TPM without resource manager and harms nothing else.
func (t *TPM) flush(h tpm2.TPMHandle) {
	ctx := t.transport.ctx
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
	}
	_, _ = execute(t.WithContext(ctx), tpm2.FlushContext{FlushHandle: h})
}
