package luks

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/aesxts"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Key is the key of a volume, which was compared with the volume's digest. Printing it shows no
// part of the key.
type Key struct {
	slot  int
	bytes []byte
}

// Slot is the key slot from which the key came, -1 if the caller gave the key.
func (k *Key) Slot() int { return k.slot }

// Bytes is a copy of the key itself, for a program that sets up the device.
func (k *Key) Bytes() []byte { return bytes.Clone(k.bytes) }

// Clear overwrites the key, which cannot be used any more. The runtime may have made copies.
func (k *Key) Clear() {
	clear(k.bytes)
	k.bytes = nil
}

// Format keeps every verb from showing the key.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "luks.Key(slot %d)", k.slot) }

// UnlockOptions are the choices of [Volume.Unlock].
type UnlockOptions struct {
	// Slot is the only slot to try. Nil: all slots with the data's key, by priority and number,
	// except those with [PriorityIgnore].
	Slot *int
	// Limits bound the work of each slot.
	Limits Limits
}

// Unlock finds the key slot that a passphrase opens. The passphrase is taken as it is: no newline
// is cut off. If no slot opens, the error is an [*UnlockError], which matches [ErrNoKey].
func (v *Volume) Unlock(passphrase []byte, o UnlockOptions) (k *Key, err error) {
	defer prefix.Add(pkg, &err)
	if v.h.Unsupported != nil {
		return nil, v.h.Unsupported
	}
	slots, err := v.toTry(o)
	if err != nil {
		return nil, err
	}
	failed := &UnlockError{Skipped: map[int]error{}}
	for _, s := range slots {
		var key *Key
		err := v.mayTry(s, o.Limits)
		if err == nil {
			key, err = v.trySlot(s, passphrase)
		}
		switch {
		case err != nil: // also of a sector that cannot be read: another slot may open
			failed.Skipped[s.ID] = err
		case key != nil:
			return key, nil
		default:
			failed.Tried = append(failed.Tried, s.ID)
		}
	}
	return nil, failed
}

// toTry are the slots in the order in which cryptsetup tries them.
func (v *Volume) toTry(o UnlockOptions) ([]Slot, error) {
	if o.Slot != nil {
		s, ok := v.h.Slot(*o.Slot)
		if !ok {
			return nil, fmt.Errorf("%w: %d", ErrNoSlot, *o.Slot)
		}
		return []Slot{s}, nil
	}
	var all []Slot
	for _, p := range []Priority{PriorityPrefer, PriorityNormal} {
		for _, s := range v.h.Slots {
			if s.Priority == p && (s.Type != slotType || v.h.opensData(s.ID)) {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// mayTry says what keeps a slot from being tried.
func (v *Volume) mayTry(s Slot, limits Limits) error {
	if s.Unsupported != nil {
		return s.Unsupported
	}
	d, ok := v.h.digestOf(s.ID)
	if !ok {
		return &UnsupportedError{fmt.Sprintf("key slot %d", s.ID), "a key without digest"}
	}
	if d.Unsupported != nil {
		return d.Unsupported
	}
	if err := limits.check(KDF{Type: PBKDF2, Iterations: d.Iterations}); err != nil {
		return err
	}
	return limits.check(s.KDF)
}

// trySlot returns the key, or nil if the passphrase does not match.
func (v *Volume) trySlot(s Slot, passphrase []byte) (*Key, error) {
	area := make([]byte, contentSize(s.KeySize))
	if err := sparse.ReadFull(v.src, area, s.Area.Offset); err != nil {
		return nil, err
	}
	areaKey, err := s.KDF.derive(passphrase, s.salt, s.Area.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(areaKey)
	c, err := aesxts.New(areaKey)
	if err != nil {
		return nil, err
	}
	c.Decrypt(area, area, 512, 0)
	defer clear(area)
	h, _ := newHash(s.AFHash) // it is supported
	key := &Key{slot: s.ID, bytes: afMerge(area, s.KeySize, h)}
	d, _ := v.h.digestOf(s.ID)
	if ok, err := d.matches(key.bytes); err != nil || !ok {
		key.Clear()
		return nil, err
	}
	return key, nil
}

// matches compares a key with the digest, in constant time.
func (d *Digest) matches(key []byte) (bool, error) {
	if d.Unsupported != nil {
		return false, d.Unsupported
	}
	if len(d.digest) == 0 { // the parser refuses it; any key would match
		return false, errors.New("the digest is empty")
	}
	sum, err := stretch(d.Hash, key, d.salt, d.Iterations, len(d.digest))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(sum, d.digest) == 1, nil
}

// VolumeKey takes the key of the data from the caller, for example from a backup. If it does not
// match the digest, the error is [ErrWrongKey].
func (v *Volume) VolumeKey(key []byte) (k *Key, err error) {
	defer prefix.Add(pkg, &err)
	if v.h.Unsupported != nil {
		return nil, v.h.Unsupported
	}
	k = &Key{slot: -1, bytes: bytes.Clone(key)}
	if _, err := v.checkKey(k); err != nil {
		return nil, err
	}
	return k, nil
}

// checkKey checks the key of the data against its digest, which it returns.
func (v *Volume) checkKey(k *Key) (Digest, error) {
	d, ok := v.h.dataDigest()
	if !ok {
		return d, &UnsupportedError{"digests", "a digest whose type is not pbkdf2"}
	}
	if k == nil || len(k.bytes) == 0 {
		return d, ErrWrongKey
	}
	if err := (Limits{}).check(KDF{Type: PBKDF2, Iterations: d.Iterations}); err != nil {
		return d, err
	}
	if ok, err := d.matches(k.bytes); err != nil || !ok {
		return d, errors.Join(err, ErrWrongKey)
	}
	return d, nil
}
