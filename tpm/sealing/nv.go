package sealing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// A counter in the TPM can only go up, also if it is removed and defined again: it then starts
// above every counter that the TPM ever had. A secret with a [Floor] of its value is lost once the
// counter is raised, and with it the version of the system that it belongs to: the way back is
// closed. Nothing but [TPM.RaiseCounter] raises one.

// Counters are of this kind: the owner (whose authorisation is empty unless it was set)
// may raise and remove them, and everybody may read them. Attempts to do so with a wrong value are
// no attempts to guess a PIN.
const counterAttributes = policy.NVCounter | policy.NVOwnerWrite | policy.NVOwnerRead | policy.NVAuthRead | policy.NVNoDA

const counterSize = 8 // bytes

// maxRaise bounds by how much a counter is raised in one call: each step wears the TPM's memory.
const maxRaise = 1000

var errNotCounter = errors.New("not a counter that DefineCounter made")

// unraised is a counter that was defined and has no value yet. To callers it does not exist:
// making one after [ErrNoIndex] goes on where the power was cut.
type unraised uint32

func (u unraised) Error() string {
	return fmt.Sprintf("counter 0x%08x was defined but never raised, as after a power cut: call DefineCounter again", uint32(u))
}

func (unraised) Is(target error) bool { return target == ErrNoIndex }

// DefineCounter makes a counter and returns its first value, which is not zero on a TPM that had
// counters before. A counter has a value once it was raised for the first time; if an earlier
// definition was interrupted before that, DefineCounter completes it. For a counter that has a
// value, the error is [ErrCounterExists]. index is 0x01800000 to 0x01bfffff, the range of the owner
// (TCG registry of reserved handles, 2.2.2).
func (t *TPM) DefineCounter(index uint32) (_ uint64, err error) {
	defer prefix.Add(pkg, &err)
	if index < 0x01800000 || index > 0x01bfffff {
		return 0, fmt.Errorf("counter 0x%08x: want an index from 0x01800000 to 0x01bfffff", index)
	}
	switch n, err := t.definedCounter(index); {
	case err == nil && n.public.Attributes.Written:
		return 0, fmt.Errorf("define counter 0x%08x: %w", index, ErrCounterExists)
	case errors.Is(err, ErrNoIndex):
		if err := t.defineCounter(index); err != nil {
			return 0, err
		}
	case err != nil:
		return 0, err
	}
	if err := t.increment(index); err != nil { // without which it has no value
		return 0, err
	}
	return t.Counter(index)
}

// ErrCounterExists says that the counter to be defined already has a value.
var ErrCounterExists = errors.New("already defined and raised")

func (t *TPM) defineCounter(index uint32) error {
	public, err := (policy.NVPublic{Index: index, Attributes: counterAttributes, Size: counterSize}).AppendBinary(nil)
	if err != nil {
		return err
	}
	area, err := unmarshal[tpm2.TPMSNVPublic](public)
	if err != nil {
		return fmt.Errorf("counter 0x%08x: %w", index, err)
	}
	if _, err := execute(t, tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(*area)}); err != nil {
		return fmt.Errorf("define counter 0x%08x: %w", index, err)
	}
	return nil
}

// Counter reads a counter. If the counter does not exist, or was never raised because its
// definition was interrupted, the error is [ErrNoIndex].
func (t *TPM) Counter(index uint32) (_ uint64, err error) {
	defer prefix.Add(pkg, &err)
	n, err := t.counter(index)
	if err != nil {
		return 0, err
	}
	rsp, err := execute(t, tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: n.handle, Name: n.named().Name, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    n.named(), Size: counterSize,
	})
	if err != nil {
		return 0, fmt.Errorf("read counter 0x%08x: %w", index, err)
	}
	if len(rsp.Data.Buffer) != counterSize {
		return 0, fmt.Errorf("read counter 0x%08x: %d bytes: %w", index, len(rsp.Data.Buffer), ErrResponse)
	}
	return binary.BigEndian.Uint64(rsp.Data.Buffer), nil
}

// counter is the index, if it is a counter with a value.
func (t *TPM) counter(index uint32) (*nvIndex, error) {
	n, err := t.definedCounter(index)
	if err == nil && !n.public.Attributes.Written {
		return nil, unraised(index)
	}
	return n, err
}

// definedCounter is the index, if it is a counter.
func (t *TPM) definedCounter(index uint32) (*nvIndex, error) {
	n, err := t.readNV(index)
	if err != nil {
		return nil, err
	}
	public, err := policy.ParseNVPublic(tpm2.Marshal(n.public))
	if err != nil {
		return nil, fmt.Errorf("counter 0x%08x: %w", index, err)
	}
	if public.Attributes&^policy.NVWritten != counterAttributes || len(public.Policy) != 0 {
		return nil, fmt.Errorf("counter 0x%08x: %w", index, errNotCounter)
	}
	return n, nil
}

// RaiseCounter raises a counter to the value, which may be at most 1000 higher than the present
// one, and returns the counter's value. A counter that already has this value or more is left as it
// is. Raising cannot be undone: every secret with a lower [Floor] is lost.
func (t *TPM) RaiseCounter(index uint32, value uint64) (_ uint64, err error) {
	defer prefix.Add(pkg, &err)
	now, err := t.Counter(index)
	if err != nil {
		return 0, err
	}
	if value > now && value-now > maxRaise {
		return 0, fmt.Errorf("raise counter 0x%08x from %d to %d: want at most %d above the present value", index, now, value, maxRaise)
	}
	for ; now < value; now++ {
		if err := t.increment(index); err != nil {
			return 0, err
		}
	}
	return t.Counter(index)
}

func (t *TPM) increment(index uint32) error {
	n, err := t.definedCounter(index)
	if err != nil {
		return err
	}
	if _, err := execute(t, tpm2.NVIncrement{AuthHandle: tpm2.TPMRHOwner, NVIndex: n.named()}); err != nil {
		return fmt.Errorf("raise counter 0x%08x: %w", index, err)
	}
	return nil
}

// RemoveCounter removes a counter. Every secret whose [Floor] names the counter is lost.
func (t *TPM) RemoveCounter(index uint32) (err error) {
	defer prefix.Add(pkg, &err)
	n, err := t.definedCounter(index)
	if err != nil {
		return err
	}
	if _, err := execute(t, tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHOwner, NVIndex: n.named()}); err != nil {
		return fmt.Errorf("remove counter 0x%08x: %w", index, err)
	}
	return nil
}

// Floor binds a secret to a counter: the secret can be unsealed while the counter has at most this
// value.
type Floor struct {
	Index uint32
	Most  uint64
}

// notAbove: a counter has at most a value.
type notAbove struct {
	index *nvIndex
	most  uint64
}

func (n notAbove) operand() []byte { return binary.BigEndian.AppendUint64(nil, n.most) }

func (n notAbove) digest(d policy.Digest) (policy.Digest, error) {
	return policy.PolicyNV(d, n.index.name, n.operand(), 0, policy.ComparisonAtMost)
}

func (n notAbove) satisfy(t *TPM, a *attempt) error {
	_, err := execute(t, tpm2.PolicyNV{
		AuthHandle:    tpm2.AuthHandle{Handle: n.index.handle, Name: n.index.named().Name, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:       n.index.named(),
		PolicySession: a.session.Handle(),
		OperandB:      tpm2.TPM2BOperand{Buffer: n.operand()},
		Operation:     tpm2.TPMEOUnsignedLE,
	})
	switch {
	case errors.Is(err, tpm2.TPMRCPolicy):
		return &PolicyError{Err: fmt.Errorf("%w: counter 0x%08x is above %d", ErrFloor, uint32(n.index.handle), n.most)}
	case errors.Is(err, tpm2.TPMRCNVUninitialized):
		return &PolicyError{Err: unraised(n.index.handle)}
	case errors.Is(err, tpm2.TPMRCHandle):
		return &PolicyError{Err: fmt.Errorf("counter 0x%08x: %w", uint32(n.index.handle), ErrNoIndex)}
	case err != nil:
		return fmt.Errorf("PolicyNV: %w", err)
	}
	return nil
}

// ErrFloor is the cause of a [*PolicyError] if the counter was raised above the floor: the secret
// belongs to a version to which the machine must not return.
var ErrFloor = errors.New("the secret belongs to a revoked version")

// nvIndex is an NV index of the TPM as it was read.
type nvIndex struct {
	handle tpm2.TPMHandle
	public tpm2.TPMSNVPublic
	name   []byte // computed from public
}

func (n *nvIndex) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: n.handle, Name: tpm2.TPM2BName{Buffer: n.name}}
}

// serialize is the index in the form of tpm2_pcrlock_nv.
func (n *nvIndex) serialize() []byte {
	r := resource{handle: uint32(n.handle), name: n.name, kind: resourceNV, public: tpm2.Marshal(n.public)}
	return r.bytes()
}

// parseNV reads what serialize writes; what names the field that it is in.
func parseNV(what string, b []byte) (*nvIndex, error) {
	r, err := parseResource(what, resourceNV, b)
	if err != nil {
		return nil, err
	}
	n, err := newNVIndex(r.public)
	switch {
	case err != nil:
	case uint32(n.handle) != r.handle:
		err = fmt.Errorf("0x%08x in its public area", uint32(n.handle))
	case !bytes.Equal(n.name, r.name):
		err = errName
	}
	if err != nil {
		return nil, r.fail(what, err)
	}
	return n, nil
}

func newNVIndex(area []byte) (*nvIndex, error) {
	public, err := unmarshal[tpm2.TPMSNVPublic](area)
	if err != nil {
		return nil, err
	}
	if public.NVIndex>>24 != 1 {
		return nil, fmt.Errorf("index 0x%08x: want 0x01000000 to 0x01ffffff", uint32(public.NVIndex))
	}
	if public.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, fmt.Errorf("name algorithm 0x%04x: want SHA-256", uint16(public.NameAlg))
	}
	name, err := guard(func() (*tpm2.TPM2BName, error) { return tpm2.NVName(public) })
	if err != nil {
		return nil, err
	}
	return &nvIndex{handle: tpm2.TPMHandle(public.NVIndex), public: *public, name: name.Buffer}, nil
}

// ErrNoIndex says that the TPM has no such NV index.
var ErrNoIndex = errors.New("the TPM has no such NV index")

func (t *TPM) readNV(index uint32) (*nvIndex, error) {
	rsp, err := execute(t, tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)})
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, fmt.Errorf("NV index 0x%08x: %w", index, ErrNoIndex)
	}
	if err != nil {
		return nil, fmt.Errorf("NV index 0x%08x: %w", index, err)
	}
	n, err := newNVIndex(rsp.NVPublic.Bytes())
	if err != nil {
		return nil, fmt.Errorf("NV index 0x%08x: %w", index, err)
	}
	if uint32(n.handle) != index {
		return nil, fmt.Errorf("NV index 0x%08x: got index 0x%08x: %w", index, uint32(n.handle), ErrResponse)
	}
	return n, nil
}
