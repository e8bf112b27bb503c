package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/authenticode"
)

// What other tools made, kept in testdata: how is in its README.
const (
	goldenAsIs   = "33a1782f32dbf1c3a6d13b7896e03f6e17112e6c2ea7e1665a89a53162c68cce"
	goldenPadded = "f5f2459e2a6caf3d8fee9efbe3c15037fe85ae9379de2aaf25addde619609784"
	goldenSHA384 = "62c400c7c2389e8bd194f937a2d6a01bbdf92ca7c68945f2fdba2fc6de7bb2efbf7588d59265ab6a2d32d93ae086cbd8"
)

func TestGoldenDigests(t *testing.T) {
	plain := readFile(t, "testdata/plain.efi")
	sum, err := authenticode.Digest(bytes.NewReader(plain), crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, goldenAsIs, hex.EncodeToString(sum))
	d, err := authenticode.NewDigester(crypto.SHA256, crypto.SHA384)
	require.NoError(t, err)
	_, err = d.Write(plain)
	require.NoError(t, err)
	padded, err := d.SumsAsSigned()
	require.NoError(t, err)
	require.Equal(t, goldenPadded, hex.EncodeToString(padded[crypto.SHA256]))
	require.Equal(t, goldenSHA384, hex.EncodeToString(padded[crypto.SHA384]))
}

func TestGoldenSignatures(t *testing.T) {
	block, _ := pem.Decode(readFile(t, "testdata/ca.pem"))
	require.NotNil(t, block)
	ca, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	signedAt := time.Unix(1767323045, 0).UTC()
	plain := readFile(t, "testdata/plain.efi")
	cases := []struct {
		file       string
		signatures int
		hash       crypto.Hash
		digest     string
		time       time.Time // zero: of when it was made
		timestamp  time.Time
	}{
		{"sbsign.efi", 1, crypto.SHA256, goldenPadded, time.Time{}, time.Time{}},
		{"systemd-sbsign.efi", 1, crypto.SHA256, goldenPadded, signedAt, time.Time{}},
		{"osslsigncode.efi", 1, crypto.SHA384, goldenSHA384, signedAt, signedAt.Add(time.Hour)},
		{"pesign.efi", 1, crypto.SHA256, goldenPadded, time.Time{}, time.Time{}},
		{"sbsign-behind-pesign.efi", 2, crypto.SHA256, goldenPadded, time.Time{}, time.Time{}},
	}
	found, err := filepath.Glob("testdata/*.efi")
	require.NoError(t, err)
	require.Len(t, found, len(cases)+1, "each file but the plain one is a case")
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			b := readFile(t, filepath.Join("testdata", c.file))
			entries, err := authenticode.Signatures(bytes.NewReader(b))
			require.NoError(t, err)
			require.Len(t, entries, c.signatures)
			for _, e := range entries {
				require.NoError(t, e.Err)
				require.Equal(t, c.hash, e.Hash)
				require.Equal(t, c.digest, hex.EncodeToString(e.Digest))
				require.Equal(t, "CN=osmith test signer", e.Signer.Subject.String())
				if !c.time.IsZero() {
					require.Equal(t, c.time, e.SigningTime)
				}
				if c.timestamp.IsZero() {
					require.Empty(t, e.Timestamps())
					continue
				}
				require.Len(t, e.Timestamps(), 1)
				require.NoError(t, e.Timestamps()[0].Err)
				require.Equal(t, c.timestamp, e.Timestamps()[0].Time)
				require.Equal(t, "CN=osmith test clock", e.Timestamps()[0].Authority.Subject.String())
			}
			s, err := authenticode.Verify(bytes.NewReader(b), []*x509.Certificate{ca})
			require.NoError(t, err)
			require.Equal(t, entries[0], *s)

			// Taken apart and put together again.
			bare := remove(t, b, all)
			require.Equal(t, withChecksum(append(bytes.Clone(plain), make([]byte, -len(plain)&7)...)), bare)
			for _, e := range entries {
				var out bytes.Buffer
				require.NoError(t, authenticode.Attach(&out, bytes.NewReader(bare), e.Message))
				bare = out.Bytes()
			}
			again, err := authenticode.Signatures(bytes.NewReader(bare))
			require.NoError(t, err)
			require.Len(t, again, c.signatures)
			for i := range again {
				require.Equal(t, entries[i].Message, again[i].Message)
			}
		})
	}
}
