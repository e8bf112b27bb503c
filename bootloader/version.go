package bootloader

import "cmp"

// CompareVersions orders version strings as systemd-boot does, negative if a is older than b
// (UAPI.10; the code counts where it differs from the text: digits are always newer than a segment
// without digits, even 0). Strings such as "1_" and "1" are equal in this order, which is otherwise
// total. Numbers may have any length.
func CompareVersions(a, b string) int {
	for {
		a, b = skipSeparators(a), skipSeparators(b)
		// A pre-release is older than everything, the end of the string included, so it comes
		// first.
		if r, ok := cutBoth(&a, &b, '~'); !ok {
			return r
		}
		if a == "" || b == "" {
			return boolCompare(a != "", b != "")
		}
		for _, c := range []byte{'-', '^', '.'} {
			if r, ok := cutBoth(&a, &b, c); !ok {
				return r
			}
		}
		var r int
		if startsWith(a, isDigit) || startsWith(b, isDigit) {
			r = compareNumbers(take(&a, isDigit), take(&b, isDigit))
		} else {
			r = compareWords(take(&a, isAlpha), take(&b, isAlpha))
		}
		if r != 0 {
			return r
		}
	}
}

// cutBoth drops c from both strings if both begin with it. If only one does, that one is older and
// ok is false.
func cutBoth(a, b *string, c byte) (r int, ok bool) {
	inA, inB := *a != "" && (*a)[0] == c, *b != "" && (*b)[0] == c
	if inA != inB {
		return boolCompare(!inA, !inB), false
	}
	if inA {
		*a, *b = (*a)[1:], (*b)[1:]
	}
	return 0, true
}

func compareNumbers(a, b string) int {
	if r := boolCompare(a != "", b != ""); r != 0 {
		return r
	}
	a, b = trimZeros(a), trimZeros(b)
	if len(a) != len(b) {
		return cmp.Compare(len(a), len(b))
	}
	return cmp.Compare(a, b)
}

func compareWords(a, b string) int {
	n := min(len(a), len(b))
	if r := cmp.Compare(a[:n], b[:n]); r != 0 {
		return r
	}
	return cmp.Compare(len(a), len(b))
}

// skipSeparators drops leading characters that have no meaning in a version.
func skipSeparators(s string) string {
	for s != "" && !isDigit(s[0]) && !isAlpha(s[0]) && s[0] != '~' && s[0] != '-' && s[0] != '^' && s[0] != '.' {
		s = s[1:]
	}
	return s
}

func trimZeros(s string) string {
	for s != "" && s[0] == '0' {
		s = s[1:]
	}
	return s
}

func take(s *string, class func(byte) bool) string {
	n := 0
	for n < len(*s) && class((*s)[n]) {
		n++
	}
	head := (*s)[:n]
	*s = (*s)[n:]
	return head
}

func startsWith(s string, class func(byte) bool) bool { return s != "" && class(s[0]) }
func isDigit(c byte) bool                             { return '0' <= c && c <= '9' }
func isAlpha(c byte) bool                             { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
