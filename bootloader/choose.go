package bootloader

// Variables are the EFI variables, of vendor 4a67b082-0a4c-41cf-b6c7-440b29bb8c4f, that decide what
// boots. Empty is not set. Values are ids or patterns (? * [set]); letters of ASCII match in either
// case.
type Variables struct {
	EntryOneShot string // LoaderEntryOneShot: for the next boot only; the loader deletes it
	// LoaderEntryPreferred, 260 and later: skips entries without tries left; or @saved
	EntryPreferred string
	EntryDefault   string // LoaderEntryDefault: ignores tries; or @saved
	// LoaderEntryLastBooted: the entry that @saved means, written by the loader
	EntryLastBooted string

	// FirmwareFailed is whether the firmware reports that an update of it failed (258 and later);
	// then EntrySysFail, the variable LoaderEntrySysFail, takes precedence over all others.
	FirmwareFailed bool
	EntrySysFail   string
}

// Reason says what made an entry the default.
type Reason string

const (
	ReasonSysFail         Reason = "LoaderEntrySysFail"
	ReasonOneShot         Reason = "LoaderEntryOneShot"
	ReasonPreferred       Reason = "LoaderEntryPreferred"
	ReasonConfigPreferred Reason = "preferred in loader.conf"
	ReasonDefault         Reason = "LoaderEntryDefault"
	ReasonConfigDefault   Reason = "default in loader.conf"
	ReasonOrder           Reason = "first in the menu"
	// the menu or the firmware waits for a person
	ReasonNothing Reason = "there is no entry"
)

// Pinned reports whether a setting chooses the entry even when it has used up its tries, so that
// the machine does not return to an older entry by itself.
func (r Reason) Pinned() bool {
	return r == ReasonSysFail || r == ReasonOneShot || r == ReasonDefault || r == ReasonConfigDefault
}

// Default is the entry that the loader boots if no key is pressed (systemd, src/boot/boot.c,
// config_select_default_entry), and why. It follows the loader of [MenuOptions].LoaderVersion. It
// is nil if the menu is empty.
func (m *Menu) Default(v Variables) (*Entry, Reason) {
	r := m.Release
	if r.Number == 0 {
		r = newest()
	}
	if !r.SysFail {
		v.FirmwareFailed = false
	}
	preferred := m.Config.Preferred
	if !r.Preferred {
		v.EntryPreferred, preferred = "", ""
	}
	saved := func(s string) string {
		if s = lower(s); s == "@saved" {
			return v.EntryLastBooted // the loader, which wrote it, does not fold its case
		}
		return s
	}
	for _, rule := range []struct {
		pattern string
		reason  Reason
	}{
		{sysFail(v), ReasonSysFail},
		{lower(v.EntryOneShot), ReasonOneShot},
		{saved(v.EntryPreferred), ReasonPreferred},
		{saved(preferred), ReasonConfigPreferred},
		{saved(v.EntryDefault), ReasonDefault},
		{saved(m.Config.Default), ReasonConfigDefault},
	} {
		if e := m.find(rule.pattern, !rule.reason.Pinned()); e != nil {
			return e, rule.reason
		}
	}
	for _, e := range m.Entries {
		if e.Profile == 0 || !r.FirstProfile {
			return e, ReasonOrder
		}
	}
	if len(m.Entries) > 0 { // other profiles start by themselves only if there is nothing else
		return m.Entries[0], ReasonOrder
	}
	return nil, ReasonNothing
}

// Started are the variables as the loader leaves them when it starts an entry that [Menu.Default]
// chose by v (systemd, src/boot/boot.c, save_selected_entry): LoaderEntryOneShot is gone, and
// LoaderEntryLastBooted is the entry's id if a setting is @saved, unless the entry was named for
// this boot only.
func (m *Menu) Started(v Variables, e *Entry) Variables {
	pattern := v.EntryDefault
	if pattern == "" {
		pattern = m.Config.Default
	}
	switch {
	case !equalFold(pattern, "@saved"):
		v.EntryLastBooted = ""
	case !equalFold(v.EntryOneShot, e.ID):
		v.EntryLastBooted = e.ID
	}
	v.EntryOneShot = ""
	return v
}

// RebootsOnError reports whether the loader restarts the machine, after some seconds, when the
// program of the entry cannot be loaded or returns, so that its tries run out without a person.
// reboot-on-error in loader.conf decides; if that is auto or absent, the loader restarts if the
// entry is counted and has a try left before this boot. Otherwise, and before release 258, the
// loader shows the menu or returns to firmware.
func (m *Menu) RebootsOnError(e *Entry) bool {
	if m.Release.Number != 0 && !m.Release.RebootOnError {
		return false
	}
	if s, ok := parseSwitch(m.Config.RebootOnError); ok {
		return s == SwitchYes
	}
	return e.Counted && e.TriesLeft > 0
}

func sysFail(v Variables) string {
	if !v.FirmwareFailed {
		return ""
	}
	return lower(v.EntrySysFail)
}

// find is the first entry whose id the pattern matches. The pattern is in lower case, except for
// @saved; so are all ids but those of counted UKIs, in 257 of all that is counted, whose capital
// letters therefore no pattern matches.
func (m *Menu) find(pattern string, goodOnly bool) *Entry {
	if pattern == "" {
		return nil
	}
	for _, e := range m.Entries {
		if match(pattern, e.ID) && !(goodOnly && e.Bad()) {
			return e
		}
	}
	return nil
}

// Entry finds an entry by its exact id.
func (m *Menu) Entry(id string) (*Entry, bool) {
	for _, e := range m.Entries {
		if e.ID == id {
			return e, true
		}
	}
	return nil, false
}

// match reports whether pattern, with ? * [set] and backslash escapes, matches all of s. Both are
// compared as they are: the caller has folded their case. (systemd 262, src/boot/efi-string.c,
// efi_fnmatch.)
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
		// The last piece must match at the very end; a * before it swallows one character more each
		// time.
		if ok || len(h) == 0 {
			return ok
		}
		h = h[1:]
	}
}

// matchPrefix matches p up to its first *. With star, tail and rest are what follows in the pattern
// and the string.
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

// matchSet matches c against the set that p begins with and returns the index of its closing
// bracket. A bracket that is never closed matches nothing. A first ] and a first or last - stand
// for themselves; ranges do not chain.
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
