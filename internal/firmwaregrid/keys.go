package firmwaregrid

import (
	"crypto"
	_ "crypto/md5" // signatures of an earlier time
	_ "crypto/sha1"
	"crypto/sha256"
	_ "crypto/sha512"
	_ "embed"
	"fmt"
	"math/big"
	"strings"
)

// A key signs. Its numbers are fixed, so that the same images come out each time.
type key struct {
	n, e, d *big.Int // RSA
	p, q    *big.Int // the primes of n
	ec      *curve   // or an elliptic curve, with d
	bare    bool     // an RSA key of the identifier of RSASSA-PSS
}

//go:embed testdata/keys.txt
var keyNumbers string

var (
	oidRSA   = oid(1, 2, 840, 113549, 1, 1, 1)
	oidPSS   = oid(1, 2, 840, 113549, 1, 1, 10)
	oidMGF1  = oid(1, 2, 840, 113549, 1, 1, 8)
	oidEC    = oid(1, 2, 840, 10045, 2, 1)
	oidECDSA = map[crypto.Hash][]byte{
		crypto.SHA1: oid(1, 2, 840, 10045, 4, 1), crypto.SHA256: oid(1, 2, 840, 10045, 4, 3, 2),
		crypto.SHA384: oid(1, 2, 840, 10045, 4, 3, 3), crypto.SHA512: oid(1, 2, 840, 10045, 4, 3, 4),
	}
	oidRSAWith = map[crypto.Hash][]byte{
		crypto.MD5: oid(1, 2, 840, 113549, 1, 1, 4), crypto.SHA1: oid(1, 2, 840, 113549, 1, 1, 5), crypto.SHA224: oid(1, 2, 840, 113549, 1, 1, 14),
		crypto.SHA256: oid(1, 2, 840, 113549, 1, 1, 11), crypto.SHA384: oid(1, 2, 840, 113549, 1, 1, 12), crypto.SHA512: oid(1, 2, 840, 113549, 1, 1, 13),
	}
	oidHash = map[crypto.Hash][]byte{
		crypto.MD5: oid(1, 2, 840, 113549, 2, 5), crypto.SHA1: oid(1, 3, 14, 3, 2, 26), crypto.SHA224: oid(2, 16, 840, 1, 101, 3, 4, 2, 4),
		crypto.SHA256: oid(2, 16, 840, 1, 101, 3, 4, 2, 1), crypto.SHA384: oid(2, 16, 840, 1, 101, 3, 4, 2, 2), crypto.SHA512: oid(2, 16, 840, 1, 101, 3, 4, 2, 3),
	}
)

// keys are those of testdata/keys.txt, a line "name e p q" each, and one for each curve.
var keys = func() map[string]*key {
	all := map[string]*key{}
	for line := range strings.Lines(keyNumbers) {
		var name string
		var e int64
		var p, q big.Int
		if _, err := fmt.Sscanf(line, "%s %d %x %x", &name, &e, &p, &q); err != nil {
			panic(err)
		}
		one := big.NewInt(1)
		phi := new(big.Int).Mul(new(big.Int).Sub(&p, one), new(big.Int).Sub(&q, one))
		k := &key{n: new(big.Int).Mul(&p, &q), e: big.NewInt(e), p: &p, q: &q}
		k.d = new(big.Int).ModInverse(k.e, phi)
		all[name] = k
	}
	all["e1"] = &key{n: all["leaf"].n, e: big.NewInt(1), d: big.NewInt(1), p: all["leaf"].p, q: all["leaf"].q}
	pss := *all["leaf"]
	pss.bare = true
	all["pss"] = &pss
	for _, c := range curves {
		sum := sha256.Sum256([]byte(c.name))
		all[c.name] = &key{ec: c, d: new(big.Int).SetBytes(sum[:28])}
	}
	return all
}()

// spki is SubjectPublicKeyInfo.
func (k *key) spki() []byte {
	if k.ec != nil {
		q := k.ec.multiply(k.d, k.ec.g)
		return seq(seq(oidEC, k.ec.oid), bits(k.ec.point(q)))
	}
	id := seq(oidRSA, null)
	if k.bare {
		id = seq(oidPSS)
	}
	return seq(id, bits(seq(unsigned(k.n.Bytes()), unsigned(k.e.Bytes()))))
}

// algorithm is the AlgorithmIdentifier of its signatures.
func (k *key) algorithm(h crypto.Hash) []byte {
	if k.ec != nil {
		return seq(oidECDSA[h])
	}
	return seq(oidRSAWith[h], null)
}

// sign is RSASSA-PKCS1-v1_5 or ECDSA with a fixed secret number.
func (k *key) sign(h crypto.Hash, message []byte) []byte {
	w := h.New()
	w.Write(message)
	sum := w.Sum(nil)
	if k.ec != nil {
		return k.ec.sign(k.d, sum)
	}
	info := seq(seq(oidHash[h], null), octets(sum))
	return k.raw(info)
}

// raw signs what stands at the place of DigestInfo.
func (k *key) raw(info []byte) []byte {
	size := (k.n.BitLen() + 7) / 8
	em := make([]byte, size)
	if size < len(info)+11 {
		return em // the key is too small for the digest
	}
	em[1] = 1
	for i := 2; i < size-len(info)-1; i++ {
		em[i] = 0xff
	}
	copy(em[size-len(info):], info)
	return k.private(em).FillBytes(make([]byte, size))
}

// private is RSASP1 by the Chinese remainder theorem (RFC 8017, section 5.2.1).
func (k *key) private(em []byte) *big.Int {
	m, one := new(big.Int).SetBytes(em), big.NewInt(1)
	power := func(p *big.Int) *big.Int {
		return new(big.Int).Exp(m, new(big.Int).Mod(k.d, new(big.Int).Sub(p, one)), p)
	}
	a, b := power(k.p), power(k.q)
	h := new(big.Int).Mul(new(big.Int).Sub(a, b), new(big.Int).ModInverse(k.q, k.p))
	return h.Mod(h, k.p).Mul(h, k.q).Add(h, b)
}

// pssParameters and signPSS are RSASSA-PSS with SHA-256 and a salt of 32 zero bytes (RFC 8017,
// section 9.1.1).
func pssParameters() []byte {
	hash := seq(oidHash[crypto.SHA256], null)
	return seq(oidPSS, seq(tlv(0xa0, hash), tlv(0xa1, seq(oidMGF1, hash)), tlv(0xa2, integer(32))))
}

func (k *key) signPSS(message []byte) []byte {
	const saltLength = 32
	size := (k.n.BitLen() + 7) / 8
	salt := make([]byte, saltLength)
	digest := sha256.Sum256(message)
	h := sha256.Sum256(append(append(make([]byte, 8), digest[:]...), salt...))
	db := make([]byte, size-len(h)-1)
	db[len(db)-saltLength-1] = 1
	for i := 0; i < len(db); i += len(h) {
		mask := sha256.Sum256(append(h[:], 0, 0, 0, byte(i/len(h))))
		for j := 0; j < len(mask) && i+j < len(db); j++ {
			db[i+j] ^= mask[j]
		}
	}
	db[0] &= 0xff >> (8*size - (k.n.BitLen() - 1))
	em := append(append(db, h[:]...), 0xbc)
	return k.private(em).FillBytes(make([]byte, size))
}
