package dm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/kernelargs"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// A Target is one whole line of a device-mapper table, of any type, as dmsetup
// prints it: "0 2400 verity 1 /dev/sda2 ...".
type Target struct {
	Start   uint64 // sectors of 512 bytes
	Sectors uint64 // length in sectors of 512 bytes
	Type    string // such as "verity"
	Params  string // in the form of that type
}

// String returns the line.
func (t Target) String() string {
	return strconv.FormatUint(t.Start, 10) + " " + strconv.FormatUint(t.Sectors, 10) + " " + t.Type + " " + t.Params
}

// ParseTarget reads one line as dmsetup table prints it for a device of one target, or as
// dm-mod.create= has it. The parameters are not interpreted: see ParseTable. The error is an
// *osmith.FormatError.
func ParseTarget(line string) (Target, error) {
	t, err := parseTarget(line)
	return t, prefix.Error("dm", err)
}

func parseTarget(line string) (Target, error) {
	r := newTableReader(line)
	start, sectors := r.number("start sector"), r.number("number of sectors")
	kind := r.next("target type")
	if r.err == nil && len(r.words) == 0 {
		r.next("target parameters")
	}
	if r.err == nil && (!plainName(kind) || len(kind) > maxTargetType) {
		r.fail(fmt.Errorf("%q is not the name of a target", kind))
	}
	if r.err == nil && (sectors == 0 || start+sectors < start) {
		r.field, r.at = "number of sectors", 0
		r.fail(fmt.Errorf("%d sectors from sector %d on", sectors, start))
	}
	if r.err != nil {
		return Target{}, r.err
	}
	end := len(line)
	for kernelargs.IsSpace(line[end-1]) && line[end-2] != '\\' {
		end--
	}
	return Target{Start: uint64(start), Sectors: uint64(sectors), Type: kind, Params: line[r.words[0].at:end]}, nil
}

// maxTargetType is DM_MAX_TYPE_NAME without the NUL.
const maxTargetType = 15

func plainName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// A word is one argument of a target, with the quotation taken off.
type word struct {
	text string
	at   int // byte offset in the text that was split
}

// splitWords cuts a line as dm_split_args of the kernel does: at white space, and
// a backslash takes its special meaning from the character behind it.
func splitWords(line string) []word {
	var words []word
	for i := 0; i < len(line); {
		if kernelargs.IsSpace(line[i]) {
			i++
			continue
		}
		w := word{at: i}
		var b []byte
		for ; i < len(line) && !kernelargs.IsSpace(line[i]); i++ {
			if line[i] == '\\' && i+1 < len(line) {
				i++
			}
			b = append(b, line[i])
		}
		w.text = string(b)
		words = append(words, w)
	}
	return words
}

// A tableReader takes the arguments one by one; the first error stays.
type tableReader struct {
	words []word
	end   int // offset behind the text
	at    int // offset of the last word taken
	field string
	seen  map[string]int // offsets by field
	err   error
}

func newTableReader(text string) *tableReader {
	return &tableReader{words: splitWords(text), end: len(text), seen: map[string]int{}}
}

func (r *tableReader) fail(err error) {
	if r.err == nil {
		r.err = &osmith.FormatError{Offset: int64(r.at), Field: "table: " + r.field, Err: err}
	}
}

func (r *tableReader) next(field string) string {
	r.field = field
	if len(r.words) == 0 {
		r.at = r.end
		r.fail(errors.New("missing"))
		return ""
	}
	w := r.words[0]
	r.words, r.at, r.seen[field] = r.words[1:], w.at, w.at
	return w.text
}

func (r *tableReader) number(field string) int64 {
	n, err := parseNumber(r.next(field))
	if err != nil {
		r.fail(err)
	}
	return n
}

// small is a number that fits an int everywhere.
func (r *tableReader) small(field string) int {
	n := r.number(field)
	if n != int64(int32(n)) {
		r.fail(fmt.Errorf("%d is too large", n))
		return 0
	}
	return int(n)
}

func (r *tableReader) hex(field string) []byte {
	b, err := parseHex(r.next(field))
	if err != nil {
		r.fail(err)
	}
	return b
}

// parseHex accepts lower case only: the kernel checks a signature of the root hash against its
// text.
func parseHex(text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err == nil && text != strings.ToLower(text) {
		err = errors.New("hexadecimal digits must be lower-case")
	}
	return b, err
}

// parseNumber wants decimal digits as they are written: no sign, no leading zeros.
func parseNumber(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, fmt.Errorf("%q is not a decimal number from 0 to 2^63-1", text)
	}
	return n, nil
}

// escape quotes what would end a word or start a quotation in dm_split_args of the
// kernel (drivers/md/dm-table.c): white space and the backslash.
func escape(word string) string {
	var b strings.Builder
	for i := range len(word) {
		if kernelargs.IsSpace(word[i]) || word[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(word[i])
	}
	return b.String()
}
