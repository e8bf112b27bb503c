package sealing

import (
	"bytes"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"

	"golang.org/x/crypto/argon2"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// How systemd stretches a PIN before it becomes the authorisation value of the sealed object.
const (
	saltSize         = 32
	pbkdf2Iterations = 10000
	stretchedSize    = 32
)

// argonLabel is the HKDF info with which systemd 262 mixes an Argon2id PIN into an unsealed secret.
const argonLabel = "systemd-tpm2-argon2id-lock"

// A stretched PIN.
type stretched struct {
	auth []byte // authorisation value of the sealed objects
	mix  []byte // goes into the secret after it was unsealed; nil unless Argon2id
}

// stretch turns a PIN into keys. Tokens before systemd 253 have no salt: then the authorisation
// value is the hash of the PIN alone. With Argon2id the TPM is asked with one half of what comes
// out, and the secret needs the other, so that a TPM that gives everything away does not give away
// the volume. A TPM drops zero bytes at the end of an authorisation value, so they are dropped
// here.
//
// memory is the most that Argon2id may take, in bytes; 0 is 2 GiB, and half of the address space at
// most.
func (t *Token) stretch(pin string, memory int64) (stretched, error) {
	text, out := []byte(pin), stretched{}
	switch a := t.Argon2id; {
	case a != nil:
		if err := a.check(); err != nil {
			return stretched{}, fmt.Errorf("PIN: argon2id: %w", err)
		}
		if memory == 0 {
			memory = 2 << 30
		}
		if memory = min(memory, math.MaxInt/2); a.Memory > memory {
			return stretched{}, fmt.Errorf("PIN: argon2id with %d bytes of memory, %d at most: %w", a.Memory, memory, ErrNotSupported)
		}
		key := argon2.IDKey(text, t.Salt, a.Iterations, uint32(a.Memory>>10), a.Lanes, 2*stretchedSize)
		out.mix = key[:stretchedSize]
		text = base64.StdEncoding.AppendEncode(nil, key[stretchedSize:])
	case t.Salt != nil:
		key, err := pbkdf2.Key(sha256.New, pin, t.Salt, pbkdf2Iterations, stretchedSize)
		if err != nil {
			return stretched{}, fmt.Errorf("PIN: %w", err)
		}
		text = base64.StdEncoding.AppendEncode(nil, key)
	}
	digest := sha256.Sum256(text)
	out.auth = bytes.TrimRight(digest[:], "\x00")
	return out, nil
}

// secret is what Unseal returns for what comes out of the TPM.
func (s stretched) secret(unsealed []byte) ([]byte, error) {
	if s.mix == nil {
		return unsealed, nil
	}
	secret, err := hkdf.Key(sha256.New, s.mix, unsealed, argonLabel, secretSize)
	if err != nil {
		return nil, fmt.Errorf("PIN: %w", err)
	}
	return secret, nil
}

// Secret is what [TPM.Unseal] returns for a token into which sealed was sealed: sealed itself or,
// if the PIN is stretched by Argon2id, 32 bytes derived from sealed and the PIN.
func (t *Token) Secret(sealed []byte, pin string) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if t.Argon2id == nil {
		return bytes.Clone(sealed), nil
	}
	s, err := t.stretch(pin, 0)
	if err != nil {
		return nil, err
	}
	return s.secret(sealed)
}
