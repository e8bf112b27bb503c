package luks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// TokenOptions are the choices of [Volume.AddToken].
type TokenOptions struct {
	// ID is the number of the token. nil: the first that is free.
	ID *int
	// LeaveNoKeyForAPerson allows the token to turn the last slot that a person can use into a slot
	// of a machine ([LastKeyError]).
	LeaveNoKeyForAPerson bool
}

// freeToken is the number of a new token.
func freeToken(tokens []Token, want *int) (int, error) {
	taken := map[int]bool{}
	for _, t := range tokens {
		taken[t.ID] = true
	}
	if want != nil {
		if *want < 0 || *want >= maxSlots || taken[*want] {
			return 0, fmt.Errorf("%w that is free: %d", ErrNoToken, *want)
		}
		return *want, nil
	}
	for id := range maxSlots {
		if !taken[id] {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%w that is free: all %d are in use", ErrNoToken, maxSlots)
}

// tokenFor is a token with the slots that it is for; the rest of it stays byte for byte. "keyslots"
// comes where it was, or behind "type" as systemd has it.
func tokenFor(token []byte, slots []int) ([]byte, error) {
	n := node{path: "token", off: -1, raw: token}
	o, err := n.object()
	if err != nil {
		return nil, err
	}
	typ, err := o.need(n, "type")
	if err != nil {
		return nil, err
	}
	name, err := typ.text()
	if err != nil {
		return nil, err
	}
	if name == "" || strings.HasPrefix(name, "luks2-") {
		return nil, typ.fail("%q: want a name that does not begin with luks2-, which the format reserves", name)
	}
	if _, ok := o.get("keyslots"); ok {
		o.set("keyslots", idTexts(slots))
		return o.marshal(), nil
	}
	var with object
	for _, m := range o {
		with = append(with, m)
		if m.key == "type" {
			with = append(with, node{key: "keyslots", raw: idTexts(slots)})
		}
	}
	return with.marshal(), nil
}

// AddToken adds a token for key slots that exist, and returns its number. The token is JSON, as
// tpm/sealing makes it; "keyslots" in it is replaced. To write a new slot and its token at once,
// use [KeyOptions].Token.
func (v *Volume) AddToken(token []byte, slots []int, o TokenOptions) (id int, err error) {
	defer prefix.Add(pkg, &err)
	end, err := v.beginChange()
	if err != nil {
		return 0, err
	}
	defer end()
	for _, s := range slots {
		if !v.h.hasSlot(s) {
			return 0, fmt.Errorf("%w: %d", ErrNoSlot, s)
		}
	}
	if id, err = freeToken(v.h.Tokens, o.ID); err != nil {
		return 0, err
	}
	raw, err := tokenFor(token, slots)
	if err != nil {
		return 0, err
	}
	m := v.edit()
	m.tokens.set(strconv.Itoa(id), raw)
	return id, v.commit(m, o.LeaveNoKeyForAPerson)
}

// RemoveTokenOptions are the choices of [Volume.RemoveToken].
type RemoveTokenOptions struct {
	RemoveOptions
	// LeaveSlotsThatNothingNames removes the only token of a key slot that can be opened only with
	// that token. Programs, including this package, then take the slot for one with a passphrase.
	LeaveSlotsThatNothingNames bool
}

// RemoveToken removes a token. The key slots that it names stay. If the token is the only way to
// open a slot, the error is an [*OnlyTokenError]: [Volume.RemoveKey] removes both. The mark of a
// recovery key can be removed, since the key opens its slot without the mark.
func (v *Volume) RemoveToken(id int, o RemoveTokenOptions) (err error) {
	defer prefix.Add(pkg, &err)
	end, err := v.beginChange()
	if err != nil {
		return err
	}
	defer end()
	t, ok := v.h.Token(id)
	if !ok {
		return fmt.Errorf("%w: %d", ErrNoToken, id)
	}
	if t.Type != recoveryType && !o.LeaveSlotsThatNothingNames {
		for _, slot := range t.Keyslots {
			if !slices.ContainsFunc(v.h.Tokens, func(other Token) bool { return other.ID != id && slices.Contains(other.Keyslots, slot) }) {
				return &OnlyTokenError{id, t.Type, slot}
			}
		}
	}
	m := v.edit()
	m.tokens.remove(strconv.Itoa(id))
	return v.commit(m, o.LeaveNoKeyForAPerson)
}
