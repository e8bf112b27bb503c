package fec

// The field is GF(256) = GF(2)[x] / (x^8 + x^4 + x^3 + x^2 + 1), 0x11d, whose element
// 2 is primitive. The code's generator polynomial has the roots 2^0, ..., 2^(roots-1):
// FEC_PARAMS of cryptsetup 2.8, lib/verity/verity_fec.c; init_rs of the kernel's
// drivers/md/dm-verity-fec.c.
const fieldPolynomial = 0x11d

// fieldExp holds the powers of 2, twice, so that a sum of two logarithms is an
// index; fieldLog is its inverse, without a meaning for 0.
var fieldExp, fieldLog = fieldTables()

func fieldTables() (exp [2 * codeword]byte, log [256]byte) {
	x := 1
	for i := range codeword {
		exp[i], exp[i+codeword] = byte(x), byte(x)
		log[x] = byte(i)
		if x <<= 1; x > 255 {
			x ^= fieldPolynomial
		}
	}
	return exp, log
}

func mul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return fieldExp[int(fieldLog[a])+int(fieldLog[b])]
}

// div returns a/b; b is not 0.
func div(a, b byte) byte {
	if a == 0 {
		return 0
	}
	return fieldExp[int(fieldLog[a])+codeword-int(fieldLog[b])]
}

// power returns 2^n for 0 <= n < 255.
func power(n int) byte { return fieldExp[n] }

// evaluate returns p(x); p[i] is the coefficient of x^i.
func evaluate(p []byte, x byte) byte {
	var y byte
	for i := len(p) - 1; i >= 0; i-- {
		y = mul(y, x) ^ p[i]
	}
	return y
}

// generator returns the coefficients of g(x) = (x - 2^0)...(x - 2^(roots-1)), lowest
// first.
func generator(roots int) []byte {
	g := []byte{1}
	for i := range roots {
		next := make([]byte, len(g)+1)
		for j, c := range g {
			next[j+1] ^= c
			next[j] ^= mul(c, power(i))
		}
		g = next
	}
	return g
}

// parityMatrix returns, for each parity symbol, what each data symbol adds to it.
// Symbol i of a codeword is the coefficient of x^(254-i), and parity is the remainder
// modulo g(x), so column i is x^(254-i) mod g(x).
func parityMatrix(roots int) [][]byte {
	g := generator(roots)
	rows := codeword - roots
	m := make([][]byte, roots)
	for i := range m {
		m[i] = make([]byte, rows)
	}
	rest := make([]byte, roots) // x^n mod g, lowest coefficient first, from n = 0
	rest[0] = 1
	for n := 1; n < codeword; n++ {
		carry := rest[roots-1]
		copy(rest[1:], rest[:roots-1])
		rest[0] = 0
		for j := range rest {
			rest[j] ^= mul(carry, g[j])
		}
		if n < roots {
			continue
		}
		for p := range m {
			m[p][codeword-1-n] = rest[roots-1-p]
		}
	}
	return m
}
