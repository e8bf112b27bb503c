package luks

import (
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// RecoveryToken is the token with which systemd-cryptenroll marks the slot of a recovery key.
const RecoveryToken = `{"type":"systemd-recovery","keyslots":[]}`

const recoveryType = "systemd-recovery"

// modhex are the sixteen letters for nibbles that are on the same keys of every keyboard.
const modhex = "cbdefghijklnrtuv"

const (
	recoveryBytes = 32
	recoveryGroup = 8 // letters between two dashes
)

// NewRecoveryKey draws a recovery key as systemd-cryptenroll does: 256 random bits as 64 letters in
// eight groups with dashes between them. This text is the passphrase of its slot.
func NewRecoveryKey(rand io.Reader) (string, error) {
	if rand == nil {
		return "", prefix.Error(pkg, ErrNoRandom)
	}
	var key [recoveryBytes]byte
	if _, err := io.ReadFull(rand, key[:]); err != nil {
		return "", prefix.Error(pkg, fmt.Errorf("random bytes for a recovery key: %w", err))
	}
	var b strings.Builder
	for i, c := range key {
		if i > 0 && i*2%recoveryGroup == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(modhex[c>>4])
		b.WriteByte(modhex[c&15])
	}
	return b.String(), nil
}

// ParseRecoveryKey takes a recovery key as a person types it, in upper case or without dashes, and
// returns the text that opens the slot. ok is false for any other text, which may be a passphrase.
func ParseRecoveryKey(typed string) (key string, ok bool) {
	var letters []byte
	for i := range len(typed) {
		c := typed[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case strings.IndexByte(modhex, c) >= 0:
			letters = append(letters, c)
		case c == '-' && len(letters) > 0 && len(letters)%recoveryGroup == 0 && typed[i-1] != '-':
		default:
			return "", false
		}
	}
	if len(letters) != 2*recoveryBytes || strings.HasSuffix(typed, "-") {
		return "", false
	}
	if dashes := strings.Count(typed, "-"); dashes != 0 && dashes != 2*recoveryBytes/recoveryGroup-1 {
		return "", false
	}
	var groups []string
	for i := 0; i < len(letters); i += recoveryGroup {
		groups = append(groups, string(letters[i:i+recoveryGroup]))
	}
	return strings.Join(groups, "-"), true
}

// AddRecoveryKey draws a recovery key and adds a slot for it with the token that marks it, in one
// write. The key is not stored: show it once. The zero value of the KDF is [RandomKeyKDF] here.
func (v *Volume) AddRecoveryKey(key *Key, o KeyOptions) (recovery string, slot int, err error) {
	defer prefix.Add(pkg, &err)
	if o.KDF == (KDF{}) {
		o.KDF = RandomKeyKDF
	}
	if o.Token != nil {
		return "", 0, fmt.Errorf("a recovery key has the token of type systemd-recovery")
	}
	o.Token = []byte(RecoveryToken)
	if recovery, err = NewRecoveryKey(o.Rand); err != nil {
		return "", 0, err
	}
	if slot, err = v.AddKey(key, []byte(recovery), o); err != nil {
		return "", 0, err
	}
	return recovery, slot, nil
}
