package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/authenticode"
)

// A signing time outside of the validity of the certificate is refused before anything is written,
// whichever way an image is signed, unless the option says otherwise.
func TestSigningTimeOutsideValidity(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	img := image(0)
	from, to := id.cert.NotBefore, id.cert.NotAfter
	for _, c := range []struct {
		at time.Time
		ok bool
	}{
		{time.Time{}, true},
		{from, true},
		{to, true},
		{from.In(time.FixedZone("east", 7200)), true},
		{to.Add(time.Second - 1), true}, // signed is the second in which it lies
		{from.Add(-1), false},
		{from.Add(-time.Second), false},
		{to.Add(time.Second), false},
		{time.Unix(0, 0), false},
	} {
		o := authenticode.SignOptions{Time: c.at}
		bad := func(err error) {
			t.Helper()
			if c.ok {
				require.NoError(t, err, c.at)
				return
			}
			var outside *authenticode.SigningTimeError
			require.ErrorAs(t, err, &outside, "%v", c.at)
			require.Equal(t, c.at.Truncate(time.Second).Unix(), outside.Time.Unix())
			require.True(t, outside.Certificate.Equal(id.cert))
			require.ErrorContains(t, err, `the certificate "CN=self" is valid from 2001-01-01T00:00:00Z to 2026-03-05T05:06:07Z`)
		}
		var out bytes.Buffer
		bad(authenticode.Sign(&out, bytes.NewReader(img), id.key, id.cert, o))
		require.Equal(t, !c.ok, out.Len() == 0)
		_, err := authenticode.Prepare(bytes.NewReader(img), id.cert, o)
		bad(err)
		_, err = authenticode.NewStreamSigner(new(memoryFile), id.key, id.cert, o)
		bad(err)

		o.AllowTimeOutsideValidityThatUBootRefuses = true
		sigs, err := authenticode.Signatures(bytes.NewReader(sign(t, img, id, o)))
		require.NoError(t, err)
		if !c.at.IsZero() {
			require.Equal(t, c.at.Truncate(time.Second).UTC(), sigs[0].SigningTime)
		}
	}
}

// Days at the end of a month that U-Boot with MbedTLS does not count: they are inside, and refused
// all the same.
func TestSigningTimeAtTheEndOfAMonth(t *testing.T) {
	key := newKey(t, "rsa1")
	id := issue(t, key, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "new"}, NotBefore: time.Date(2026, 5, 31, 13, 0, 0, 0, time.UTC), NotAfter: when.AddDate(9, 0, 0)}, nil)
	for at, ok := range map[time.Time]bool{
		time.Date(2026, 5, 31, 14, 0, 0, 0, time.UTC): true,
		time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC):  false,
		time.Date(2026, 6, 2, 12, 0, 0, 0, time.UTC):  true,
		time.Date(2026, 5, 31, 12, 0, 0, 0, time.UTC): false,
	} {
		err := authenticode.Sign(io.Discard, bytes.NewReader(image(0)), id.key, id.cert, authenticode.SignOptions{Time: at})
		if ok {
			require.NoError(t, err, at)
			continue
		}
		require.ErrorAs(t, err, new(*authenticode.SigningTimeError))
		require.Equal(t, at.Month() == time.June, strings.Contains(err.Error(), "where a month ends in between"), err)
	}
}

// The same of a time among signed attributes that another tool prepared.
func TestJoinedSigningTimeOutsideValidity(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	img := image(0)
	allowed := authenticode.SignOptions{Time: id.cert.NotAfter.Add(time.Hour), AllowTimeOutsideValidityThatUBootRefuses: true}
	// stands for that tool
	theirs, err := authenticode.Prepare(bytes.NewReader(img), id.cert, allowed)
	require.NoError(t, err)
	signature, err := id.key.Sign(rand.Reader, theirs.Digest, crypto.SHA256)
	require.NoError(t, err)
	p, err := authenticode.Prepare(bytes.NewReader(img), id.cert, authenticode.SignOptions{})
	require.NoError(t, err)
	var out bytes.Buffer
	err = p.JoinAttributes(&out, bytes.NewReader(img), theirs.SignedAttributes, signature)
	require.ErrorAs(t, err, new(*authenticode.SigningTimeError))
	require.Zero(t, out.Len())

	p, err = authenticode.Prepare(bytes.NewReader(img), id.cert, authenticode.SignOptions{AllowTimeOutsideValidityThatUBootRefuses: true})
	require.NoError(t, err)
	require.NoError(t, p.JoinAttributes(io.Discard, bytes.NewReader(img), theirs.SignedAttributes, signature))

	// One that cannot be read may be any.
	at := bytes.Index(theirs.SignedAttributes, []byte("260305060607Z"))
	require.Positive(t, at)
	odd := bytes.Clone(theirs.SignedAttributes)
	odd[at+2] = '9' // a month of 93
	sum := crypto.SHA256.New()
	sum.Write(odd)
	signature, err = id.key.Sign(rand.Reader, sum.Sum(nil), crypto.SHA256)
	require.NoError(t, err)
	p, err = authenticode.Prepare(bytes.NewReader(img), id.cert, authenticode.SignOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, p.JoinAttributes(io.Discard, bytes.NewReader(img), odd, signature), "signed attributes to join: want one readable signing time")
}
