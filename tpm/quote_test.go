package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm/policy"
)

// Quotes of a software TPM by each kind of key and scheme.
func TestInteropQuote(t *testing.T) {
	tpm := startTPM(t)
	v := bootVectors(t)[0]
	log, err := ParseLog(v.log)
	require.NoError(t, err)
	for i := range log.Events {
		e := &log.Events[i]
		if e.extends() {
			_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)},
				Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: e.Digests[crypto.SHA256]}}}}.Execute(tpm)
			require.NoError(t, err)
		}
	}
	rsaScheme := func(alg tpm2.TPMAlgID, hash tpm2.TPMIAlgHash) tpm2.TPMTRSAScheme {
		if alg == tpm2.TPMAlgRSAPSS {
			return tpm2.TPMTRSAScheme{Scheme: alg, Details: tpm2.NewTPMUAsymScheme(alg, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: hash})}
		}
		return tpm2.TPMTRSAScheme{Scheme: alg, Details: tpm2.NewTPMUAsymScheme(alg, &tpm2.TPMSSigSchemeRSASSA{HashAlg: hash})}
	}
	attributes := tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true}
	templates := map[string]tpm2.TPMTPublic{}
	for _, hash := range []tpm2.TPMIAlgHash{tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA384} {
		for name, alg := range map[string]tpm2.TPMAlgID{"rsassa": tpm2.TPMAlgRSASSA, "rsapss": tpm2.TPMAlgRSAPSS} {
			templates[fmt.Sprint(name, hash)] = tpm2.TPMTPublic{Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
				Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Scheme: rsaScheme(alg, hash), KeyBits: 2048})}
		}
	}
	for name, c := range map[string]tpm2.TPMECCCurve{"p256": tpm2.TPMECCNistP256, "p384": tpm2.TPMECCNistP384} {
		templates[name] = tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: c, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}})}
	}
	for name, template := range templates {
		t.Run(name, func(t *testing.T) {
			primary, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(tpm)
			require.NoError(t, err)
			defer func() { _, _ = tpm2.FlushContext{FlushHandle: primary.ObjectHandle}.Execute(tpm) }()
			ours, err := policy.ObjectName(primary.OutPublic.Bytes())
			require.NoError(t, err)
			assert.Equal(t, primary.Name.Buffer, ours)
			nonce := []byte("a nonce of the verifier")
			quote, err := tpm2.Quote{
				SignHandle:     tpm2.AuthHandle{Handle: primary.ObjectHandle, Name: primary.Name, Auth: tpm2.PasswordAuth(nil)},
				QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
				PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(0, 4, 7, 11, 17)}}},
			}.Execute(tpm)
			require.NoError(t, err)
			attest, sig := quote.Quoted.Bytes(), tpm2.Marshal(quote.Signature)
			key := publicKey(t, primary.OutPublic)
			q, err := VerifyQuote(key, attest, sig, nonce)
			require.NoError(t, err)
			assert.True(t, q.Has(crypto.SHA256, 0, 4, 7, 11, 17))
			assert.False(t, q.Has(crypto.SHA256, 5))
			assert.NoError(t, log.VerifyQuote(q))
			values, err := log.Values(crypto.SHA256)
			require.NoError(t, err)
			assert.NoError(t, q.Check(map[crypto.Hash]map[int][]byte{crypto.SHA256: values}))

			var bad *QuoteError
			_, err = VerifyQuote(key, attest, sig, []byte("another"))
			require.ErrorAs(t, err, &bad)
			assert.Equal(t, "nonce", bad.Field)
			other := *log
			other.Events = other.Events[:40]
			require.ErrorAs(t, other.VerifyQuote(q), &bad)
			assert.Equal(t, "PCR digest", bad.Field)
			for i := range attest {
				changed := bytes.Clone(attest)
				changed[i] ^= 1
				_, err = VerifyQuote(key, changed, sig, nonce)
				require.Error(t, err)
			}
			delete(values, 7)
			assert.ErrorContains(t, q.Check(map[crypto.Hash]map[int][]byte{crypto.SHA256: values}), "PCR 7 of bank sha256 is quoted, but its value was not given")
		})
	}
}

func publicKey(t *testing.T, public tpm2.TPM2BPublic) crypto.PublicKey {
	t.Helper()
	p, err := public.Contents()
	require.NoError(t, err)
	if p.Type == tpm2.TPMAlgRSA {
		parms, err := p.Parameters.RSADetail()
		require.NoError(t, err)
		unique, err := p.Unique.RSA()
		require.NoError(t, err)
		key, err := tpm2.RSAPub(parms, unique)
		require.NoError(t, err)
		return key
	}
	parms, err := p.Parameters.ECCDetail()
	require.NoError(t, err)
	unique, err := p.Unique.ECC()
	require.NoError(t, err)
	curve := elliptic.P256()
	if parms.CurveID == tpm2.TPMECCNistP384 {
		curve = elliptic.P384()
	}
	size := (curve.Params().BitSize + 7) / 8
	point := append([]byte{4}, append(leftPad(unique.X.Buffer, size), leftPad(unique.Y.Buffer, size)...)...)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	require.NoError(t, err)
	return key
}

func leftPad(b []byte, n int) []byte { return append(make([]byte, n-len(b)), b...) }

// vectorQuote is a quote by tpm2-tools, and the log of the boot that it is about.
func vectorQuote(t *testing.T) (key crypto.PublicKey, attest, signature, nonce []byte, log *Log) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile("testdata/" + name)
		require.NoError(t, err)
		return data
	}
	block, _ := pem.Decode(read("quote/ak.pem"))
	require.NotNil(t, block)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	nonce, err = hex.DecodeString("00112233445566778899aabbccddeeff")
	require.NoError(t, err)
	log, err = ParseLog(read("boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.NoError(t, err)
	return key, read("quote/quote.attest"), read("quote/quote.sig"), nonce, log
}

// A verifier without a nonce of its own is told so, unless it asks by name.
func TestQuoteNonce(t *testing.T) {
	key, attest, signature, nonce, _ := vectorQuote(t)
	q, err := VerifyQuote(key, attest, signature, nonce)
	require.NoError(t, err)
	for _, none := range [][]byte{nil, {}, make([]byte, 1), make([]byte, 16), make([]byte, 32)} {
		_, err = VerifyQuote(key, attest, signature, none)
		require.ErrorIs(t, err, ErrNoNonce)
	}
	var bad *QuoteError
	_, err = VerifyQuote(key, attest, signature, nonce[:15])
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "nonce", bad.Field)

	old, err := VerifyQuoteOfAnyTime(key, attest, signature)
	require.NoError(t, err)
	require.Equal(t, q, old)
	require.Equal(t, nonce, old.Nonce)
	forged := bytes.Clone(attest)
	forged[len(forged)-1] ^= 1
	_, err = VerifyQuoteOfAnyTime(key, forged, signature)
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "signature", bad.Field)
}

// Only values that the digest is made of are proved.
func TestQuoteValues(t *testing.T) {
	key, attest, signature, nonce, log := vectorQuote(t)
	q, err := VerifyQuote(key, attest, signature, nonce)
	require.NoError(t, err)
	values, err := log.Values(crypto.SHA256)
	require.NoError(t, err)
	reported := map[crypto.Hash]map[int][]byte{crypto.SHA256: values, crypto.SHA384: {7: make([]byte, 48)}}
	got, err := q.Values(reported)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Len(t, got[crypto.SHA256], 11)
	require.NotContains(t, got[crypto.SHA256], 8, "it is not quoted")
	for n, v := range got[crypto.SHA256] {
		require.Equal(t, values[n], v)
	}
	values[7] = bytes.Repeat([]byte{1}, 32)
	got, err = q.Values(reported)
	var bad *QuoteError
	require.ErrorAs(t, err, &bad)
	require.Nil(t, got)
}
