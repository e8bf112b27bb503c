package edk2

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var keys = sync.OnceValue(func() (list []*rsa.PrivateKey) {
	for range 3 {
		k, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			panic(err)
		}
		list = append(list, k)
	}
	return list
})

// issue makes a certificate; a nil parent is the certificate itself.
func issue(t testing.TB, c, parent *x509.Certificate, key, parentKey *rsa.PrivateKey) *Certificate {
	t.Helper()
	if parent == nil {
		parent = c
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(int64(len(c.Subject.CommonName))+1), time.Unix(0, 0), time.Unix(1, 0)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	require.NoError(t, err)
	parsed, err := ParseCertificate(der)
	require.NoError(t, err)
	return parsed
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

func TestChain(t *testing.T) {
	k := keys()
	root, middle := authority("root"), authority("middle")
	rootCert := issue(t, root, nil, k[0], k[0])
	middleCert := issue(t, middle, root, k[1], k[0])
	leaf := issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}}, middle, k[2], k[1])
	// of the same name, with another key
	impostor := issue(t, authority("middle"), root, k[2], k[0])
	short := authority("root")
	short.MaxPathLenZero, short.BasicConstraintsValid = true, true
	shortCert := issue(t, short, nil, k[0], k[0])
	noSign := authority("middle")
	noSign.KeyUsage = x509.KeyUsageDigitalSignature
	noSignCert := issue(t, noSign, root, k[1], k[0])
	notCA := issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "middle"}, BasicConstraintsValid: true}, root, k[1], k[0])
	for _, c := range []struct {
		name   string
		others []*Certificate
		anchor *Certificate
		text   string // of the error, "": it leads there
	}{
		{"root", []*Certificate{leaf, middleCert}, rootCert, ""},
		{"middle", []*Certificate{leaf}, middleCert, ""},
		{"leaf itself", nil, leaf, ""},
		{"middle missing", []*Certificate{leaf}, rootCert, "no path"},
		{"the first issuer of a name is taken", []*Certificate{impostor, middleCert}, rootCert, "not by this key"},
		{"and the search does not come back", []*Certificate{middleCert, impostor}, rootCert, ""},
		{"path length", []*Certificate{middleCert}, shortCert, "may have 0 authorities below it, and has 1"},
		{"key usage without certSign is no issuer", []*Certificate{noSignCert}, rootCert, "no path"},
		{"not an authority", []*Certificate{notCA}, rootCert, "not a CA certificate"},
		{"leaf matches, what stands behind it is checked all the same", []*Certificate{impostor}, leaf, "not by this key"},
	} {
		_, err := chain(leaf, c.others, c.anchor, Options{})
		if c.text == "" {
			require.NoError(t, err, c.name)
		} else {
			require.ErrorContains(t, err, c.text, c.name)
			require.False(t, IsUnknown(err))
		}
	}
	found, err := Leads(leaf, []*Certificate{impostor, middleCert}, rootCert)
	require.NoError(t, err)
	require.True(t, found, "some path leads there")
	found, err = Leads(leaf, []*Certificate{impostor}, rootCert)
	require.NoError(t, err)
	require.False(t, found)
	var decoys []*Certificate
	for range maxSearch + 1 {
		decoys = append(decoys, impostor)
	}
	found, err = Leads(leaf, append(decoys, middleCert), rootCert)
	require.False(t, found)
	require.True(t, IsUnknown(err), "an exhausted search is no answer")
}

// A malformed extension of the signer's certificate does not matter where that certificate is
// trusted itself: no other is put behind it.
func TestMalformedSigner(t *testing.T) {
	k := keys()
	root := authority("root")
	rootCert := issue(t, root, nil, k[0], k[0])
	usage := pkix.Extension{Id: []int{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 2, 4}}
	twice := authority("twice")
	twice.KeyUsage, twice.ExtraExtensions = 0, []pkix.Extension{usage, usage}
	self := issue(t, twice, nil, k[1], k[1])
	below := issue(t, twice, root, k[1], k[0])
	critical := *twice
	critical.ExtraExtensions = append([]pkix.Extension{{Id: []int{2, 5, 29, 4}, Critical: true, Value: []byte{5, 0}}}, twice.ExtraExtensions...)
	strange := issue(t, &critical, nil, k[1], k[1])
	require.NotEmpty(t, self.invalid)
	for _, c := range []struct {
		name   string
		leaf   *Certificate
		others []*Certificate
		anchor *Certificate
		text   string
	}{
		{"itself", self, []*Certificate{self}, self, ""},
		{"itself, not carried", self, nil, self, ""},
		{"itself, issued by another that is not there", below, nil, below, ""},
		{"itself, issued by another that is there", below, []*Certificate{below, rootCert}, below, ""},
		{"the issuer is trusted", below, nil, rootCert, "malformed"},
		{"a critical extension counts all the same", strange, nil, strange, "critical extension"},
	} {
		_, err := chain(c.leaf, c.others, c.anchor, Options{})
		if c.text == "" {
			require.NoError(t, err, c.name)
			continue
		}
		require.ErrorContains(t, err, c.text, c.name)
		require.False(t, IsUnknown(err), c.name)
	}
}

// Names are compared as OpenSSL does, whatever types their texts have.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		a, b element
		same bool
	}{
		{element{tag: 0x0c, body: []byte("Acme  OS ")}, element{tag: 0x13, body: []byte("acme os")}, true},
		{element{tag: 0x1e, body: []byte("\x00A\x00b")}, element{tag: 0x16, body: []byte("aB")}, true},
		{element{tag: 0x1c, body: []byte("\x00\x00\x00A")}, element{tag: 0x0c, body: []byte("a")}, true},
		{element{tag: 0x14, body: []byte("\xe4")}, element{tag: 0x0c, body: []byte("ä")}, true},
		// only letters of ASCII fold
		{element{tag: 0x0c, body: []byte("Ä")}, element{tag: 0x0c, body: []byte("ä")}, false},
		{element{tag: 0x0c, body: []byte("a b")}, element{tag: 0x0c, body: []byte("ab")}, false},
	} {
		a, ok, err := canonicalText(c.a)
		require.NoError(t, err)
		require.True(t, ok)
		b, ok, err := canonicalText(c.b)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, c.same, bytes.Equal(a, b), "%q and %q", a, b)
	}
	for _, bad := range []element{{tag: 0x0c, body: []byte("\xff")}, {tag: 0x1e, body: []byte("a")}, {tag: 0x1c, body: []byte("abc")}} {
		_, _, err := canonicalText(bad)
		require.Error(t, err)
	}
}

func TestElements(t *testing.T) {
	e, rest, err := next([]byte{0x30, 0x83, 0, 0, 1, 7, 8}) // a length longer than it has to be
	require.NoError(t, err)
	require.Equal(t, []byte{7}, e.body)
	require.Equal(t, []byte{8}, rest)
	for _, b := range [][]byte{{}, {0x30}, {0x30, 1}, {0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, {0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1}} {
		_, _, err := next(b)
		require.Error(t, err)
		require.False(t, IsUnknown(err), "%x", b)
	}
	// indefinite lengths
	e, rest, err = next([]byte{0x30, 0x80, 0x31, 0x80, 4, 1, 7, 0, 0, 5, 0, 0, 0, 9})
	require.NoError(t, err)
	require.Equal(t, []byte{0x31, 0x80, 4, 1, 7, 0, 0, 5, 0}, e.body)
	require.Equal(t, []byte{9}, rest)
	for _, b := range [][]byte{{0x30, 0x80}, {0x30, 0x80, 0}, {0x30, 0x80, 4, 1, 7}, {0x04, 0x80, 0, 0}, {0x30, 0x80, 0x04, 0x80, 0, 0, 0, 0}} {
		_, _, err := next(b)
		require.Error(t, err)
		require.False(t, IsUnknown(err), "%x", b)
	}
	for _, b := range [][]byte{bytes.Repeat([]byte{0x30, 0x80}, 100), {0x1f, 0x81, 1, 0}} {
		_, _, err := next(b)
		require.True(t, IsUnknown(err), "%x", b)
	}
	require.True(t, sameInteger([]byte{0, 0, 5}, []byte{5}))
	require.True(t, sameInteger([]byte{0xff, 0xff, 0x80}, []byte{0x80}))
	require.False(t, sameInteger([]byte{0, 0x80}, []byte{0x80}), "one is negative")
}

// Firmware looks for the digest algorithm of an image at one place, and an image's message has to
// be in a ContentInfo.
func TestImageHash(t *testing.T) {
	message := make([]byte, 64)
	message[0], message[1] = 0x30, 0x82
	copy(message[32:], digestHashes[2].oid)
	require.Equal(t, digestHashes[2].hash, ImageHash(message))
	for _, change := range []func(b []byte){
		func(b []byte) { b[1] = 0x81 },
		func(b []byte) { b[1] = 0x20 },
		func(b []byte) { b[32] ^= 1 },
		func(b []byte) { copy(b[32:], digestHashes[1].oid) }, // SHA-224 is not compiled in
	} {
		bad := bytes.Clone(message)
		change(bad)
		require.Zero(t, ImageHash(bad))
	}
	require.Zero(t, ImageHash(message[:40]))
	bare := []byte{0x30, 14, 2, 1, 1, 0x31, 0, 0x30, 5, 6, 3, 0x2a, 3, 4, 0x31, 0}
	_, err := ParseSignedData(bare)
	require.NoError(t, err)
	_, err = Parse(bare)
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	k := keys()
	c := issue(f, authority("root"), nil, k[0], k[0])
	f.Add(c.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCertificate(b); err == nil {
			_, _ = chain(c, []*Certificate{c}, c, Options{})
			_, _ = Leads(c, []*Certificate{c}, c)
		}
		_, _ = ParseSignedData(b)
		if m, err := Parse(b); err == nil {
			_, _ = m.SignerCertificates()
			_, _ = m.VerifyImage(c, make([]byte, 32), Options{})
		}
		ImageHash(b)
	})
}

// Name constraints are decided for the subject; for names of other kinds that they are about it
// cannot be told. A certificate in between whose subject is its issuer's is left out, the signer's
// never.
func TestNameConstraints(t *testing.T) {
	k := keys()
	constrained := func(change func(*x509.Certificate)) (*x509.Certificate, *Certificate) {
		root := authority("root")
		root.PermittedDNSDomainsCritical = true
		change(root)
		return root, issue(t, root, nil, k[0], k[0])
	}
	mails := func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.org"} }
	hosts := func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} }
	email := pkix.AttributeTypeAndValue{Type: []int{1, 2, 840, 113549, 1, 9, 1}, Value: "a@example.org"}
	for name, c := range map[string]struct {
		root, leaf func(*x509.Certificate)
		open       bool
	}{
		"email address":                     {mails, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org"} }, true},
		"email address in the subject":      {mails, func(c *x509.Certificate) { c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{email} }, true},
		"host":                              {hosts, func(c *x509.Certificate) { c.DNSNames = []string{"a.example.org"} }, true},
		"common name that may be a host":    {hosts, func(c *x509.Certificate) { c.Subject.CommonName = "a.example.org" }, true},
		"no name of the kind":               {mails, func(c *x509.Certificate) { c.DNSNames = []string{"a.example.org"} }, false},
		"common name that is none of hosts": {hosts, func(c *x509.Certificate) {}, false},
	} {
		root, rootCert := constrained(c.root)
		template := authority("leaf")
		c.leaf(template)
		leaf := issue(t, template, root, k[1], k[0])
		_, err := chain(leaf, nil, rootCert, Options{})
		require.Equal(t, c.open, err != nil, "%s: %v", name, err)
		require.Equal(t, c.open, IsUnknown(err), name)
	}
	excluded := pkix.Extension{Id: []int{2, 5, 29, 30}, Critical: true}
	in := &reader{b: issue(t, authority("root"), nil, k[0], k[0]).RawSubject}
	name := in.take(tagSequence, "name").full
	directory := append([]byte{0xa4, byte(len(name))}, name...)
	tree := append([]byte{0x30, byte(len(directory))}, directory...)
	excluded.Value = append([]byte{0x30, byte(len(tree) + 2), 0xa1, byte(len(tree))}, tree...)
	root := authority("root")
	root.ExtraExtensions, root.SubjectKeyId = []pkix.Extension{excluded}, []byte{1}
	rootCert := issue(t, root, nil, k[0], k[0])
	between := authority("root")
	between.SubjectKeyId, between.AuthorityKeyId = []byte{2}, []byte{1}
	betweenCert := issue(t, between, root, k[1], k[0])
	leaf := issue(t, authority("leaf"), between, k[2], k[1])
	_, err := chain(leaf, []*Certificate{betweenCert}, rootCert, Options{})
	require.NoError(t, err, "the one in between has the excluded name, and is self-issued")
	_, err = chain(betweenCert, nil, rootCert, Options{})
	require.ErrorContains(t, err, "exclude", "a signer is not left out")
}

// A revocation list has to be one, and attributes to be in DER as they are signed.
func TestMessageParts(t *testing.T) {
	name := []byte{0x30, 0}
	algorithm := []byte{0x30, 3, 6, 1, 0x2a}
	list := func(times ...byte) []byte {
		tbs := append(append(append([]byte{}, algorithm...), name...), times...)
		tbs = append([]byte{0x30, byte(len(tbs))}, tbs...)
		return append(append(tbs, algorithm...), 3, 1, 0)
	}
	utc := append([]byte{0x17, 13}, "260101000000Z"...)
	short := append([]byte{0x17, 11}, "2601010000Z"...)
	require.NoError(t, Options{}.revocationList(list(utc...)))
	require.NoError(t, Options{}.revocationList(list(append(utc, utc...)...)))
	require.Error(t, Options{}.revocationList(list()))
	require.Error(t, Options{}.revocationList(list(4, 1, 0)), "a value that is no time")
	require.Error(t, Options{}.revocationList(list(append(utc, 4, 1, 0)...)))
	require.Error(t, Options{}.revocationList(list(short...)))
	require.NoError(t, Options{OpenSSL11: true}.revocationList(list(short...)))

	for b, canonical := range map[string]bool{
		"\x30\x00": true, "\x30\x81\x00": false, "\x30\x80\x00\x00": false,
		"\x30\x81\x80" + strings.Repeat("\x05\x00", 64): true, "\x30\x82\x00\x80" + strings.Repeat("\x05\x00", 64): false,
	} {
		e, _, err := next([]byte(b))
		require.NoError(t, err)
		require.Equal(t, canonical, canonicalLength(e), "%x", b)
	}
}
