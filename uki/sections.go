package uki

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/sdstub"
)

// A scope is the sections that count in one profile, as indices into the sections of the image:
// those before the first .profile, which all profiles share, and those from the profile's own
// .profile up to the next one (systemd 262, src/boot/pe.c, pe_locate_profile_sections).
type scope struct {
	list      []content
	release   int
	base, own span
}

// span is a run of sections [from, to).
type span struct{ from, to int }

func countProfiles(list []content) int {
	n := 0
	for _, c := range list {
		if c.name == ".profile" {
			n++
		}
	}
	return n
}

// scopeOf finds the sections of a profile. An image without any .profile has profile 0 only, which
// then has no sections of its own.
func scopeOf(list []content, profile, release int) (*scope, error) {
	s := &scope{list: list, release: release, base: span{0, len(list)}}
	n := -1
	for i, c := range list {
		if c.name != ".profile" {
			continue
		}
		if n++; n == 0 {
			s.base.to = i
		}
		switch n {
		case profile:
			s.own = span{i, len(list)}
		case profile + 1:
			s.own.to = i
		}
	}
	if profile < 0 || profile > max(n, 0) {
		return nil, fmt.Errorf("profile %d: the image has %d", profile, n+1)
	}
	if since := sdstub.SectionOf(".profile").Since; n >= 0 && release < since {
		return nil, fmt.Errorf("section .profile needs a stub of systemd %d or later, this is %d", since, release)
	}
	return s, nil
}

// candidates are the sections of that name, in file order. Of most kinds only the last slice's
// first one counts, see effective. A stub that does not know the section yet has none.
func (s *scope) candidates(name string) []int {
	if k := sdstub.SectionOf(name); k != nil && s.release < k.Since {
		return nil
	}
	var out []int
	for _, r := range []span{s.base, s.own} {
		for i := r.from; i < r.to; i++ {
			// An empty section is as good as absent.
			if s.list[i].name == name && s.list[i].size > 0 {
				out = append(out, i)
			}
		}
	}
	return out
}

// effective is the section of that name that counts: the first one in the profile, or else the
// first one of the shared ones, or -1.
func (s *scope) effective(name string) int {
	for _, r := range []span{s.own, s.base} {
		for i := r.from; i < r.to; i++ {
			if s.list[i].name == name {
				return i
			}
		}
	}
	return -1
}

// selectVariant picks the sections that a stub of that release measures for a variant, in measured
// order. A device tree that is picked by hardware takes the place of .dtb for the kernel, but both
// are measured: boots of 257 and 262; systemd 262, src/boot/stub.c (find_sections,
// measure_sections), and the policies that ukify 262 signs. A stub does nothing with .efifw but
// measure it: boots of 262.
func selectVariant(list []content, v Variant, release int) ([]int, error) {
	s, err := scopeOf(list, v.Profile, release)
	if err != nil {
		return nil, err
	}
	picked := make(map[string]int)
	for name, n := range map[string]int{".dtbauto": v.DeviceTree, ".efifw": v.Firmware} {
		c := s.candidates(name)
		if n < 0 || n > len(c) {
			return nil, fmt.Errorf("section %s number %d: profile %d has %d", name, n, v.Profile, len(c))
		}
		if n > 0 {
			picked[name] = c[n-1]
		}
	}
	var out []int
	for _, k := range sdstub.Sections() {
		if !k.Measured || release < k.Since {
			continue
		}
		i := -1
		switch {
		case k.Repeats:
			if at, ok := picked[k.Name]; ok {
				i = at
			}
		default:
			i = s.effective(k.Name)
		}
		if i >= 0 && list[i].size > 0 {
			out = append(out, i)
		}
	}
	return out, nil
}

// selectOnly is selectVariant of the only variant of a profile.
func selectOnly(list []content, profile, release int) ([]int, error) {
	s, err := scopeOf(list, profile, release)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{".dtbauto", ".efifw"} {
		if len(s.candidates(name)) > 0 {
			return nil, fmt.Errorf("section %s: %w: see Variants", name, ErrHardwareDependent)
		}
	}
	return selectVariant(list, Variant{Profile: profile}, release)
}
