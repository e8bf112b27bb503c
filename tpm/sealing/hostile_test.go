package sealing

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm"
)

// between sits between us and a TPM.
type between struct {
	Transport
	answer func(command, response []byte) []byte
}

func (b between) Send(command []byte) ([]byte, error) {
	response, err := b.Transport.Send(command)
	if err != nil {
		return nil, err
	}
	return b.answer(command, response), nil
}

const (
	ccReadPublic = 0x0173
	ccPCRRead    = 0x017e
	ccFlush      = 0x0165
)

func command(b []byte) uint32 { return binary.BigEndian.Uint32(b[6:]) }

// TestBus has an attacker listen on the bus.
func TestBus(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	var wire bytes.Buffer
	listened := New(between{s.device, func(command, response []byte) []byte {
		wire.Write(command)
		wire.Write(response)
		return response
	}})
	secret := []byte("a secret that nobody hears of...")
	p := Policy{PCRs: []int{7}, PIN: "1234"}
	token, err := listened.Seal(secret, p, Unlock{})
	require.NoError(t, err)
	got, err := listened.Unseal(token, Unlock{PIN: "1234"})
	require.NoError(t, err)
	require.Equal(t, secret, got)
	pin, err := token.stretch("1234", 0)
	require.NoError(t, err)
	require.NotZero(t, wire.Len())
	require.NotContains(t, wire.String(), string(secret))
	require.NotContains(t, wire.String(), string(pin.auth))

	// An attacker on the bus who shows their own key as the storage root key.
	mine := newTPM(t)
	fake, err := mine.srk()
	require.NoError(t, err)
	real, err := s.srk()
	require.NoError(t, err)
	require.NotEqual(t, fake.name, real.name)
	cheated := New(between{s.device, func(c, response []byte) []byte {
		if command(c) != ccReadPublic {
			return response
		}
		response, err := mine.device.Send(c)
		require.NoError(t, err)
		return response
	}})
	_, err = cheated.Unseal(token, Unlock{PIN: "1234"})
	require.ErrorIs(t, err, ErrMissingKey)

	// An attacker who changes what comes out.
	changed := New(between{s.device, func(c, response []byte) []byte {
		if command(c) == 0x015e { // TPM2_Unseal
			response[20] ^= 1
		}
		return response
	}})
	_, err = changed.Unseal(token, Unlock{PIN: "1234"})
	require.Error(t, err)
}

func TestOnes(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	capped := New(bus{s.device, func(_, response []byte) []byte {
		return lie(response, func(v []byte) { copy(v, bytes.Repeat([]byte{0xff}, len(v))) })
	}})
	var unfit *BankError
	require.ErrorAs(t, capped.CheckBank(crypto.SHA256), &unfit)
	require.Equal(t, BankStateOnes, unfit.State)
	_, err := capped.Seal([]byte("secret"), Policy{PCRs: []int{7}}, Unlock{})
	require.ErrorIs(t, err, ErrTampered, "the TPM itself says another thing")
}

// TestLyingBusOfTPM is [TestLyingBus] with a TPM, and policies that cannot be tried when they are
// made.
func TestLyingBusOfTPM(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for _, p := range []Policy{{PCRs: []int{7}}, {PCRs: []int{7}, PublicKey: &key.PublicKey}, {PCRs: []int{0, 7}, PIN: "1", PublicKey: &key.PublicKey}} {
		for how, liar := range liars(s.device) {
			token, err := New(liar).Seal([]byte("secret"), p, Unlock{})
			require.Error(t, err, how)
			require.Nil(t, token, how)
		}
		token, err := s.Seal([]byte("secret"), p, Unlock{})
		require.NoError(t, err)
		now, err := s.PCRs(crypto.SHA256, p.PCRs...)
		require.NoError(t, err)
		require.Equal(t, now, token.Values)
		s.flushAll(t)
	}
}

// TestHostileTPM changes what a TPM answers: nothing panics, and no secret comes out that was not
// sealed.
func TestHostileTPM(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	with := Unlock{Signatures: s.signState(t, key, ""), PIN: "1234"}
	secret := []byte("a secret that is not changed")
	p := Policy{PCRs: []int{7}, PublicKey: &key.PublicKey}
	token, err := s.Seal(secret, p, with)
	require.NoError(t, err)
	random := mathrand.New(mathrand.NewPCG(1, 2))
	rounds := 100
	if os.Getenv("OSMITH_LONG") != "" {
		rounds = 2000
	}
	for range rounds {
		at, count := random.IntN(30), 0
		evil := New(between{s.device, func(c, response []byte) []byte {
			if count++; count != at || command(c) == ccFlush {
				return response
			}
			return mutate(random, response)
		}})
		got, err := evil.Unseal(token, with)
		if err == nil {
			require.Equal(t, secret, got)
		} else {
			require.Equal(t, 1, strings.Count(err.Error(), "sealing:"), err)
		}
		evil.Lockout()
		s.flushAll(t)
		if sealed, err := evil.Seal(secret, p, with); err != nil {
			require.Equal(t, 1, strings.Count(err.Error(), "sealing:"), err)
		} else {
			s.flushAll(t)
			got, err := s.Unseal(sealed, with)
			require.NoError(t, err)
			require.Equal(t, secret, got)
		}
		s.flushAll(t)
	}
}

// mutate changes some bytes, or where the response ends.
func mutate(random *mathrand.Rand, response []byte) []byte {
	out := bytes.Clone(response)
	switch random.IntN(5) {
	case 0:
		out = out[:random.IntN(len(out)+1)]
	case 1:
		out = append(out, make([]byte, random.IntN(8))...)
	case 2: // a response of any length that looks like one
		out = out[:min(len(out), headerSize+random.IntN(len(out)))]
	case 3:
		for range 1 + random.IntN(4) {
			out[random.IntN(len(out))] = byte(random.Uint32())
		}
		return out
	default:
		at := random.IntN(len(out))
		for i := at; i < min(at+4, len(out)); i++ {
			out[i] = 0xff
		}
		return out
	}
	if len(out) >= headerSize && random.IntN(4) > 0 {
		binary.BigEndian.PutUint32(out[2:], uint32(len(out)))
	}
	return out
}

// flushAll removes what a conversation that was cut short left in the TPM.
func (s *simulator) flushAll(t testing.TB) {
	t.Helper()
	for _, first := range []uint32{0x02000000, 0x03000000, 0x80000000} {
		for n := range uint32(4) {
			s.flush(tpmHandle(first + n))
		}
	}
}

// deaf is a TPM that gives the same answer to everything.
type deaf []byte

func (d deaf) Send([]byte) ([]byte, error) { return bytes.Clone(d), nil }

func FuzzResponse(f *testing.F) {
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0})
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x21})
	f.Add([]byte{0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	token, err := ParseToken([]byte(sampleToken))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, response []byte) {
		if len(response) >= headerSize && again(binary.BigEndian.Uint32(response[6:])) {
			t.Skip("it takes a second to give up")
		}
		evil := New(deaf(response))
		for _, do := range []func() error{
			func() error { _, err := evil.Unseal(token, Unlock{}); return err },
			func() error { _, err := evil.Seal([]byte("secret"), Policy{}, Unlock{}); return err },
			func() error { return evil.CheckBank(crypto.SHA256) },
		} {
			require.ErrorContains(t, do(), "sealing: ")
		}
		_, _ = evil.Lockout()
		_, _ = evil.readNV(0x01000001)
		if _, err := evil.PCRs(crypto.SHA256, tpm.PCRKernel); err != nil {
			var unfit *BankError
			_ = errors.As(err, &unfit)
		}
	})
}
