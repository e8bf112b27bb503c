package oracle

import "slices"

// matches says whether a pattern is all of a text: ? is one character, * any number, [...] a set
// with ranges, and \ takes the meaning of the next character away.
func matches(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	// from are the lengths of the text that what was read of the pattern can be.
	from := make([]bool, len(t)+1)
	from[0] = true
	for len(p) > 0 {
		next := make([]bool, len(t)+1)
		if p[0] == '*' {
			any := false
			for i, is := range from {
				any = any || is
				next[i] = any
			}
			p, from = p[1:], next
			continue
		}
		one, rest, ok := onePattern(p)
		if !ok {
			return false
		}
		for i, c := range t {
			next[i+1] = from[i] && one(c)
		}
		p, from = rest, next
	}
	return from[len(t)]
}

// onePattern is the pattern of one character. ok is false if it is not whole.
func onePattern(p []rune) (is func(rune) bool, rest []rune, ok bool) {
	switch p[0] {
	case '?':
		return func(rune) bool { return true }, p[1:], true
	case '\\':
		if len(p) < 2 {
			return nil, nil, false
		}
		return func(c rune) bool { return c == p[1] }, p[2:], true
	case '[':
		return setPattern(p[1:])
	}
	return func(c rune) bool { return c == p[0] }, p[1:], true
}

// setPattern is a set up to its closing bracket.
func setPattern(p []rune) (is func(rune) bool, rest []rune, ok bool) {
	type span struct{ low, high rune }
	var spans []span
	single := false // the last one may begin a range
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == ']' && i > 0:
			return func(c rune) bool {
				return slices.ContainsFunc(spans, func(s span) bool { return s.low <= c && c <= s.high })
			}, p[i+1:], true
		case c == '-' && single && i+1 < len(p) && p[i+1] != ']':
			if i++; p[i] == '\\' {
				if i++; i == len(p) {
					return nil, nil, false
				}
			}
			spans[len(spans)-1].high = p[i]
			single = false
			continue
		case c == '\\':
			if i++; i == len(p) {
				return nil, nil, false
			}
			c = p[i]
		}
		spans = append(spans, span{c, c})
		single = true
	}
	return nil, nil, false
}
