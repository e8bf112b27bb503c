package sealing

import (
	"encoding/binary"
	"errors"

	"github.com/google/go-tpm/tpm2"
)

var errShort = errors.New("too short, or sizes that do not add up")

// sized takes a TPM2B (TPM 2.0 Library, part 2, section 10.4) off the front of b: two bytes of size, then as many.
func sized(b []byte) (content, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

func appendSized(b, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(content))), content...)
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
		if string(tpm2.Marshal(*v)) != string(b) {
			return nil, errors.New("not in the form that a TPM writes")
		}
		return v, nil
	})
}

func allBytes(b []byte, value byte) bool {
	for _, c := range b {
		if c != value {
			return false
		}
	}
	return true
}
