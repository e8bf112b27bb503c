package fec

// A decoder corrects errors and erasures of a codeword of 255 symbols. Symbol i is
// the coefficient of x^(254-i), so its locator is 2^(254-i).
//
// The steps are the usual ones: the error locator polynomial by Berlekamp and
// Massey's algorithm, started with the locator of the erasures; its roots by Chien's
// search; the values by Forney's formula, here for a first root 2^0.
// (R. E. Blahut, Theory and Practice of Error Control Codes, 1983, chapters 7 and 9;
// G. D. Forney, On Decoding BCH Codes, IEEE Trans. Inf. Theory 11, 1965.)
type decoder struct {
	roots    int
	erasures []int  // symbols that may hold anything
	locator  []byte // product of (1 - x*2^(254-i)) over the erasures, lowest coefficient first
}

// newDecoder returns a decoder for codewords with these erasures, which are distinct
// and at most as many as roots.
func newDecoder(roots int, erasures []int) *decoder {
	d := &decoder{roots: roots, erasures: erasures, locator: make([]byte, roots+1)}
	d.locator[0] = 1
	for n, symbol := range erasures {
		x := power(codeword - 1 - symbol)
		for i := n + 1; i > 0; i-- {
			d.locator[i] ^= mul(x, d.locator[i-1])
		}
	}
	return d
}

// A correction is what to add to a symbol.
type correction struct {
	symbol int
	value  byte
}

// decode appends the corrections that make the nearest codeword of a word whose
// remainder modulo g(x) is rest, highest coefficient first: what the parity of the
// word's data and the parity in the word differ by. It reports false if there is no
// codeword within reach: e erasures and t errors with e + 2t <= roots.
//
// More errors than that may lead to a codeword that is not the original one.
func (d *decoder) decode(to []correction, rest []byte) ([]correction, bool) {
	var syndromes [MaxRoots]byte
	s := syndromes[:d.roots]
	var any byte
	for j := range s {
		x, y := power(j), byte(0)
		for _, c := range rest {
			y = mul(y, x) ^ c
		}
		s[j] = y
		any |= y
	}
	if any == 0 {
		return to, true
	}

	var buffer [MaxRoots + 1]byte
	locator := buffer[:d.roots+1]
	degree, found := d.locate(locator, s)
	if !found {
		return to, false
	}
	var where [MaxRoots]int
	symbols := where[:0]
	if degree == len(d.erasures) {
		symbols = append(symbols, d.erasures...)
	} else {
		for symbol := range codeword {
			// 2^(symbol+1) is the inverse of 2^(254-symbol).
			if evaluate(locator[:degree+1], power((symbol+1)%codeword)) != 0 {
				continue
			}
			if len(symbols) == degree {
				return to, false
			}
			symbols = append(symbols, symbol)
		}
		if len(symbols) != degree {
			return to, false
		}
	}

	// The evaluator is the product of syndromes and locator, modulo x^roots.
	var evaluator [MaxRoots]byte
	for i := range s {
		for j := range min(i, degree) + 1 {
			evaluator[i] ^= mul(locator[j], s[i-j])
		}
	}
	// In characteristic 2 the derivative keeps the odd coefficients, one lower.
	var derivative [MaxRoots]byte
	for i := 1; i <= degree; i += 2 {
		derivative[i-1] = locator[i]
	}
	first := len(to)
	for _, symbol := range symbols {
		x, inverse := power(codeword-1-symbol), power((symbol+1)%codeword)
		slope := evaluate(derivative[:d.roots], inverse)
		if slope == 0 {
			return to[:first], false
		}
		value := mul(x, div(evaluate(evaluator[:d.roots], inverse), slope))
		for j := range s {
			s[j] ^= mul(value, power((codeword-1-symbol)*j%codeword))
		}
		if value != 0 {
			to = append(to, correction{symbol, value})
		}
	}
	for _, left := range s {
		if left != 0 {
			return to[:first], false
		}
	}
	return to, true
}

// locate computes the locator polynomial of erasures and errors and its degree. It
// reports false if there are more errors than the syndromes can tell.
func (d *decoder) locate(locator, s []byte) (degree int, found bool) {
	erased := len(d.erasures)
	copy(locator, d.locator)
	var previousBuffer, nextBuffer [MaxRoots + 1]byte
	previous, next := previousBuffer[:len(locator)], nextBuffer[:len(locator)]
	copy(previous, locator)
	length := erased // of the shift register that generates the syndromes so far
	for n := erased; n < d.roots; n++ {
		var discrepancy byte
		for i := range min(length, n) + 1 {
			discrepancy ^= mul(locator[i], s[n-i])
		}
		copy(previous[1:], previous[:len(previous)-1])
		previous[0] = 0
		if discrepancy == 0 {
			continue
		}
		for i := range next {
			next[i] = locator[i] ^ mul(discrepancy, previous[i])
		}
		if 2*length <= n+erased {
			length = n + 1 + erased - length
			for i := range previous {
				previous[i] = div(locator[i], discrepancy)
			}
		}
		copy(locator, next)
	}
	for degree = d.roots; locator[degree] == 0; {
		degree-- // ends at 0, as the lowest coefficient is always 1
	}
	return degree, degree == length && 2*length-erased <= d.roots
}
