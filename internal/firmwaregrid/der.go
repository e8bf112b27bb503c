package firmwaregrid

import "slices"

// tlv is one DER element, or several contents in one.
func tlv(tag byte, contents ...[]byte) []byte {
	body := slices.Concat(contents...)
	return slices.Concat([]byte{tag}, length(len(body)), body)
}

func length(n int) []byte {
	switch {
	case n < 0x80:
		return []byte{byte(n)}
	case n < 0x100:
		return []byte{0x81, byte(n)}
	case n < 0x10000:
		return []byte{0x82, byte(n >> 8), byte(n)}
	}
	return []byte{0x83, byte(n >> 16), byte(n >> 8), byte(n)}
}

func seq(contents ...[]byte) []byte { return tlv(0x30, contents...) }
func set(contents ...[]byte) []byte { return tlv(0x31, contents...) }
func octets(b ...[]byte) []byte     { return tlv(0x04, b...) }
func bits(b []byte) []byte          { return tlv(0x03, []byte{0}, b) }
func integer(content ...byte) []byte {
	return tlv(0x02, content)
}

var null = []byte{5, 0}

// unsigned is an INTEGER of big-endian bytes without a sign.
func unsigned(b []byte) []byte {
	if len(b) == 0 || b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return tlv(0x02, b)
}

// oid is an OBJECT IDENTIFIER.
func oid(arcs ...int) []byte {
	body := []byte{byte(40*arcs[0] + arcs[1])}
	for _, a := range arcs[2:] {
		var part []byte
		for part = []byte{byte(a & 0x7f)}; a > 0x7f; {
			a >>= 7
			part = append([]byte{byte(a&0x7f) | 0x80}, part...)
		}
		body = append(body, part...)
	}
	return tlv(0x06, body)
}
