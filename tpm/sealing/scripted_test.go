package sealing

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/tpmwire"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// scripted is as much of a TPM as reading PCRs and counting needs, for machines without swtpm:
// registers, a storage root key, sessions that vouch for PCRs, and NV counters. It answers
// everything else with TPM_RC_COMMAND_CODE.
type scripted struct {
	registers
	key      *ecdh.PrivateKey
	public   tpm2.TPMTPublic
	sessions map[uint32]*scriptedSession
	nv       map[uint32]*scriptedNV
	cut      uint32   // command before which the power fails
	commands []uint32 // that were sent
	created  []byte   // the last TPM2_Create
}

type scriptedSession struct {
	key, nonceTPM []byte
	used          bool
}

func newScripted(t testing.TB, r registers) *scripted {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	s := &scripted{registers: r, key: key, public: eccTemplate(), sessions: map[uint32]*scriptedSession{}, nv: map[uint32]*scriptedNV{}}
	point := key.PublicKey().Bytes()
	s.public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
	})
	return s
}

const (
	ccCreate           = 0x0153
	ccStartAuthSession = 0x0176
	rcCommandCode      = 0x0143
	sessionHandle      = 0x02000000
)

// reply is a response without sessions.
func reply(code uint32, body ...byte) []byte {
	b := append([]byte{0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[6:], code)
	return b
}

func (s *scripted) Send(c []byte) ([]byte, error) {
	cc := command(c)
	s.commands = append(s.commands, cc)
	switch {
	case cc == s.cut:
		return nil, errPower
	case cc == ccReadPublic:
		name, err := tpm2.ObjectName(&s.public)
		if err != nil {
			return nil, err
		}
		body := tpmwire.AppendSized(nil, tpm2.Marshal(s.public))
		return reply(0, tpmwire.AppendSized(tpmwire.AppendSized(body, name.Buffer), name.Buffer)...), nil
	case cc == ccStartAuthSession:
		return s.start(c)
	case cc == ccFlush:
		delete(s.sessions, binary.BigEndian.Uint32(c[10:]))
		return reply(0), nil
	case cc == ccPCRRead && c[1] == 2:
		return s.vouch(c)
	case cc == ccPCRRead || cc == 0x017a:
		return s.registers.Send(c)
	case cc == ccNVReadPublic || cc == ccNVDefineSpace || cc == ccNVIncrement || cc == ccNVRead || cc == ccNVUndefineSpace:
		return s.count(c)
	case cc == ccCreate:
		s.created = bytes.Clone(c)
	}
	return reply(rcCommandCode), nil
}

// start is TPM2_StartAuthSession, salted with the storage root key.
func (s *scripted) start(c []byte) ([]byte, error) {
	r := tpmwire.NewReader("command", c[18:])
	nonceCaller, secret := r.Sized("nonce"), r.Sized("salt")
	p := tpmwire.NewReader("salt", secret)
	x, y := p.Sized("x"), p.Sized("y")
	their, err := ecdh.P256().NewPublicKey(append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, err
	}
	z, err := s.key.ECDH(their)
	if err != nil {
		return nil, err
	}
	salt := tpm2.KDFe(crypto.SHA256, z, "SECRET", x, s.key.PublicKey().Bytes()[1:33], 256)
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	handle := sessionHandle + uint32(len(s.commands))
	s.sessions[handle] = &scriptedSession{key: tpm2.KDFa(crypto.SHA256, salt, "ATH", nonce, nonceCaller, 256), nonceTPM: nonce}
	return reply(0, tpmwire.AppendSized(binary.BigEndian.AppendUint32(nil, handle), nonce)...), nil
}

// vouch answers TPM2_PCR_Read in a session that audits.
func (s *scripted) vouch(c []byte) ([]byte, error) {
	be := binary.BigEndian
	size := int(be.Uint32(c[10:]))
	r := tpmwire.NewReader("session", c[14:14+size])
	session := s.sessions[r.U32("handle")]
	nonceCaller, attributes, mac := r.Sized("nonce"), r.U8("attributes"), r.Sized("hmac")
	parameters := c[14+size:]
	sum := func(parts ...[]byte) []byte {
		h := sha256.Sum256(bytes.Join(parts, nil))
		return h[:]
	}
	sign := func(parts ...[]byte) []byte {
		w := hmac.New(sha256.New, session.key)
		w.Write(bytes.Join(parts, nil))
		return w.Sum(nil)
	}
	if session == nil || !hmac.Equal(mac, sign(sum(c[6:10], parameters), nonceCaller, session.nonceTPM, []byte{attributes})) {
		return reply(0x98e), nil // TPM_RC_AUTH_FAIL, session 1
	}
	plain, err := s.registers.Send(append([]byte{0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x7e}, parameters...))
	if err != nil {
		return nil, err
	}
	session.nonceTPM = make([]byte, nonceSize)
	rand.Read(session.nonceTPM)
	if !session.used { // as if others were busy with the TPM later
		attributes |= sessionExclusive
	}
	session.used = true
	body := be.AppendUint32(nil, uint32(len(plain)-headerSize))
	body = append(body, plain[headerSize:]...)
	body = append(tpmwire.AppendSized(body, session.nonceTPM), attributes)
	body = tpmwire.AppendSized(body, sign(sum([]byte{0, 0, 0, 0}, c[6:10], plain[headerSize:]), session.nonceTPM, nonceCaller, []byte{attributes}))
	b := reply(0, body...)
	b[1] = 2
	return b, nil
}

const (
	ccNVUndefineSpace = 0x0122
	ccNVDefineSpace   = 0x012a
	ccNVIncrement     = 0x0134
	ccNVRead          = 0x014e
	ccNVReadPublic    = 0x0169
	rcNVUninitialized = 0x014a
	rcNVDefined       = 0x014c
	rcHandle          = 0x018b // of the first handle
)

var errPower = errors.New("the power fails")

type scriptedNV struct {
	public policy.NVPublic
	value  uint64
}

// count answers commands about NV counters; every caller is allowed.
func (s *scripted) count(c []byte) ([]byte, error) {
	be := binary.BigEndian
	cc := command(c)
	if cc == ccNVDefineSpace { // handle, sessions, empty authorisation, public area
		r := tpmwire.NewReader("parameters", c[18+be.Uint32(c[14:]):])
		r.Sized("auth")
		public, err := policy.ParseNVPublic(r.Sized("public area"))
		if err != nil {
			return nil, err
		}
		if s.nv[public.Index] != nil {
			return reply(rcNVDefined), nil
		}
		s.nv[public.Index] = &scriptedNV{public: public}
		return passed(), nil
	}
	handle := be.Uint32(c[10:])
	if cc != ccNVReadPublic {
		handle = be.Uint32(c[14:]) // behind that of who authorises
	}
	n := s.nv[handle]
	if n == nil {
		return reply(rcHandle), nil
	}
	switch cc {
	case ccNVReadPublic:
		area, err := n.public.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		name, err := n.public.Name()
		if err != nil {
			return nil, err
		}
		return reply(0, tpmwire.AppendSized(tpmwire.AppendSized(nil, area), name)...), nil
	case ccNVIncrement:
		n.value++
		n.public.Attributes |= policy.NVWritten
	case ccNVRead:
		if n.public.Attributes&policy.NVWritten == 0 {
			return reply(rcNVUninitialized), nil
		}
		return passed(tpmwire.AppendSized(nil, be.AppendUint64(nil, n.value))...), nil
	case ccNVUndefineSpace:
		delete(s.nv, handle)
	}
	return passed(), nil
}

// passed is a response to a command that was authorised by a password.
func passed(parameters ...byte) []byte {
	body := append(binary.BigEndian.AppendUint32(nil, uint32(len(parameters))), parameters...)
	b := reply(0, append(body, 0, 0, sessionContinue, 0, 0)...)
	b[1] = 2
	return b
}

// lie changes the values that a response to TPM2_PCR_Read tells, and nothing else.
func lie(response []byte, change func(value []byte)) []byte {
	be := binary.BigEndian
	out := bytes.Clone(response)
	at := headerSize
	if out[1] == 2 { // the size of the parameters, before sessions
		at += 4
	}
	if len(out) < at+8 || be.Uint32(out[6:]) != 0 {
		return out
	}
	at += 4 // the update counter
	for n := be.Uint32(out[at:]); n > 0; n-- {
		at += 3 + int(out[at+4+2])
	}
	at += 4
	n := be.Uint32(out[at:])
	for at += 4; n > 0; n-- {
		size := int(be.Uint16(out[at:]))
		change(out[at+2 : at+2+size])
		at += 2 + size
	}
	return out
}

// bus is an attacker on the way to the TPM who changes what is said of PCRs.
type bus struct {
	Transport
	change func(c, response []byte) []byte
}

func (b bus) Send(c []byte) ([]byte, error) {
	response, err := b.Transport.Send(c)
	if err != nil || command(c) != ccPCRRead {
		return response, err
	}
	return b.change(c, response), nil
}

// liars are ways to tell of other PCRs than the TPM has.
func liars(device Transport) map[string]Transport {
	flip := func(v []byte) { v[0] ^= 1 }
	var earlier []byte
	return map[string]Transport{
		"values": bus{device, func(_, response []byte) []byte { return lie(response, flip) }},
		"without the session": bus{device, func(c, response []byte) []byte {
			if c[1] != 2 {
				return lie(response, flip)
			}
			size := int(binary.BigEndian.Uint32(c[10:]))
			plain := append([]byte{0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x7e}, c[14+size:]...)
			binary.BigEndian.PutUint32(plain[2:], uint32(len(plain)))
			response, err := device.Send(plain)
			if err != nil {
				return nil
			}
			return lie(response, flip)
		}},
		"an earlier answer": bus{device, func(_, response []byte) []byte {
			if earlier == nil {
				earlier = response
			}
			return earlier
		}},
	}
}

// TestLyingBus has an attacker on the bus report other PCRs: nothing is sealed to the state that he
// names. It needs no TPM.
func TestLyingBus(t *testing.T) {
	pcrs := registers{crypto.SHA256: {0: value(crypto.SHA256, 1), 7: value(crypto.SHA256, 7)}}
	honest := newScripted(t, pcrs)
	policies := map[string]Policy{
		"pcrs":       {PCRs: []int{7}},
		"of a bank":  {PCRs: []int{7}, Bank: crypto.SHA256},
		"one given":  {PCRs: []int{0, 7}, Bank: crypto.SHA256, Values: map[int][]byte{0: value(crypto.SHA256, 5)}},
		"many":       {PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12}},
		"given, all": {PCRs: []int{7}, Bank: crypto.SHA256, Values: map[int][]byte{7: value(crypto.SHA256, 7)}},
	}
	for name, p := range policies {
		// The honest one comes as far as making the object, to the policy of its PCRs.
		_, err := New(honest).Seal([]byte("secret"), p, Unlock{})
		require.ErrorIs(t, err, tpm2.TPMRCCommandCode, name)
		require.Contains(t, honest.commands, uint32(ccCreate))
		values := map[int][]byte{}
		for _, n := range p.PCRs {
			if values[n] = pcrs[crypto.SHA256][n]; values[n] == nil {
				values[n] = value(crypto.SHA256, 0)
			}
			if v, given := p.Values[n]; given {
				values[n] = v
			}
		}
		digest, err := digestOf([]step{literal{crypto.SHA256, p.PCRs, values}})
		require.NoError(t, err)
		require.Contains(t, string(honest.created), string(digest[:]), name)

		for how, liar := range liars(newScripted(t, pcrs)) {
			_, err := New(liar).Seal([]byte("secret"), p, Unlock{})
			require.Error(t, err, "%s: %s", name, how)
			require.NotErrorIs(t, err, tpm2.TPMRCCommandCode, "%s: %s: an object is made", name, how)
			if how != "without the session" {
				require.ErrorIs(t, err, ErrTampered, "%s: %s", name, how)
			}
		}
		honest.commands = nil
	}
	// One who says that a bank is in use which firmware has left alone.
	idle := newScripted(t, registers{crypto.SHA256: {}})
	liar := bus{idle, func(_, response []byte) []byte { return lie(response, func(v []byte) { v[0] = 1 }) }}
	for _, p := range []Policy{{PCRs: []int{7}}, {PCRs: []int{7}, Bank: crypto.SHA256}} {
		_, err := New(liar).Seal([]byte("secret"), p, Unlock{})
		require.ErrorIs(t, err, ErrTampered)
		_, err = New(idle).Seal([]byte("secret"), p, Unlock{})
		var unfit *BankError
		require.ErrorAs(t, err, &unfit)
		require.Equal(t, BankStateZero, unfit.State)
	}
	for how, liar := range liars(newScripted(t, pcrs)) {
		if _, err := New(liar).VouchedPCRs(crypto.SHA256, 7); how != "an earlier answer" {
			// it is the first
			require.Error(t, err, how)
		}
	}
	vouching := newScripted(t, pcrs)
	vouched, err := New(vouching).VouchedPCRs(crypto.SHA256, 7)
	require.NoError(t, err)
	require.Equal(t, map[int][]byte{7: value(crypto.SHA256, 7)}, vouched)
	require.Empty(t, vouching.sessions)
	// A policy without PCRs asks for none.
	plain := newScripted(t, pcrs)
	_, err = New(plain).Seal([]byte("secret"), Policy{}, Unlock{})
	require.ErrorIs(t, err, tpm2.TPMRCCommandCode)
	require.NotContains(t, plain.commands, uint32(ccPCRRead))
}
