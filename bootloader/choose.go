package bootloader

// Variables are the EFI variables, of vendor 4a67b082-0a4c-41cf-b6c7-440b29bb8c4f, that decide what boots. Empty is not
// set. Values are ids or patterns (? * [set]); letters of ASCII match in either case.
type Variables struct {
	EntryOneShot    string // LoaderEntryOneShot: for the next boot only; the loader deletes it
	EntryPreferred  string // LoaderEntryPreferred, 260 and later: passes over entries without tries left; or @saved
	EntryDefault    string // LoaderEntryDefault: does not look at tries; or @saved
	EntryLastBooted string // LoaderEntryLastBooted: what @saved stands for

	// FirmwareFailed is whether the firmware reports that an update of it failed (258 and later); then EntrySysFail,
	// LoaderEntrySysFail, comes before all others.
	FirmwareFailed bool
	EntrySysFail   string
}

// Reason says what made an entry the default.
type Reason string

const (
	BySysFail         Reason = "LoaderEntrySysFail"
	ByOneShot         Reason = "LoaderEntryOneShot"
	ByPreferred       Reason = "LoaderEntryPreferred"
	ByConfigPreferred Reason = "preferred in loader.conf"
	ByDefault         Reason = "LoaderEntryDefault"
	ByConfigDefault   Reason = "default in loader.conf"
	ByOrder           Reason = "first in the menu"
	ByNothing         Reason = "no entry can boot by itself" // the menu waits for a person
)

// Pinned reports whether the entry was chosen by something that boots it even when it has used up its tries, so that
// there is no automatic return to another one.
func (r Reason) Pinned() bool {
	return r == BySysFail || r == ByOneShot || r == ByDefault || r == ByConfigDefault
}

// Default is the entry that systemd-boot 262 boots when nobody touches a key (src/boot/boot.c,
// config_select_default_entry), and why. It is nil if the menu has no entry that may boot by itself.
func (m *Menu) Default(v Variables) (*Entry, Reason) {
	saved := func(s string) string {
		if s = lower(s); s == "@saved" {
			return lower(v.EntryLastBooted)
		}
		return s
	}
	for _, rule := range []struct {
		pattern string
		reason  Reason
	}{
		{sysFail(v), BySysFail},
		{lower(v.EntryOneShot), ByOneShot},
		{saved(v.EntryPreferred), ByPreferred},
		{saved(m.Config.Preferred), ByConfigPreferred},
		{saved(v.EntryDefault), ByDefault},
		{saved(m.Config.Default), ByConfigDefault},
	} {
		if e := m.find(rule.pattern, !rule.reason.Pinned()); e != nil {
			return e, rule.reason
		}
	}
	for _, e := range m.Entries {
		if e.Profile == 0 {
			return e, ByOrder
		}
	}
	return nil, ByNothing
}

func sysFail(v Variables) string {
	if !v.FirmwareFailed {
		return ""
	}
	return lower(v.EntrySysFail)
}

// find is the first entry whose id the pattern matches. The pattern is in lower case; so are all ids but those of
// counted UKIs, whose capital letters therefore no pattern matches.
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
