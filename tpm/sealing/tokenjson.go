package sealing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// maxToken bounds the JSON of a token. The largest LUKS2 header has 4 MiB for all of its metadata.
const maxToken = 4 << 20

// MarshalJSON is the token as systemd writes it: one blob is a string, several are an array.
func (t *Token) MarshalJSON() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(`{"type":"` + t.Type() + `"`)
	put := func(name string, v any) error {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("sealing: token: %s: %w", name, err)
		}
		fmt.Fprintf(&b, ",%q:%s", name, text)
		return nil
	}
	for _, f := range fields {
		if v := f.write(t); v != nil {
			if err := put(f.name, v); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Extra)) {
		if name == "type" || slices.ContainsFunc(fields, func(f field) bool { return f.name == name }) {
			return nil, &FormatError{Field: "Extra", Err: fmt.Errorf("%q is a field of its own", name)}
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(t.Extra[name])
		if err != nil {
			return nil, &FormatError{Field: "Extra: " + name, Err: err}
		}
		b.WriteByte(',')
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// ParseToken reads a systemd-tpm2 token, as `cryptsetup token export` prints it. What the fields hold is checked as far
// as it can be without the TPM. Fields that are not known are kept; a field that comes twice is an error.
func ParseToken(data []byte) (*Token, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	fail := func(field string, err error) (*Token, error) {
		var inner *FormatError
		if errors.As(err, &inner) {
			return nil, inner
		}
		return nil, &FormatError{Offset: dec.InputOffset(), Field: field, Err: err}
	}
	if len(data) > maxToken {
		return fail("token", fmt.Errorf("%d bytes: want at most %d", len(data), maxToken))
	}
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return fail("token", errors.New("not a JSON object"))
	}
	t, kind := &Token{}, ""
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fail("token", err)
		}
		name, _ := key.(string) // JSON has no other keys
		if seen[name] {
			return fail(name, errors.New("comes twice"))
		}
		seen[name] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fail(name, err)
		}
		if name == "type" {
			err = json.Unmarshal(raw, &kind)
			if err == nil && kind != TokenType && kind != OwnTokenType {
				err = fmt.Errorf("%q: want %q", kind, TokenType)
			}
		} else {
			err = t.set(name, raw)
		}
		if err != nil {
			return fail(name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return fail("token", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail("token", errors.New("something follows the object"))
	}
	for _, name := range []string{"type", "keyslots", "tpm2-blob", "tpm2-pcrs", "tpm2-policy-hash"} {
		if !seen[name] {
			return fail(name, errors.New("missing"))
		}
	}
	if err := t.check(); err != nil {
		return fail("token", err)
	}
	if kind != t.Type() {
		return fail("type", fmt.Errorf("%q: want %q for what is in it", kind, t.Type()))
	}
	return t, nil
}

// UnmarshalJSON is [ParseToken].
func (t *Token) UnmarshalJSON(data []byte) error {
	parsed, err := ParseToken(data)
	if err != nil {
		return err
	}
	*t = *parsed
	return nil
}

func (t *Token) set(name string, raw json.RawMessage) error {
	for _, f := range fields {
		if f.name == name {
			if string(raw) == "null" {
				return errors.New("null")
			}
			return f.read(t, raw)
		}
	}
	if t.Extra == nil {
		t.Extra = map[string]json.RawMessage{}
	}
	t.Extra[name] = slices.Clone(raw)
	return nil
}
