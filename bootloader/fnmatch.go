package bootloader

// match reports whether pattern, with ? * [set] and backslash escapes, matches all of s. Both are compared as they
// are: the caller has folded their case. (systemd 262, src/boot/efi-string.c, efi_fnmatch.)
func match(pattern, s string) bool {
	p, h := []rune(pattern), []rune(s)
	first := true
	for {
		tail, rest, star, ok := matchPrefix(p, h)
		if first {
			if !ok || !star {
				return ok
			}
			first = false
		}
		if star {
			p, h = tail, rest
			continue
		}
		// The last piece must match at the very end; a * before it swallows one character more each time.
		if ok || len(h) == 0 {
			return ok
		}
		h = h[1:]
	}
}

// matchPrefix matches p up to its first *. With star, tail and rest are what follows in the pattern and the string.
func matchPrefix(p, h []rune) (tail, rest []rune, star, ok bool) {
	for {
		if len(p) == 0 {
			return nil, nil, false, len(h) == 0
		}
		switch p[0] {
		case '*':
			for len(p) > 0 && p[0] == '*' {
				p = p[1:]
			}
			return p, h, true, true
		case '\\':
			if len(p) < 2 || len(h) == 0 || p[1] != h[0] {
				return nil, nil, false, false
			}
			p = p[1:]
		case '?':
			if len(h) == 0 {
				return nil, nil, false, false
			}
		case '[':
			n, in := 0, false
			if len(h) > 0 {
				n, in = matchSet(p, h[0])
			}
			if !in {
				return nil, nil, false, false
			}
			p = p[n:]
		default:
			if len(h) == 0 || p[0] != h[0] {
				return nil, nil, false, false
			}
		}
		p, h = p[1:], h[1:]
	}
}

// matchSet matches c against the set that p begins with and returns the index of its closing bracket. A bracket that is
// never closed matches nothing. A first ] and a first or last - stand for themselves; ranges do not chain.
func matchSet(p []rune, c rune) (end int, in bool) {
	canRange := true
	for i := 1; i < len(p); i++ {
		firstInSet := i == 1
		switch {
		case p[i] == '\\':
			if i++; i == len(p) {
				return 0, false
			}
			in = in || p[i] == c
			canRange = true
		case p[i] == ']' && !firstInSet:
			return i, in
		case p[i] == '-' && canRange && !firstInSet && i+1 < len(p) && p[i+1] != ']':
			low := p[i-1]
			if i++; p[i] == '\\' {
				if i++; i == len(p) {
					return 0, false
				}
			}
			in = in || low <= c && c <= p[i]
			canRange = false
		default:
			in = in || p[i] == c
			canRange = true
		}
	}
	return 0, false
}
