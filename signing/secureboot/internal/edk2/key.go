package edk2

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/md5" // firmware takes certificates signed with it
	"crypto/rsa"
	_ "crypto/sha1" // and with this
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"

	"github.com/osmith-dev/osmith/internal/keycheck"
)

// publicKey is a SubjectPublicKeyInfo. Its kind is 0 if it cannot be used.
type publicKey struct {
	kind  keyKind
	rsa   *rsa.PublicKey
	big   *big.Int // the exponent, which may be larger than an int
	ecdsa *ecdsa.PublicKey
	why   error // why a key of kind 0 cannot be used

	isRSA      bool // by its form, which is all that counts while it is not used
	curve, pss bool // of kind 0: for an elliptic curve, for RSASSA-PSS alone
}

type keyKind int

const (
	keyRSA keyKind = iota + 1
	keyEC
)

var (
	oidRSA       = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}
	oidRSAPSS    = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10}
	oidEC        = []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}
	oidP256      = []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}
	oidP384      = []byte{0x2b, 0x81, 4, 0, 34}
	oidP521      = []byte{0x2b, 0x81, 4, 0, 35}
	digestHashes = []struct {
		oid  []byte
		hash crypto.Hash
	}{
		{[]byte{0x2b, 0x0e, 3, 2, 0x1a}, crypto.SHA1},
		{[]byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 4}, crypto.SHA224},
		{[]byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}, crypto.SHA256},
		{[]byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2}, crypto.SHA384},
		{[]byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3}, crypto.SHA512},
	}
	// signatureHashes are signature algorithms with their hash: RSA PKCS #1 v1.5 and ECDSA.
	signatureHashes = []struct {
		oid  []byte
		hash crypto.Hash
		kind keyKind
	}{
		{[]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4}, crypto.MD5, keyRSA},
		{[]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5}, crypto.SHA1, keyRSA},
		{[]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 14}, crypto.SHA224, keyRSA},
		{[]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}, crypto.SHA256, keyRSA},
		{[]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12}, crypto.SHA384, keyRSA},
		{[]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13}, crypto.SHA512, keyRSA},
		{[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1}, crypto.SHA1, keyEC},
		{[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1}, crypto.SHA224, keyEC},
		{[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, crypto.SHA256, keyEC},
		{[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3}, crypto.SHA384, keyEC},
		{[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4}, crypto.SHA512, keyEC},
	}
)

// otherKeys are algorithms that OpenSSL knows; whether a build of edk2 has them was not looked up.
var otherKeys = map[string]bool{
	"\x2a\x86\x48\xce\x38\x04\x01": true, // DSA
	"\x2b\x65\x6e":                 true, // X25519
	"\x2b\x65\x6f":                 true, // X448
	"\x2b\x65\x70":                 true, // Ed25519
	"\x2b\x65\x71":                 true, // Ed448
}

// parseKey reads a SubjectPublicKeyInfo. A key that cannot be used is not an error: OpenSSL notices
// when it is to be used.
func (o Options) parseKey(der []byte) (k publicKey, err error) {
	r := &reader{b: (&reader{b: der}).take(tagSequence, "public key").body}
	id, parameters := r.algorithm("public key", o)
	bits := r.take(tagBits, "public key")
	r.end("public key")
	if r.err != nil {
		return k, r.err
	}
	if len(bits.body) == 0 {
		return k, errors.New("public key: no bit string")
	}
	b := bits.body[1:]
	switch {
	case bytes.Equal(id, oidRSA):
		in := &reader{b: (&reader{b: b}).take(tagSequence, "RSA key").body}
		n, e := in.take(tagInteger, "RSA key").body, in.take(tagInteger, "RSA key").body
		if in.err != nil {
			k.why = in.err
			return k, nil
		}
		k.isRSA = true
		modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
		if k.why = keycheck.RSA(modulus, exponent); k.why == nil {
			k.kind, k.rsa, k.big = keyRSA, &rsa.PublicKey{N: modulus}, exponent
		}
	case bytes.Equal(id, oidEC):
		var curve elliptic.Curve
		switch name := (&reader{b: parameters}).oid("curve").body; {
		case bytes.Equal(name, oidP256):
			curve = elliptic.P256()
		case bytes.Equal(name, oidP384):
			curve = elliptic.P384()
		case bytes.Equal(name, oidP521):
			curve = elliptic.P521()
		default:
			k.curve, k.why = true, unknown("keys of a curve other than P-256, P-384 and P-521")
			return k, nil
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, b)
		if err != nil {
			k.why = err
			return k, nil
		}
		k.kind, k.ecdsa = keyEC, key
	case bytes.Equal(id, oidRSAPSS):
		k.pss, k.why = true, errors.New("a key only for RSASSA-PSS, but a different kind of signature")
	case otherKeys[string(id)]:
		k.why = unknown("keys of the algorithm %s", oidText(id))
	default:
		k.why = fmt.Errorf("a key of the algorithm %s, which OpenSSL does not know", oidText(id))
	}
	return k, nil
}

// verify checks a signature of a digest: PKCS #1 v1.5 by an RSA key, ECDSA by an EC key.
func (k *publicKey) verify(h crypto.Hash, sum, signature []byte) error {
	switch k.kind {
	case keyRSA:
		return k.verifyRSA(h, sum, signature)
	case keyEC:
		if !ecdsa.VerifyASN1(k.ecdsa, sum, signature) {
			return errSignature
		}
		return nil
	}
	return k.why
}

var errSignature = errors.New("the signature is not by this key over this content")

// digestInfos begin the block of PKCS #1 v1.5 (RFC 8017, section 9.2, note 1).
var digestInfos = map[crypto.Hash][]byte{
	crypto.MD5:    {0x30, 0x20, 0x30, 0x0c, 0x06, 0x08, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05, 0x05, 0x00, 0x04, 0x10},
	crypto.SHA1:   {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14},
	crypto.SHA224: {0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04, 0x05, 0x00, 0x04, 0x1c},
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// verifyRSA computes by itself: crypto/rsa takes no keys below 1024 bits and no exponents above 31
// bits, firmware does.
func (k *publicKey) verifyRSA(h crypto.Hash, sum, signature []byte) error {
	size := (k.rsa.N.BitLen() + 7) / 8
	info, ok := digestInfos[h]
	if !ok {
		return unknown("RSA signatures with %v", h)
	}
	if len(signature) != size || size < len(info)+len(sum)+11 {
		return errSignature
	}
	s := new(big.Int).SetBytes(signature)
	if s.Cmp(k.rsa.N) >= 0 {
		return errSignature
	}
	block := new(big.Int).Exp(s, k.big, k.rsa.N).FillBytes(make([]byte, size))
	want := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-3-len(info)-len(sum))...)
	want = append(append(append(want, 0), info...), sum...)
	if !bytes.Equal(block, want) {
		return errSignature
	}
	return nil
}

// signedBy checks the signature of a certificate with the key of its issuer.
func (c *Certificate) signedBy(issuer *Certificate, o Options) error {
	if !bytes.Equal(c.innerAlgorithm, c.outerAlgorithm) {
		return errors.New("two different signature algorithms, want the same inside and outside")
	}
	if c.unusedBits != 0 {
		return fmt.Errorf("the signature ends %d bits before its last byte does", c.unusedBits)
	}
	if bytes.Equal(c.signatureOID, oidRSAPSS) {
		return c.signedPSS(issuer, o)
	}
	for _, a := range signatureHashes {
		if !bytes.Equal(a.oid, c.signatureOID) {
			continue
		}
		if issuer.key.kind == 0 {
			return issuer.key.why
		}
		if issuer.key.kind != a.kind {
			return errors.New("the kind of the issuer's key (RSA, elliptic curve) differs from that of the signature")
		}
		return issuer.key.verify(a.hash, sumOf(a.hash, c.RawTBS), c.signature)
	}
	return unknown("the signature algorithm %x of a certificate", c.signatureOID)
}

// signedPSS checks a signature with RSASSA-PSS whose hash and mask hash are the same (RFC 4055,
// section 3.1).
func (c *Certificate) signedPSS(issuer *Certificate, o Options) error {
	if issuer.key.pss {
		return unknown("a key only for RSASSA-PSS")
	}
	if issuer.key.kind != keyRSA {
		return errors.New("the kind of the issuer's key (RSA, elliptic curve) differs from that of the signature")
	}
	r := &reader{b: (&reader{b: c.signatureParameters}).take(tagSequence, "parameters").body}
	if !r.is(tagContext0) {
		return unknown("RSASSA-PSS with SHA-1")
	}
	in := &reader{b: r.any("hash").body}
	id, _ := in.algorithm("hash", o)
	h := hashOf(id)
	mask := &reader{b: r.take(tagContext1, "mask").body}
	m := &reader{b: mask.take(tagSequence, "mask").body}
	m.oid("mask")
	maskID, _ := m.algorithm("mask", o)
	salt := 20
	if r.is(tagContext2) {
		v := (&reader{b: r.any("salt").body}).take(tagInteger, "salt").body
		if len(v) != 1 || v[0] >= 0x80 {
			return unknown("an unusual RSASSA-PSS salt")
		}
		salt = int(v[0])
	}
	if in.err != nil || m.err != nil || r.err != nil || h == 0 || !bytes.Equal(maskID, id) {
		return unknown("unusual RSASSA-PSS parameters")
	}
	if !issuer.key.big.IsInt64() || issuer.key.big.BitLen() > 31 || issuer.key.rsa.N.BitLen() < 1024 {
		return unknown("RSASSA-PSS with a key of %d bits and an exponent of %d", issuer.key.rsa.N.BitLen(), issuer.key.big.BitLen())
	}
	key := &rsa.PublicKey{N: issuer.key.rsa.N, E: int(issuer.key.big.Int64())}
	if rsa.VerifyPSS(key, h, sumOf(h, c.RawTBS), c.signature, &rsa.PSSOptions{SaltLength: salt, Hash: h}) != nil {
		return errSignature
	}
	return nil
}

func hashOf(oid []byte) crypto.Hash {
	for _, d := range digestHashes {
		if bytes.Equal(d.oid, oid) {
			return d.hash
		}
	}
	return 0
}

func sumOf(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}
