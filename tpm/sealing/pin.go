package sealing

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// How systemd stretches a PIN before it becomes the authorisation value of the sealed object.
const (
	saltSize         = 32
	pbkdf2Iterations = 10000
	stretchedSize    = 32
)

// authValue is the authorisation value of the sealed objects for a PIN. Tokens before systemd 253 have no salt: then it is
// the hash of the PIN alone. A TPM drops zero bytes at the end of an authorisation value, so they are dropped here.
func (t *Token) authValue(pin string) ([]byte, error) {
	text := []byte(pin)
	if t.Salt != nil {
		var key []byte
		if a := t.Argon2id; a != nil {
			if err := a.check(); err != nil {
				return nil, fmt.Errorf("sealing: PIN: argon2id: %w", err)
			}
			key = argon2.IDKey(text, t.Salt, a.Iterations, uint32(a.Memory>>10), a.Lanes, stretchedSize)
		} else {
			var err error
			if key, err = pbkdf2.Key(sha256.New, pin, t.Salt, pbkdf2Iterations, stretchedSize); err != nil {
				return nil, fmt.Errorf("sealing: PIN: %w", err)
			}
		}
		text = base64.StdEncoding.AppendEncode(nil, key)
	}
	digest := sha256.Sum256(text)
	return bytes.TrimRight(digest[:], "\x00"), nil
}
