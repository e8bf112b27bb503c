package sealing

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// enterInitrd are the digests that bring PCR 11 of the machine in testdata/mkosi to the state in
// which the volume is unlocked.
func enterInitrd(t testing.TB) (digests [][]byte) {
	t.Helper()
	for _, line := range strings.Fields(string(read(t, "../../testdata/mkosi/pcr11-to-enter-initrd.txt"))) {
		d, err := hex.DecodeString(line)
		require.NoError(t, err)
		digests = append(digests, d)
	}
	require.Len(t, digests, 15)
	return digests
}

func mkosiToken(t testing.TB) (*Token, policy.Signatures) {
	t.Helper()
	token, err := ParseToken(read(t, "mkosi/token.json"))
	require.NoError(t, err)
	signatures, err := policy.ParseSignatures(read(t, "mkosi/pcrsig.json"))
	require.NoError(t, err)
	return token, signatures
}

// TestTokenOfRepart unseals what systemd-repart sealed in the first boot of a real image, on the
// TPM of that machine. The token says neither bank nor algorithm.
func TestTokenOfRepart(t *testing.T) {
	t.Parallel()
	token, signatures := mkosiToken(t)
	s := connected(t, swtpm.StartFrom(t, read(t, "mkosi/tpm2-00.permall")))
	_, err := s.Unseal(token, Unlock{Signatures: signatures})
	require.ErrorIs(t, err, ErrNoSignature, "PCR 11 is zero")
	for _, d := range enterInitrd(t) {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm.PCRKernel, Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d}}},
		}.Execute(s.transport)
		require.NoError(t, err)
	}
	secret, err := s.Unseal(token, Unlock{Signatures: signatures})
	require.NoError(t, err)
	want, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(read(t, "mkosi/passphrase.b64"))))
	require.NoError(t, err)
	require.Equal(t, string(want), string(Passphrase(secret)))
	require.Zero(t, token.Bank, "the token stays as it is")
}

// TestTokenWithoutBank is sealed here, and its bank forgotten.
func TestTokenWithoutBank(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	with := Unlock{Signatures: s.signState(t, key, "")}
	for _, bank := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		token, err := s.Seal([]byte("secret"), Policy{Bank: bank, PCRs: []int{7}, PublicKey: &key.PublicKey}, with)
		require.NoError(t, err)
		token.Bank, token.Values, token.PrimaryAlgorithm = 0, nil, ""
		secret, err := s.Unseal(token, with)
		if bank != crypto.SHA256 {
			var mismatch *PolicyError
			require.ErrorAs(t, err, &mismatch, "systemd takes sha256 where it is in use")
			require.Equal(t, crypto.SHA256, mismatch.Bank)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "secret", string(secret))
	}
}

// registers is a TPM of PCRs alone, for what is asked without sessions.
type registers map[crypto.Hash]map[int][]byte

func (r registers) Send(command []byte) ([]byte, error) {
	be := binary.BigEndian
	b := []byte{0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	switch cc := be.Uint32(command[6:]); cc {
	case 0x017a: // TPM2_GetCapability of TPM_CAP_PCRS
		b = append(b, 0, 0, 0, 0, 5)
		b = be.AppendUint32(b, uint32(len(r)))
		for _, h := range pcrbank.Hashes() {
			if _, ok := r[h]; ok {
				b = append(be.AppendUint16(b, uint16(algorithm(h))), 3, 0xff, 0xff, 0xff)
			}
		}
	case ccPCRRead:
		selected := command[14:20] // one bank with three bytes of PCRs
		a, _ := pcrbank.ByID(be.Uint16(selected))
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 1)
		at, list, count := len(b)+3, []byte{}, uint32(0)
		b = append(b, selected...)
		for n := range pcrbank.Count {
			if selected[3+n/8]&(1<<(n%8)) == 0 {
				continue
			}
			if count == 8 || r[a.Hash] == nil {
				b[at+n/8] &^= 1 << (n % 8)
				continue
			}
			v, ok := r[a.Hash][n]
			if !ok {
				v = make([]byte, a.Hash.Size())
			}
			list = append(be.AppendUint16(list, uint16(len(v))), v...)
			count++
		}
		b = append(be.AppendUint32(b, count), list...)
	default:
		return nil, errors.New("not a command for registers")
	}
	be.PutUint32(b[2:], uint32(len(b)))
	return b, nil
}

// TestUnlockBank chooses as systemd 262 does, here and offline.
func TestUnlockBank(t *testing.T) {
	used := func(h crypto.Hash) map[int][]byte { return map[int][]byte{11: bytes.Repeat([]byte{1}, h.Size())} }
	ones := func(h crypto.Hash) map[int][]byte {
		return map[int][]byte{7: bytes.Repeat([]byte{0xff}, h.Size()), 11: bytes.Repeat([]byte{0xff}, h.Size())}
	}
	const sha1, sha256, sha384, sha512 = crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512
	for name, tt := range map[string]struct {
		pcrs registers
		want crypto.Hash
	}{
		"all":                      {registers{sha1: used(sha1), sha256: used(sha256), sha384: used(sha384), sha512: used(sha512)}, sha256},
		"sha256 is not in use":     {registers{sha1: used(sha1), sha256: {}, sha384: used(sha384), sha512: used(sha512)}, sha384},
		"sha256 is given up":       {registers{sha256: ones(sha256), sha512: used(sha512)}, sha512},
		"no sha256":                {registers{sha1: used(sha1), sha384: used(sha384)}, sha384},
		"sha1 alone":               {registers{sha1: used(sha1)}, sha1},
		"sha1 before one not used": {registers{sha1: used(sha1), sha256: {}}, sha1},
		"none in use":              {registers{sha1: {}, sha384: {}}, sha384},
		"none":                     {registers{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tpm, pcrs := New(tt.pcrs), []int{7, 11}
			got, err := tpm.unlockBank(pcrs)
			state := State{PCRs: map[crypto.Hash]map[int][]byte{}, Banks: []crypto.Hash{}}
			for h := range tt.pcrs {
				state.Banks = append(state.Banks, h)
				values, err := tpm.PCRs(h, pcrs...)
				require.NoError(t, err)
				state.PCRs[h] = values
			}
			slices.Sort(state.Banks)
			offline, why := state.unlockBank(pcrs)
			if tt.want == 0 {
				var unfit *BankError
				require.ErrorAs(t, err, &unfit)
				require.Equal(t, BankStateAbsent, unfit.State)
				require.Equal(t, VerdictDoesNotOpen, why.Verdict)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			require.Nil(t, why)
			require.Equal(t, tt.want, offline)
		})
	}
	// Without a value it is not known whether a bank is in use.
	state := State{Banks: []crypto.Hash{sha256, sha384}, PCRs: map[crypto.Hash]map[int][]byte{sha384: used(sha384)}}
	_, why := state.unlockBank([]int{11})
	require.Equal(t, VerdictUnknown, why.Verdict)
	require.ErrorIs(t, why.Err, ErrNotKnown)
	require.Equal(t, []int{7, 11}, (&Token{PCRs: []int{11}, PublicKeyPCRs: []int{7, 11}}).allPCRs())
	// The token gets the bank, and a token that names one keeps it.
	t1, err := New(registers{sha384: used(sha384)}).withBank(&Token{PublicKeyPCRs: []int{11}})
	require.NoError(t, err)
	require.Equal(t, sha384, t1.Bank)
	for _, token := range []*Token{{Bank: sha256, PCRs: []int{11}}, {}} {
		t1, err = New(registers{sha384: used(sha384)}).withBank(token)
		require.NoError(t, err)
		require.Same(t, token, t1)
	}
}

// TestFitBanks are banks that may be sealed to.
func TestFitBanks(t *testing.T) {
	const sha1, sha256, sha384, sha512 = crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512
	all := func(h crypto.Hash, b byte) map[int][]byte {
		out := map[int][]byte{}
		for n := range 16 {
			out[n] = value(h, b)
		}
		return out
	}
	mixed := all(sha256, 0xff)
	mixed[3] = value(sha256, 0)
	later := map[int][]byte{17: value(sha256, 1)}
	used := map[int][]byte{15: value(sha256, 1)}
	for name, tt := range map[string]struct {
		pcrs  registers
		state BankState // 0 for one that is fit
	}{
		"used": {registers{sha256: used}, 0}, "absent": {registers{sha1: {}}, BankStateAbsent}, "zero": {registers{sha256: {}}, BankStateZero},
		"ones": {registers{sha256: all(sha256, 0xff)}, BankStateOnes}, "ones and zeros": {registers{sha256: mixed}, BankStateOnes}, "PCR 17": {registers{sha256: later}, BankStateZero},
	} {
		err := New(tt.pcrs).CheckBank(sha256)
		if tt.state == 0 {
			require.NoError(t, err, name)
			continue
		}
		var unfit *BankError
		require.ErrorAs(t, err, &unfit, name)
		require.Equal(t, tt.state, unfit.State, name)
		require.Equal(t, sha256, unfit.Bank)
	}
	choose := func(r registers) (crypto.Hash, error) {
		device := New(r)
		return device.chooseBank(device.PCRs)
	}
	for want, r := range map[crypto.Hash]registers{
		sha256: {sha1: all(sha1, 1), sha256: used, sha384: all(sha384, 1)}, sha384: {sha256: {}, sha384: all(sha384, 1), sha512: all(sha512, 1)}, sha512: {sha256: {}, sha512: all(sha512, 1)},
	} {
		got, err := choose(r)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := choose(registers{sha1: all(sha1, 1), sha256: {}})
	var unfit *BankError
	require.ErrorAs(t, err, &unfit, "not sha1")
	require.Equal(t, BankError{sha256, BankStateZero}, *unfit, "of the first")
	_, err = New(deafly{}).chooseBank(New(deafly{}).PCRs)
	require.ErrorIs(t, err, ErrResponse)
	for _, do := range []func(*TPM) error{
		func(t *TPM) error { _, err := t.unlockBank([]int{7}); return err },
		func(t *TPM) error { _, err := t.withBank(&Token{PCRs: []int{7}}); return err },
		func(t *TPM) error { return t.CheckBank(sha256) },
	} {
		require.ErrorIs(t, do(New(deafly{})), ErrResponse)
		require.ErrorIs(t, do(New(bus{registers{sha256: used}, func([]byte, []byte) []byte { return nil }})), ErrResponse)
	}
}
