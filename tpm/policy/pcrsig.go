package policy

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/keycheck"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// PCRPolicy is a PCR policy that a key is to sign, or has signed: "these PCRs of this bank have the
// values behind this digest". It is one entry of a .pcrsig.
type PCRPolicy struct {
	Bank        crypto.Hash
	PCRs        []int             // ascending; in practice {11}
	Fingerprint [sha256.Size]byte // fingerprint of the signing key, see [Fingerprint]
	Ref         string            // name of the policy reference, "" for none (systemd 262)
	Digest      Digest
}

// TBS are the bytes to be signed with RSASSA-PKCS1-v1_5 and SHA-256: the digest, and the policy
// reference if any.
func (p PCRPolicy) TBS() []byte { return append(p.Digest[:], PolicyRef(p.Ref)...) }

func (p PCRPolicy) equal(q PCRPolicy) bool {
	return p.Bank == q.Bank && slices.Equal(p.PCRs, q.PCRs) && p.Fingerprint == q.Fingerprint && p.Ref == q.Ref && p.Digest == q.Digest
}

// PCRPolicies are policies not yet signed. If the key is elsewhere, sign the TBS of each policy
// there, then call [PCRPolicies.Join].
type PCRPolicies []PCRPolicy

// Signature is a signed policy.
type Signature struct {
	PCRPolicy
	Value []byte // RSASSA-PKCS1-v1_5 with SHA-256
}

// Signatures are the contents of a .pcrsig, in the order of the file.
type Signatures []Signature

// Prepare lists the policies that a key is to sign for some states of a machine. Each state is the
// values of PCRs by bank and number, as PCR11States of package tpm lists them for a UKI. The
// policies come bank by bank, in the order in which systemd-measure has them (sha1, sha256, sha384,
// sha512), and in each bank in the order of the states; duplicates are dropped. Only the public
// half of the key is needed. ref names a policy reference, "" for none.
func Prepare(key *rsa.PublicKey, states []map[crypto.Hash]map[int][]byte, ref string) (_ PCRPolicies, err error) {
	defer prefix.Add(pkg, &err)
	fingerprint, err := Fingerprint(key)
	if err != nil {
		return nil, err
	}
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	for i, state := range states {
		for bank := range state {
			if err := pcrbank.Check(bank); err != nil {
				return nil, fmt.Errorf("state %d: %w", i, err)
			}
		}
	}
	var out PCRPolicies
	for _, bank := range pcrbank.Hashes() {
		for i, state := range states {
			values, ok := state[bank]
			if !ok {
				continue
			}
			digest, err := PolicyPCR(Digest{}, bank, values)
			if err != nil {
				return nil, fmt.Errorf("state %d: %w", i, prefix.Bare(err))
			}
			p := PCRPolicy{Bank: bank, PCRs: pcrbank.PCRs(values), Fingerprint: fingerprint, Ref: ref, Digest: digest}
			if !slices.ContainsFunc(out, p.equal) {
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no states or no banks to sign for")
	}
	return out, nil
}

// Sign prepares policies and signs them: see [Prepare] for the arguments. key may live in an HSM;
// it must be RSA. The signatures are deterministic.
func Sign(key crypto.Signer, states []map[crypto.Hash]map[int][]byte, ref string) (_ Signatures, err error) {
	defer prefix.Add(pkg, &err)
	public, err := rsaPublic(key)
	if err != nil {
		return nil, err
	}
	p, err := Prepare(public, states, ref)
	if err != nil {
		return nil, err
	}
	return p.Sign(key)
}

// Sign signs each policy. The key must be the one for which the policies were prepared.
func (p PCRPolicies) Sign(key crypto.Signer) (_ Signatures, err error) {
	defer prefix.Add(pkg, &err)
	public, err := rsaPublic(key)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(p))
	for i := range p {
		digest := sha256.Sum256(p[i].TBS())
		if values[i], err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			return nil, fmt.Errorf("signing policy %s: %w", p[i].Digest, err)
		}
	}
	return p.Join(public, values)
}

// Join makes signed policies from signatures that were made elsewhere over the TBS of each policy,
// in the same order. Each signature is verified; the first that the key did not make is an error.
func (p PCRPolicies) Join(key *rsa.PublicKey, signatures [][]byte) (_ Signatures, err error) {
	defer prefix.Add(pkg, &err)
	if len(signatures) != len(p) {
		return nil, fmt.Errorf("joining %d signatures with %d policies", len(signatures), len(p))
	}
	out := make(Signatures, len(p))
	for i := range p {
		out[i] = Signature{PCRPolicy: p[i], Value: bytes.Clone(signatures[i])}
		if err := out[i].Verify(key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Verify reports whether the key signed the policy.
func (s Signature) Verify(key *rsa.PublicKey) (err error) {
	defer prefix.Add(pkg, &err)
	fingerprint, err := Fingerprint(key)
	if err != nil {
		return err
	}
	if fingerprint != s.Fingerprint {
		return fmt.Errorf("policy %s: signed by key %x, want %x", s.Digest, s.Fingerprint, fingerprint)
	}
	if err := keycheck.Public(key); err != nil {
		return fmt.Errorf("policy %s: %w", s.Digest, err)
	}
	digest := sha256.Sum256(s.TBS())
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], s.Value); err != nil {
		return fmt.Errorf("policy %s: %w", s.Digest, err)
	}
	return nil
}

// Find returns the signature of a policy, as systemd looks it up when it unseals: bank, PCRs, key,
// reference and digest must all be equal.
func (s Signatures) Find(p PCRPolicy) (Signature, bool) {
	for _, sig := range s {
		if sig.equal(p) {
			return sig, true
		}
	}
	return Signature{}, false
}

func rsaPublic(key crypto.Signer) (*rsa.PublicKey, error) {
	if key == nil {
		return nil, checkKey(nil)
	}
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("PCR signing key: %T: %w", key.Public(), ErrKey)
	}
	return pub, nil
}

// Merge adds signatures that are missing, as systemd-measure --append does: for example, signatures
// of one UKI with a reference and without, or by an old key and a new one. Entries keep their
// order, each bank's new ones after its old ones.
func (s Signatures) Merge(more ...Signature) Signatures {
	out := slices.Clone(s)
	for _, m := range more {
		if _, there := out.Find(m.PCRPolicy); !there {
			out = append(out, m)
		}
	}
	return out
}

// maxPCRSig bounds what is parsed. A section with four banks and four phases under an RSA-16384 key
// has 50 KiB.
const maxPCRSig = 16 << 20

var errNoValue = errors.New("no value")

// MarshalJSON is the contents of a .pcrsig section or of tpm2-pcr-signature.json, byte for byte as
// ukify writes them (one line, spaces after commas and colons). [json.Marshal] drops those spaces,
// which gives the form of systemd-measure.
func (s Signatures) MarshalJSON() ([]byte, error) {
	w := bankWriter{entries: make(map[crypto.Hash][]entry)}
	for _, sig := range s {
		value := base64.StdEncoding.EncodeToString(sig.Value)
		w.add(sig.PCRPolicy, func(e *entry) { e.Sig = &value })
	}
	return w.bytes()
}

// MarshalJSON returns the object of [Signatures.MarshalJSON] with the bytes to be signed ("tbs") in
// place of signatures, byte for byte as `ukify --policy-digest` writes it.
func (p PCRPolicies) MarshalJSON() ([]byte, error) {
	w := bankWriter{entries: make(map[crypto.Hash][]entry)}
	for _, policy := range p {
		tbs := hex.EncodeToString(policy.TBS())
		w.add(policy, func(e *entry) { e.TBS = &tbs })
	}
	return w.bytes()
}

// bankWriter groups entries by bank, banks in the order of their first entry.
type bankWriter struct {
	order   []crypto.Hash
	entries map[crypto.Hash][]entry
	err     error
}

func (w *bankWriter) add(p PCRPolicy, finish func(*entry)) {
	w.err = cmp.Or(w.err, pcrbank.Check(p.Bank), checkRef(p.Ref))
	pcrs, fingerprint, digest := p.PCRs, hex.EncodeToString(p.Fingerprint[:]), p.Digest.String()
	if pcrs == nil {
		pcrs = []int{} // not null
	}
	e := entry{PCRs: &pcrs, PKFP: &fingerprint, Pol: &digest}
	if p.Ref != "" {
		e.Ref = &p.Ref
	}
	finish(&e)
	if _, seen := w.entries[p.Bank]; !seen {
		w.order = append(w.order, p.Bank)
	}
	w.entries[p.Bank] = append(w.entries[p.Bank], e)
}

func (w *bankWriter) bytes() ([]byte, error) {
	if w.err != nil {
		return nil, prefix.Error(pkg, w.err)
	}
	out := []byte{'{'}
	for i, h := range w.order {
		if i > 0 {
			out = append(out, ", "...)
		}
		list, err := json.Marshal(w.entries[h])
		if err != nil {
			return nil, prefix.Error(pkg, err)
		}
		out = appendSpaced(fmt.Appendf(out, `"%s": `, pcrbank.Name(h)), list)
	}
	return append(out, '}'), nil
}

// appendSpaced appends compact JSON with a space after each comma and colon outside of strings. No
// string holds a quote or a backslash.
func appendSpaced(b, compact []byte) []byte {
	inString := false
	for _, c := range compact {
		b = append(b, c)
		switch {
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == ':'):
			b = append(b, ' ')
		}
	}
	return b
}

// checkRef allows names that JSON writers spell in one way only.
func checkRef(ref string) error {
	for _, r := range ref {
		if r < ' ' || r >= utf8.RuneSelf-1 || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&' {
			return fmt.Errorf("policy reference %q: want printable ASCII without quotes, backslashes, < > and &", ref)
		}
	}
	return nil
}

// entry is an object of the file. Pointers tell an absent field from an empty one.
type entry struct {
	PCRs *[]int  `json:"pcrs"`
	PKFP *string `json:"pkfp"`
	Ref  *string `json:"ref,omitempty"`
	Pol  *string `json:"pol"`
	TBS  *string `json:"tbs,omitempty"`
	Sig  *string `json:"sig,omitempty"`
}

// ParseSignatures reads the contents of a .pcrsig section or of tpm2-pcr-signature.json. Spaces,
// newlines and NULs at the end, which pad a section, are ignored. Banks that this package does not
// know and entries without a signature are errors. The signatures are not verified; see
// [Signature.Verify].
func ParseSignatures(data []byte) (Signatures, error) {
	out := Signatures{}
	err := parseBanks(data, func(p PCRPolicy, e entry) error {
		if e.Sig == nil {
			return fmt.Errorf("sig: %w", errNoValue)
		}
		value, err := base64.StdEncoding.Strict().DecodeString(*e.Sig)
		if err != nil {
			return fmt.Errorf("sig: not base64: %w", err)
		}
		out = append(out, Signature{PCRPolicy: p, Value: value})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ParsePCRPolicies reads what [PCRPolicies.MarshalJSON] and `systemd-measure policy-digest` write:
// entries to be signed. Entries with a signature are errors.
func ParsePCRPolicies(data []byte) (PCRPolicies, error) {
	out := PCRPolicies{}
	err := parseBanks(data, func(p PCRPolicy, e entry) error {
		if e.Sig != nil {
			return errors.New("sig: the entry is signed already")
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
func parseBanks(data []byte, add func(PCRPolicy, entry) error) (err error) {
	defer prefix.Add(pkg, &err)
	fail := func(offset int64, field string, err error) error {
		if inner, ok := errors.AsType[*osmith.FormatError](err); ok {
			offset, err = offset+max(inner.Offset, 0), inner.Err
		}
		return &osmith.FormatError{Offset: offset, Field: ".pcrsig: " + field, Err: err}
	}
	data = bytes.TrimRight(data, "\x00 \n\r\t")
	if len(data) > maxPCRSig {
		return fail(0, "size", fmt.Errorf("%d bytes, want at most %d", len(data), maxPCRSig))
	}
	banks, err := strictjson.Object(data)
	if err != nil {
		return fail(0, "JSON", err)
	}
	for _, bank := range banks {
		h, err := pcrbank.ByName(bank.Key)
		if err != nil || pcrbank.Name(h) != bank.Key {
			return fail(bank.Offset, "bank", fmt.Errorf("%q: %w", bank.Key, ErrBank))
		}
		entries, err := strictjson.Array(bank.Value)
		if err != nil {
			return fail(bank.Offset, bank.Key, err)
		}
		for i, element := range entries {
			var e entry
			err := strictjson.Unmarshal(element.Value, &e)
			if err == nil {
				var p PCRPolicy
				if p, err = e.policy(h); err == nil {
					err = add(p, e)
				}
			}
			if err != nil {
				return fail(bank.Offset+element.Offset, fmt.Sprintf("%s[%d]", bank.Key, i), err)
			}
		}
	}
	return nil
}

func (e entry) policy(h crypto.Hash) (PCRPolicy, error) {
	p := PCRPolicy{Bank: h}
	if e.PCRs == nil {
		return p, fmt.Errorf("pcrs: %w", errNoValue)
	}
	if err := pcrbank.CheckPCRs(*e.PCRs); err != nil {
		return p, fmt.Errorf("pcrs: %w", err)
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
	if e.TBS != nil && *e.TBS != hex.EncodeToString(p.TBS()) {
		return p, fmt.Errorf("tbs: %q: want %x, the policy digest and the hash of ref", *e.TBS, p.TBS())
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
	if _, err := hex.Decode(dst, []byte(*s)); err != nil {
		return fmt.Errorf("not hexadecimal: %w", err)
	}
	return nil
}
