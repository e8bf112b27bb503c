package verity

import (
	"errors"
	"fmt"
	"strconv"
)

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
		if isSpace(line[i]) {
			i++
			continue
		}
		w := word{at: i}
		var b []byte
		for ; i < len(line) && !isSpace(line[i]); i++ {
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
		r.err = &TextError{Text: "table", Offset: int64(r.at), Field: r.field, Err: err}
	}
}

func (r *tableReader) next(field string) string {
	r.field = field
	if len(r.words) == 0 {
		r.at = r.end
		r.fail(errors.New("it is missing"))
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

// parseNumber wants decimal digits as they are written: no sign, no leading zeros.
func parseNumber(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, fmt.Errorf("%q is not a decimal number from 0 to 2^63-1", text)
	}
	return n, nil
}

// ParseTable reads the parameters of a verity target: what String writes, what
// dmsetup table prints behind the word verity, and what the kernel takes, except
// that a number, a hash or an option has one spelling only (the kernel checks a
// signature against the root hash as it is spelt, which must be lower-case).
// Optional arguments may come in any order, each once. A table that parses
// passes Check. The error is a *TextError.
func ParseTable(params string) (Table, error) {
	r := newTableReader(params)
	var t Table
	version := r.small("version")
	if version > 1 {
		r.fail(fmt.Errorf("unknown hash format %d, want 0 or 1", version))
	}
	t.HashType = uint32(version)
	t.DataDevice = r.next("data device")
	t.HashDevice = r.next("hash device")
	t.DataBlockSize = r.small("data block size")
	t.HashBlockSize = r.small("hash block size")
	t.DataBlocks = r.number("number of data blocks")
	t.HashStart = r.number("hash start block")
	t.Algorithm = r.next("algorithm")
	t.RootHash = r.hex("root digest")
	if salt := r.next("salt"); salt != "-" {
		var err error
		if t.Salt, err = parseHex(salt); err != nil {
			r.fail(err)
		}
	}
	if r.err == nil && len(r.words) > 0 {
		t.Options = r.options()
	}
	if r.err != nil {
		return Table{}, r.err
	}
	if field, err := t.check(); err != nil {
		return Table{}, &TextError{Text: "table", Offset: int64(r.seen[field]), Field: field, Err: err}
	}
	return t, nil
}

// options reads the count and the optional arguments that it announces.
func (r *tableReader) options() (o TableOptions) {
	count := r.number("number of optional arguments")
	if r.err == nil && count != int64(len(r.words)) {
		r.fail(fmt.Errorf("%d, but there are %d", count, len(r.words)))
	}
	seen := map[string]bool{}
	for r.err == nil && len(r.words) > 0 {
		name := r.next("optional argument")
		key := name
		for _, modes := range [][]string{reactions[1:], ioErrors[1:]} {
			for _, m := range modes {
				if name == m {
					key = modes[0] // one of each kind
				}
			}
		}
		if seen[key] {
			r.fail(fmt.Errorf("%s: given twice, or with another of its kind", name))
		}
		seen[key] = true
		r.option(&o, name)
	}
	if r.err == nil && (seen["fec_blocks"] || seen["fec_start"] || seen["fec_roots"] || seen["use_fec_from_device"]) {
		for _, name := range []string{"use_fec_from_device", "fec_blocks", "fec_start", "fec_roots"} {
			if !seen[name] {
				r.at, r.field = r.end, name
				r.fail(errors.New("it is missing"))
			}
		}
	}
	return o
}

func (r *tableReader) option(o *TableOptions, name string) {
	switch name {
	case "ignore_corruption", "restart_on_corruption", "panic_on_corruption":
		for i, a := range reactions {
			if a == name {
				o.Corruption = Reaction(i)
			}
		}
	case "restart_on_error", "panic_on_error":
		for i, a := range ioErrors {
			if a == name {
				o.IOError = IOError(i)
			}
		}
	case "ignore_zero_blocks":
		o.IgnoreZeroBlocks = true
	case "check_at_most_once":
		o.CheckAtMostOnce = true
	case "try_verify_in_tasklet":
		o.TryVerifyInTasklet = true
	case "use_fec_from_device":
		o.FEC.Device = r.next(name)
	case "fec_blocks":
		o.FEC.Blocks = r.number(name)
	case "fec_start":
		o.FEC.Start = r.number(name)
	case "fec_roots":
		o.FEC.Roots = r.small(name)
	case "root_hash_sig_key_desc":
		o.RootHashSigKeyDesc = r.next(name)
	default:
		r.fail(fmt.Errorf("%q is not known", name))
	}
}

// ParseTarget reads one line as dmsetup table prints it for a device of one
// target, or as dm-mod.create= has it. What the type makes of the parameters is
// not looked at: see ParseTable. The error is a *TextError.
func ParseTarget(line string) (Target, error) {
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
	for isSpace(line[end-1]) && line[end-2] != '\\' {
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
