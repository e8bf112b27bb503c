package sealing

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/internal/tpmwire"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Types of LUKS2 tokens.
const (
	// TokenType is the type of the token in which systemd keeps sealed keys.
	TokenType = "systemd-tpm2"
	// OwnTokenType is the type of a token with Alternatives or a Floor; systemd does not know this
	// type and ignores the token. Such a token has the fields of a systemd token, and two more.
	OwnTokenType = "osmith-tpm2"
)

// Token is a sealed secret: the systemd-tpm2 token of a LUKS2 header as a value, field by field.
// [TPM.Seal] makes a token; [TPM.Unseal] opens it, also if systemd-cryptenroll made it.
//
// The passphrase of a systemd volume is not the secret itself but [Passphrase] of it.
type Token struct {
	Keyslots []int // key slots of the volume that the secret opens

	// Blobs are the sealed objects (tpm2-blob): more than one if several policies must hold at once
	// that cannot be combined into one. Each holds a part of the secret, in order.
	Blobs [][]byte
	// PolicyHashes are the policies of the blobs (tpm2-policy-hash).
	PolicyHashes []policy.Digest

	// Bank is the bank of all PCRs (tpm2-pcr-bank). If it is 0 and there are PCRs, as in tokens of
	// systemd-repart, [TPM.Unseal] chooses among the banks of the TPM as systemd 262 does.
	Bank crypto.Hash
	PCRs []int // PCRs whose values the policy fixes (tpm2-pcrs), ascending
	// PrimaryAlgorithm is the algorithm of the storage root key: "ecc" or "rsa" (tpm2-primary-alg).
	// "" means "ecc" if SRK is nil; it is not needed if the token has the key itself, as in tokens
	// of systemd-repart.
	PrimaryAlgorithm string

	PublicKey     *rsa.PublicKey // key that signs PCR policies (tpm2_pubkey); nil for none
	PublicKeyPCRs []int          // PCRs that the signed policies cover (tpm2_pubkey_pcrs)
	PublicKeyRef  string         // policy reference (tpm2_pubkey_ref, systemd 262); "" for none

	PIN      bool      // a PIN is needed (tpm2-pin)
	Salt     []byte    // salt of the PIN (tpm2_salt); nil in tokens before systemd 253
	Argon2id *Argon2id // how the PIN is stretched (tpm2_argon2id_*, systemd 262); nil is PBKDF2

	PCRLock   bool   // the policy is in an NV index that systemd-pcrlock writes (tpm2_pcrlock)
	PCRLockNV []byte // that index, as tpm2-tss writes it (tpm2_pcrlock_nv)

	// key under which the secret is sealed, as tpm2-tss writes it (tpm2_srk); nil in tokens before
	// systemd 254
	SRK []byte

	// Values are the PCR values to which the secret was sealed; they show later which PCR differs.
	// systemd neither writes nor reads this field (osmith_pcr_values); nil if the token lacks it.
	Values map[int][]byte

	// Alternatives are several states of the PCRs, any one of which is accepted
	// (osmith_pcr_alternatives), and Floor is a counter that must not have been raised above a
	// value (osmith_floor). A token with either of these fields is of [OwnTokenType].
	Alternatives []map[int][]byte
	Floor        *TokenFloor

	// Extra are fields of the token without a Go field; they are kept.
	Extra map[string]json.RawMessage

	// noPIN says that the token had "tpm2-pin": false, which systemd 252 writes and later ones
	// leave out.
	noPIN bool
	// publicKeyText is PublicKey as the token had it: systemd-cryptenroll copies the user's file.
	publicKeyText []byte
}

// Argon2id is the cost of stretching a PIN. A token with more than 4 GiB, 1000 passes or 255 lanes
// is refused.
type Argon2id struct {
	Memory     int64 // bytes
	Iterations uint32
	Lanes      uint8
}

// TokenFloor is a [Floor] in a token.
type TokenFloor struct {
	NV   []byte `json:"nv"` // the counter, as tpm2-tss writes an NV index
	Most uint64 `json:"most"`
}

// Type is the type of the token, which depends on its fields.
func (t *Token) Type() string {
	if t.Alternatives != nil || t.Floor != nil {
		return OwnTokenType
	}
	return TokenType
}

// Equal reports whether two tokens have the same fields.
func (t *Token) Equal(u *Token) bool {
	a, errA := t.MarshalJSON()
	b, errB := u.MarshalJSON()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// tokenFields are a token as it stands in JSON. Fields are written in this order, which is
// systemd's.
type tokenFields struct {
	Type             string                   `json:"type"`
	Keyslots         []string                 `json:"keyslots"`
	Blobs            oneOrMany[base64Text]    `json:"tpm2-blob"`
	PCRs             []int                    `json:"tpm2-pcrs"`
	Bank             string                   `json:"tpm2-pcr-bank,omitempty"`
	PrimaryAlgorithm string                   `json:"tpm2-primary-alg,omitempty"`
	PolicyHashes     oneOrMany[policy.Digest] `json:"tpm2-policy-hash"`
	PIN              *bool                    `json:"tpm2-pin,omitempty"`
	PCRLock          bool                     `json:"tpm2_pcrlock,omitempty"`
	PublicKeyPCRs    []int                    `json:"tpm2_pubkey_pcrs,omitzero"`
	PublicKey        base64Text               `json:"tpm2_pubkey,omitzero"` // PEM
	PublicKeyRef     string                   `json:"tpm2_pubkey_ref,omitempty"`
	Salt             base64Text               `json:"tpm2_salt,omitzero"`
	SRK              base64Text               `json:"tpm2_srk,omitzero"`
	PCRLockNV        base64Text               `json:"tpm2_pcrlock_nv,omitzero"`
	ArgonMemory      *int64                   `json:"tpm2_argon2id_memcost,omitempty"`
	ArgonIterations  *uint32                  `json:"tpm2_argon2id_iterations,omitempty"`
	ArgonLanes       *uint8                   `json:"tpm2_argon2id_lanes,omitempty"`
	Values           pcrValues                `json:"osmith_pcr_values,omitzero"`
	Alternatives     []pcrValues              `json:"osmith_pcr_alternatives,omitzero"`
	Floor            *TokenFloor              `json:"osmith_floor,omitempty"`
}

// required are the fields that every token of systemd has.
var required = []string{"type", "keyslots", "tpm2-blob", "tpm2-pcrs", "tpm2-policy-hash"}

// field is where the field of this name is read to; nil for one that is not known.
func (f *tokenFields) field(name string) any {
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); tag == name {
			return v.Field(i).Addr().Interface()
		}
	}
	return nil
}

// oneOrMany is a single value in JSON, or an array where there is not exactly one.
type oneOrMany[T any] []T

func (l oneOrMany[T]) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]T(l))
}

func (l *oneOrMany[T]) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'['}) {
		return json.Unmarshal(b, (*[]T)(l))
	}
	*l = make([]T, 1)
	return json.Unmarshal(b, &(*l)[0])
}

// base64Text are bytes that JSON has in base64. There are some, and one way to write them.
type base64Text []byte

func (b base64Text) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

func (b *base64Text) UnmarshalText(text []byte) (err error) {
	if *b, err = base64.StdEncoding.Strict().AppendDecode(nil, text); err != nil {
		return fmt.Errorf("not base64: %w", err)
	}
	if len(*b) == 0 {
		return errors.New("empty")
	}
	return nil
}

// pcrValues are an object with the numbers of PCRs as keys and their values in hexadecimal.
type pcrValues map[int][]byte

func (p pcrValues) MarshalJSON() ([]byte, error) {
	text := make(map[int]string, len(p))
	for n, v := range p {
		text[n] = hex.EncodeToString(v)
	}
	return json.Marshal(text)
}

func (p *pcrValues) UnmarshalJSON(b []byte) error {
	var text map[string]string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*p = make(pcrValues, len(text))
	for key, s := range text {
		n, err := number(key)
		if err != nil {
			return err
		}
		if (*p)[n], err = hex.DecodeString(s); err != nil {
			return fmt.Errorf("PCR %d: not hexadecimal: %w", n, err)
		}
	}
	return nil
}

// number reads a number that is written in the one way there is.
func number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%q: not a number", s)
	}
	return n, nil
}

// maxToken bounds the JSON of a token. The largest LUKS2 header has 4 MiB for all of its metadata.
const maxToken = 4 << 20

// MarshalJSON is the token as systemd writes it: one blob is a string, several are an array.
func (t *Token) MarshalJSON() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := t.check(); err != nil {
		return nil, err
	}
	f := tokenFields{
		Type: t.Type(), Keyslots: []string{}, PCRs: []int{}, PrimaryAlgorithm: t.PrimaryAlgorithm, PolicyHashes: t.PolicyHashes,
		PCRLock: t.PCRLock, PublicKeyRef: t.PublicKeyRef, Salt: t.Salt, SRK: t.SRK, PCRLockNV: t.PCRLockNV,
		Values: t.Values, Floor: t.Floor,
	}
	if t.PIN || t.noPIN {
		f.PIN = &t.PIN
	}
	for _, n := range t.Keyslots {
		f.Keyslots = append(f.Keyslots, strconv.Itoa(n))
	}
	for _, b := range t.Blobs {
		f.Blobs = append(f.Blobs, b)
	}
	f.PCRs = append(f.PCRs, t.PCRs...)
	if t.Bank != 0 {
		f.Bank = pcrbank.Name(t.Bank)
	}
	if t.PublicKey != nil {
		f.PublicKeyPCRs = append([]int{}, t.PublicKeyPCRs...)
		if f.PublicKey, err = t.publicKeyPEM(); err != nil {
			return nil, err
		}
	}
	if a := t.Argon2id; a != nil {
		f.ArgonMemory, f.ArgonIterations, f.ArgonLanes = &a.Memory, &a.Iterations, &a.Lanes
	}
	for _, set := range t.Alternatives {
		f.Alternatives = append(f.Alternatives, set)
	}
	text, err := json.Marshal(f)
	if err != nil || len(t.Extra) == 0 {
		return text, err
	}
	for name := range t.Extra {
		if f.field(name) != nil {
			return nil, &osmith.FormatError{Offset: -1, Field: "Extra", Err: fmt.Errorf("%q is a separate field", name)}
		}
	}
	extra, err := json.Marshal(t.Extra) // sorted by name
	if err != nil {
		return nil, &osmith.FormatError{Offset: -1, Field: "Extra", Err: err}
	}
	return slices.Concat(text[:len(text)-1], []byte{','}, extra[1:]), nil
}

// publicKeyPEM is the text that the token had if it is still that of the key.
func (t *Token) publicKeyPEM() ([]byte, error) {
	if key, err := policy.ParsePublicKey(t.publicKeyText); err == nil && key.Equal(t.PublicKey) {
		return t.publicKeyText, nil
	}
	return policy.MarshalPublicKey(t.PublicKey)
}

// ParseToken reads a systemd-tpm2 token, as `cryptsetup token export` prints it. The fields are
// checked as far as possible without the TPM. Unknown fields are kept; a field that is listed twice
// is an error.
func ParseToken(data []byte) (_ *Token, err error) {
	defer prefix.Add(pkg, &err)
	fail := func(offset int64, field string, err error) (*Token, error) {
		if inner, ok := errors.AsType[*osmith.FormatError](err); ok {
			err = inner.Err
		}
		return nil, &osmith.FormatError{Offset: offset, Field: field, Err: err}
	}
	if len(data) > maxToken {
		return fail(0, "token", fmt.Errorf("%d bytes: want at most %d", len(data), maxToken))
	}
	members, err := strictjson.Object(data)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	t, f := &Token{}, tokenFields{}
	missing := slices.Clone(required)
	for _, m := range members {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == m.Key })
		into := f.field(m.Key)
		switch {
		case into == nil:
			if t.Extra == nil {
				t.Extra = map[string]json.RawMessage{}
			}
			t.Extra[m.Key] = bytes.Clone(m.Value)
		case string(m.Value) == "null":
			return fail(m.Offset, m.Key, errors.New("null"))
		default:
			if err := strictjson.Unmarshal(m.Value, into, strictjson.KnownFields); err != nil {
				return fail(m.Offset, m.Key, err)
			}
		}
	}
	if len(missing) > 0 {
		return fail(-1, missing[0], errors.New("missing"))
	}
	if f.Type != TokenType && f.Type != OwnTokenType {
		return fail(-1, "type", fmt.Errorf("%q: want %q", f.Type, TokenType))
	}
	if err := t.fill(&f); err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	if f.Type != t.Type() {
		return fail(-1, "type", fmt.Errorf("%q: want %q for what is in it", f.Type, t.Type()))
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

// fill takes over what was read.
func (t *Token) fill(f *tokenFields) error {
	fail := func(field string, err error) error { return &osmith.FormatError{Offset: -1, Field: field, Err: err} }
	for _, s := range f.Keyslots {
		n, err := number(s)
		if err != nil {
			return fail("keyslots", err)
		}
		t.Keyslots = append(t.Keyslots, n)
	}
	for _, b := range f.Blobs {
		t.Blobs = append(t.Blobs, b)
	}
	t.PolicyHashes, t.PrimaryAlgorithm = f.PolicyHashes, f.PrimaryAlgorithm
	// nil for none
	t.PCRs, t.PublicKeyPCRs = append(t.PCRs, f.PCRs...), append(t.PublicKeyPCRs, f.PublicKeyPCRs...)
	t.PIN, t.noPIN = orZero(f.PIN), f.PIN != nil && !*f.PIN
	t.Salt, t.PCRLock, t.PCRLockNV, t.SRK, t.PublicKeyRef = f.Salt, f.PCRLock, f.PCRLockNV, f.SRK, f.PublicKeyRef
	t.Values, t.Floor = f.Values, f.Floor
	if f.Bank != "" {
		var err error
		if t.Bank, err = pcrbank.ByName(f.Bank); err != nil {
			return fail("tpm2-pcr-bank", fmt.Errorf("%q: %w", f.Bank, pcrbank.ErrUnknown))
		}
	}
	if f.PublicKey != nil {
		var err error
		if t.PublicKey, err = policy.ParsePublicKey(f.PublicKey); err != nil {
			return fail("tpm2_pubkey", prefix.Bare(err))
		}
		t.publicKeyText = f.PublicKey
	}
	if f.ArgonMemory != nil || f.ArgonIterations != nil || f.ArgonLanes != nil {
		t.Argon2id = &Argon2id{Memory: orZero(f.ArgonMemory), Iterations: orZero(f.ArgonIterations), Lanes: orZero(f.ArgonLanes)}
	}
	if f.Alternatives != nil {
		t.Alternatives = make([]map[int][]byte, len(f.Alternatives))
		for i, set := range f.Alternatives {
			t.Alternatives[i] = set
		}
	}
	return nil
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// maxBlobs is as many policies as systemd ever combines, and some.
const maxBlobs = 8

// check is what a token must be to be written or used.
func (t *Token) check() error {
	fail := func(field string, err error) error { return &osmith.FormatError{Offset: -1, Field: field, Err: err} }
	for _, n := range t.Keyslots {
		if n < 0 || n > 31 {
			return fail("keyslots", fmt.Errorf("%d: want 0 to 31", n))
		}
	}
	if len(t.Blobs) == 0 || len(t.Blobs) > maxBlobs {
		return fail("tpm2-blob", fmt.Errorf("%d entries: want 1 to %d", len(t.Blobs), maxBlobs))
	}
	if len(t.PolicyHashes) != len(t.Blobs) {
		return fail("tpm2-policy-hash", fmt.Errorf("%d entries for %d blobs", len(t.PolicyHashes), len(t.Blobs)))
	}
	if want := t.policies(); len(t.Blobs) != want {
		return fail("tpm2-blob", fmt.Errorf("%d entries: want %d for what the token requires", len(t.Blobs), want))
	}
	for _, b := range t.Blobs {
		if _, err := parseBlob(b); err != nil {
			return err
		}
	}
	if err := pcrbank.CheckPCRs(t.PCRs); err != nil {
		return fail("tpm2-pcrs", err)
	}
	if err := pcrbank.CheckPCRs(t.PublicKeyPCRs); err != nil {
		return fail("tpm2_pubkey_pcrs", err)
	}
	if err := pcrbank.Check(t.Bank); t.Bank != 0 && err != nil {
		return fail("tpm2-pcr-bank", err)
	}
	if t.PrimaryAlgorithm != "" && t.PrimaryAlgorithm != "ecc" && t.PrimaryAlgorithm != "rsa" {
		return fail("tpm2-primary-alg", fmt.Errorf("%q: want ecc or rsa", t.PrimaryAlgorithm))
	}
	switch {
	case t.Bank == 0 && (t.Values != nil || t.Alternatives != nil):
		return fail("tpm2-pcr-bank", errors.New("PCR values without a bank"))
	case len(t.PublicKeyPCRs) > 0 && t.PublicKey == nil:
		return fail("tpm2_pubkey", errors.New("signed PCRs without a key"))
	case t.PublicKeyRef != "" && t.PublicKey == nil:
		return fail("tpm2_pubkey_ref", errors.New("a policy reference without a key"))
	}
	if t.PublicKey != nil {
		if _, err := policy.KeyName(t.PublicKey); err != nil {
			// which checks that a TPM can load it
			return fail("tpm2_pubkey", prefix.Bare(err))
		}
	}
	if t.SRK != nil {
		if _, err := parseSRK(t.SRK); err != nil {
			return err
		}
	}
	if t.PCRLockNV != nil {
		if _, err := parseNV("tpm2_pcrlock_nv", t.PCRLockNV); err != nil {
			return err
		}
	}
	if t.Floor != nil {
		if _, err := parseNV("osmith_floor", t.Floor.NV); err != nil {
			return err
		}
	}
	if t.Values != nil {
		if err := t.checkValues(t.Values); err != nil {
			return fail("osmith_pcr_values", err)
		}
	}
	if n := len(t.Alternatives); t.Alternatives != nil && (n < 2 || n > maxAlternatives || t.Values != nil) {
		return fail("osmith_pcr_alternatives", fmt.Errorf("%d entries: want 2 to %d, and no values", n, maxAlternatives))
	}
	for _, set := range t.Alternatives {
		if err := t.checkValues(set); err != nil {
			return fail("osmith_pcr_alternatives", err)
		}
	}
	if t.Argon2id != nil {
		if err := t.Argon2id.check(); err != nil {
			return fail("tpm2_argon2id", err)
		}
		if !t.PIN || len(t.Salt) < 8 {
			return fail("tpm2_argon2id", errors.New("no PIN, or no salt for it"))
		}
	}
	return nil
}

// policies is how many there are, with an object for each: one, but for signed PCRs and a policy of
// systemd-pcrlock at once.
func (t *Token) policies() int {
	if t.signed() && t.PCRLock {
		return 2
	}
	return 1
}

// signed reports whether a key must have signed for PCRs.
func (t *Token) signed() bool { return t.PublicKey != nil && len(t.PublicKeyPCRs) > 0 }

// checkValues wants values of exactly the literal PCRs.
func (t *Token) checkValues(values map[int][]byte) error {
	if len(values) != len(t.PCRs) {
		return fmt.Errorf("%d of %d PCRs", len(values), len(t.PCRs))
	}
	for _, n := range pcrbank.PCRs(values) {
		if !slices.Contains(t.PCRs, n) || len(values[n]) != t.Bank.Size() {
			return fmt.Errorf("PCR %d: not one of the policy, or not of its bank", n)
		}
	}
	return nil
}

func (a *Argon2id) check() error {
	switch {
	case a.Memory < 8<<10*int64(a.Lanes) || a.Memory > 4<<30:
		return fmt.Errorf("memory of %d bytes: want %d to %d", a.Memory, 8<<10*int64(a.Lanes), int64(4<<30))
	case a.Iterations < 1 || a.Iterations > 1000:
		return fmt.Errorf("%d iterations: want 1 to 1000", a.Iterations)
	case a.Lanes < 1:
		return errors.New("no lanes")
	}
	return nil
}

// blob is a sealed object as a token holds it: TPM2B_PRIVATE, TPM2B_PUBLIC, and for one that was
// made without the TPM the TPM2B_ENCRYPTED_SECRET with which it is imported.
type blob struct{ private, public, seed []byte }

func parseBlob(b []byte) (blob, error) {
	r := tpmwire.NewReader("tpm2-blob", b)
	out := blob{private: r.Sized("private area"), public: r.Sized("public area")}
	if r.More() {
		out.seed = r.Sized("import seed")
	}
	if err := r.End(); err != nil {
		return blob{}, err
	}
	if len(out.private) == 0 || len(out.public) == 0 || out.seed != nil && len(out.seed) == 0 {
		return blob{}, &osmith.FormatError{Field: "tpm2-blob", Err: errors.New("an area of 0 bytes")}
	}
	return out, nil
}

func (b blob) bytes() []byte {
	out := tpmwire.AppendSized(tpmwire.AppendSized(nil, b.private), b.public)
	if b.seed != nil {
		out = tpmwire.AppendSized(out, b.seed)
	}
	return out
}
