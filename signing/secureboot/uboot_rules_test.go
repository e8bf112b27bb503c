package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// certify makes a certificate for the key of p, as a template says.
func certify(t testing.TB, p, issuer secureboot.KeyPair, c x509.Certificate) secureboot.KeyPair {
	t.Helper()
	c.SerialNumber, c.BasicConstraintsValid = big.NewInt(int64(len(c.Subject.CommonName))), c.BasicConstraintsValid || !c.IsCA
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = from, when
	}
	if issuer.Cert == nil {
		issuer.Cert = &c // signs itself
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, issuer.Cert, p.Key.Public(), issuer.Key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return secureboot.KeyPair{Key: p.Key, Cert: cert}
}

// children are the elements in a constructed one.
func children(t testing.TB, der []byte) (tag asn1.RawValue, list [][]byte) {
	t.Helper()
	_, err := asn1.Unmarshal(der, &tag)
	require.NoError(t, err)
	for rest := tag.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		rest, err = asn1.Unmarshal(rest, &v)
		require.NoError(t, err)
		list = append(list, v.FullBytes)
	}
	return tag, list
}

// put makes add the last but so many of the elements in the one to which a path of indexes leads,
// and corrects the lengths around it.
func put(t testing.TB, der, add []byte, lastBut int, path ...int) []byte {
	t.Helper()
	tag, list := children(t, der)
	if len(path) == 0 {
		list = slices.Insert(list, len(list)-lastBut, add)
	} else {
		list[path[0]] = put(t, list[path[0]], add, lastBut, path[1:]...)
	}
	tag.FullBytes, tag.Bytes = nil, bytes.Join(list, nil)
	out, err := asn1.Marshal(tag)
	require.NoError(t, err)
	return out
}

// Every rule of U-Boot's rows: what is decided, and what is not.
func TestUBootRules(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	sum, other := sha256.Sum256([]byte("image")), sha256.Sum256([]byte("other"))
	long := sha512.Sum384([]byte("image"))
	im := secureboot.Image{Layout: secureboot.LayoutContiguous, Digests: map[crypto.Hash][]byte{crypto.SHA256: sum[:], crypto.SHA384: long[:]}}
	leaf := issue(t, "leaf", false, h.PK, h.DB)
	middle := issue(t, "middle", true, h.KEK, h.DB)
	below := issue(t, "below", false, h.PK, middle)
	lower := issue(t, "lower", true, h.PCR, middle)
	lowest := issue(t, "lowest", false, h.PK, lower)
	// of the same name
	renewed := certify(t, f.DB, secureboot.KeyPair{Key: f.DB.Key}, x509.Certificate{Subject: h.DB.Cert.Subject, IsCA: true, BasicConstraintsValid: true})
	stranger := certify(t, f.PK, secureboot.KeyPair{Key: f.PK.Key}, x509.Certificate{Subject: pkix.Name{CommonName: "stranger"}, IsCA: true, BasicConstraintsValid: true})
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ec := certify(t, secureboot.KeyPair{Key: ecKey}, secureboot.KeyPair{Key: ecKey}, x509.Certificate{Subject: pkix.Name{CommonName: "ec"}, IsCA: true, BasicConstraintsValid: true})
	pss := certify(t, f.KEK, secureboot.KeyPair{Key: f.KEK.Key}, x509.Certificate{Subject: pkix.Name{CommonName: "pss"}, IsCA: true, BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA256WithRSAPSS})
	smallKey, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	odd := func(name string, c x509.Certificate) secureboot.KeyPair {
		c.Subject.CommonName = name
		return certify(t, h.PK, h.DB, c)
	}
	notCA := issue(t, "not an authority", false, h.KEK, h.DB)
	limited := odd("limited", x509.Certificate{IsCA: true, BasicConstraintsValid: true, MaxPathLen: 3})
	encipher := odd("encipher", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageKeyEncipherment})
	short := odd("short", x509.Certificate{IsCA: true, BasicConstraintsValid: true, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)})
	extension := func(critical bool, id ...int) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: critical, Value: []byte{5, 0}}}
	}
	monthly := certify(t, h.PK, secureboot.KeyPair{Key: h.PK.Key}, x509.Certificate{Subject: pkix.Name{CommonName: "monthly"}, IsCA: true, BasicConstraintsValid: true, NotBefore: time.Date(2020, 5, 31, 13, 0, 0, 0, time.UTC), NotAfter: when})
	monthly2 := certify(t, h.PK, secureboot.KeyPair{Key: h.PK.Key}, x509.Certificate{Subject: pkix.Name{CommonName: "monthly"}, IsCA: true, BasicConstraintsValid: true, NotBefore: time.Date(2020, 6, 1, 12, 0, 0, 0, time.UTC), NotAfter: when})
	deep := []secureboot.KeyPair{issue(t, "deep 1", true, h.KEK, h.DB)}
	deep = append(deep, issue(t, "deep 2", true, h.PCR, deep[0]))
	deep = append(deep, issue(t, "deep 3", true, h.Verity, deep[1]))
	deep = append(deep, issue(t, "deep 4", false, h.PK, deep[2]))
	none := odd("none", x509.Certificate{IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true})
	inNone := issue(t, "in none", true, h.KEK, none)
	underNone := issue(t, "under none", false, h.PCR, inNone)
	sized := odd("own123", x509.Certificate{ExtraExtensions: extension(false, 1, 2, 3)})
	critical := odd("own", x509.Certificate{ExtraExtensions: extension(true, 1, 2, 3)})
	oddKey, err := rsa.GenerateKey(rand.Reader, 1536)
	require.NoError(t, err)
	content, err := signedpe.EncodeIndirectData(crypto.SHA256, sum[:])
	require.NoError(t, err)
	noAttributes := cms.Template{ContentType: signedpe.OIDIndirectData, Content: content, Certificate: h.DB.Cert}
	request, err := noAttributes.Prepare()
	require.NoError(t, err)
	signature, err := cms.SignDigest(h.DB.Key, h.DB.Cert, request.Hash, request.Digest)
	require.NoError(t, err)
	bare, err := noAttributes.Join(signature)
	require.NoError(t, err)

	// at is a signature that has a signing time.
	at := func(p secureboot.KeyPair, when time.Time, sum []byte, more ...cms.Attribute) []byte {
		content, err := signedpe.EncodeIndirectData(crypto.SHA256, sum)
		require.NoError(t, err)
		c := cms.Template{ContentType: signedpe.OIDIndirectData, Content: content, Attributes: true, Certificate: p.Cert, SigningTime: when}
		r, err := c.Prepare()
		require.NoError(t, err)
		if len(more) > 0 {
			tag, list := children(t, r.Attributes)
			for _, a := range more {
				b, err := asn1.Marshal(struct {
					Type   asn1.ObjectIdentifier
					Values []asn1.RawValue `asn1:"set"`
				}{a.Type, []asn1.RawValue{{FullBytes: a.Values[0]}}})
				require.NoError(t, err)
				list = append(list, b)
			}
			slices.SortFunc(list, bytes.Compare)
			tag.FullBytes, tag.Bytes = nil, bytes.Join(list, nil)
			c.RawAttributes, err = asn1.Marshal(tag)
			require.NoError(t, err)
			r, err = c.Prepare()
			require.NoError(t, err)
		}
		signature, err := cms.SignDigest(p.Key, p.Cert, r.Hash, r.Digest)
		require.NoError(t, err)
		m, err := c.Join(signature)
		require.NoError(t, err)
		return m
	}
	by := func(p secureboot.KeyPair, chain ...secureboot.KeyPair) []byte {
		return message(crypto.SHA256, sum[:], p, chain...)
	}
	good := by(h.DB)
	inside, before, after := h.DB.Cert.NotBefore.AddDate(0, 1, 0), h.DB.Cert.NotBefore.AddDate(0, -1, 0), h.DB.Cert.NotAfter.Add(time.Second)
	// the signature algorithm
	last := bytes.LastIndex(good, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1})
	otherID := bytes.Clone(good)
	otherID[last+8] = 11
	invalid := bytes.Clone(good)
	invalid[len(invalid)-1] ^= 1
	crls, unsigned := put(t, good, []byte{0xa1, 0}, 1, 1, 0), put(t, good, []byte{0xa1, 0}, 0, 1, 0, 4, 0)

	row := func(raw []byte, kind, revision uint16) secureboot.CertificateEntry {
		e := entry(raw)
		binary.LittleEndian.PutUint16(e.Raw[4:], revision)
		binary.LittleEndian.PutUint16(e.Raw[6:], kind)
		return e
	}
	type entries = []secureboot.CertificateEntry
	signed := func(messages ...[]byte) (list entries) {
		for _, m := range messages {
			list = append(list, entry(m))
		}
		return list
	}
	foreign := row(make([]byte, 16), 1, 0x0200)
	guid := row(append(efi.AppendGUID(nil, osmith.MustParseGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")), good...), 0x0ef1, 0x0200)
	var many entries
	for range 65 {
		many = append(many, entry(good))
	}
	raw := func(b ...byte) secureboot.CertificateEntry { return secureboot.CertificateEntry{Raw: b} }

	type sl = []secureboot.SignatureList
	certs := func(ps ...secureboot.KeyPair) (l sl) {
		for _, p := range ps {
			l = append(l, secureboot.CertificateList(owner, p.Cert))
		}
		return l
	}
	hash := func(d ...[32]byte) sl { return sl{secureboot.SHA256List(owner, d...)} }
	list := func(id osmith.GUID, size int) sl {
		return sl{{Type: id, Signatures: []secureboot.Signature{{Data: make([]byte, size)}}}}
	}
	tbs := func(p secureboot.KeyPair) sl {
		d := sha256.Sum256(p.Cert.RawTBSCertificate)
		return sl{{Type: secureboot.TypeX509SHA256, Signatures: []secureboot.Signature{{Data: append(d[:], make([]byte, 16)...)}}}}
	}
	noCertificate := sl{{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Data: []byte("no certificate")}}}}

	rules := map[string]secureboot.Rule{
		"good": secureboot.RuleCertificateInDB, "unsigned": secureboot.RuleUnsigned, "unsigned, digest in db": secureboot.RuleDigestInDB, "unsigned, digest in dbx": secureboot.RuleDigestInDBX,
		"unaligned": secureboot.RuleSectionSize, "SHA-1 in dbx": secureboot.RuleDBXListType, "foreign entry": secureboot.RuleCertificateType, "time before": secureboot.RuleSigningTime,
		"changed": secureboot.RuleImageChanged, "leaf, intermediate missing": secureboot.RuleNoPathToDB, "stranger, digest in db": secureboot.RuleDigestInDB,
		"ECDSA signer": secureboot.RuleParserFails, "signer in dbx": secureboot.RuleCertificateInDBX, "digest of the signer in dbx": secureboot.RuleCertificateDigestInDBX,
		"digest in dbx, signed": secureboot.RuleDigestInDBX, "no SHA-256 digest": secureboot.RuleDigestNotGiven, "no digest of the signature": secureboot.RuleDigestNotGiven,
	}
	const yes, no, revoked, unknown = "allowed", "refused", "revoked", "unknown"
	layout := func(l secureboot.Layout) func(*secureboot.Image) { return func(im *secureboot.Image) { im.Layout = l } }
	unaligned := layout(secureboot.LayoutUnaligned)
	for _, c := range []struct {
		name            string
		db, dbx         sl
		table           entries
		mbedTLS, legacy string
		reason          string
		change          func(*secureboot.Image)
	}{
		{"good", certs(h.DB), nil, signed(good), yes, yes, "db has the certificate", nil},
		{"empty db", nil, nil, signed(good), no, no, "no certificate in db is on that chain", nil},
		{"unsigned", certs(h.DB), nil, nil, no, no, "not signed", nil},
		{"unsigned, digest in db", hash(sum), nil, nil, yes, yes, "db has the digest", nil},
		{"unsigned, digest in dbx", hash(sum), hash(sum), nil, revoked, revoked, "dbx has the digest", nil},

		{"layout not known", certs(h.DB), nil, signed(good), unknown, unknown, "layout", layout(secureboot.LayoutUnknown)},
		{"unsigned, layout not known", certs(h.DB), nil, nil, unknown, unknown, "layout", layout(secureboot.LayoutUnknown)},
		{"other layout", certs(h.DB), nil, signed(good), unknown, unknown, "gaps", layout(secureboot.LayoutOther)},
		{"layout that is none", certs(h.DB), nil, signed(good), unknown, unknown, "gaps", layout(42)},
		{"unaligned", certs(h.DB), nil, signed(good), no, no, "rounded up", unaligned},
		{"unaligned, digest in dbx", certs(h.DB), hash(sum), signed(good), no, no, "rounded up", unaligned},
		{"unaligned, other digest", certs(h.DB), nil, signed(message(crypto.SHA256, other[:], h.DB)), unknown, unknown, "not that of these bytes", unaligned},
		{"unaligned, digest in db", append(certs(h.DB), hash(sum)...), nil, signed(good), unknown, unknown, "rounded up", unaligned},
		{"unaligned, unsigned", certs(h.DB), nil, nil, no, no, "not signed", unaligned},
		{"unaligned, unsigned, digest in db", hash(sum), nil, nil, unknown, unknown, "U-Boot computes a different digest of the image, and db has digests", unaligned},
		{"unaligned, unsigned, another's digest in db", hash(other), nil, nil, unknown, unknown, "U-Boot computes a different digest of the image, and db has digests", unaligned},
		{"unaligned, unsigned, digest in dbx", nil, hash(sum), nil, no, no, "not signed", unaligned},
		{"no SHA-256 digest", certs(h.DB), nil, signed(good), unknown, unknown, "was not given", func(im *secureboot.Image) { im.Digests = map[crypto.Hash][]byte{} }},
		{"no digest of the signature", certs(h.DB), nil, signed(message(crypto.SHA512, make([]byte, 64), h.DB)), unknown, unknown, "was not given", nil},

		{"SHA-1 in dbx", certs(h.DB), list(secureboot.TypeSHA1, 20), signed(good), no, no, "SHA1", nil},
		{"SHA-224 in dbx", certs(h.DB), list(secureboot.TypeSHA224, 28), signed(good), no, no, "SHA224", nil},
		{"SHA-384 in dbx", hash(sum), list(secureboot.TypeSHA384, 48), nil, no, no, "SHA384", nil},
		{"SHA-512 in dbx", certs(h.DB), list(secureboot.TypeSHA512, 64), signed(good), no, no, "SHA512", nil},
		{"RSA key in dbx", certs(h.DB), list(secureboot.TypeRSA2048, 256), signed(good), unknown, unknown, "RSA2048", nil},
		{"SHA-384 in db", append(certs(h.DB), list(secureboot.TypeSHA384, 48)...), nil, signed(good), yes, yes, "db has the certificate", nil},

		{"digest of the signer in dbx", certs(h.DB), tbs(h.DB), signed(good), revoked, revoked, "digest of the certificate", nil},
		{"digest of the issuer in dbx", certs(h.DB), tbs(middle), signed(by(below, middle)), unknown, unknown, "digest of the certificate", nil},
		{"digest of a stranger in dbx", certs(h.DB), tbs(f.DB), signed(good), yes, yes, "db has the certificate", nil},
		{"digest of a certificate in dbx, unsigned", hash(sum), tbs(f.DB), nil, yes, yes, "db has the digest", nil},
		{"digest of a certificate in dbx, unsigned stranger", nil, tbs(f.DB), nil, no, no, "not signed", nil},
		{"signer in dbx", certs(h.DB), certs(h.DB), signed(good), revoked, revoked, "dbx has the certificate", nil},
		{"issuer in dbx", certs(h.DB), certs(middle), signed(by(below, middle)), revoked, revoked, "which leads to the signer", nil},
		{"stranger in dbx", certs(h.DB), certs(f.DB), signed(good, by(leaf)), yes, yes, "db has the certificate", nil},
		{"signer of another signature in dbx", certs(h.DB), certs(f.DB), signed(good, by(f.DB)), revoked, revoked, "dbx has the certificate", nil},
		{"no certificate in dbx", certs(h.DB), noCertificate, signed(good), unknown, unknown, "cannot be read", nil},
		{"ECDSA in dbx", certs(h.DB), certs(ec), signed(good), no, yes, "", nil},
		{"digest in dbx, signed", certs(h.DB), hash(other, sum), signed(good), revoked, revoked, "dbx has the digest", nil},
		{"digest in dbx, signed by SHA-384", certs(h.DB), hash(sum), signed(message(crypto.SHA384, long[:], h.DB)), revoked, revoked, "dbx has the digest", nil},
		{"signed by SHA-384", certs(h.DB), nil, signed(message(crypto.SHA384, long[:], h.DB)), yes, yes, "db has the certificate", nil},

		{"foreign entry", hash(sum), nil, entries{foreign}, no, no, "type that U-Boot does not know", nil},
		{"foreign entry, good", certs(h.DB), nil, append(entries{foreign}, entry(good)), no, no, "type that U-Boot does not know", nil},
		{"good, foreign entry", certs(h.DB), nil, append(signed(good), foreign), no, no, "type that U-Boot does not know", nil},
		{"EFI GUID", certs(h.DB), nil, entries{guid}, yes, yes, "db has the certificate", nil},
		{"revision 1.0", certs(h.DB), nil, entries{row(good, 2, 0x0100)}, yes, yes, "db has the certificate", nil},
		{"table cut off", certs(h.DB), nil, append(signed(good), raw(1)), unknown, unknown, "middle of an entry", nil},
		{"table with an empty entry", certs(h.DB), nil, append(signed(good), raw(8, 0, 0, 0, 0, 2, 2, 0)), unknown, unknown, "length 8", nil},
		{"table with a long entry", certs(h.DB), nil, append(signed(good), raw(17, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0)), unknown, unknown, "length 17", nil},
		{"too many", certs(h.DB), nil, many, unknown, unknown, "more than 64", nil},

		{"padding counted", certs(h.DB), nil, signed(append(bytes.Clone(good), make([]byte, 7-(len(good)+7)%8)...)), no, yes, "", nil},
		{"not a message", certs(h.DB), nil, signed([]byte("no message")), unknown, unknown, "not built as usual", nil},
		{"no revocation lists", certs(h.DB), nil, signed(crls), no, no, "revocation lists", nil},
		{"no unsigned attributes", certs(h.DB), nil, signed(unsigned), no, no, "unsigned attributes", nil},
		{"invalid", certs(h.DB), nil, signed(invalid), no, no, "not valid", nil},
		{"invalid, good", certs(h.DB), nil, signed(invalid, good), yes, yes, "db has the certificate", nil},
		{"sha256WithRSAEncryption", certs(h.DB), nil, signed(otherID), yes, no, "", nil},
		{"other attribute", certs(h.DB), nil, signed(at(h.DB, inside, sum[:], cms.Attribute{Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Values: [][]byte{{5, 0}}})), unknown, unknown, "signed attribute 1.2.3.4", nil},
		{"time of another kind", certs(h.DB), nil, signed(at(h.DB, time.Time{}, sum[:], cms.Attribute{Type: cms.OIDSigningTime, Values: [][]byte{{5, 0}}})), unknown, unknown, "signed attribute", nil},
		{"two times", certs(h.DB), nil, signed(at(h.DB, inside, sum[:], cms.Attribute{Type: cms.OIDSigningTime, Values: [][]byte{[]byte("\x17\x0d010501000000Z")}})), unknown, unknown, "signed attribute", nil},

		{"time inside", certs(h.DB), nil, signed(at(h.DB, inside, sum[:])), yes, yes, "db has the certificate", nil},
		{"time at the beginning", certs(h.DB), nil, signed(at(h.DB, h.DB.Cert.NotBefore, sum[:])), yes, yes, "db has the certificate", nil},
		{"time at the end", certs(h.DB), nil, signed(at(h.DB, h.DB.Cert.NotAfter, sum[:])), yes, yes, "db has the certificate", nil},
		{"time before", certs(h.DB), nil, signed(at(h.DB, before, sum[:])), no, no, "outside of the validity", nil},
		{"time after", certs(h.DB), nil, signed(at(h.DB, after, sum[:])), no, no, "outside of the validity", nil},
		{"time before, of a leaf", certs(h.DB), nil, signed(at(leaf, from.AddDate(0, -1, 0), sum[:])), no, no, "outside of the validity", nil},
		{"time after, of the issuer", certs(short), nil, signed(at(certify(t, h.KEK, short, x509.Certificate{Subject: pkix.Name{CommonName: "long"}}), from.AddDate(2, 0, 0), sum[:])), yes, yes, "which leads to the signer", nil},
		{"time before, digest in db", append(certs(h.DB), hash(sum)...), nil, signed(at(h.DB, before, sum[:])), yes, yes, "db has the digest", nil},
		{"time before, good", certs(h.DB), nil, signed(at(h.DB, before, sum[:]), good), yes, yes, "db has the certificate", nil},

		{"changed", certs(h.DB), nil, signed(message(crypto.SHA256, other[:], h.DB)), no, no, "changed after", nil},
		{"changed, good", certs(h.DB), nil, signed(message(crypto.SHA256, other[:], h.DB), good), yes, yes, "db has the certificate", nil},
		{"changed, digest in db", hash(sum), nil, signed(message(crypto.SHA256, other[:], h.DB)), yes, yes, "db has the digest", nil},

		{"stranger, good", certs(h.DB), nil, signed(by(stranger), good), yes, yes, "db has the certificate", nil},
		{"stranger, digest in db", hash(sum), nil, signed(by(f.DB)), yes, yes, "db has the digest", nil},
		{"stranger by SHA-384, digest in db", hash(sum), nil, signed(message(crypto.SHA384, long[:], f.DB)), yes, yes, "db has the digest", nil},

		{"leaf", certs(h.DB), nil, signed(by(leaf)), yes, yes, "which leads to the signer", nil},
		{"leaf itself in db", certs(leaf), nil, signed(by(leaf)), yes, yes, "db has the certificate", nil},
		{"leaf, intermediate", certs(h.DB), nil, signed(by(below, middle)), yes, yes, "which leads to the signer", nil},
		{"leaf, intermediate in db", certs(middle), nil, signed(by(below)), yes, yes, "which leads to the signer", nil},
		{"leaf, intermediate missing", certs(h.DB), nil, signed(by(below)), no, no, "no certificate in db is on that chain", nil},
		{"leaf, two intermediates", certs(h.DB), nil, signed(by(lowest, lower, middle)), yes, yes, "which leads to the signer", nil},
		{"two of one name", certs(h.DB, renewed), nil, signed(by(leaf)), yes, yes, "which leads to the signer", nil},
		{"signer of the name of another in db", certs(h.DB), nil, signed(by(f.DB)), no, no, "no certificate in db is on that chain", nil},
		{"two of one name, signer in db", certs(renewed, h.DB), nil, signed(good), yes, yes, "db has the certificate", nil},
		{"one of the name with another key", certs(renewed), nil, signed(by(leaf)), no, no, "no certificate in db is on that chain", nil},
		{"issuer is no authority", certs(h.DB), nil, signed(by(issue(t, "under", false, h.PK, notCA), notCA)), unknown, unknown, "not a CA certificate", nil},
		{"issuer limits the path", certs(limited), nil, signed(by(certify(t, h.KEK, limited, x509.Certificate{Subject: pkix.Name{CommonName: "under"}}))), yes, yes, "which leads to the signer", nil},
		{"issuer may not sign certificates", certs(encipher), nil, signed(by(certify(t, h.KEK, encipher, x509.Certificate{Subject: pkix.Name{CommonName: "under"}}))), yes, yes, "which leads to the signer", nil},

		{"ECDSA signer", certs(ec), nil, signed(by(ec)), no, no, "ECDSA", nil},
		{"ECDSA signer, good", certs(h.DB), nil, signed(by(ec), good), no, yes, "", nil},
		{"ECDSA carried", certs(h.DB), nil, signed(by(h.DB, ec)), no, no, "ECDSA", nil},
		{"PSS signer", certs(pss), nil, signed(by(pss)), no, no, "RSASSA-PSS", nil},
		{"ECDSA in db, signer in db", certs(ec, h.DB), nil, signed(good), yes, yes, "db has the certificate", nil},
		{"signer in db, ECDSA behind", certs(h.DB, ec), nil, signed(good), no, yes, "", nil},
		{"signer and one that cannot be parsed in a list", sl{{Type: secureboot.TypeX509, Signatures: []secureboot.Signature{{Data: sized.Cert.Raw}, {Data: critical.Cert.Raw}}}}, nil, signed(by(sized)), unknown, yes, "", nil},
		{"signer in db, no certificate behind", append(certs(h.DB), noCertificate...), nil, signed(good), unknown, unknown, "cannot be read", nil},
		{"ECDSA in db, stranger", certs(h.DB, ec), nil, signed(by(stranger)), no, no, "", nil},
		{"ECDSA in front, leaf", certs(ec, h.DB), nil, signed(by(leaf)), no, yes, "", nil},
		{"ECDSA behind, leaf", certs(h.DB, ec), nil, signed(by(leaf)), no, yes, "", nil},
		{"ECDSA in front, leaf, digest in db", append(certs(ec, h.DB), hash(sum)...), nil, signed(by(leaf)), no, yes, "", nil},
		{"PSS in front, leaf", certs(pss, h.DB), nil, signed(by(leaf)), no, yes, "", nil},
		{"no certificate in db, signer in db", append(noCertificate, certs(h.DB)...), nil, signed(good), unknown, unknown, "cannot be read", nil},
		{"no certificate in db, unsigned", append(noCertificate, hash(sum)...), nil, nil, unknown, unknown, "cannot be read", nil},
		{"no certificate in dbx, unsigned", hash(sum), noCertificate, nil, unknown, unknown, "cannot be read", nil},
		{"key of another name in db", certs(issue(t, "renamed", true, h.DB, h.PCR)), nil, signed(by(leaf)), unknown, unknown, "name differs", nil},
		{"changed, ECDSA behind", certs(h.DB, ec), nil, signed(message(crypto.SHA256, other[:], h.DB)), no, no, "", nil},
		{"digest of the issuer in dbx, in db", certs(h.DB), tbs(h.DB), signed(by(leaf)), revoked, revoked, "digest of the certificate", nil},
		{"SHA-1 in db", append(certs(h.DB), list(secureboot.TypeSHA1, 20)...), nil, signed(good), "", unknown, "", nil},
		{"SHA-512 in db", append(certs(h.DB), list(secureboot.TypeSHA512, 64)...), nil, signed(good), unknown, unknown, "SHA512 in db", nil},
		{"no certificate in db, leaf", append(noCertificate, certs(h.DB)...), nil, signed(by(leaf)), unknown, unknown, "cannot be read", nil},
		{"SHA-384 certificate in db, leaf", certs(odd("sha384", x509.Certificate{SignatureAlgorithm: x509.SHA384WithRSA}), h.DB), nil, signed(by(leaf)), yes, yes, "which leads to the signer", nil},

		{"SHA-384 certificate", certs(h.DB), nil, signed(by(odd("sha384", x509.Certificate{SignatureAlgorithm: x509.SHA384WithRSA}))), yes, yes, "which leads to the signer", nil},
		{"1024 bits", certs(h.DB), nil, signed(by(certify(t, secureboot.KeyPair{Key: smallKey}, h.DB, x509.Certificate{Subject: pkix.Name{CommonName: "small"}}))), yes, unknown, "", nil},
		{"critical extension", certs(h.DB), nil, signed(by(odd("critical", x509.Certificate{ExtraExtensions: extension(true, 1, 2, 3)}))), no, yes, "", nil},
		{"other extension", certs(h.DB), nil, signed(by(odd("extension", x509.Certificate{ExtraExtensions: extension(false, 1, 2, 3)}))), yes, yes, "which leads to the signer", nil},
		{"names", certs(h.DB), nil, signed(by(odd("names", x509.Certificate{DNSNames: []string{"a.example"}}))), yes, yes, "which leads to the signer", nil},
		{"critical extKeyUsage", certs(h.DB), nil, signed(by(odd("usage", x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 37}, Critical: true, Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}}}}))), yes, yes, "which leads to the signer", nil},
		{"two of one name carried", certs(h.DB), nil, signed(by(below, middle, issue(t, "middle", true, h.Verity, h.DB))), unknown, unknown, "several certificates of the name", nil},
		{"path too long", certs(h.DB), nil, signed(by(deep[3], deep[2], deep[1], deep[0])), unknown, unknown, "more than two intermediate", nil},
		{"limit of the path", certs(none), nil, signed(by(underNone, inNone)), unknown, unknown, "limits the length", nil},
		{"1536 bits carried", certs(h.DB), nil, signed(by(h.DB, certify(t, secureboot.KeyPair{Key: oddKey}, h.DB, x509.Certificate{Subject: pkix.Name{CommonName: "odd"}}))), unknown, unknown, "1536 bits", nil},
		{"without attributes", certs(h.DB), nil, signed(bare), unknown, unknown, "", nil},
		{"first days of a month", certs(monthly), nil, signed(at(monthly, time.Date(2020, 6, 1, 12, 0, 0, 0, time.UTC), sum[:])), no, yes, "", nil},
		{"end of a month before", certs(monthly2), nil, signed(at(monthly2, time.Date(2020, 5, 31, 13, 0, 0, 0, time.UTC), sum[:])), yes, no, "", nil},
		{"name constraints", certs(h.DB), nil, signed(by(h.DB, odd("constraints", x509.Certificate{IsCA: true, BasicConstraintsValid: true, PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"a.example"}}))), unknown, unknown, "extension 2.5.29.30", nil},
		{"several, with the certificate of a stranger", certs(h.DB), nil, signed(by(h.DB, f.DB)), yes, yes, "db has the certificate", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: lists(t, c.db...), DBX: lists(t, c.dbx...)}
			image := im
			image.Certificates = c.table
			if c.change != nil {
				c.change(&image)
			}
			for row, want := range map[secureboot.Firmware]string{secureboot.FirmwareUBoot202610: c.mbedTLS, secureboot.FirmwareUBoot202501: c.mbedTLS, secureboot.FirmwareUBootLegacy: c.legacy} {
				r := secureboot.Evaluate(v, image, secureboot.EvaluateOptions{Firmware: row})
				if want == "" { // the one rule in which the two with MbedTLS differ
					want = map[secureboot.Firmware]string{secureboot.FirmwareUBoot202610: yes, secureboot.FirmwareUBoot202501: no}[row]
				}
				got := no
				switch {
				case r.Allowed:
					got = yes
				case r.Unknown:
					got = unknown
				case r.Revoked:
					got = revoked
				}
				require.Equal(t, want, got, "%s: %s", row, r.Reason)
				require.Contains(t, r.Reason, c.reason)
				require.NotEmpty(t, r.Rule.Remedy())
				if rule := rules[c.name]; rule != "" {
					require.Equal(t, rule, r.Rule)
				} else if r.Unknown {
					require.Equal(t, secureboot.RuleNotModelled, r.Rule)
				}
				if r.Allowed && r.Certificate == nil {
					require.Contains(t, string(v.DB), string(sum[:]))
				} else if r.Allowed {
					require.Contains(t, string(v.DB), string(r.Certificate.Raw))
				}
				if anywhere := secureboot.Evaluate(v, image, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareAny}); anywhere.Allowed {
					require.True(t, r.Allowed)
				}
			}
		})
	}

	for _, v := range []osmith.FirmwareVariables{{SecureBoot: []byte{1}, DB: []byte{1}}, {SecureBoot: []byte{1}, DBX: []byte{1}}} {
		r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareUBoot202610})
		require.True(t, r.Unknown && !r.Allowed)
		require.Contains(t, r.Reason, "cannot be parsed")
	}
	off := secureboot.Evaluate(osmith.FirmwareVariables{SecureBoot: []byte{0}}, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareUBoot202610})
	require.True(t, off.Allowed)
}
