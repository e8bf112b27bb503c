package sealing

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// field is one field of the JSON: how it is written and read. Fields are written in this order, which is systemd's.
type field struct {
	name string
	// write returns nil to leave the field out.
	write func(*Token) any
	read  func(*Token, json.RawMessage) error
}

var fields = []field{
	{"keyslots", func(t *Token) any {
		slots := []string{}
		for _, n := range t.Keyslots {
			slots = append(slots, strconv.Itoa(n))
		}
		return slots
	}, readKeyslots},
	{"tpm2-blob", func(t *Token) any { return oneOrAll(t.Blobs, base64.StdEncoding.EncodeToString) }, func(t *Token, raw json.RawMessage) error {
		return readList(raw, func(s string) error { return appendTo(&t.Blobs, s, base64.StdEncoding.Strict().DecodeString) })
	}},
	{"tpm2-pcrs", func(t *Token) any { return numbers(t.PCRs) }, func(t *Token, raw json.RawMessage) error { return readNumbers(raw, &t.PCRs) }},
	{"tpm2-pcr-bank", func(t *Token) any {
		if t.Bank == 0 {
			return nil
		}
		return tpm.BankName(t.Bank)
	}, readBank},
	{"tpm2-primary-alg", func(t *Token) any { return unlessEmpty(t.PrimaryAlgorithm) }, func(t *Token, raw json.RawMessage) error {
		return json.Unmarshal(raw, &t.PrimaryAlgorithm)
	}},
	{"tpm2-policy-hash", func(t *Token) any { return oneOrAll(t.PolicyHashes, policy.Digest.String) }, func(t *Token, raw json.RawMessage) error {
		return readList(raw, func(s string) error { return appendTo(&t.PolicyHashes, s, decodeDigest) })
	}},
	{"tpm2-pin", func(t *Token) any { return ifTrue(t.PIN) }, func(t *Token, raw json.RawMessage) error { return json.Unmarshal(raw, &t.PIN) }},
	{"tpm2_pcrlock", func(t *Token) any { return ifTrue(t.PCRLock) }, func(t *Token, raw json.RawMessage) error {
		return json.Unmarshal(raw, &t.PCRLock)
	}},
	{"tpm2_pubkey_pcrs", func(t *Token) any {
		if t.PublicKey == nil {
			return nil
		}
		return numbers(t.PublicKeyPCRs)
	}, func(t *Token, raw json.RawMessage) error { return readNumbers(raw, &t.PublicKeyPCRs) }},
	bytesField("tpm2_pubkey", func(t *Token) *[]byte { return &t.PublicKey }),
	{"tpm2_pubkey_ref", func(t *Token) any { return unlessEmpty(t.PublicKeyRef) }, func(t *Token, raw json.RawMessage) error {
		return json.Unmarshal(raw, &t.PublicKeyRef)
	}},
	bytesField("tpm2_salt", func(t *Token) *[]byte { return &t.Salt }),
	bytesField("tpm2_srk", func(t *Token) *[]byte { return &t.SRK }),
	bytesField("tpm2_pcrlock_nv", func(t *Token) *[]byte { return &t.PCRLockNV }),
	argonField("tpm2_argon2id_memcost", func(a *Argon2id) any { return &a.Memory }),
	argonField("tpm2_argon2id_iterations", func(a *Argon2id) any { return &a.Iterations }),
	argonField("tpm2_argon2id_lanes", func(a *Argon2id) any { return &a.Lanes }),
	{"osmith_pcr_values", writeValues, readValues},
	{"osmith_pcr_alternatives", writeAlternatives, readAlternatives},
	{"osmith_floor", func(t *Token) any {
		if t.Floor == nil {
			return nil
		}
		return t.Floor
	}, func(t *Token, raw json.RawMessage) error {
		t.Floor = &TokenFloor{}
		return strictly(raw, t.Floor)
	}},
}

func readKeyslots(t *Token, raw json.RawMessage) error {
	var slots []string
	if err := json.Unmarshal(raw, &slots); err != nil {
		return err
	}
	for _, s := range slots {
		n, err := strconv.Atoi(s)
		if err != nil || strconv.Itoa(n) != s {
			return fmt.Errorf("%q: not a number", s)
		}
		t.Keyslots = append(t.Keyslots, n)
	}
	return nil
}

func readBank(t *Token, raw json.RawMessage) error {
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return err
	}
	h, err := tpm.BankByName(name)
	if err != nil {
		return fmt.Errorf("%q: %w", name, tpm.ErrBank)
	}
	t.Bank = h
	return nil
}

func writeValues(t *Token) any {
	if t.Values == nil {
		return nil
	}
	return valuesText(t.Values)
}

func readValues(t *Token, raw json.RawMessage) (err error) {
	t.Values, err = parseValues(raw)
	return err
}

func writeAlternatives(t *Token) any {
	if t.Alternatives == nil {
		return nil
	}
	sets := []map[string]string{}
	for _, set := range t.Alternatives {
		sets = append(sets, valuesText(set))
	}
	return sets
}

func readAlternatives(t *Token, raw json.RawMessage) error {
	var sets []json.RawMessage
	if err := json.Unmarshal(raw, &sets); err != nil {
		return err
	}
	if len(sets) > maxAlternatives {
		return fmt.Errorf("%d of them: want at most %d", len(sets), maxAlternatives)
	}
	t.Alternatives = []map[int][]byte{}
	for _, set := range sets {
		values, err := parseValues(set)
		if err != nil {
			return err
		}
		t.Alternatives = append(t.Alternatives, values)
	}
	return nil
}

func valuesText(values map[int][]byte) map[string]string {
	text := map[string]string{}
	for n, v := range values {
		text[strconv.Itoa(n)] = hex.EncodeToString(v)
	}
	return text
}

func parseValues(raw json.RawMessage) (map[int][]byte, error) {
	var text map[string]string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, err
	}
	if len(text) > tpm.PCRCount {
		return nil, fmt.Errorf("%d PCRs", len(text))
	}
	values := map[int][]byte{}
	for key, s := range text {
		n, err := strconv.Atoi(key)
		if err != nil || strconv.Itoa(n) != key {
			return nil, fmt.Errorf("%q: not a number", key)
		}
		if values[n], err = hex.DecodeString(s); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// strictly decodes an object without fields that are not known.
func strictly(raw json.RawMessage, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// readList reads a string, or an array of them.
func readList(raw json.RawMessage, add func(string) error) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return add(one)
	}
	var all []string
	if err := json.Unmarshal(raw, &all); err != nil {
		return errors.New("neither a string nor an array of strings")
	}
	if len(all) > maxBlobs {
		return fmt.Errorf("%d of them: want at most %d", len(all), maxBlobs)
	}
	for _, s := range all {
		if err := add(s); err != nil {
			return err
		}
	}
	return nil
}

func readNumbers(raw json.RawMessage, into *[]int) error {
	var list []int
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	if len(list) > 0 {
		*into = list
	}
	return nil
}

func appendTo[T any](list *[]T, text string, decode func(string) (T, error)) error {
	v, err := decode(text)
	if err == nil {
		*list = append(*list, v)
	}
	return err
}

func decodeDigest(text string) (d policy.Digest, err error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != len(d) {
		err = fmt.Errorf("%d bytes, want %d", len(b), len(d))
	}
	copy(d[:], b)
	return d, err
}

func bytesField(name string, at func(*Token) *[]byte) field {
	return field{name, func(t *Token) any {
		if *at(t) == nil {
			return nil
		}
		return base64.StdEncoding.EncodeToString(*at(t))
	}, func(t *Token, raw json.RawMessage) error {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return err
		}
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err == nil && len(b) == 0 {
			err = errors.New("empty")
		}
		*at(t) = b
		return err
	}}
}

func argonField(name string, at func(*Argon2id) any) field {
	return field{name, func(t *Token) any {
		if t.Argon2id == nil {
			return nil
		}
		return at(t.Argon2id)
	}, func(t *Token, raw json.RawMessage) error {
		if t.Argon2id == nil {
			t.Argon2id = &Argon2id{}
		}
		return json.Unmarshal(raw, at(t.Argon2id))
	}}
}

func oneOrAll[T any](list []T, encode func(T) string) any {
	all := make([]string, len(list))
	for i, v := range list {
		all[i] = encode(v)
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

func numbers(list []int) any {
	if list == nil {
		return []int{}
	}
	return list
}

func unlessEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func ifTrue(b bool) any {
	if !b {
		return nil
	}
	return true
}
