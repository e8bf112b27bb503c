package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// newCodeSigner makes an identity as NSS, pesign's library, wants it: for code, and not expired.
func newCodeSigner(t testing.TB, name string) identity {
	return issue(t, newKey(t, "rsa1"), &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}, nil)
}

// pesigcheck accepts ours, pesign lists it and takes it off; what pesign signs, once or behind
// ours, we accept.
func TestPesign(t *testing.T) {
	r := testtools.Trixie(t)
	testtools.Require(t, "openssl")
	id, other := newCodeSigner(t, "signer"), newCodeSigner(t, "another signer")
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	key, cert := id.files(t)
	testtools.Run(t, "openssl", "pkcs12", "-export", "-inkey", key, "-in", cert, "-name", "signer", "-passout", "pass:x", "-out", filepath.Join(dir, "key.p12"))
	nss := filepath.Join(dir, "nss")
	require.NoError(t, os.Mkdir(nss, 0o700))
	r.Run(t, dir, "certutil", "-N", "-d", nss, "--empty-password")
	r.Run(t, dir, "pk12util", "-i", "key.p12", "-d", nss, "-W", "x")
	trusted, foreign := put("signer.der", id.cert.Raw), put("other.der", other.cert.Raw)

	for _, trailing := range []int{0, 5, 4096} {
		plain := put("plain.efi", image(trailing))
		ours := sign(t, image(trailing), id, authenticode.SignOptions{Time: when})
		path := put("ours.efi", ours)
		r.Run(t, dir, "pesigcheck", "-n", "1", "-c", trusted, "-i", path)
		if out, err := r.Try(t, dir, "pesigcheck", "-n", "1", "-c", foreign, "-i", path); err == nil {
			t.Errorf("pesigcheck accepts with a foreign certificate: %s", out)
		}
		require.Contains(t, r.Run(t, dir, "pesign", "-S", "-i", path), "The signer's common name is signer")

		theirs := filepath.Join(dir, "theirs.efi")
		for signatures, in := range []string{plain, path} {
			r.Run(t, dir, "pesign", "-n", nss, "-c", "signer", "-s", "-f", "-i", in, "-o", theirs)
			b := readFile(t, theirs)
			all, err := authenticode.Signatures(bytes.NewReader(b))
			require.NoError(t, err)
			require.Len(t, all, signatures+1)
			for _, s := range all {
				require.NoError(t, s.Err)
			}
			_, err = authenticode.Verify(bytes.NewReader(b), id.list())
			require.NoError(t, err)
			r.Run(t, dir, "pesigcheck", "-n", "1", "-c", trusted, "-i", put("again.efi", sign(t, b, id, authenticode.SignOptions{})))

			// Taking pesign's off again gives what it was given. It does not keep the checksum.
			last := func(i int, _ authenticode.Signature) bool { return i == signatures }
			want := readFile(t, in)
			if signatures == 0 {
				want = append(want, make([]byte, -len(want)&7)...)
			}
			require.Equal(t, withChecksum(want), remove(t, b, last))
		}
	}
}

// A signature that osslsigncode stamped as an authority of ours: the time is found, and not
// trusted.
func TestTimestamps(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	timeStamping, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	require.NoError(t, err)
	tsa := issue(t, newKey(t, "rsa2"), &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "clock"},
		NotBefore: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: timeStamping}},
	}, nil)
	key, cert := id.files(t)
	tsaKey, tsaCert := tsa.files(t)
	plain := write(t, "plain.efi", image(0))
	out := plain + ".signed"
	osslsigncode(t, "sign", "-h", "sha256", "-certs", cert, "-key", key, "-TSA-certs", tsaCert, "-TSA-key", tsaKey, "-TSA-time", "1700000000", "-in", plain, "-out", out)
	b := readFile(t, out)
	_, err = authenticode.Verify(bytes.NewReader(b), id.list())
	require.NoError(t, err)
	entries, err := authenticode.Signatures(bytes.NewReader(b))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Len(t, entries[0].Timestamps(), 1)
	stamp := entries[0].Timestamps()[0]
	require.NoError(t, stamp.Err)
	require.True(t, stamp.RFC3161)
	require.Equal(t, time.Unix(1700000000, 0).UTC(), stamp.Time)
	require.Equal(t, tsa.cert.Raw, stamp.Authority.Raw)

	// Wherever the token is changed, the signature of the image stays valid; the time is gone, or
	// the change is in the certificates that the token carries, which are not trusted yet.
	token := bytes.Index(b, []byte{0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x03, 0x03, 0x01})
	require.Positive(t, token)
	first, last := bytes.Index(b, tsa.cert.Raw), bytes.LastIndex(b, tsa.cert.Raw)+len(tsa.cert.Raw)
	for i := token + 16; i < int(entries[0].Offset)+len(entries[0].Message); i++ {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		_, err := authenticode.Verify(bytes.NewReader(bad), id.list())
		require.NoError(t, err)
		entries, err := authenticode.Signatures(bytes.NewReader(bad))
		require.NoError(t, err)
		for _, s := range entries[0].Timestamps() {
			require.Equal(t, s.Err != nil, s.Time.IsZero())
			if s.Err == nil {
				require.Equal(t, stamp.Time, s.Time)
				require.True(t, i > first && i < last, "byte 0x%x", i)
			} else {
				require.Regexp(t, `^authenticode: (timestamp token: )?[^:]`, s.Err.Error())
			}
		}
	}
}

// Every kind of key that may sign, with every digest, by a chain of three; dates have passed, which
// firmware does not look at.
func TestAlgorithms(t *testing.T) {
	kinds := []string{"rsa1", "3072", "4096", "256a", "384a", "521a"}
	if testing.Short() {
		// keys that take long to make
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "3072" || kind == "4096" })
	}
	for _, kind := range kinds {
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			t.Run(kind+"/"+h.String(), func(t *testing.T) {
				root := newIdentity(t, "rsa2", "C root", nil)
				middle := newIdentity(t, kind, "C middle", &root)
				leaf := newIdentity(t, kind, "leaf", &middle)
				signed := sign(t, image(0), leaf, authenticode.SignOptions{Hash: h, Time: when, Chain: middle.list()})
				for _, trusted := range []identity{root, middle, leaf} {
					s, err := authenticode.Verify(bytes.NewReader(signed), trusted.list())
					require.NoError(t, err)
					require.Equal(t, h, s.Hash)
				}
				bare := sign(t, image(0), leaf, authenticode.SignOptions{Hash: h})
				_, err := authenticode.Verify(bytes.NewReader(bare), root.list())
				require.ErrorIs(t, err, authenticode.ErrUntrusted, "the one in the middle is missing")
				_, err = authenticode.Verify(bytes.NewReader(bare), middle.list())
				require.NoError(t, err)

				_, cert := root.files(t)
				out := osslsigncode(t, "verify", "-CAfile", cert, "-time", "994000000", "-ignore-timestamp", "-in", write(t, "signed.efi", signed))
				require.Contains(t, out, "Succeeded")
				require.NotContains(t, out, "MISMATCH")
				if h == crypto.SHA256 {
					_, cert := middle.files(t)
					testtools.Run(t, "sbverify", "--cert", cert, write(t, "signed.efi", signed))
				}
			})
		}
	}
}
