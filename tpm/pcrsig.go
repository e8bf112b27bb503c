package tpm

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxPCRSig bounds what is parsed. A section with four banks and four phases under an RSA-16384 key has 50 KiB.
const maxPCRSig = 16 << 20

var errNoValue = errors.New("no value")

// MarshalJSON is the contents of a .pcrsig section or of tpm2-pcr-signature.json, byte for byte as ukify writes them
// (one line, spaces after commas and colons). [json.Marshal] drops those spaces, which gives the form of
// systemd-measure.
func (s Signatures) MarshalJSON() ([]byte, error) {
	return marshalBanks(len(s), func(i int) (Policy, func([]byte) []byte) {
		return s[i].Policy, func(b []byte) []byte {
			b = append(b, `, "sig": "`...)
			return append(base64.StdEncoding.AppendEncode(b, s[i].Value), '"')
		}
	})
}

// MarshalJSON is the same object with the bytes to be signed ("tbs") in place of signatures, byte for byte as
// `ukify --policy-digest` writes it.
func (p Policies) MarshalJSON() ([]byte, error) {
	return marshalBanks(len(p), func(i int) (Policy, func([]byte) []byte) {
		return p[i], func(b []byte) []byte {
			b = append(b, `, "tbs": "`...)
			return append(hex.AppendEncode(b, p[i].TBS()), '"')
		}
	})
}

// marshalBanks groups n policies by bank, banks in the order of their first policy. at yields a policy and what is
// written behind its common fields.
func marshalBanks(n int, at func(i int) (Policy, func([]byte) []byte)) ([]byte, error) {
	var order []crypto.Hash
	byBank := make(map[crypto.Hash][]byte)
	for i := range n {
		p, rest := at(i)
		if err := checkBank(p.Bank); err != nil {
			return nil, err
		}
		if err := checkRef(p.Ref); err != nil {
			return nil, err
		}
		b, seen := byBank[p.Bank]
		if seen {
			b = append(b, ", "...)
		} else {
			order = append(order, p.Bank)
		}
		byBank[p.Bank] = append(rest(appendPolicy(b, p)), '}')
	}
	out := []byte{'{'}
	for i, h := range order {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = fmt.Appendf(out, `"%s": [`, BankName(h))
		out = append(out, byBank[h]...)
		out = append(out, ']')
	}
	return append(out, '}'), nil
}

// appendPolicy writes the fields that signed and unsigned entries share, and no closing brace.
func appendPolicy(b []byte, p Policy) []byte {
	b = append(b, `{"pcrs": [`...)
	for i, n := range p.PCRs {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	b = append(b, `], "pkfp": "`...)
	b = hex.AppendEncode(b, p.Fingerprint[:])
	if p.Ref != "" {
		b = append(b, `", "ref": "`...)
		b = append(b, p.Ref...)
	}
	b = append(b, `", "pol": "`...)
	b = hex.AppendEncode(b, p.Digest[:])
	return append(b, '"')
}

// checkRef allows names that JSON writers spell in one way only.
func checkRef(ref string) error {
	for _, r := range ref {
		if r < ' ' || r >= utf8.RuneSelf-1 || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&' {
			return fmt.Errorf("tpm: policy reference %q: want printable ASCII without quotes, backslashes, < > and &", ref)
		}
	}
	return nil
}

// entry is an object of the file. Pointers tell an absent field from an empty one.
type entry struct {
	PCRs *[]int  `json:"pcrs"`
	PKFP *string `json:"pkfp"`
	Ref  *string `json:"ref"`
	Pol  *string `json:"pol"`
	TBS  *string `json:"tbs"`
	Sig  *string `json:"sig"`
}

// ParseSignatures reads the contents of a .pcrsig section or of tpm2-pcr-signature.json. Spaces, newlines and NULs at
// the end, which pad a section, are ignored. Banks that this package does not know and entries without a signature are
// errors. The signatures are not verified; see [Signature.Verify].
func ParseSignatures(data []byte) (Signatures, error) {
	out := Signatures{}
	err := parseBanks(data, func(p Policy, e entry) error {
		if e.Sig == nil {
			return fmt.Errorf("sig: %w", errNoValue)
		}
		value, err := base64.StdEncoding.Strict().DecodeString(*e.Sig)
		if err != nil {
			return fmt.Errorf("sig: %w", err)
		}
		if e.TBS != nil && *e.TBS != hex.EncodeToString(p.TBS()) {
			return fmt.Errorf("tbs: %q: want %x, the policy digest and the hash of ref", *e.TBS, p.TBS())
		}
		out = append(out, Signature{Policy: p, Value: value})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ParsePolicies reads what [Policies.MarshalJSON] and `systemd-measure policy-digest` write: entries to be signed.
// Entries with a signature are errors.
func ParsePolicies(data []byte) (Policies, error) {
	out := Policies{}
	err := parseBanks(data, func(p Policy, e entry) error {
		if e.Sig != nil {
			return fmt.Errorf("sig: the entry is signed already")
		}
		if e.TBS != nil && *e.TBS != hex.EncodeToString(p.TBS()) {
			return fmt.Errorf("tbs: %q: want %x, the policy digest and the hash of ref", *e.TBS, p.TBS())
		}
		out = append(out, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// parseBanks walks the object in the order of the file; a bank that comes twice is an error.
func parseBanks(data []byte, add func(Policy, entry) error) error {
	fail := func(dec *json.Decoder, field string, err error) error {
		return &FormatError{Offset: dec.InputOffset(), Field: ".pcrsig: " + field, Err: err}
	}
	data = bytes.TrimRight(data, "\x00 \n\r\t")
	dec := json.NewDecoder(bytes.NewReader(data))
	if len(data) > maxPCRSig {
		return fail(dec, "size", fmt.Errorf("%d bytes, want at most %d", len(data), maxPCRSig))
	}
	if t, err := dec.Token(); err != nil {
		return fail(dec, "object", noEOF(err))
	} else if t != json.Delim('{') {
		return fail(dec, "object", fmt.Errorf("starts with %v, want {", t))
	}
	seen := make(map[crypto.Hash]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return fail(dec, "bank", noEOF(err))
		}
		name, _ := t.(string) // JSON has no other keys
		h, err := BankByName(name)
		if err != nil || BankName(h) != name {
			return fail(dec, "bank", fmt.Errorf("%q: %w", name, ErrBank))
		}
		if seen[h] {
			return fail(dec, "bank", fmt.Errorf("%q: comes twice", name))
		}
		seen[h] = true
		if t, err := dec.Token(); err != nil {
			return fail(dec, name, noEOF(err))
		} else if t != json.Delim('[') {
			return fail(dec, name, fmt.Errorf("is %v, want an array", t))
		}
		for i := 0; dec.More(); i++ {
			var e entry
			if err := dec.Decode(&e); err != nil {
				return fail(dec, name, noEOF(err))
			}
			p, err := e.policy(h)
			if err == nil {
				err = add(p, e)
			}
			if err != nil {
				return fail(dec, fmt.Sprintf("%s[%d]", name, i), err)
			}
		}
		if _, err := dec.Token(); err != nil { // the closing bracket
			return fail(dec, name, noEOF(err))
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return fail(dec, "object", noEOF(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail(dec, "end", errors.New("something follows the object"))
	}
	return nil
}

// noEOF turns the end of the input into what it means here.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (e entry) policy(h crypto.Hash) (Policy, error) {
	p := Policy{Bank: h}
	if e.PCRs == nil {
		return p, fmt.Errorf("pcrs: %w", errNoValue)
	}
	last := -1
	for _, n := range *e.PCRs {
		if n <= last || n >= PCRCount {
			return p, fmt.Errorf("pcrs: %v: want ascending numbers from 0 to %d", *e.PCRs, PCRCount-1)
		}
		last = n
	}
	p.PCRs = *e.PCRs
	if err := decodeHex(p.Fingerprint[:], e.PKFP); err != nil {
		return p, fmt.Errorf("pkfp: %w", err)
	}
	if err := decodeHex(p.Digest[:], e.Pol); err != nil {
		return p, fmt.Errorf("pol: %w", err)
	}
	if e.Ref != nil {
		if err := checkRef(*e.Ref); err != nil || *e.Ref == "" {
			return p, fmt.Errorf("ref: %q: not a name", *e.Ref)
		}
		p.Ref = *e.Ref
	}
	return p, nil
}

func decodeHex(dst []byte, s *string) error {
	if s == nil {
		return errNoValue
	}
	if len(*s) != 2*len(dst) {
		return fmt.Errorf("%d characters, want %d", len(*s), 2*len(dst))
	}
	_, err := hex.Decode(dst, []byte(*s))
	return err
}
