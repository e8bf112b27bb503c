package firmwaregrid

import (
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every question has an answer of every build, and there are as many kinds as are claimed.
func TestAnswers(t *testing.T) {
	g := Images()
	answers, err := g.Answers()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(kinds), 40)
	for _, b := range Builds {
		require.Len(t, answers[b], len(g.Cases), "of %s: go test ./e2e -run FirmwareImages -record-answers FILE asks again", b)
	}
}

// No two questions have one name. That the same bytes come out each time follows from the digests
// beside the recorded answers.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, cases := range [][]Case{Images().Cases, Shim().Cases} {
		for _, c := range cases {
			require.False(t, seen[c.Name], c.Name)
			seen[c.Name] = true
		}
	}
}

// What is ordinary is valid to the standard library, with each kind of key and signature that it
// knows.
func TestOrdinaryCertificates(t *testing.T) {
	for name, k := range keys {
		if name == "e1" || name == "k256" || k.bare || k.ec == nil && k.n.BitLen() < 1024 {
			continue // crypto/x509 takes none of these
		}
		if k.ec == nil && !k.e.IsInt64() || name == "e32" {
			continue
		}
		root := issue(nil, "grid "+name, k, true, nil)
		c, err := x509.ParseCertificate(root.der)
		require.NoError(t, err, name)
		require.NoError(t, c.CheckSignatureFrom(c), name)
		leaf, err := x509.ParseCertificate(issue(root, "leaf", keys["leaf"], false, nil).der)
		require.NoError(t, err)
		require.NoError(t, leaf.CheckSignatureFrom(c), name)
	}
	root := issue(nil, "grid", keys["root"], true, nil)
	c, err := x509.ParseCertificate(root.der)
	require.NoError(t, err)
	pss, err := x509.ParseCertificate(issue(root, "leaf", keys["leaf"], false, func(c *certificate) {
		c.inner, c.sign = pssParameters(), c.signer.signPSS
	}).der)
	require.NoError(t, err)
	require.NoError(t, pss.CheckSignatureFrom(c))
	require.NotEqual(t, sha256.Sum256(root.der), sha256.Sum256(pss.Raw))
}
