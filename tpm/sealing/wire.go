package sealing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/tpmwire"
)

// A resource is what tpm2-tss writes of an object or an NV index of the TPM (IESYS_RESOURCE): its
// handle, its name, a number for its kind, and its public area. Tokens have the storage root key
// and the NV index of systemd-pcrlock in this form.
type resource struct {
	handle uint32
	name   []byte
	kind   uint32
	public []byte
}

// Kinds of resources.
const (
	resourceKey = 1
	resourceNV  = 2
)

var errName = errors.New("the name does not match the public area")

// parseResource reads a resource of a kind; what names the field that it is in.
func parseResource(what string, kind uint32, b []byte) (resource, error) {
	r := tpmwire.NewReader(what, b)
	out := resource{handle: r.U32("handle"), name: r.Sized("name")}
	at := r.Pos()
	if out.kind = r.U32("kind"); out.kind != kind {
		r.Fail(at, "kind", fmt.Errorf("%d: want %d", out.kind, kind))
	}
	out.public = r.Sized("public area")
	return out, r.End()
}

// fail is an error about a resource that could be read.
func (r *resource) fail(what string, err error) error {
	return &osmith.FormatError{Field: fmt.Sprintf("%s: 0x%08x", what, r.handle), Err: err}
}

func (r *resource) bytes() []byte {
	b := tpmwire.AppendSized(binary.BigEndian.AppendUint32(nil, r.handle), r.name)
	return tpmwire.AppendSized(binary.BigEndian.AppendUint32(b, r.kind), r.public)
}

// unmarshal decodes a structure that must be all of b, in the one way there is to encode it.
func unmarshal[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](b []byte) (*T, error) {
	return guard(func() (*T, error) {
		v, err := tpm2.Unmarshal[T, P](b)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(tpm2.Marshal(*v), b) {
			return nil, errors.New("not in the form that a TPM writes")
		}
		return v, nil
	})
}
