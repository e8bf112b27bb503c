package sealing

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// sealed completes a token offline, as if a TPM had sealed to its policy: the object asks for it,
// and holds nothing.
func sealed(t testing.TB, token Token, lock *policy.PCRLock) *Token {
	t.Helper()
	plans, err := token.plans(lock)
	require.NoError(t, err)
	for _, plan := range plans {
		digest, err := digestOf(plan)
		require.NoError(t, err)
		public := tpm2.Marshal(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true},
			AuthPolicy: tpm2.TPM2BDigest{Buffer: digest[:]},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{}),
			Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: make([]byte, 32)}),
		})
		token.Blobs = append(token.Blobs, (blob{private: []byte("encrypted"), public: public}).bytes())
		token.PolicyHashes = append(token.PolicyHashes, digest)
	}
	return &token
}

func value(h crypto.Hash, b byte) []byte { return bytes.Repeat([]byte{b}, h.Size()) }

// offline are tokens of every form, and a state in which they open.
type offline struct {
	key    *rsa.PrivateKey
	lock   *policy.PCRLock
	state  State
	tokens map[string]*Token
}

func newOffline(t testing.TB) *offline {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	const h = crypto.SHA256
	o := &offline{key: key}
	pcrs := map[int][]byte{4: value(h, 4), 7: value(h, 7), 11: value(h, 11)}
	index := policy.NVPublic{Index: 0x01800007, Attributes: policy.NVPolicyWrite | policy.NVOwnerRead, Policy: value(h, 9), Size: 34}
	defined, err := index.AppendBinary(nil) // as pcrlock.json has it
	require.NoError(t, err)
	index.Attributes |= policy.NVWritten
	area, err := index.AppendBinary(nil)
	require.NoError(t, err)
	o.lock = &policy.PCRLock{
		Bank: h, NVIndex: index.Index, NVPublic: append([]byte{0, byte(len(defined))}, defined...), Values: map[int][][]byte{4: {value(h, 1), value(h, 4)}, 7: {value(h, 7)}},
	}
	nv, err := newNVIndex(area)
	require.NoError(t, err)
	counter, err := (policy.NVPublic{Index: 0x01800001, Attributes: counterAttributes | policy.NVWritten, Size: counterSize}).AppendBinary(nil)
	require.NoError(t, err)
	floor, err := newNVIndex(counter)
	require.NoError(t, err)
	states := []map[crypto.Hash]map[int][]byte{{h: {11: pcrs[11]}}, {h: {11: value(h, 12)}}}
	signatures, err := policy.Sign(key, states, "")
	require.NoError(t, err)
	byRef, err := policy.Sign(key, states, "initrd")
	require.NoError(t, err)
	o.state = State{
		PCRs: map[crypto.Hash]map[int][]byte{h: pcrs}, Banks: []crypto.Hash{crypto.SHA1, h}, Signatures: signatures.Merge(byRef...), PCRLock: o.lock, PIN: true,
		Counters: map[uint32]uint64{0x01800001: 5},
	}
	public := &key.PublicKey
	two := map[int][]byte{4: pcrs[4], 7: pcrs[7]}
	o.tokens = map[string]*Token{
		"tpm":           sealed(t, Token{}, nil),
		"pcrs":          sealed(t, Token{Bank: h, PCRs: []int{4, 7}, Values: two}, nil),
		"systemd's":     sealed(t, Token{Bank: h, PCRs: []int{4, 7}, Values: two}, nil),
		"PIN":           sealed(t, Token{PIN: true}, nil),
		"signed":        sealed(t, Token{Bank: h, PublicKey: public, PublicKeyPCRs: []int{11}}, nil),
		"reference":     sealed(t, Token{Bank: h, PublicKey: public, PublicKeyPCRs: []int{11}, PublicKeyRef: "initrd"}, nil),
		"signed, pcrs":  sealed(t, Token{Bank: h, PublicKey: public, PublicKeyPCRs: []int{11}, PCRs: []int{7}, Values: map[int][]byte{7: pcrs[7]}, PIN: true}, nil),
		"no bank":       sealed(t, Token{Bank: h, PublicKey: public, PublicKeyPCRs: []int{11}}, nil),
		"pcrlock":       sealed(t, Token{PCRLock: true, PCRLockNV: nv.serialize()}, o.lock),
		"pcrlock 255":   sealed(t, Token{PCRLock: true, PCRLockNV: nv.serialize()}, o.lock),
		"both":          sealed(t, Token{Bank: h, PublicKey: public, PublicKeyPCRs: []int{11}, PCRLock: true, PCRLockNV: nv.serialize()}, o.lock),
		"alternatives":  sealed(t, Token{Bank: h, PCRs: []int{4, 7}, Alternatives: []map[int][]byte{{4: value(h, 1), 7: value(h, 2)}, two}}, nil),
		"floor":         sealed(t, Token{Floor: &TokenFloor{NV: floor.serialize(), Most: 5}}, nil),
		"floor and all": sealed(t, Token{Bank: h, PCRs: []int{4, 7}, Values: two, Floor: &TokenFloor{NV: floor.serialize(), Most: 5}, PIN: true}, nil),
	}
	o.tokens["systemd's"].Values = nil
	o.tokens["no bank"].Bank = 0
	o.tokens["pcrlock 255"].PCRLockNV = nil
	return o
}

// with is the state after a change.
func (o *offline) with(change func(*State)) State {
	s := o.state
	s.PCRs = map[crypto.Hash]map[int][]byte{}
	for h, values := range o.state.PCRs {
		s.PCRs[h] = map[int][]byte{}
		for n, v := range values {
			s.PCRs[h][n] = v
		}
	}
	if change != nil {
		change(&s)
	}
	return s
}

func (o *offline) pcr(n int, v []byte) State {
	return o.with(func(s *State) {
		if s.PCRs[crypto.SHA256][n] = v; v == nil {
			delete(s.PCRs[crypto.SHA256], n)
		}
	})
}

func TestCheckOpens(t *testing.T) {
	o := newOffline(t)
	for name, token := range o.tokens {
		a, err := token.Check(o.state)
		require.NoError(t, err, name)
		require.Equal(t, VerdictOpens, a.Verdict, "%s: %v", name, a.Reasons)
		require.Empty(t, a.Reasons, name)
		require.NotEmpty(t, a.Assumes, name)
		if len(token.allPCRs()) > 0 {
			require.Equal(t, crypto.SHA256, a.Bank, name)
		}
		// The zero state knows nothing, so nothing opens but what asks for nothing.
		a, err = token.Check(State{})
		require.NoError(t, err, name)
		want := VerdictUnknown
		switch {
		case name == "tpm":
			want = VerdictOpens
		case token.PIN:
			want = VerdictDoesNotOpen
		}
		require.Equal(t, want, a.Verdict, name)
		require.Equal(t, want != VerdictOpens, len(a.Reasons) > 0, name)
	}
}

func TestCheckReasons(t *testing.T) {
	o := newOffline(t)
	const h = crypto.SHA256
	seven, other := fmt.Sprintf("%x", value(h, 7)), fmt.Sprintf("%x", value(h, 8))
	earlier := map[crypto.Hash]map[int][]byte{h: {4: value(h, 4), 7: value(h, 7), 11: value(h, 11)}}
	forged := slices.Clone(o.state.Signatures)
	for i := range forged {
		forged[i].Value = bytes.Clone(forged[i].Value)
		forged[i].Value[0] ^= 1
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	theirs, err := policy.Sign(stranger, []map[crypto.Hash]map[int][]byte{{h: {11: value(h, 11)}}}, "")
	require.NoError(t, err)
	others, err := policy.Sign(o.key, []map[crypto.Hash]map[int][]byte{{h: {11: value(h, 11), 12: value(h, 12)}}}, "")
	require.NoError(t, err)
	twoSigned, err := policy.Sign(o.key, []map[crypto.Hash]map[int][]byte{{h: {7: value(h, 1), 11: value(h, 11)}}}, "")
	require.NoError(t, err)
	o.tokens["two signed"] = sealed(t, Token{Bank: h, PublicKey: &o.key.PublicKey, PublicKeyPCRs: []int{7, 11}}, nil)
	o.tokens["both, PIN"] = sealed(t, Token{Bank: h, PublicKey: &o.key.PublicKey, PublicKeyPCRs: []int{11}, PCRLock: true, PCRLockNV: o.tokens["pcrlock"].PCRLockNV, PIN: true}, o.lock)
	o.tokens["pcrlock 255, pcrs"] = sealed(t, Token{Bank: h, PCRs: []int{7}, Values: map[int][]byte{7: value(h, 7)}, PCRLock: true, PCRLockNV: o.tokens["pcrlock"].PCRLockNV}, o.lock)
	o.tokens["pcrlock 255, pcrs"].PCRLockNV, o.tokens["pcrlock 255, pcrs"].Values = nil, nil
	no, unknown := VerdictDoesNotOpen, VerdictUnknown
	for _, tt := range []struct {
		name, token string
		state       State
		verdict     Verdict
		reasons     []string
	}{
		{"a PCR differs", "pcrs", o.pcr(7, value(h, 8)), no, []string{"sha256 PCR 7 is " + other + ", want " + seven}},
		{"a PCR of systemd's differs", "systemd's", o.pcr(7, value(h, 8)), no, []string{"sha256 PCRs [4 7]: the policy computed from their values does not match the sealed object's"}},
		{"and is named", "systemd's", o.with(func(s *State) { s.PCRs[h][7], s.Earlier = value(h, 8), earlier }), no, []string{"sha256 PCR 7 is " + other + ", want " + seven}},
		{"by values that lead elsewhere it is not", "systemd's", o.with(func(s *State) {
			s.PCRs[h][7], s.Earlier = value(h, 8), map[crypto.Hash]map[int][]byte{h: {4: value(h, 1), 7: value(h, 7)}}
		}), no,
			[]string{"sha256 PCRs [4 7]: the policy computed from their values does not match the sealed object's"}},
		{"a PCR is not known", "pcrs", o.pcr(4, nil), unknown, []string{"sha256 PCR 4: not known"}},
		{"for a reason", "systemd's", o.with(func(s *State) { delete(s.PCRs[h], 4); s.Unknown = map[int]string{4: "shim"} }), unknown, []string{"sha256 PCR 4: its value is not known: shim"}},
		{"one differs, one is not known", "pcrs", o.with(func(s *State) { delete(s.PCRs[h], 4); s.PCRs[h][7] = value(h, 8) }), no, []string{"sha256 PCR 7 is " + other, "sha256 PCR 4: not known"}},
		{"another bank's value", "pcrs", o.with(func(s *State) { s.PCRs = map[crypto.Hash]map[int][]byte{crypto.SHA1: {4: value(crypto.SHA1, 4)}} }), unknown, []string{"sha256 PCR 4: not known", "sha256 PCR 7: not known"}},
		{"no such bank", "pcrs", o.with(func(s *State) { s.Banks = []crypto.Hash{crypto.SHA1} }), no, []string{"PCR bank sha256: the TPM has no such bank"}},
		{"no such bank for pcrlock", "pcrlock", o.with(func(s *State) { s.Banks = []crypto.Hash{crypto.SHA1} }), no, []string{"PCR bank sha256: the TPM has no such bank"}},
		{"no PIN", "PIN", o.with(func(s *State) { s.PIN = false }), no, []string{"a PIN is required"}},
		{"no PIN and a PCR", "floor and all", o.with(func(s *State) { s.PIN = false; s.PCRs[h][7] = value(h, 8) }), no, []string{"a PIN is required", "sha256 PCR 7 is " + other}},
		{"no .pcrsig", "signed", o.with(func(s *State) { s.Signatures = nil }), unknown, []string{"the signatures of the UKI, its .pcrsig: not known"}},
		{"an empty one", "signed", o.with(func(s *State) { s.Signatures = policy.Signatures{} }), no, []string{"no signature for the current PCR values: none of 0 signatures is by the key "}},
		{"another key's", "signed", o.with(func(s *State) { s.Signatures = theirs }), no, []string{"none of 1 signatures is by the key "}},
		{"another state", "signed", o.pcr(11, value(h, 13)), no, []string{"sha256 PCR 11 is 0d0d"}},
		{"the other signed state", "signed", o.pcr(11, value(h, 12)), VerdictOpens, nil},
		{"no value", "signed", o.pcr(11, nil), unknown, []string{"sha256 PCR 11: not known"}},
		{"no value and no signature", "signed", o.with(func(s *State) { delete(s.PCRs[h], 11); s.Signatures = theirs }), no, []string{"none of 1 signatures"}},
		{"forged", "signed", o.with(func(s *State) { s.Signatures = forged }), no, []string{"verification error"}},
		{"without the reference", "reference", o.with(func(s *State) { s.Signatures = o.state.Signatures[:2] }), no, []string{`with the policy reference "initrd"`}},
		{"with the reference only", "signed", o.with(func(s *State) { s.Signatures = o.state.Signatures[2:] }), no, []string{"none of 2 signatures"}},
		{"signed and PCR 7 differs", "signed, pcrs", o.pcr(7, value(h, 8)), no, []string{"sha256 PCR 7 is " + other}},
		{"no pcrlock.json", "pcrlock", o.with(func(s *State) { s.PCRLock = nil }), unknown, []string{"the policy of systemd-pcrlock, its pcrlock.json: not known"}},
		{"a pcrlock.json of another index", "pcrlock 255", o.with(func(s *State) { lock := *o.lock; lock.NVIndex++; s.PCRLock = &lock }), unknown, []string{"whether the token tells the policy"}},
		{"a pcrlock.json without index", "pcrlock 255", o.with(func(s *State) { lock := *o.lock; lock.NVPublic = lock.NVPublic[:9]; s.PCRLock = &lock }), unknown, []string{"whether the token tells the policy"}},
		{"no pcrlock.json and no index", "pcrlock 255", o.with(func(s *State) { s.PCRLock = nil }), unknown, []string{"its pcrlock.json: not known", "whether the token tells the policy"}},
		{"a value that pcrlock does not allow", "pcrlock", o.pcr(4, value(h, 2)), no, []string{"sha256 PCR 4 is 0202"}},
		{"one that is not known", "pcrlock", o.pcr(4, nil), unknown, []string{"sha256 PCR 4: not known"}},
		{"a pcrlock.json of nothing", "pcrlock", o.with(func(s *State) { s.PCRLock = &policy.PCRLock{Bank: h} }), no, []string{"pcrlock policy: no PCRs"}},
		{"one of two policies", "both", o.pcr(7, value(h, 8)), no, []string{"sha256 PCR 7 is " + other}},
		{"the other of two policies", "both", o.pcr(11, value(h, 13)), no, []string{"sha256 PCR 11 is 0d0d"}},
		{"no alternative", "alternatives", o.pcr(7, value(h, 8)), no, []string{"sha256 PCR 7 is " + other + ", want " + seven}},
		{"no alternative whole", "alternatives", o.pcr(4, value(h, 1)), no, []string{"sha256 PCR "}},
		{"the first alternative", "alternatives", o.with(func(s *State) { s.PCRs[h][4], s.PCRs[h][7] = value(h, 1), value(h, 2) }), VerdictOpens, nil},
		{"perhaps one", "alternatives", o.pcr(4, nil), unknown, []string{"sha256 PCR 4: not known"}},
		{"none, whatever the other is", "alternatives", o.with(func(s *State) { delete(s.PCRs[h], 4); s.PCRs[h][7] = value(h, 8) }), no, []string{"sha256 PCR 7 is ", "sha256 PCR 4: not known"}},
		{"the closest is the first", "alternatives", o.with(func(s *State) { s.PCRs[h][4], s.PCRs[h][7] = value(h, 1), value(h, 9) }), no, []string{"sha256 PCR 7 is 0909090909090909090909090909090909090909090909090909090909090909, want 0202"}},
		{"signed for other PCRs", "signed", o.with(func(s *State) { s.Signatures = others }), no, []string{"none of 1 signatures"}},
		{"two signed PCRs", "two signed", o.with(func(s *State) { s.Signatures = twoSigned }), no, []string{"sha256 PCR 7 is 0707070707070707070707070707070707070707070707070707070707070707, sha256 PCR 11 is 0b0b"}},
		{"a pcrlock.json of another index than the token's", "pcrlock", o.with(func(s *State) { lock := *o.lock; lock.NVIndex++; s.PCRLock = &lock }), unknown,
			[]string{"the content of the token's NV index 0x01800007, because pcrlock.json is for 0x01800008: not known"}},
		{"pcrlock, and the banks are not known", "pcrlock", o.with(func(s *State) { s.Banks = nil }), VerdictOpens, nil},
		{"PCRs, and the banks are not known", "pcrs", o.with(func(s *State) { s.Banks = nil }), VerdictOpens, nil},
		{"a TPM without banks", "tpm", o.with(func(s *State) { s.Banks = []crypto.Hash{} }), VerdictOpens, nil},
		{"pcrlock without index, and PCRs", "pcrlock 255, pcrs", o.with(func(s *State) { s.PCRLock = nil }), unknown, []string{"its pcrlock.json: not known", "whether the token tells the policy"}},
		{"no PIN for two policies", "both, PIN", o.with(func(s *State) { s.PIN = false }), no, []string{"a PIN is required"}},
		{"raised", "floor", o.with(func(s *State) { s.Counters = map[uint32]uint64{0x01800001: 6} }), no, []string{"counter 0x01800001 is 6, want 5 or less"}},
		{"another counter", "floor", o.with(func(s *State) { s.Counters = map[uint32]uint64{0x01800002: 1} }), unknown, []string{"counter 0x01800001, which must be 5 or less: not known"}},
		{"no bank, banks not known", "no bank", o.with(func(s *State) { s.Banks = nil }), no, []string{"none of 4 signatures"}},
		{"no bank, not known whether in use", "no bank", o.with(func(s *State) { delete(s.PCRs[h], 11) }), unknown, []string{"the token names no PCR bank; whether the sha256 bank is in use is not known: PCRs [11] have no value"}},
		{"no bank, one bank", "no bank", o.with(func(s *State) { delete(s.PCRs[h], 11); s.Banks = []crypto.Hash{h} }), unknown, []string{"sha256 PCR 11: not known"}},
		{"no bank, no banks", "no bank", o.with(func(s *State) { s.Banks = []crypto.Hash{} }), no, []string{"the TPM has no such bank"}},
		{"no bank, signatures not known", "no bank", o.with(func(s *State) { s.Banks, s.Signatures = nil, nil }), unknown, []string{"the token names no PCR bank, and the banks of the TPM are not known (sha256: not known, sha384: not known,", "its .pcrsig: not known"}},
	} {
		if tt.name == "no bank, banks not known" {
			// in sha256 it opens, in the others there is no signature
			tt.verdict, tt.reasons = unknown, []string{"(sha256: opens, sha384: does not open, sha512: does not open, sha1: does not open)"}
		}
		t.Run(tt.name, func(t *testing.T) {
			a, err := o.tokens[tt.token].Check(tt.state)
			require.NoError(t, err)
			require.Equal(t, tt.verdict, a.Verdict, "%v", a.Reasons)
			require.Len(t, a.Reasons, len(tt.reasons), "%v", a.Reasons)
			for i, r := range a.Reasons {
				require.Contains(t, r.String(), tt.reasons[i])
				require.Equal(t, r.Verdict == VerdictUnknown, strings.Contains(r.String(), "not known"), r)
			}
		})
	}
	for name, token := range map[string]string{"signed": "", "reference": "initrd"} {
		a, err := o.tokens[name].Check(o.with(func(s *State) { s.Signatures = policy.Signatures{} }))
		require.NoError(t, err)
		require.Equal(t, token != "", strings.Contains(a.Reasons[0].String(), "reference"), name)
	}
	// Where the answers differ, the reasons of one bank are not those of the token.
	a, err := o.tokens["no bank"].Check(o.with(func(s *State) {
		s.Banks = nil
		s.PCRs[h][11] = value(h, 99)
		s.Signatures = append(policy.Signatures{}, sha1Signed(t, o)...)
	}))
	require.NoError(t, err)
	require.Equal(t, VerdictUnknown, a.Verdict)
	require.Len(t, a.Reasons, 1)
	require.Contains(t, a.Reasons[0].String(), "(sha256: does not open, sha384: does not open, sha512: does not open, sha1: not known)")
	// No signature in any bank is the same answer in all.
	a, err = o.tokens["no bank"].Check(o.with(func(s *State) { s.Banks, s.Signatures = nil, theirs[:0] }))
	require.NoError(t, err)
	require.Equal(t, VerdictDoesNotOpen, a.Verdict)
	require.Zero(t, a.Bank)
}

// sha1Signed is a signature for the bank sha1 alone.
func sha1Signed(t testing.TB, o *offline) policy.Signatures {
	t.Helper()
	signatures, err := policy.Sign(o.key, []map[crypto.Hash]map[int][]byte{{crypto.SHA1: {11: value(crypto.SHA1, 11)}}}, "")
	require.NoError(t, err)
	return signatures
}

// TestCheckAssumes lists what a yes takes for granted.
func TestCheckAssumes(t *testing.T) {
	o := newOffline(t)
	const same, pin = "the TPM was not cleared since the secret was sealed", "the PIN is the right one, and the TPM is not locked out"
	const nv = "NV index 0x01800007 holds the policy of pcrlock.json"
	for name, want := range map[string][]string{
		"tpm": {same}, "pcrs": {same}, "PIN": {same, pin}, "pcrlock": {same, nv}, "pcrlock 255": {same, nv}, "both": {same, nv}, "floor and all": {same, pin},
	} {
		a, err := o.tokens[name].Check(o.state)
		require.NoError(t, err)
		require.Equal(t, want, a.Assumes, name)
	}
	a, err := o.tokens["PIN"].Check(State{})
	require.NoError(t, err)
	require.Equal(t, []string{same}, a.Assumes)
	a, err = o.tokens["pcrlock"].Check(State{})
	require.NoError(t, err)
	require.Equal(t, []string{same}, a.Assumes)
	token, _ := mkosiToken(t)
	a, err = token.Check(State{Banks: []crypto.Hash{crypto.SHA256}})
	require.NoError(t, err)
	require.Equal(t, []string{"the TPM has the key 0x81000001 with the name 000ba7e008bfc4b5d4360e9c0eb1b87b1db9ed9308a2ea288c4fd2cc73e33d529dab"}, a.Assumes)
}

func TestReasonText(t *testing.T) {
	err := errors.New("why")
	for want, r := range map[string]Reason{
		"sha256 PCR 7 is 01, want 02 or 03": {Kind: ReasonPCR, Bank: crypto.SHA256, PCRs: []int{7}, Got: []byte{1}, Want: [][]byte{{2}, {3}}, Err: err},
		"sha256 PCR 7: why":                 {Kind: ReasonPCR, Bank: crypto.SHA256, PCRs: []int{7}, Want: [][]byte{{2}}, Err: err},
		"sha1 PCR 7: why":                   {Kind: ReasonPCR, Bank: crypto.SHA1, PCRs: []int{7}, Got: []byte{1}, Err: err},
		"sha256 PCRs [4 7]: why":            {Kind: ReasonPCR, Bank: crypto.SHA256, PCRs: []int{4, 7}, Err: err},
		"why":                               {Kind: ReasonSignature, Bank: crypto.SHA256, PCRs: []int{11}, Err: err},
	} {
		require.Equal(t, want, r.String())
	}
}

// TestCheckTampered has tokens that say another thing than the object that they hold.
func TestCheckTampered(t *testing.T) {
	o := newOffline(t)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, change := range map[string]func(*Token){
		"signed":    func(k *Token) { k.PublicKey = &stranger.PublicKey },
		"PIN":       func(k *Token) { k.PIN = false },
		"reference": func(k *Token) { k.PublicKeyRef = "" },
		"floor":     func(k *Token) { k.Floor = nil },
		"pcrs":      func(k *Token) { k.PCRs, k.Values = nil, nil },
		"alternatives": func(k *Token) {
			k.Alternatives = k.Alternatives[:1:1]
			k.Alternatives = append(k.Alternatives, o.state.PCRs[crypto.SHA256])
		},
		"tpm": func(k *Token) { k.PolicyHashes = []policy.Digest{{1}} },
	} {
		token := *o.tokens[name]
		change(&token)
		if name == "alternatives" {
			token.Alternatives[1] = map[int][]byte{4: value(crypto.SHA256, 4), 7: value(crypto.SHA256, 9)}
			token.Alternatives[0] = map[int][]byte{4: value(crypto.SHA256, 4), 7: value(crypto.SHA256, 7)}
		}
		state := o.state
		if name == "signed" {
			signatures, err := policy.Sign(stranger, []map[crypto.Hash]map[int][]byte{{crypto.SHA256: {11: value(crypto.SHA256, 11)}}}, "")
			require.NoError(t, err)
			state.Signatures = signatures
		}
		a, err := token.Check(state)
		require.NoError(t, err, name)
		require.Equal(t, VerdictDoesNotOpen, a.Verdict, name)
		require.Equal(t, ReasonPolicy, a.Reasons[0].Kind, name)
	}
	// An object that opens with its authorisation value alone, or is of another kind.
	for _, change := range []func(*tpm2.TPMTPublic){
		func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true },
		func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil },
		func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 },
		func(p *tpm2.TPMTPublic) {
			policy := p.AuthPolicy
			*p = eccTemplate()
			p.ObjectAttributes.UserWithAuth, p.AuthPolicy = false, policy
		},
	} {
		token := *o.tokens["tpm"]
		b, err := parseBlob(token.Blobs[0])
		require.NoError(t, err)
		public, err := sealedPublic(b)
		require.NoError(t, err)
		change(public)
		token.Blobs = [][]byte{(blob{private: b.private, public: tpm2.Marshal(*public)}).bytes()}
		_, err = token.Check(o.state)
		require.ErrorContains(t, err, "sealing: tpm2-blob: public area")
	}
	broken := *o.tokens["no bank"]
	b, err := parseBlob(broken.Blobs[0])
	require.NoError(t, err)
	broken.Blobs = [][]byte{(blob{private: b.private, public: b.public[1:]}).bytes()}
	_, err = broken.Check(State{})
	require.ErrorContains(t, err, "sealing: tpm2-blob: public area")
	for _, state := range []State{
		{PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA256: {7: {1}}}},
		{PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA256: {-1: value(crypto.SHA256, 1)}}},
		{PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA256: {24: value(crypto.SHA256, 1)}}},
		{Earlier: map[crypto.Hash]map[int][]byte{crypto.MD5: {7: make([]byte, 16)}}},
		{Banks: []crypto.Hash{crypto.MD5}},
		{Banks: []crypto.Hash{crypto.SHA1, crypto.SHA1}},
	} {
		_, err := o.tokens["tpm"].Check(state)
		require.ErrorContains(t, err, "sealing: state: ")
		if _, odd := state.Earlier[crypto.MD5]; odd {
			require.ErrorContains(t, err, "bank MD5")
		}
	}
	_, err = (&Token{}).Check(o.state)
	require.Error(t, err)
	half := *o.tokens["both"]
	half.PCRLock = false
	_, err = half.Check(o.state)
	require.ErrorContains(t, err, "tpm2-blob: 2 entries: want 1 for what the token requires")
	_, err = half.MarshalJSON()
	require.ErrorContains(t, err, "tpm2-blob: 2 entries: want 1 for what the token requires")
}

// TestCheckVector judges the token of a real image by the log of a boot.
func TestCheckVector(t *testing.T) {
	token, signatures := mkosiToken(t)
	bank := tpm.NewBank(crypto.SHA256)
	for _, d := range enterInitrd(t) {
		require.NoError(t, bank.Extend(tpm.PCRKernel, d))
	}
	state := State{PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA256: bank.Values(tpm.PCRKernel)}, Signatures: signatures}
	a, err := token.Check(state)
	require.NoError(t, err)
	require.Equal(t, VerdictUnknown, a.Verdict)
	require.Equal(t, ReasonBank, a.Reasons[0].Kind)
	state.Banks = []crypto.Hash{crypto.SHA256}
	a, err = token.Check(state)
	require.NoError(t, err)
	require.Equal(t, VerdictOpens, a.Verdict, "%v", a.Reasons)
	require.Equal(t, crypto.SHA256, a.Bank)
	require.NoError(t, bank.Measure(tpm.PCRKernel, []byte("injected")))
	state.PCRs[crypto.SHA256] = bank.Values(tpm.PCRKernel)
	a, err = token.Check(state)
	require.NoError(t, err)
	require.Equal(t, VerdictDoesNotOpen, a.Verdict)
	require.ErrorIs(t, a.Reasons[0].Err, ErrNoSignature)
}

// TestCheckBoots judges it by the logs of the second boot, up to the moment when the initrd is
// left.
func TestCheckBoots(t *testing.T) {
	token, signatures := mkosiToken(t)
	const boot = "../../testdata/mkosi/b2/"
	log, err := tpm.ParseLog(read(t, boot+"binary_bios_measurements"))
	require.NoError(t, err)
	user, err := tpm.ParseUserspaceLog(read(t, boot+"tpm2-measure.log"))
	require.NoError(t, err)
	var actual map[string]map[int]string
	require.NoError(t, json.Unmarshal(read(t, boot+"pcrs.json"), &actual))
	for until, want := range map[string]Verdict{"enter-initrd": VerdictDoesNotOpen, "leave-initrd": VerdictOpens, "": VerdictOpens} {
		u := *user
		if until != "" {
			u.Records = u.Records[:slices.IndexFunc(u.Records, func(r tpm.Record) bool { return r.Word == until })]
		}
		state, err := StateOf(log, &u)
		require.NoError(t, err)
		require.Equal(t, []crypto.Hash{crypto.SHA256}, state.Banks)
		if until == "" {
			for n, v := range state.PCRs[crypto.SHA256] {
				require.Equal(t, actual["sha256"][n], hex.EncodeToString(v), "PCR %d", n)
			}
			require.Len(t, state.PCRs[crypto.SHA256], 15)
		}
		state.Signatures = signatures
		a, err := token.Check(state)
		require.NoError(t, err)
		require.Equal(t, want, a.Verdict, "%s: %v", until, a.Reasons)
	}
	state, err := StateOf(log, nil)
	require.NoError(t, err)
	state.Signatures = signatures
	a, err := token.Check(state)
	require.NoError(t, err)
	require.Equal(t, VerdictUnknown, a.Verdict)
}

// TestStateOf takes from logs only what they tell.
func TestStateOf(t *testing.T) {
	log, err := tpm.ParseLog(swtpm.EventLog(swtpm.Event{PCR: 0, Data: "firmware"}, swtpm.Event{PCR: 11, Data: "kernel"}))
	require.NoError(t, err)
	s, err := StateOf(log, nil)
	require.NoError(t, err)
	require.Empty(t, s.PCRs, "userspace may measure into all")
	require.Contains(t, s.Unknown[7], "what userspace measures")
	require.Equal(t, []crypto.Hash{crypto.SHA256, crypto.SHA384}, s.Banks)
	s, err = StateOf(log, &tpm.UserspaceLog{})
	require.NoError(t, err)
	require.Len(t, s.PCRs[crypto.SHA256], 15, "all of 0 to 15 but 10")
	require.NotContains(t, s.PCRs[crypto.SHA256], 10)
	require.NotEmpty(t, s.Unknown[10])
	require.Empty(t, s.Unknown[7])
	phase := tpm.Record{PCR: 11, Digests: map[crypto.Hash][]byte{crypto.SHA256: value(crypto.SHA256, 1)}}
	s, err = StateOf(log, &tpm.UserspaceLog{Records: []tpm.Record{phase}})
	require.NoError(t, err)
	require.Contains(t, s.PCRs[crypto.SHA256], 11)
	require.NotContains(t, s.PCRs, crypto.SHA384, "it was not logged by userspace")

	other := *log
	other.Registers = tpm.RegistersCC
	_, err = StateOf(&other, nil)
	require.ErrorIs(t, err, tpm.ErrRegisters)

	prediction := *log
	prediction.Coverage = []tpm.Coverage{{PCR: 7, Prediction: tpm.PredictionExact}, {PCR: 11, Prediction: tpm.PredictionOneOf, Note: "two ways"}, {PCR: 4, Note: "shim"}}
	s, err = StateOf(&prediction, nil)
	require.NoError(t, err)
	require.Nil(t, s.Banks, "a prediction does not know the TPM")
	require.Contains(t, s.PCRs[crypto.SHA256], 7)
	require.Len(t, s.PCRs[crypto.SHA256], 1)
	require.NotContains(t, s.Unknown, 7)
	require.Equal(t, "one of several: two ways", s.Unknown[11])
	require.Equal(t, "not predicted: shim", s.Unknown[4])
	_, err = StateOf(&prediction, &tpm.UserspaceLog{})
	require.ErrorContains(t, err, "sealing: state: a userspace log is given together with a prediction, which already has one")
}

func TestVerdictText(t *testing.T) {
	for _, v := range []Verdict{VerdictUnknown, VerdictOpens, VerdictDoesNotOpen} {
		text, err := v.MarshalText()
		require.NoError(t, err)
		var again Verdict
		require.NoError(t, again.UnmarshalText(text))
		require.Equal(t, v, again)
	}
	require.ErrorContains(t, new(Verdict).UnmarshalText([]byte("yes")), `sealing: verdict "yes": want "opens"`)
	require.Equal(t, "not known", Verdict(9).String())
}

// TestPolicyIn has a union of states as the policy's.
func TestPolicyIn(t *testing.T) {
	const h = crypto.SHA256
	union := func(values ...byte) *policy.Union {
		var states []policy.NamedState
		for i, v := range values {
			states = append(states, policy.NamedState{Name: fmt.Sprint(i), Values: map[int][]byte{7: value(h, v)}})
		}
		u, err := policy.NewUnion(h, []int{7}, states...)
		require.NoError(t, err)
		return u
	}
	p := Policy{PIN: "1", Values: map[int][]byte{4: nil}}.In(union(1, 2))
	require.Equal(t, Policy{Bank: h, PCRs: []int{7}, PIN: "1", Alternatives: []map[int][]byte{{7: value(h, 1)}, {7: value(h, 2)}}}, p)
	p = Policy{Alternatives: p.Alternatives}.In(union(1, 1))
	require.Equal(t, Policy{Bank: h, PCRs: []int{7}, Values: map[int][]byte{7: value(h, 1)}}, p)
}
