package sealing

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Types of LUKS2 tokens.
const (
	// TokenType is that of the token in which systemd keeps sealed keys.
	TokenType = "systemd-tpm2"
	// OwnTokenType is that of a token with Alternatives or a Floor, which systemd does not know and leaves alone. It has the
	// fields of the other, and two more.
	OwnTokenType = "osmith-tpm2"
)

// Token is a sealed secret: the systemd-tpm2 token of a LUKS2 header as a value, field by field. [TPM.Seal] makes one,
// [TPM.Unseal] opens one, whether it was made here or by systemd-cryptenroll.
//
// What unlocks a volume of systemd is not the secret but [Passphrase] of it.
type Token struct {
	Keyslots []int // of the volume that the secret opens

	// Blobs are the sealed objects (tpm2-blob): more than one when several policies must hold at once, which no single
	// policy can say. Each holds a part of the secret, in order.
	Blobs [][]byte
	// PolicyHashes are the policies of the blobs (tpm2-policy-hash).
	PolicyHashes []policy.Digest

	Bank             crypto.Hash // of all PCRs (tpm2-pcr-bank); 0 if there are none
	PCRs             []int       // whose values the policy holds (tpm2-pcrs), ascending
	PrimaryAlgorithm string      // of the storage root key: "ecc" or "rsa" (tpm2-primary-alg); "" in very old tokens

	PublicKey     []byte // PEM, of the key that signs PCR policies (tpm2_pubkey); nil for none
	PublicKeyPCRs []int  // that the signed policies are over (tpm2_pubkey_pcrs)
	PublicKeyRef  string // policy reference (tpm2_pubkey_ref, systemd 262); "" for none

	PIN      bool      // a PIN is needed (tpm2-pin)
	Salt     []byte    // of the PIN (tpm2_salt); nil in tokens before systemd 253
	Argon2id *Argon2id // how the PIN is stretched (tpm2_argon2id_*, systemd 262); nil is PBKDF2

	PCRLock   bool   // the policy is in an NV index that systemd-pcrlock writes (tpm2_pcrlock)
	PCRLockNV []byte // that index, as tpm2-tss writes it (tpm2_pcrlock_nv)

	SRK []byte // the key that it is sealed under, as tpm2-tss writes it (tpm2_srk); nil in tokens before systemd 254

	// Values are what PCRs had or should have when the secret was sealed to them, for telling which one differs. systemd
	// neither writes nor reads this field (osmith_pcr_values); nil if it is not there.
	Values map[int][]byte

	// Alternatives are several states of the PCRs, any of which will do (osmith_pcr_alternatives), and Floor is a counter that
	// must not have been raised (osmith_floor). A token with one of them is of [OwnTokenType].
	Alternatives []map[int][]byte
	Floor        *TokenFloor

	// Extra are fields that are not listed here, which are kept.
	Extra map[string]json.RawMessage
}

// Argon2id is the cost of stretching a PIN. A token with more than 4 GiB, 1000 passes or 255 lanes is refused.
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

// Type is the type of the token, which depends on what is in it.
func (t *Token) Type() string {
	if t.Alternatives != nil || t.Floor != nil {
		return OwnTokenType
	}
	return TokenType
}

// maxBlobs is as many policies as systemd ever combines, and some.
const maxBlobs = 8

// check is what a token must be to be written or used.
func (t *Token) check() error {
	fail := func(field string, err error) error { return &FormatError{Field: field, Err: err} }
	for _, n := range t.Keyslots {
		if n < 0 || n > 31 {
			return fail("keyslots", fmt.Errorf("%d: want 0 to 31", n))
		}
	}
	if len(t.Blobs) == 0 || len(t.Blobs) > maxBlobs {
		return fail("tpm2-blob", fmt.Errorf("%d of them: want 1 to %d", len(t.Blobs), maxBlobs))
	}
	if len(t.PolicyHashes) != len(t.Blobs) {
		return fail("tpm2-policy-hash", fmt.Errorf("%d of them for %d blobs", len(t.PolicyHashes), len(t.Blobs)))
	}
	for _, b := range t.Blobs {
		if _, err := parseBlob(b); err != nil {
			return err
		}
	}
	if err := checkPCRs(t.PCRs); err != nil {
		return fail("tpm2-pcrs", err)
	}
	if err := checkPCRs(t.PublicKeyPCRs); err != nil {
		return fail("tpm2_pubkey_pcrs", err)
	}
	if _, known := algorithms[t.Bank]; t.Bank != 0 && !known {
		return fail("tpm2-pcr-bank", tpm.ErrBank)
	}
	if t.PrimaryAlgorithm != "" && t.PrimaryAlgorithm != "ecc" && t.PrimaryAlgorithm != "rsa" {
		return fail("tpm2-primary-alg", fmt.Errorf("%q: want ecc or rsa", t.PrimaryAlgorithm))
	}
	switch {
	case (len(t.PCRs) > 0 || len(t.PublicKeyPCRs) > 0) && t.Bank == 0:
		return fail("tpm2-pcr-bank", errors.New("PCRs of no bank"))
	case len(t.PublicKeyPCRs) > 0 && t.PublicKey == nil:
		return fail("tpm2_pubkey", errors.New("signed PCRs and no key"))
	case t.PublicKeyRef != "" && t.PublicKey == nil:
		return fail("tpm2_pubkey_ref", errors.New("a policy reference and no key"))
	}
	if t.PublicKey != nil {
		if _, err := parsePublicKey(t.PublicKey); err != nil {
			return fail("tpm2_pubkey", err)
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
		return fail("osmith_pcr_alternatives", fmt.Errorf("%d of them: want 2 to %d, and no values", n, maxAlternatives))
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

// checkValues wants values of exactly the literal PCRs.
func (t *Token) checkValues(values map[int][]byte) error {
	if len(values) != len(t.PCRs) {
		return fmt.Errorf("%d of %d PCRs", len(values), len(t.PCRs))
	}
	for _, n := range sortedKeys(values) {
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

// checkPCRs wants ascending numbers of PCRs.
func checkPCRs(pcrs []int) error {
	last := -1
	for _, n := range pcrs {
		if n <= last || n >= tpm.PCRCount {
			return fmt.Errorf("%v: want ascending numbers from 0 to %d", pcrs, tpm.PCRCount-1)
		}
		last = n
	}
	return nil
}

// blob is a sealed object as a token holds it: TPM2B_PRIVATE, TPM2B_PUBLIC, and for one that was made without the TPM the
// TPM2B_ENCRYPTED_SECRET with which it is imported.
type blob struct{ private, public, seed []byte }

func parseBlob(b []byte) (blob, error) {
	fail := func(field string, rest []byte) (blob, error) {
		return blob{}, &FormatError{Offset: int64(len(b) - len(rest)), Field: "tpm2-blob: " + field, Err: errShort}
	}
	private, rest, ok := sized(b)
	if !ok || len(private) == 0 {
		return fail("private area", b)
	}
	public, seed, ok := sized(rest)
	if !ok || len(public) == 0 {
		return fail("public area", rest)
	}
	out := blob{private: private, public: public}
	if len(seed) == 0 {
		return out, nil
	}
	if out.seed, rest, ok = sized(seed); !ok || len(out.seed) == 0 || len(rest) != 0 {
		return fail("import seed", seed)
	}
	return out, nil
}

func (b blob) bytes() []byte {
	out := appendSized(appendSized(nil, b.private), b.public)
	if b.seed != nil {
		out = appendSized(out, b.seed)
	}
	return out
}

// Equal reports whether two tokens have the same fields.
func (t *Token) Equal(u *Token) bool {
	a, errA := t.MarshalJSON()
	b, errB := u.MarshalJSON()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func sortedKeys[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
