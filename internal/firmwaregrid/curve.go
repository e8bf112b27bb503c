package firmwaregrid

import (
	"crypto/sha256"
	"math/big"
)

// A curve is y² = x³ + ax + b over a prime field, computed plainly: the keys are public.
type curve struct {
	name    string
	oid     []byte
	p, a, n *big.Int
	g       point
}

type point struct{ x, y *big.Int } // x nil: infinity

func number(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic("number")
	}
	return n
}

// Parameters: FIPS 186-4, section D.1.2, and SEC 2, section 2.4.1.
var curves = []*curve{
	{
		"p256", oid(1, 2, 840, 10045, 3, 1, 7),
		number("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"), big.NewInt(-3),
		number("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
		point{number("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"), number("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")},
	},
	{
		"p384", oid(1, 3, 132, 0, 34),
		number("fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff"), big.NewInt(-3),
		number("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973"),
		point{
			number("aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"),
			number("3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"),
		},
	},
	{
		"k256", oid(1, 3, 132, 0, 10),
		number("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f"), big.NewInt(0),
		number("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"),
		point{number("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"), number("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")},
	},
}

func (c *curve) add(p, q point) point {
	if p.x == nil {
		return q
	}
	if q.x == nil {
		return p
	}
	slope := new(big.Int)
	if p.x.Cmp(q.x) == 0 {
		if p.y.Cmp(q.y) != 0 {
			return point{}
		}
		slope.Mul(p.x, p.x).Mul(slope, big.NewInt(3)).Add(slope, c.a)
		slope.Mul(slope, new(big.Int).ModInverse(new(big.Int).Lsh(p.y, 1), c.p))
	} else {
		d := new(big.Int).Sub(q.x, p.x)
		slope.Sub(q.y, p.y).Mul(slope, new(big.Int).ModInverse(d.Mod(d, c.p), c.p))
	}
	x := new(big.Int).Mul(slope, slope)
	x.Sub(x, p.x).Sub(x, q.x).Mod(x, c.p)
	y := new(big.Int).Sub(p.x, x)
	y.Mul(y, slope).Sub(y, p.y).Mod(y, c.p)
	return point{x, y}
}

func (c *curve) multiply(k *big.Int, p point) (r point) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		r = c.add(r, r)
		if k.Bit(i) == 1 {
			r = c.add(r, p)
		}
	}
	return r
}

// point is the uncompressed form (SEC 1, section 2.3.3).
func (c *curve) point(p point) []byte {
	size := (c.p.BitLen() + 7) / 8
	out := make([]byte, 1+2*size)
	out[0] = 4
	p.x.FillBytes(out[1 : 1+size])
	p.y.FillBytes(out[1+size:])
	return out
}

// sign is ECDSA. The secret number comes from key and digest.
func (c *curve) sign(d *big.Int, sum []byte) []byte {
	secret := sha256.Sum256(append(d.Bytes(), sum...))
	k := new(big.Int).SetBytes(secret[:28])
	r := new(big.Int).Mod(c.multiply(k, c.g).x, c.n)
	z := new(big.Int).SetBytes(sum[:min(len(sum), (c.n.BitLen()+7)/8)])
	s := new(big.Int).Mul(r, d)
	s.Add(s, z).Mul(s, new(big.Int).ModInverse(k, c.n)).Mod(s, c.n)
	return seq(unsigned(r.Bytes()), unsigned(s.Bytes()))
}
