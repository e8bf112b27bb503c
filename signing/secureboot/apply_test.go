package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func auth(t testing.TB, by secureboot.KeyPair, u secureboot.Update) []byte {
	t.Helper()
	b, err := u.Sign(by.Key, by.Cert)
	require.NoError(t, err)
	return b
}

func TestApply(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	user := enrolled(t, h).Variables
	user.Times = map[string]time.Time{"PK": when, "KEK": when, "db": when, "dbx": when}
	user.DBX = lists(t, secureboot.SHA256List(owner, [32]byte{1}))
	setup := osmith.FirmwareVariables{SetupMode: []byte{1}}
	later := when.Add(time.Second)
	cert := func(p secureboot.KeyPair) []byte { return lists(t, secureboot.CertificateList(owner, p.Cert)) }
	below := issue(t, "below PK", false, f.DB, h.PK)
	middle := issue(t, "below KEK", true, f.KEK, h.KEK)
	leaf := issue(t, "below below KEK", false, f.DB, middle)
	hash := func(n ...byte) (l []secureboot.SignatureList) {
		var all [][32]byte
		for _, x := range n {
			all = append(all, [32]byte{x})
		}
		return []secureboot.SignatureList{secureboot.SHA256List(owner, all...)}
	}
	unknown := lists(t, secureboot.SignatureList{Type: osmith.MustParseGUID("01234567-89ab-cdef-0123-456789abcdef"), Signatures: []secureboot.Signature{{Data: []byte{1}}}})
	sm3 := lists(t, secureboot.SignatureList{Type: secureboot.TypeSM3, Signatures: []secureboot.Signature{{Data: make([]byte, 32)}}})
	headed := lists(t, secureboot.SignatureList{Type: secureboot.TypeSHA256, Header: []byte{1}, Signatures: []secureboot.Signature{{Data: make([]byte, 32)}}})
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ec, err := secureboot.NewKeyPair(ecKey, secureboot.CertificateOptions{CommonName: "ec", NotBefore: from, NotAfter: when})
	require.NoError(t, err)

	type U = secureboot.Update
	for _, c := range []struct {
		name string
		v    osmith.FirmwareVariables
		by   secureboot.KeyPair
		u    U
		want string // content of the variable afterwards, or the start of the error
		err  error
	}{
		{"PK by PK", user, h.PK, U{Variable: "PK", Payload: cert(f.PK), Time: later}, string(cert(f.PK)), nil},
		{"PK by what PK issued", user, below, U{Variable: "PK", Payload: cert(f.PK), Time: later}, "", secureboot.ErrUntrusted},
		{"PK by KEK", user, h.KEK, U{Variable: "PK", Payload: cert(f.PK), Time: later}, "", secureboot.ErrUntrusted},
		{"PK by its new self", user, f.PK, U{Variable: "PK", Payload: cert(f.PK), Time: later}, "", secureboot.ErrUntrusted},
		{"KEK by PK", user, h.PK, U{Variable: "KEK", Payload: cert(f.KEK), Time: later}, string(cert(f.KEK)), nil},
		{"KEK by KEK", user, h.KEK, U{Variable: "KEK", Payload: cert(f.KEK), Time: later}, "", secureboot.ErrUntrusted},
		{"db by KEK", user, h.KEK, U{Variable: "db", Payload: cert(f.DB), Time: later}, string(cert(f.DB)), nil},
		{"db by PK", user, h.PK, U{Variable: "db", Payload: cert(f.DB), Time: later}, string(cert(f.DB)), nil},
		{"db by what PK issued", user, below, U{Variable: "db", Payload: cert(f.DB), Time: later}, "", secureboot.ErrUntrusted},
		{"db by what KEK issued", user, middle, U{Variable: "db", Payload: cert(f.DB), Time: later}, string(cert(f.DB)), nil},
		{"db by a chain that is not carried", user, leaf, U{Variable: "db", Payload: cert(f.DB), Time: later}, "", secureboot.ErrUntrusted},
		{"db by db", user, h.DB, U{Variable: "db", Payload: cert(f.DB), Time: later}, "", secureboot.ErrUntrusted},
		{"dbt by KEK", user, h.KEK, U{Variable: "dbt", Payload: cert(f.DB), Time: when}, string(cert(f.DB)), nil},
		{"dbr by KEK", user, h.KEK, U{Variable: "dbr", Payload: cert(f.DB), Time: when}, string(cert(f.DB)), nil},
		{"db of the same time", user, h.KEK, U{Variable: "db", Payload: cert(f.DB), Time: when}, "", errStale},
		{"db of an earlier time", user, h.KEK, U{Variable: "db", Payload: cert(f.DB), Time: when.Add(-time.Second)}, "", errStale},
		{"append of an earlier time", user, h.KEK, U{Variable: "db", Payload: cert(f.DB), Time: from, Append: true}, string(user.DB) + string(cert(f.DB)), nil},
		{"append of what is there", user, h.KEK, U{Variable: "db", Payload: cert(h.DB), Time: later, Append: true}, string(user.DB), nil},
		{"append of nothing", user, h.KEK, U{Variable: "db", Time: later, Append: true}, string(user.DB), nil},
		{"append, one of three is there", user, h.KEK, U{Variable: "dbx", Payload: lists(t, hash(2, 1, 3)...), Time: later, Append: true}, string(user.DBX) + string(lists(t, hash(2, 3)...)), nil},
		{"append of another owner's", user, h.KEK, U{Variable: "dbx", Payload: lists(t, secureboot.SHA256List(osmith.GUID{}, [32]byte{1})), Time: later, Append: true},
			string(user.DBX) + string(lists(t, secureboot.SHA256List(osmith.GUID{}, [32]byte{1}))), nil},
		{"append to what is not there", user, h.KEK, U{Variable: "dbt", Payload: lists(t, hash(2, 2)...), Time: later, Append: true}, string(lists(t, hash(2, 2)...)), nil},
		{"deletion", user, h.KEK, U{Variable: "dbx", Time: later}, "", nil},
		{"deletion of what is not there", user, h.KEK, U{Variable: "dbt", Time: later}, "", secureboot.ErrNoVariable},
		{"unknown type", user, h.KEK, U{Variable: "db", Payload: unknown, Time: later}, "edk2 has no lists of type 01234567", errAny},
		{"SM3", user, h.KEK, U{Variable: "db", Payload: sm3, Time: later}, "edk2 has no lists of type SM3", errAny},
		{"header of a list", user, h.KEK, U{Variable: "db", Payload: headed, Time: later}, "a header of 1 bytes", errAny},
		{"ECDSA certificate", user, h.KEK, U{Variable: "db", Payload: cert(ec), Time: later}, "has no RSA key, and edk2 accepts no other", errAny},
		{"no certificate", user, h.KEK, U{Variable: "db", Payload: lists(t, secureboot.SignatureList{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Data: []byte{1}}}}), Time: later}, "signature list 0", errAny},
		{"two PKs by append", user, h.PK, U{Variable: "PK", Payload: cert(h.PK), Time: later, Append: true}, "PK is replaced, not appended to", errAny},

		{"Setup Mode, db by anybody", setup, f.DB, U{Variable: "db", Payload: cert(h.DB), Time: when}, string(cert(h.DB)), nil},
		{"Setup Mode, PK by itself", setup, h.PK, U{Variable: "PK", Payload: cert(h.PK), Time: when}, string(cert(h.PK)), nil},
		{"Setup Mode, PK by another", setup, f.PK, U{Variable: "PK", Payload: cert(h.PK), Time: when}, "", secureboot.ErrUntrusted},
		{"Setup Mode, no PK", setup, h.PK, U{Variable: "PK", Time: when}, "", secureboot.ErrNoVariable},
		{"Setup Mode, unknown type", setup, h.KEK, U{Variable: "db", Payload: unknown, Time: later}, "edk2 has no lists of type", errAny},
		{"KEK is gone", osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: user.PK}, h.KEK, U{Variable: "db", Payload: cert(f.DB), Time: later}, "", secureboot.ErrUntrusted},
		{"KEK is broken", osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: user.PK, KEK: []byte{1}}, h.KEK, U{Variable: "db", Payload: cert(f.DB), Time: later}, "", secureboot.ErrUntrusted},
		{"PK is broken", osmith.FirmwareVariables{SecureBoot: []byte{1}, PK: []byte{1}}, h.PK, U{Variable: "PK", Payload: cert(f.PK), Time: later}, "", secureboot.ErrUntrusted},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := secureboot.Content(c.v, c.u.Variable)
			after, err := secureboot.Apply(c.v, secureboot.Pending{Variable: c.u.Variable, Auth: auth(t, c.by, c.u), Append: c.u.Append})
			require.Equal(t, before, secureboot.Content(c.v, c.u.Variable), "the machine itself stays")
			if c.err == nil {
				require.NoError(t, err)
				require.Equal(t, c.want, string(secureboot.Content(after, c.u.Variable)))
				return
			}
			require.Equal(t, osmith.FirmwareVariables{}, after)
			refused, ok := errors.AsType[*secureboot.RefusedError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.u.Variable, refused.Variable)
			switch c.err {
			case errAny:
				require.ErrorContains(t, err, c.want)
			case errStale:
				stale, ok := errors.AsType[*secureboot.StaleError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, when, stale.Variable)
				require.Equal(t, c.u.Time, stale.Update)
			default:
				require.ErrorIs(t, err, c.err)
			}
			require.NotContains(t, err.Error()[1:], "secureboot: ")
		})
	}

	// Modes and times.
	v, err := secureboot.Apply(setup, secureboot.Pending{Variable: "PK", Auth: auth(t, h.PK, U{Variable: "PK", Payload: cert(h.PK), Time: when})})
	require.NoError(t, err)
	require.Equal(t, []byte{1}, v.SecureBoot)
	require.Equal(t, []byte{0}, v.SetupMode)
	require.Equal(t, map[string]time.Time{"PK": when}, v.Times)
	v, err = secureboot.Apply(v, secureboot.Pending{Variable: "PK", Auth: auth(t, h.PK, U{Variable: "PK", Time: later})})
	require.NoError(t, err)
	require.Equal(t, []byte{1}, v.SetupMode)
	require.Equal(t, []byte{0}, v.SecureBoot)
	require.Empty(t, v.Times)
	v, err = secureboot.Apply(user, secureboot.Pending{Variable: "dbx", Auth: auth(t, h.KEK, U{Variable: "dbx", Payload: lists(t, hash(5)...), Time: from, Append: true}), Append: true})
	require.NoError(t, err)
	require.Equal(t, when, v.Times["dbx"], "the later time stays")
	v, err = secureboot.Apply(user, secureboot.Pending{Variable: "dbx", Auth: auth(t, h.KEK, U{Variable: "dbx", Payload: lists(t, hash(5)...), Time: later, Append: true}), Append: true})
	require.NoError(t, err)
	require.Equal(t, later, v.Times["dbx"])
	require.Equal(t, when, user.Times["dbx"])

	// What was signed as an append is none else, and garbage is refused with its place.
	u := U{Variable: "db", Payload: cert(f.DB), Time: later, Append: true}
	_, err = secureboot.Apply(user, secureboot.Pending{Variable: "db", Auth: auth(t, h.KEK, u)})
	require.ErrorIs(t, err, secureboot.ErrSignature)
	_, err = secureboot.Apply(user, secureboot.Pending{Variable: "db", Auth: []byte("garbage")})
	_, ok := errors.AsType[*osmith.FormatError](err)
	require.True(t, ok, "%v", err)
	_, err = secureboot.Apply(user, secureboot.Pending{Variable: "Boot0000", Auth: auth(t, h.KEK, u), Append: true})
	require.ErrorContains(t, err, `variable "Boot0000"`)
}

// Markers of the table above.
var (
	errAny   = errors.New("any")
	errStale = errors.New("stale")
)

// The hierarchy signs with the key that firmware asks for.
func TestSignUpdate(t *testing.T) {
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	for _, name := range []string{"dbt", "dbr", "dbx", "db", "KEK", "PK"} {
		payload := lists(t, secureboot.CertificateList(owner, foreignHierarchy(t).PK.Cert))
		b, err := h.SignUpdate(secureboot.Update{Variable: name, Payload: payload, Time: when})
		require.NoError(t, err)
		_, err = secureboot.Apply(v, secureboot.Pending{Variable: name, Auth: b})
		require.NoError(t, err, name)
	}
}

func TestBuilders(t *testing.T) {
	h := hierarchy(t)
	for hash, size := range map[crypto.Hash]int{crypto.SHA1: 20, crypto.SHA224: 28, crypto.SHA256: 32, crypto.SHA384: 48, crypto.SHA512: 64} {
		l, err := secureboot.DigestList(owner, hash, bytes.Repeat([]byte{1}, size), bytes.Repeat([]byte{2}, size))
		require.NoError(t, err)
		b := lists(t, l)
		again, err := secureboot.ParseSignatureLists(b)
		require.NoError(t, err)
		require.Equal(t, b, lists(t, again...))
		require.NotContains(t, secureboot.TypeName(l.Type), "-")
		_, err = secureboot.DigestList(owner, hash, []byte{1})
		require.ErrorContains(t, err, "digest 0 has 1 bytes")
	}
	_, err := secureboot.DigestList(owner, crypto.MD5)
	require.ErrorContains(t, err, "no signature list")
	l, err := secureboot.CertificateDigestList(owner, crypto.SHA384, when, h.DB.Cert)
	require.NoError(t, err)
	require.Equal(t, "ea0703040506070000000000000000", hexOf(l.Signatures[0].Data[48:63]))
	_, err = secureboot.CertificateDigestList(owner, crypto.SHA1, when, h.DB.Cert)
	require.ErrorContains(t, err, "secureboot: SHA-1 digests do not revoke certificates: want SHA-256, SHA-384 or SHA-512")
	_, err = secureboot.CertificateDigestList(owner, crypto.SHA256, from.AddDate(-200, 0, 0), h.DB.Cert)
	require.ErrorContains(t, err, "year")
}
