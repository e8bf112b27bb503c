package efi

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

// A LoadOption is an EFI_LOAD_OPTION: the content of a Boot#### variable (UEFI 2.10, section
// 3.1.3).
type LoadOption struct {
	Attributes  uint32
	Description string
	Path        []byte // device path, of which only the first instance says what is started
	Data        []byte // for the program
}

// Attributes of load options.
const (
	LoadOptionActive = 0x01
	LoadOptionHidden = 0x08

	// What is of a category, 0 being programs that boot, is in these bits.
	LoadOptionCategory = 0x1f00
)

// ParseLoadOption reads a load option. Of one that is cut, what is there comes with the error,
// which is a [*osmith.FormatError]; without a path nothing is.
func ParseLoadOption(b []byte) (o LoadOption, err error) {
	fail := func(off int, field string, err error) (LoadOption, error) {
		return o, &osmith.FormatError{Offset: int64(off), Field: field, Err: err}
	}
	if len(b) < 8 {
		return fail(0, "load option", fmt.Errorf("%d bytes, want 8 at least", len(b)))
	}
	size := int(binary.LittleEndian.Uint16(b[4:]))
	for i := 6; i+1 < len(b); i += 2 {
		if b[i] != 0 || b[i+1] != 0 {
			continue
		}
		rest := b[i+2:]
		o = LoadOption{binary.LittleEndian.Uint32(b), DecodeUTF16(b[6:i]), rest[:min(size, len(rest)):min(size, len(rest))], nil}
		if size > len(rest) {
			return fail(i+2, "FilePathList", fmt.Errorf("%d bytes, there are %d", size, len(rest)))
		}
		o.Data = rest[size:]
		return o, nil
	}
	return fail(6, "Description", errors.New("not terminated"))
}
