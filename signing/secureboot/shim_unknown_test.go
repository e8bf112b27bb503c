package secureboot_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/secureboot"
)

// Certificates and messages of which the model cannot tell what shim does with them: no such image
// is allowed, in whichever list the certificate is.
func TestShimCannotTell(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	make := func(serial int64, name string, key, issuerKey secureboot.KeyPair, issuer *x509.Certificate, change func(c *x509.Certificate)) secureboot.KeyPair {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: when, IsCA: true, BasicConstraintsValid: true}
		change(c)
		if issuer == nil {
			issuer = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Key.Public(), issuerKey.Key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return secureboot.KeyPair{Key: key.Key, Cert: cert}
	}
	plain := func(*x509.Certificate) {}
	limited := make(1, "limited", h.KEK, h.KEK, nil, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} })
	below := make(2, "below", h.PK, h.KEK, limited.Cert, plain)
	many := make(3, "many", h.KEK, h.KEK, nil, func(c *x509.Certificate) {
		for i := range 257 {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Value: []byte{5, 0}})
		}
	})
	middle := make(4, "middle", h.KEK, h.KEK, nil, plain)
	leaf := make(5, "leaf", h.PK, h.KEK, middle.Cert, plain)
	var decoys []secureboot.KeyPair
	for i := range 70 {
		decoys = append(decoys, make(int64(10+i), "middle", f.KEK, f.KEK, nil, plain))
	}
	curve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	odd := make(6, "middle", secureboot.KeyPair{Key: curve}, h.KEK, middle.Cert, plain)
	cert := func(p secureboot.KeyPair) []byte { return lists(t, secureboot.CertificateList(owner, p.Cert)) }
	for name, c := range map[string]struct {
		signer    secureboot.KeyPair
		carried   []secureboot.KeyPair
		db, listX []byte
		reason    string
	}{
		"name constraints in db":         {below, nil, cert(limited), []byte{}, "in db: "},
		"name constraints in MokListX":   {below, nil, cert(below), cert(limited), "in MokListX: "},
		"extensions in db":               {leaf, nil, cert(many), []byte{}, "in db: "},
		"extensions in MokListX":         {leaf, nil, cert(leaf), cert(many), "in MokListX: "},
		"many certificates in a message": {leaf, decoys, cert(leaf), []byte{}, "signature 0: "},
		"unknown key in MokListX":        {leaf, nil, cert(leaf), cert(odd), "in MokListX: "},
	} {
		w := newWorld(t)
		w.im = imageOf(w.im.Digests, message(crypto.SHA256, imageSum[:], c.signer, c.carried...))
		w.im.SBAT = []byte(sbatText)
		w.v.DB, w.v.MokListX = c.db, c.listX
		got := secureboot.Evaluate(w.v, w.im, secureboot.EvaluateOptions{Shim: &w.s})
		require.False(t, got.Allowed, name)
		require.True(t, got.Unknown, "%s: %s", name, got.Reason)
		require.Equal(t, secureboot.RuleNotModelled, got.Rule, name)
		require.Contains(t, got.Reason, c.reason, name)
	}
}
