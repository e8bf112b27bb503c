package oracle

import (
	"slices"
	"strings"
	"unicode/utf16"
)

// loaderConfig is what matters of loader.conf.
type loaderConfig struct {
	preferred, def string
	waits          bool
	restarts       restarts
}

// restarts is what reboot-on-error says.
type restarts int

const (
	restartsAuto restarts = iota
	restartsYes
	restartsNo
)

func (m Machine) config(version int) (c loaderConfig) {
	f, ok := m.ESP.find("loader/loader.conf")
	if !ok || f.Dir {
		return c
	}
	b, err := f.bytes(0, min(f.Size, maxText))
	if err != nil {
		return c
	}
	for key, value := range words(string(b), " \t", version) {
		switch key {
		case "default", "preferred":
			if strings.HasPrefix(value, "@") && !equalFold(value, "@saved") {
				continue
			}
			if key == "default" {
				c.def = value
			} else {
				c.preferred = value
			}
		case "reboot-on-error":
			switch value {
			case "auto":
				c.restarts = restartsAuto
			case "1", "yes", "y", "true", "t", "on":
				c.restarts = restartsYes
			case "0", "no", "n", "false", "f", "off":
				c.restarts = restartsNo
			}
		case "timeout":
			switch {
			case value == "menu-force":
				c.waits = true
			case value == "menu-hidden" || value == "menu-disabled" || value != "" && strings.Trim(value, digits) == "":
				c.waits = false
			}
		}
	}
	return c
}

// choose returns the entry that the loader starts if no key is pressed.
func (m Machine) choose(entries []*BootEntry, config loaderConfig, version int) (*BootEntry, BootReason) {
	if version < sincePreferred {
		config.preferred = ""
		m.Variables.Preferred = ""
	}
	for _, rule := range []struct {
		reason  BootReason
		pattern string
		good    bool // it passes over entries that have used up their tries
		saved   bool // it may be @saved
	}{
		{BootReasonOneShot, m.Variables.OneShot, false, false},
		{BootReasonPreferred, m.Variables.Preferred, true, true},
		{BootReasonConfigPreferred, config.preferred, true, true},
		{BootReasonDefault, m.Variables.Default, false, true},
		{BootReasonConfigDefault, config.def, false, true},
	} {
		pattern := lowerCase(rule.pattern)
		if rule.saved && pattern == "@saved" {
			pattern = m.Variables.LastBooted // as it is
		}
		if pattern == "" {
			continue
		}
		for _, e := range entries {
			if matches(pattern, e.ID) && !(rule.good && e.Bad()) {
				return e, rule.reason
			}
		}
	}
	for _, e := range entries {
		if e.Profile == 0 || version < sinceFirstProfile {
			return e, BootReasonFirst
		}
	}
	if len(entries) > 0 {
		return entries[0], BootReasonFirst
	}
	return nil, BootReasonNone
}

// saves says whether the loader writes down what it starts: LoaderEntryLastBooted. An entry that
// the one-shot variable names, and not only matches, is not written down. Where nothing asks for
// it, the variable is deleted.
func (m Machine) saves(config loaderConfig) bool {
	if m.Variables.Default != "" {
		return lowerCase(m.Variables.Default) == "@saved"
	}
	return lowerCase(config.def) == "@saved"
}

// sortMenu puts entries in the order of the menu. One that is not told apart from another stays
// behind it.
func sortMenu(list []*BootEntry, version int) {
	for i := range list {
		for k := i; k > 0 && menuOrder(list[k-1], list[k], version) > 0; k-- {
			list[k-1], list[k] = list[k], list[k-1]
		}
	}
}

// menuOrder is negative if a comes before b.
func menuOrder(a, b *BootEntry, version int) int {
	if a.Bad() != b.Bad() {
		return yes(a.Bad()) - yes(b.Bad())
	}
	if a.HasSortKey != b.HasSortKey {
		return yes(b.HasSortKey) - yes(a.HasSortKey)
	}
	var steps []int
	if a.HasSortKey {
		steps = append(steps, compareText(a.SortKey, b.SortKey), compareText(a.MachineID, b.MachineID), CompareVersions(b.Version, a.Version))
		if version >= after257 {
			steps = append(steps, a.Profile-b.Profile)
		}
	}
	steps = append(steps, CompareVersions(b.base, a.base))
	if a.base != a.ID && b.base != b.ID {
		steps = append(steps, a.Profile-b.Profile)
	}
	if a.Counted && b.Counted {
		steps = append(steps, b.Left-a.Left, a.Done-b.Done)
	}
	for _, s := range steps {
		if s != 0 {
			return s
		}
	}
	return 0
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compareText compares by UTF-16 code units.
func compareText(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}
