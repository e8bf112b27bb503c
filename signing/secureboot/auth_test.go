package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cmstest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func TestAuthRoundTrip(t *testing.T) {
	h := hierarchy(t)
	content := lists(t, secureboot.CertificateList(owner, h.DB.Cert), secureboot.SHA256List(owner, [32]byte{1}, [32]byte{2}))
	for _, c := range []struct {
		name    string
		payload []byte
		add     bool
	}{
		{"db", content, false}, {"db", content, true}, {"dbx", lists(t, secureboot.SHA256List(owner, [32]byte{9})), true},
		{"KEK", lists(t, secureboot.CertificateList(owner, h.KEK.Cert)), false},
		{"PK", lists(t, secureboot.CertificateList(owner, h.PK.Cert)), false},
		{"PK", nil, false}, {"dbt", content, false}, {"dbr", content, false},
	} {
		b, err := secureboot.Update{Variable: c.name, Payload: c.payload, Time: when.Add(999), Append: c.add}.Sign(h.KEK.Key, h.KEK.Cert)
		require.NoError(t, err)
		again, err := secureboot.Update{Variable: c.name, Payload: c.payload, Time: when, Append: c.add}.Sign(h.KEK.Key, h.KEK.Cert)
		require.NoError(t, err)
		require.Equal(t, again, b, "the same bytes, fractions of a second do not count")

		a, err := secureboot.VerifyAuth(secureboot.Pending{Variable: c.name, Auth: b, Append: c.add}, []*x509.Certificate{h.PK.Cert, h.KEK.Cert})
		require.NoError(t, err)
		require.Equal(t, when, a.Time)
		require.Equal(t, string(c.payload), string(a.Payload))
		require.Equal(t, h.KEK.Cert.Raw, a.Signer.Raw)

		_, err = secureboot.VerifyAuth(secureboot.Pending{Variable: c.name, Auth: b, Append: !c.add}, []*x509.Certificate{h.KEK.Cert})
		require.ErrorIs(t, err, secureboot.ErrSignature)
		_, err = secureboot.VerifyAuth(secureboot.Pending{Variable: c.name, Auth: b, Append: c.add}, []*x509.Certificate{foreignHierarchy(t).KEK.Cert})
		require.ErrorIs(t, err, secureboot.ErrUntrusted)
		_, err = secureboot.VerifyAuth(secureboot.Pending{Variable: c.name, Auth: b, Append: c.add}, nil)
		require.ErrorIs(t, err, secureboot.ErrUntrusted)
		for _, other := range []string{"PK", "KEK", "db", "dbx"} {
			if other != c.name {
				_, err = secureboot.VerifyAuth(secureboot.Pending{Variable: other, Auth: b, Append: c.add}, []*x509.Certificate{h.KEK.Cert})
				require.ErrorIs(t, err, secureboot.ErrSignature)
			}
		}
	}
}

func TestUpdateRefuses(t *testing.T) {
	h := hierarchy(t)
	db := lists(t, secureboot.CertificateList(owner, h.DB.Cert))
	two := lists(t, secureboot.CertificateList(owner, h.PK.Cert), secureboot.CertificateList(owner, h.KEK.Cert))
	for _, c := range []struct {
		name, variable string
		payload        []byte
		at             time.Time
		key            crypto.Signer
		cert           *x509.Certificate
		want           string
	}{
		{"unknown variable", "DB", db, when, h.KEK.Key, h.KEK.Cert, `secureboot: variable "DB"`},
		{"no time", "db", db, time.Time{}, h.KEK.Key, h.KEK.Cert, "has no time"},
		{"year 1899", "db", db, time.Date(1899, 1, 1, 0, 0, 0, 0, time.UTC), h.KEK.Key, h.KEK.Cert, "year"},
		{"no lists", "db", []byte("PEM"), when, h.KEK.Key, h.KEK.Cert, "signature list"},
		{"two PKs", "PK", two, when, h.KEK.Key, h.KEK.Cert, "exactly one"},
		{"no key", "db", db, when, nil, h.KEK.Cert, "secureboot: no key"},
		{"no certificate", "db", db, when, h.KEK.Key, nil, "no certificate"},
		{"another's certificate", "db", db, when, h.KEK.Key, h.PK.Cert, "secureboot: the key is not that of the certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := secureboot.Update{Variable: c.variable, Payload: c.payload, Time: c.at}.Sign(c.key, c.cert)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, b)
		})
	}
	u := secureboot.Update{Variable: "db", Payload: db, Time: when}
	_, err := u.Join(h.KEK.Cert, make([]byte, 256))
	require.ErrorContains(t, err, "secureboot: signature to join")
}

// A signature made elsewhere from the digest gives the same file.
func TestUpdateJoin(t *testing.T) {
	h := hierarchy(t)
	u := secureboot.Update{Variable: "dbx", Payload: lists(t, secureboot.SHA256List(owner, [32]byte{7})), Time: when, Append: true}
	digest, err := u.Digest()
	require.NoError(t, err)
	signature, err := h.KEK.Key.Sign(nil, digest, crypto.SHA256)
	require.NoError(t, err)
	joined, err := u.Join(h.KEK.Cert, signature)
	require.NoError(t, err)
	direct, err := u.Sign(h.KEK.Key, h.KEK.Cert)
	require.NoError(t, err)
	require.Equal(t, direct, joined)
}

// Every byte of an update counts, and every bit of its headers, but those that firmware does not
// look at: the revision, the versions of the message and its signer, whether letters of the
// issuer's name are capitals, and the signature algorithm, since the key tells it.
func TestAuthTampered(t *testing.T) {
	h := hierarchy(t)
	b, err := secureboot.Update{Variable: "db", Payload: lists(t, secureboot.CertificateList(owner, h.DB.Cert)), Time: when}.Sign(h.KEK.Key, h.KEK.Cert)
	require.NoError(t, err)
	trusted := []*x509.Certificate{h.KEK.Cert}
	_, err = secureboot.VerifyAuth(secureboot.Pending{Variable: "db", Auth: b}, trusted)
	require.NoError(t, err)
	issuer := bytes.LastIndex(b, h.KEK.Cert.RawIssuer)
	version := bytes.LastIndex(b[:issuer], []byte{2, 1, 1}) + 2
	// nine bytes, and the tag of what follows
	algorithm := issuer + bytes.Index(b[issuer:], []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1})
	for i := 0; i < 8*len(b); {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		letter := i/8 > issuer && i/8 < issuer+len(h.KEK.Cert.RawIssuer) && i%8 == 5 && unicode.IsLetter(rune(b[i/8]))
		overlooked := letter || i/8 >= algorithm && i/8 < algorithm+10 || slices.Contains([]int{20, 21, 46, version}, i/8)
		if _, err := secureboot.VerifyAuth(secureboot.Pending{Variable: "db", Auth: bad}, trusted); err == nil && !overlooked {
			t.Fatalf("accepted with bit %d of byte %d changed (0x%02x)", i%8, i/8, b[i/8])
		}
		if i++; i > 8*128 { // behind the headers one bit of each byte will do
			i += 8
		}
	}
	for i := range b {
		a, err := secureboot.VerifyAuth(secureboot.Pending{Variable: "db", Auth: b[:i]}, trusted)
		if err == nil || a != nil {
			t.Fatalf("accepted when cut to %d bytes", i)
		}
	}
	var e *osmith.FormatError
	_, err = secureboot.ParseAuth(b[:30])
	require.True(t, errors.As(err, &e))
}

// Every signer of an update has to be trusted and right.
func TestAuthSigners(t *testing.T) {
	h := hierarchy(t)
	payload := lists(t, secureboot.CertificateList(owner, h.DB.Cert))
	b, err := secureboot.Update{Variable: "db", Payload: payload, Time: when}.Sign(h.KEK.Key, h.KEK.Cert)
	require.NoError(t, err)
	const header = 40
	message := b[header : len(b)-len(payload)]
	for n, want := range []string{"no signer", "", ""} { // two good ones are as good as one
		other := cmstest.Signers(t, message, n)
		changed := append(bytes.Clone(b[:header]), append(other, payload...)...)
		binary.LittleEndian.PutUint32(changed[16:], uint32(24+len(other)))
		p := secureboot.Pending{Variable: "db", Auth: changed}
		_, err := secureboot.VerifyAuth(p, []*x509.Certificate{h.KEK.Cert})
		if want == "" {
			require.NoError(t, err)
			if n == 2 { // but both have to be good
				changed[len(changed)-len(payload)-1] ^= 1
				_, err = secureboot.VerifyAuth(p, []*x509.Certificate{h.KEK.Cert})
				require.ErrorIs(t, err, secureboot.ErrSignature)
			}
			continue
		}
		require.ErrorContains(t, err, want)
		e, ok := errors.AsType[*osmith.FormatError](err)
		require.True(t, ok, "%v", err)
		require.EqualValues(t, header, e.Offset)
	}
}

// Byte for byte what efitools writes.
func TestSameAsEfitools(t *testing.T) {
	testtools.Require(t, "sign-efi-sig-list")
	h := hierarchy(t)
	dir := t.TempDir()
	key, cert := pemFiles(t, h.KEK)
	_, db := pemFiles(t, h.DB)
	esl, auth := filepath.Join(dir, "db.esl"), filepath.Join(dir, "db.auth")
	testtools.Run(t, "cert-to-efi-sig-list", "-g", owner.String(), db, esl)
	payload := lists(t, secureboot.CertificateList(owner, h.DB.Cert))
	theirs, err := os.ReadFile(esl)
	require.NoError(t, err)
	require.Equal(t, theirs, payload)

	for _, add := range []bool{false, true} {
		for _, name := range []string{"db", "dbx", "KEK", "PK"} {
			args := []string{"-t", when.Format(time.DateTime), "-k", key, "-c", cert, name, esl, auth}
			if add {
				args = append([]string{"-a"}, args...)
			}
			testtools.Run(t, "sign-efi-sig-list", args...)
			theirs, err := os.ReadFile(auth)
			require.NoError(t, err)
			ours, err := secureboot.Update{Variable: name, Payload: payload, Time: when, Append: add}.Sign(h.KEK.Key, h.KEK.Cert)
			require.NoError(t, err)
			require.Equal(t, theirs, ours, "%s append %t", name, add)
			_, err = secureboot.VerifyAuth(secureboot.Pending{Variable: name, Auth: theirs, Append: add}, []*x509.Certificate{h.KEK.Cert})
			require.NoError(t, err)
		}
	}
}

func FuzzParseAuth(f *testing.F) {
	h := hierarchy(f)
	for _, payload := range [][]byte{nil, lists(f, secureboot.SHA256List(owner, [32]byte{1}))} {
		b, err := secureboot.Update{Variable: "db", Payload: payload, Time: when}.Sign(h.KEK.Key, h.KEK.Cert)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := secureboot.ParseAuth(data)
		if (a == nil) != (err != nil) {
			t.Fatalf("%v and error %v", a, err)
		}
		if _, err := secureboot.VerifyAuth(secureboot.Pending{Variable: "db", Auth: data}, []*x509.Certificate{foreignHierarchy(t).KEK.Cert}); err == nil {
			t.Fatal("accepted with a foreign certificate")
		}
	})
}
