package luks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

var (
	// ErrNotLUKS: neither copy is a LUKS2 header. The text and the chain of the error say what is
	// wrong with each copy.
	ErrNotLUKS = errors.New("no LUKS2 header")
	// ErrLUKS1: the volume is a LUKS1 volume, which has a different header. Convert it to LUKS2
	// with cryptsetup convert.
	ErrLUKS1 = errors.New("a LUKS1 volume, only LUKS2 is read")
	// ErrDetached: the header is a file of its own, and the data is elsewhere.
	ErrDetached = errors.New("a detached header: its data is on a separate device")
	// ErrNoKey: no key slot that was tried opens with the passphrase.
	ErrNoKey = errors.New("no key slot opens with this passphrase")
	// ErrWrongKey: the key does not match the volume.
	ErrWrongKey = errors.New("not the key of this volume")
	// ErrNoSlot: there is no such key slot, or all 32 are taken.
	ErrNoSlot = errors.New("no such key slot")
	// ErrSlotTaken: the requested key slot, or its area, is in use.
	ErrSlotTaken = errors.New("key slot is in use")
	// ErrNoToken: there is no such token, or all 32 are taken.
	ErrNoToken = errors.New("no such token")
	// ErrAreaFull: the key slots area has no gap that is large enough. Its size is chosen when the
	// volume is formatted.
	ErrAreaFull = errors.New("no room in the key slots area")
	// ErrChanged: the header on the disk has changed since it was read. Open the volume again.
	ErrChanged = errors.New("the header changed since it was read: open the volume again")
	// ErrBroken: an earlier change of this Volume has failed, so the state of the disk is unknown.
	// Open the volume again.
	ErrBroken = errors.New("an earlier change failed: open the volume again")
	// ErrReadOnly: the volume was opened for reading.
	ErrReadOnly = errors.New("opened for reading only")
	// ErrNoRandom: the options have no source of random bytes. Set Rand, usually to
	// crypto/rand.Reader.
	ErrNoRandom = errors.New("no source of random bytes was given")
	// ErrEmptyPassphrase: an empty passphrase does not protect the volume.
	ErrEmptyPassphrase = errors.New("the passphrase is empty")
)

// JSONAreaError says that the metadata does not fit into its area, whose size is chosen when the
// volume is formatted ([FormatOptions].HeaderSize): large tokens need a larger one.
type JSONAreaError struct {
	Need, Have int64 // in bytes
}

func (e *JSONAreaError) Error() string {
	return fmt.Sprintf("JSON area is full: the metadata needs %d bytes, the area has %d and cannot grow", e.Need, e.Have)
}

// UnsupportedError names a feature of the volume that this package does not support. The header can
// be shown; keys, changes and data are refused.
type UnsupportedError struct {
	Where string // "config: requirements", "segment 0"
	What  string // "online-reencrypt-v2"
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not supported", e.Where, e.What)
}

// LastKeyError says that a change would leave no key slot that a person can use: the remaining
// slots are opened only by a machine, for instance by its TPM, and the data is lost with that
// machine.
type LastKeyError struct {
	Slots []int // slots that a person can use now, all of which the change would remove
	// All says that the change would remove the last key slot of all, so that the volume could not
	// be opened any more.
	All bool
	// Err says why other slots do not count: their areas cannot be read. Nil: they can be read.
	Err error
}

func (e *LastKeyError) Error() string {
	text := fmt.Sprintf("key slot %s is the last with a passphrase or recovery key: add one first", numbers(e.Slots))
	if e.All {
		text = fmt.Sprintf("key slot %s is the last key slot: removing it would lose the data", numbers(e.Slots))
	}
	if e.Err != nil {
		text += fmt.Sprintf("; others do not count: %v", e.Err)
	}
	return text
}

// Unwrap returns why other slots do not count.
func (e *LastKeyError) Unwrap() error { return e.Err }

// OnlyTokenError says that a token is the only way to open a key slot, so it is not removed alone.
type OnlyTokenError struct {
	Token int
	Type  string
	Slot  int
}

func (e *OnlyTokenError) Error() string {
	return fmt.Sprintf("token %d, of type %s, is the only way to unlock key slot %d: remove the key slot, which removes the token too", e.Token, e.Type, e.Slot)
}

// LimitError says that a key slot needs more than the caller allows ([Limits]).
type LimitError struct {
	What       string // "Argon2 memory", "PBKDF2 iterations"
	Need, Have int64  // of memory, in bytes
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d, more than the limit of %d", e.What, e.Need, e.Have)
}

// UnlockError says that no key slot opened. It matches [ErrNoKey]. If slots were skipped, the
// passphrase may still be right.
type UnlockError struct {
	Tried   []int         // slots that the passphrase does not open
	Skipped map[int]error // slots that were not tried, and why
}

func (e *UnlockError) Error() string {
	text := ErrNoKey.Error()
	if len(e.Tried)+len(e.Skipped) == 0 {
		return text + ": no key slot to try"
	}
	for _, id := range e.skipped() {
		text += fmt.Sprintf("; slot %d was not tried: %v", id, e.Skipped[id])
	}
	return text
}

func (e *UnlockError) skipped() []int {
	var ids []int
	for id := range e.Skipped {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Unwrap returns [ErrNoKey] and why slots were not tried.
func (e *UnlockError) Unwrap() []error {
	all := []error{ErrNoKey}
	for _, id := range e.skipped() {
		all = append(all, e.Skipped[id])
	}
	return all
}

// ForeignError says that a file system, or some other format, begins where the damaged copy of a
// header would be written.
type ForeignError struct {
	What string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the disk begins with %s, which restoring the LUKS2 header would destroy", e.What)
}

func badFormat(off int64, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: off, Field: field, Err: fmt.Errorf(format, args...)}
}

// numbers lists slots for a person.
func numbers(ids []int) string {
	text := make([]string, len(ids))
	for i, id := range ids {
		text[i] = fmt.Sprint(id)
	}
	return strings.Join(text, ", ")
}
