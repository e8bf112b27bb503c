package main

import (
	"crypto"
	"encoding/hex"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

func measureFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var phases cli.List
	set.Var(&phases, "phases", "`paths` of boot phases, as enter-initrd,enter-initrd:leave-initrd (default: those that ukify signs); may be repeated")
	profile := set.String("profile", "", "`N`, the index of the one profile to measure (default: all)")
	banks := set.String("pcr-banks", "", "PCR banks, a `list` such as sha256,sha384 (default: all four)")
	assume := addAssume(set)
	return func(c *cli.Call, operands []string) error {
		paths, err := parsePhases(strings.Join(phases, ","))
		if err != nil {
			return err
		}
		if paths == nil {
			paths = tpm.DefaultPhasePaths()
		}
		hashes, err := parseBanks(*banks)
		if err != nil {
			return err
		}
		src, f, err := openUKI(c, operands[0], *assume)
		if err != nil {
			return err
		}
		finish := c.WatchReads(src.Size())
		variants, err := f.MeasureVariants(hashes...)
		finish()
		if err != nil {
			return err
		}
		result := measureResult{header: newHeader(c, src.Name), Variants: []variant{}}
		for _, v := range variants {
			if *profile != "" && strconv.Itoa(v.Profile) != *profile {
				continue
			}
			described, err := describeVariant(f, v, hashes, paths)
			if err != nil {
				return err
			}
			result.Variants = append(result.Variants, described)
		}
		if len(result.Variants) == 0 {
			return cli.Usagef("-profile %s: the image has profiles 0 to %d", *profile, variants[len(variants)-1].Profile)
		}
		return c.Answer(result, measureText(result.Variants, hashes))
	}
}

// describeVariant is one way to boot: what is measured, and what PCR 11 then holds at the end of
// each path.
func describeVariant(f *uki.File, v uki.VariantMeasurements, banks []crypto.Hash, paths [][]string) (variant, error) {
	out := variant{Profile: v.Profile, DeviceTree: v.DeviceTree, Firmware: v.Firmware, Sections: []measured{}, PCR11: []pcr11{}}
	if profiles := f.Profiles(); v.Profile < len(profiles) {
		out.ProfileID, out.ProfileTitle = profiles[v.Profile].ID, profiles[v.Profile].Title
	}
	for _, m := range v.Sections {
		s := measured{m.Section, m.Size, map[string]string{}}
		for h, digest := range m.Digests {
			s.Digests[tpm.BankName(h)] = hex.EncodeToString(digest)
		}
		out.Sections = append(out.Sections, s)
	}
	ms := v.Sections
	for _, path := range paths {
		p := pcr11{path, map[string]string{}}
		for _, h := range banks {
			value, err := tpm.PCR11(h, ms, path...)
			if err != nil {
				return out, err
			}
			p.Banks[tpm.BankName(h)] = hex.EncodeToString(value)
		}
		out.PCR11 = append(out.PCR11, p)
	}
	return out, nil
}

// measureText says it as systemd-measure does, with a line in front of each variant if there are
// several.
func measureText(variants []variant, banks []crypto.Hash) string {
	var b strings.Builder
	for _, v := range variants {
		if len(variants) > 1 || v.Profile > 0 || v.ProfileID != "" {
			fmt.Fprintf(&b, "# %s\n", printable(v.name()))
		}
		for _, p := range v.PCR11 {
			fmt.Fprintf(&b, "# PCR[11] Phase <%s>\n", strings.Join(p.Phases, ":"))
			for _, h := range banks {
				fmt.Fprintf(&b, "11:%s=%s\n", tpm.BankName(h), p.Banks[tpm.BankName(h)])
			}
		}
	}
	return b.String()
}

// name says which way to boot it is.
func (v variant) name() string {
	s := profileName(v.Profile, v.ProfileID, v.ProfileTitle)
	if v.DeviceTree > 0 {
		s += fmt.Sprintf(", device tree %d", v.DeviceTree)
	}
	if v.Firmware > 0 {
		s += fmt.Sprintf(", firmware %d", v.Firmware)
	}
	return s
}

// profileName is such as "profile 1 (reset: Factory reset)".
func profileName(index int, id, title string) string {
	s := fmt.Sprintf("profile %d", index)
	switch {
	case id != "" && title != "":
		return fmt.Sprintf("%s (%s: %s)", s, id, title)
	case id != "" || title != "":
		return fmt.Sprintf("%s (%s)", s, id+title)
	}
	return s
}
