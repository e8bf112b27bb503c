package luks

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/osmith-dev/osmith/internal/aesxts"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// KeyOptions describe a new key slot.
type KeyOptions struct {
	// Rand is the source of the salt and the random stripes, usually crypto/rand.Reader. It is
	// required. The same bytes give the same slot.
	Rand io.Reader
	// Slot is the number of the slot. nil: the first that is free.
	Slot *int
	// KDF is the key derivation function and its cost. The zero value: [DefaultKDF].
	KDF KDF
	// Limits bound the KDF, as when the slot is opened.
	Limits   Limits
	Priority Priority
	// Token is the JSON of a token for the slot; "keyslots" in it is replaced by the number of the
	// slot. Nil: none.
	Token json.RawMessage
	// LeaveNoKeyForAPerson lets [Volume.ChangeKey] replace the last slot that a person can use by
	// one that a machine opens ([LastKeyError]).
	LeaveNoKeyForAPerson bool
}

// RemoveOptions are the choices of [Volume.RemoveKey].
type RemoveOptions struct {
	// LeaveNoKeyForAPerson allows to remove the last slot that a person can use, and the last slot
	// of all ([LastKeyError]).
	LeaveNoKeyForAPerson bool
}

// newSlot makes a slot and the content of its area, which lies at offset.
func newSlot(id int, key, passphrase []byte, offset int64, o KeyOptions) (s Slot, area []byte, err error) {
	if o.Rand == nil {
		return s, nil, ErrNoRandom
	}
	if len(passphrase) == 0 {
		return s, nil, ErrEmptyPassphrase
	}
	if len(passphrase) > maxPassphrase {
		return s, nil, fmt.Errorf("a passphrase of %d bytes: cryptsetup reads at most %d", len(passphrase), maxPassphrase)
	}
	if _, ok := inJSON[o.Priority]; !ok {
		return s, nil, fmt.Errorf("unknown priority %v", o.Priority)
	}
	s = Slot{ID: id, Type: slotType, KeySize: len(key), Priority: o.Priority, AFHash: "sha256", salt: make([]byte, saltSize)}
	if s.KDF, err = o.KDF.forNew(); err != nil {
		return s, nil, err
	}
	if err := o.Limits.check(s.KDF); err != nil {
		return s, nil, err
	}
	if s.KDF.Type == PBKDF2 {
		s.AFHash = s.KDF.Hash
	}
	s.Area = Area{Offset: offset, Size: areaSize(len(key)), Cipher: aesXTS, KeySize: 64}
	if _, err := io.ReadFull(o.Rand, s.salt); err != nil {
		return s, nil, fmt.Errorf("random bytes for a salt: %w", err)
	}
	areaKey, err := s.KDF.derive(passphrase, s.salt, s.Area.KeySize)
	if err != nil {
		return s, nil, err
	}
	defer clear(areaKey)
	h, _ := newHash(s.AFHash) // it is written
	split, err := afSplit(key, h, o.Rand)
	if err != nil {
		return s, nil, err
	}
	defer clear(split)
	c, err := aesxts.New(areaKey)
	if err != nil {
		return s, nil, err
	}
	area = make([]byte, s.Area.Size)
	n := contentSize(len(key))
	copy(area, split)
	c.Encrypt(area[:n], area[:n], 512, 0)
	return s, area, nil
}

// maxPassphrase is the largest key file that cryptsetup reads, in bytes.
const maxPassphrase = 8 << 20

func areaSize(keySize int) int64 {
	return (int64(keySize)*stripes + areaUnit - 1) / areaUnit * areaUnit
}

// freeSlot is the number of a new slot.
func (h *Header) freeSlot(want *int) (int, error) {
	if want != nil {
		switch {
		case *want < 0 || *want >= maxSlots:
			return 0, fmt.Errorf("%w: %d", ErrNoSlot, *want)
		case h.hasSlot(*want):
			return 0, fmt.Errorf("%w: %d", ErrSlotTaken, *want)
		}
		return *want, nil
	}
	for id := range maxSlots {
		if !h.hasSlot(id) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%w: all %d are in use", ErrNoSlot, maxSlots)
}

// freeArea is the first gap of a size between the areas.
func (h *Header) freeArea(size int64) (int64, error) {
	all := slices.Clone(h.Slots)
	slices.SortFunc(all, func(a, b Slot) int { return cmp.Compare(a.Area.Offset, b.Area.Offset) })
	at, end := 2*h.Size, 2*h.Size+h.KeyslotsSize
	for _, s := range all {
		if s.Area.Size == 0 {
			continue
		}
		if s.Area.Offset-at >= size {
			break
		}
		at = (s.Area.Offset + s.Area.Size + areaUnit - 1) / areaUnit * areaUnit
	}
	if end-at < size {
		return 0, fmt.Errorf("%w: %d bytes are needed", ErrAreaFull, size)
	}
	return at, nil
}

// bind adds slots to a digest, or takes them out of all.
func (m *metadata) bind(digest, slot int) error {
	return m.rewrite(&m.digests, func(id int, slots []int) []int {
		if id == digest {
			return append(slots, slot)
		}
		return slots
	})
}

func (m *metadata) unbind(slot int) error {
	return m.rewrite(&m.digests, func(_ int, slots []int) []int {
		return slices.DeleteFunc(slots, func(id int) bool { return id == slot })
	})
}

// rewrite changes the slots that digests or tokens name. What names the same as before stays as it
// is.
func (m *metadata) rewrite(section *object, change func(id int, slots []int) []int) error {
	for i, n := range *section {
		o, err := n.object()
		if err != nil {
			return err
		}
		id, err := n.number(maxSlots)
		if err != nil {
			return err
		}
		keyslots, err := o.need(n, "keyslots")
		if err != nil {
			return err
		}
		slots, err := keyslots.ids(func(int) bool { return true })
		if err != nil {
			return err
		}
		changed := change(id, slices.Clone(slots))
		if slices.Equal(slots, changed) {
			continue
		}
		o.set("keyslots", idTexts(changed))
		(*section)[i].raw = o.marshal()
	}
	return nil
}

// dropSlot takes a slot out of the metadata, with what names it. A token of systemd that is left
// without a slot goes, as systemd has it; a token of an unknown type stays.
func (m *metadata) dropSlot(id int, h *Header) error {
	m.keyslots.remove(strconv.Itoa(id))
	if err := m.unbind(id); err != nil {
		return err
	}
	return m.releaseTokens(id, h)
}

// releaseTokens takes a slot out of the tokens that name it.
func (m *metadata) releaseTokens(slot int, h *Header) error {
	for _, t := range h.Tokens {
		if slices.Equal(t.Keyslots, []int{slot}) && ofOneSlot(t.Type) {
			m.tokens.remove(strconv.Itoa(t.ID))
		}
	}
	return m.rewrite(&m.tokens, func(_ int, slots []int) []int {
		return slices.DeleteFunc(slots, func(id int) bool { return id == slot })
	})
}

// AddKey adds a key slot, which the passphrase opens, and returns its number. Its area is written
// first and then the header, so that a power cut leaves the volume as it was or with the new slot.
// key is what [Volume.Unlock] returned.
func (v *Volume) AddKey(key *Key, passphrase []byte, o KeyOptions) (slot int, err error) {
	defer prefix.Add(pkg, &err)
	end, err := v.beginChange()
	if err != nil {
		return 0, err
	}
	defer end()
	d, err := v.checkKey(key)
	if err != nil {
		return 0, err
	}
	if slot, err = v.h.freeSlot(o.Slot); err != nil {
		return 0, err
	}
	offset, err := v.h.freeArea(areaSize(len(key.bytes)))
	if err != nil {
		return 0, err
	}
	s, area, err := newSlot(slot, key.bytes, passphrase, offset, o)
	if err != nil {
		return 0, err
	}
	next, err := v.withSlot(s, d.ID, o.Token)
	if err != nil {
		return 0, err
	}
	// until the area is there; the header does not know of it, but a Volume that writes on may rely
	// on it
	v.broken = true
	if err := v.put(area, s.Area.Offset); err != nil {
		return 0, fmt.Errorf("key slot %d: %w", slot, err)
	}
	return slot, v.write(next)
}

// withSlot stages a header with one more slot.
func (v *Volume) withSlot(s Slot, digest int, token []byte) (*staged, error) {
	m := v.edit()
	m.keyslots.set(strconv.Itoa(s.ID), s.marshal())
	if err := m.bind(digest, s.ID); err != nil {
		return nil, err
	}
	if token != nil {
		id, err := freeToken(v.h.Tokens, nil)
		if err != nil {
			return nil, err
		}
		raw, err := tokenFor(token, []int{s.ID})
		if err != nil {
			return nil, err
		}
		m.tokens.set(strconv.Itoa(id), raw)
	}
	return v.stage(m)
}

// RemoveKey removes a key slot: its area is overwritten with zeros first, and then the slot and all
// references to it are removed from the header. A power cut leaves a slot that opens, or one whose
// key is gone. The last slot that a person can use stays, unless the options say otherwise
// ([*LastKeyError]).
func (v *Volume) RemoveKey(slot int, o RemoveOptions) (err error) {
	defer prefix.Add(pkg, &err)
	end, err := v.beginChange()
	if err != nil {
		return err
	}
	defer end()
	s, ok := v.h.Slot(slot)
	if !ok {
		return fmt.Errorf("%w: %d", ErrNoSlot, slot)
	}
	if s.Type != slotType {
		return &UnsupportedError{fmt.Sprintf("key slot %d", slot), "removing a slot of type " + s.Type}
	}
	m := v.edit()
	if err := m.dropSlot(slot, v.h); err != nil {
		return err
	}
	next, err := v.stage(m)
	if err != nil {
		return err
	}
	if err := v.leavesKeys(next.h, o.LeaveNoKeyForAPerson); err != nil {
		return err
	}
	if err := v.wipe(s); err != nil {
		return err
	}
	return v.write(next)
}

// wipe overwrites the area of a slot. Zeros, since no encrypted sector is all zeros: a slot that a
// power cut left half wiped is told from one that opens.
func (v *Volume) wipe(s Slot) error {
	v.broken = true
	if err := v.put(make([]byte, s.Area.Size), s.Area.Offset); err != nil {
		return fmt.Errorf("wiping key slot %d: %w", s.ID, err)
	}
	return nil
}

// ChangeKey replaces the passphrase of a key slot, its KDF, and the tokens that name it; the slot
// keeps its number. Use it to change a TPM slot to TPM and PIN, or to replace a recovery key. The
// new key is completely on the disk, with its token, before the area of the old one is overwritten:
// a power cut leaves the old key, both keys, or the new key, which may then be in a slot of its
// own. This needs one free slot.
//
// A token that names the slot was for the old key, and is treated as by [Volume.RemoveKey]. The
// slot's priority stays, unless the options have one that is not the normal one. KeyOptions.Slot
// must be nil.
func (v *Volume) ChangeKey(key *Key, slot int, passphrase []byte, o KeyOptions) (err error) {
	defer prefix.Add(pkg, &err)
	if o.Slot != nil {
		return errors.New("KeyOptions.Slot is set, but a changed key keeps its slot: leave it unset")
	}
	end, err := v.beginChange()
	if err != nil {
		return err
	}
	defer end()
	d, err := v.checkKey(key)
	if err != nil {
		return err
	}
	old, ok := v.h.Slot(slot)
	if !ok {
		return fmt.Errorf("%w: %d", ErrNoSlot, slot)
	}
	if old.Type != slotType || !slices.Contains(d.Keyslots, slot) {
		return &UnsupportedError{fmt.Sprintf("key slot %d", slot), "changing a key slot that does not hold the volume key"}
	}
	if o.Priority == PriorityNormal {
		o.Priority = old.Priority
	}
	other, err := v.h.freeSlot(nil)
	if err != nil {
		return err
	}
	offset, err := v.h.freeArea(areaSize(len(key.bytes)))
	if err != nil {
		return err
	}
	s, area, err := newSlot(other, key.bytes, passphrase, offset, o)
	if err != nil {
		return err
	}
	both, err := v.withSlot(s, d.ID, o.Token)
	if err != nil {
		return err
	}
	// Nothing is written before the end is known to be allowed.
	final, err := v.moved(both, other, slot)
	if err != nil {
		return err
	}
	if err := v.leavesKeys(final.h, o.LeaveNoKeyForAPerson); err != nil {
		return err
	}
	v.broken = true
	if err := v.put(area, s.Area.Offset); err != nil {
		return fmt.Errorf("key slot %d: %w", other, err)
	}
	if err := v.write(both); err != nil {
		return err
	}
	if final, err = v.moved(both, other, slot); err != nil {
		return err
	}
	if err := v.wipe(old); err != nil {
		return err
	}
	return v.write(final)
}

// moved stages the header in which a new slot has the number of the old one, whose tokens it does
// not take over.
func (v *Volume) moved(both *staged, from, to int) (*staged, error) {
	then := *v
	then.h, then.m, then.raw = both.h, both.m, both.raw
	m := then.edit()
	slot, _ := m.keyslots.get(strconv.Itoa(from))
	if err := m.releaseTokens(to, both.h); err != nil {
		return nil, err
	}
	m.keyslots.remove(strconv.Itoa(from))
	m.keyslots.set(strconv.Itoa(to), slot.raw)
	if err := m.unbind(from); err != nil {
		return nil, err
	}
	err := m.rewrite(&m.tokens, func(_ int, slots []int) []int {
		for i := range slots {
			if slots[i] == from {
				slots[i] = to
			}
		}
		return slots
	})
	if err != nil {
		return nil, err
	}
	return then.stage(m)
}

// SetPriority sets when a slot is tried. Its other properties stay.
func (v *Volume) SetPriority(slot int, p Priority, o RemoveOptions) (err error) {
	defer prefix.Add(pkg, &err)
	number, known := inJSON[p]
	if !known {
		return fmt.Errorf("unknown priority %v", p)
	}
	end, err := v.beginChange()
	if err != nil {
		return err
	}
	defer end()
	m := v.edit()
	n, ok := m.keyslots.get(strconv.Itoa(slot))
	if !ok {
		return fmt.Errorf("%w: %d", ErrNoSlot, slot)
	}
	members, err := n.object()
	if err != nil {
		return err
	}
	if p == PriorityNormal {
		members.remove("priority")
	} else {
		members.set("priority", strconv.AppendInt(nil, int64(number), 10))
	}
	m.keyslots.set(strconv.Itoa(slot), members.marshal())
	return v.commit(m, o.LeaveNoKeyForAPerson)
}

// forPerson reports whether a person has what a token asks for. Types that are not known are taken
// for those of machines.
func forPerson(typ string) bool {
	switch typ {
	case recoveryType, "systemd-fido2", "systemd-pkcs11":
		return true
	}
	return false
}

// ofOneSlot reports whether a token means nothing without its slot: those of systemd, which has one
// for each.
func ofOneSlot(typ string) bool {
	return forPerson(typ) || typ == "systemd-tpm2" || typ == "osmith-tpm2"
}

// people are the slots that a person can use: with the key of the data, tried without being named,
// and a passphrase, a recovery key or a token that is carried about. What this package cannot open
// is not counted on.
func (h *Header) people(wiped map[int]bool) (people, all []int) {
	for _, s := range h.Slots {
		if s.Unsupported != nil || !h.opensData(s.ID) || wiped[s.ID] {
			continue
		}
		all = append(all, s.ID)
		named, person := false, false
		for _, t := range h.Tokens {
			if slices.Contains(t.Keyslots, s.ID) {
				named, person = true, person || forPerson(t.Type)
			}
		}
		if s.Priority != PriorityIgnore && (person || !named) {
			people = append(people, s.ID)
		}
	}
	return people, all
}

// leavesKeys refuses a change that takes the last slot that a person can use, or the last of all.
// Slots of which a power cut has left nothing do not count.
func (v *Volume) leavesKeys(next *Header, allowed bool) error {
	if allowed {
		return nil
	}
	wiped := map[int]bool{}
	var unreadable []error
	for _, s := range v.h.Slots {
		if s.Type != slotType {
			continue
		}
		gone, err := v.Wiped(s.ID)
		if err != nil { // what cannot be read is not counted on
			unreadable = append(unreadable, prefix.Bare(err))
		}
		wiped[s.ID] = gone || err != nil
	}
	before, allBefore := v.h.people(wiped)
	after, all := next.people(wiped)
	switch {
	case len(before) > 0 && len(after) == 0:
		return &LastKeyError{Slots: before, Err: errors.Join(unreadable...)}
	case len(allBefore) > 0 && len(all) == 0:
		return &LastKeyError{Slots: allBefore, All: true, Err: errors.Join(unreadable...)}
	}
	return nil
}

// Wiped reports whether an interrupted [Volume.RemoveKey] has overwritten a part of the slot: no
// passphrase opens the slot any more. Remove it.
func (v *Volume) Wiped(slot int) (bool, error) {
	s, ok := v.h.Slot(slot)
	if !ok {
		return false, prefix.Error(pkg, fmt.Errorf("%w: %d", ErrNoSlot, slot))
	}
	if s.Type != slotType {
		return false, nil
	}
	area := make([]byte, contentSize(s.KeySize))
	if n, err := v.src.ReadAt(area, s.Area.Offset); n < len(area) {
		return false, prefix.Error(pkg, fmt.Errorf("key slot %d: %w", slot, err))
	}
	var zero [512]byte
	for i := 0; i < len(area); i += len(zero) {
		if bytes.Equal(area[i:][:len(zero)], zero[:]) {
			return true, nil
		}
	}
	return false, nil
}
