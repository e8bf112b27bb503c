package efi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
)

// HardDrive is a partition of a GPT as a device path names it (UEFI 2.10, section 10.3.5.1). LBAs
// count logical blocks of the disk.
type HardDrive struct {
	Number            uint32 // place in the table, from 1
	FirstLBA, SizeLBA uint64
	ID                osmith.GUID // of the partition
}

// Sizes of a hard drive node without its header, and what its last two bytes say.
const (
	hardDriveSize = 38
	formatGPT     = 2
	signatureGUID = 2
)

// AppendHardDrive appends the node.
func AppendHardDrive(b []byte, h HardDrive) []byte {
	return h.appendData(append(b, PathMedia, 1, 4+hardDriveSize, 0))
}

func (h HardDrive) appendData(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, h.Number)
	b = binary.LittleEndian.AppendUint64(b, h.FirstLBA)
	b = binary.LittleEndian.AppendUint64(b, h.SizeLBA)
	return append(AppendGUID(b, h.ID), formatGPT, signatureGUID)
}

// hardDrive is the first node of a device path that names a partition by a GUID: its bytes behind
// the header, which point into path. Nil: there is none.
func hardDrive(path []byte) (node []byte) {
	eachNode(path, func(kind, sub byte, data []byte) bool {
		if kind == PathMedia && sub == 1 && len(data) >= hardDriveSize && data[hardDriveSize-1] == signatureGUID {
			node = data
		}
		return kind&0x7f != pathEnd && node == nil
	})
	return node
}

// PathHardDrive is the GPT partition that a device path leads through; false if it leads through
// none.
func PathHardDrive(path []byte) (h HardDrive, ok bool) {
	node := hardDrive(path)
	if node == nil {
		return h, false
	}
	le := binary.LittleEndian
	return HardDrive{le.Uint32(node), le.Uint64(node[4:]), le.Uint64(node[12:]), GUID(node[20:])}, true
}

// Relocate makes the device path lead through another partition, or the same one in another place.
// It changes path itself, and nothing but that node. False: it leads through no GPT partition, and
// nothing was changed.
func Relocate(path []byte, h HardDrive) bool {
	node := hardDrive(path)
	if node != nil {
		h.appendData(node[:0])
	}
	return node != nil
}

// AppendFile appends a node with the path of a file (UEFI 2.10, section 10.3.6.4), whose parts are
// separated by backslashes.
func AppendFile(b []byte, file string) ([]byte, error) {
	size := 4 + 2*UTF16Len(file) + 2
	if file == "" || !encodable(file) || size > math.MaxUint16 {
		return nil, fmt.Errorf("path of a file %q of %d bytes: want text without NUL that fits in a node of %d", file, len(file), math.MaxUint16)
	}
	b = append(b, PathMedia, 4, byte(size), byte(size>>8))
	return append(AppendUTF16(b, file), 0, 0), nil
}

// AppendPathEnd appends the node that ends a device path.
func AppendPathEnd(b []byte) []byte { return append(b, pathEnd, 0xff, 4, 0) }

// AppendLoadOption appends the content of a Boot#### variable, of which [ParseLoadOption] makes o.
func AppendLoadOption(b []byte, o LoadOption) ([]byte, error) {
	if !encodable(o.Description) {
		return nil, fmt.Errorf("description %q: want text without NUL", o.Description)
	}
	if len(o.Path) > math.MaxUint16 {
		return nil, errors.New("a device path longer than 65535 bytes")
	}
	b = binary.LittleEndian.AppendUint32(b, o.Attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(o.Path)))
	b = append(AppendUTF16(b, o.Description), 0, 0)
	return append(append(b, o.Path...), o.Data...), nil
}

// encodable reports whether [DecodeUTF16] gets the text back.
func encodable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
