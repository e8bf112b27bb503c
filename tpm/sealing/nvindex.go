package sealing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// nvIndex is an NV index of the TPM as it was read.
type nvIndex struct {
	handle tpm2.TPMHandle
	public tpm2.TPMSNVPublic
	name   []byte // computed from public
}

func (n *nvIndex) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: n.handle, Name: tpm2.TPM2BName{Buffer: n.name}}
}

// serialize is the index in the form of tpm2_pcrlock_nv: what tpm2-tss writes for an NV index.
func (n *nvIndex) serialize() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(n.handle))
	b = binary.BigEndian.AppendUint32(appendSized(b, n.name), resourceNV)
	return append(b, tpm2.Marshal(tpm2.New2B(n.public))...)
}

// parseNV reads what serialize writes; what names the field that it is in.
func parseNV(what string, b []byte) (*nvIndex, error) {
	fail := func(field string, at int, err error) (*nvIndex, error) {
		return nil, &FormatError{Offset: int64(at), Field: what + ": " + field, Err: err}
	}
	if len(b) < 6 {
		return fail("handle", len(b), errShort)
	}
	handle := binary.BigEndian.Uint32(b)
	name, rest, ok := sized(b[4:])
	if !ok || len(rest) < 4 {
		return fail("name", 4, errShort)
	}
	at := len(b) - len(rest)
	if kind := binary.BigEndian.Uint32(rest); kind != resourceNV {
		return fail("kind", at, fmt.Errorf("%d: want %d, an NV index", kind, resourceNV))
	}
	public, end, ok := sized(rest[4:])
	if !ok || len(end) != 0 {
		return fail("public area", at+4, errShort)
	}
	n, err := newNVIndex(public)
	if err != nil {
		return fail("public area", at+4, err)
	}
	if uint32(n.handle) != handle {
		return fail("handle", 0, fmt.Errorf("0x%08x, and 0x%08x in the public area", handle, uint32(n.handle)))
	}
	if !bytes.Equal(n.name, name) {
		return fail("name", 4, errName)
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
		return nil, fmt.Errorf("sealing: NV index 0x%08x: %w", index, ErrNoIndex)
	}
	if err != nil {
		return nil, fmt.Errorf("sealing: NV index 0x%08x: %w", index, err)
	}
	n, err := newNVIndex(rsp.NVPublic.Bytes())
	if err != nil {
		return nil, fmt.Errorf("sealing: NV index 0x%08x: %w", index, err)
	}
	if uint32(n.handle) != index {
		return nil, fmt.Errorf("sealing: NV index 0x%08x: it is 0x%08x: %w", index, uint32(n.handle), ErrResponse)
	}
	return n, nil
}
