package sdstub

// Section is what systemd-stub does with the sections of one name.
type Section struct {
	Name     string
	Holds    string // what is in it, in words
	Rank     int    // place in a file among the sections that are added to the stub, from 1
	Since    int    // first release whose stub reads, and if measured measures, the section
	Measured bool   // into PCR 11
	Repeats  bool   // more than one instance per profile; the stub picks by hardware
	Override bool   // an instance in a profile takes the place of the one shared by all profiles
	Addon    int    // first release whose stub applies it when an add-on carries it; 0: none does
	// its content is text: what ukify 262 prints of it (ukify, DEFAULT_SECTIONS_TO_SHOW)
	Text bool
}

// sections is the one table of sections. Its order is the canonical one, in which the stub measures
// whatever the order in the file; it is append-only. Sources, column by column:
//
//   - rank: images that ukify 257 and 262 write, which package uki's tests compare byte for byte; a
//     profile begins with its .profile whatever the rank says;
//   - name, order, measured, repeats, override: systemd 262, src/fundamental/uki.c and uki.h,
//     src/boot/pe.c (pe_locate_profile_sections), and UAPI.5 "Unified Kernel Image", sections "UKI
//     Components" and "Multi-Profile UKIs"
//     (https://uapi-group.org/specifications/specs/unified_kernel_image/);
//   - since: the unified_sections array of systemd 252 and 253 (eight sections), NEWS of 254
//     (.uname), 256 (.ucode), 257 (.profile, .dtbauto, .hwids), 258 (.efifw), and systemd issue
//     27990 (.sbat, 254);
//   - add-on: systemd-stub(7), "Companion Files"; UAPI.5, "PE Addons"; systemd 254,
//     cmdline_append_and_measure_addons; systemd 255, 257 and 262, load_addons.
var sections = []Section{
	{Name: ".linux", Holds: "kernel", Rank: 9, Since: 252, Measured: true, Override: true},
	{Name: ".osrel", Holds: "os-release", Rank: 1, Since: 252, Measured: true, Override: true, Text: true},
	{Name: ".cmdline", Holds: "command line", Rank: 2, Since: 252, Measured: true, Override: true, Addon: 254, Text: true},
	{Name: ".initrd", Holds: "initrd", Rank: 10, Since: 252, Measured: true, Override: true, Addon: 257},
	{Name: ".ucode", Holds: "microcode", Rank: 12, Since: 256, Measured: true, Override: true, Addon: 257},
	{Name: ".splash", Holds: "picture at boot", Rank: 7, Since: 252, Measured: true, Override: true},
	{Name: ".dtb", Holds: "device tree", Rank: 3, Since: 252, Measured: true, Override: true, Addon: 255},
	{Name: ".uname", Holds: "kernel version", Rank: 6, Since: 254, Measured: true, Override: true, Text: true},
	{Name: ".sbat", Holds: "revocation level", Rank: 14, Since: 254, Measured: true, Override: true, Text: true},
	// signatures over PCR 11 cannot be in it
	{Name: ".pcrsig", Holds: "signed PCR policies", Rank: 16, Since: 252, Override: true, Text: true},
	{Name: ".pcrpkey", Holds: "key of PCR policies", Rank: 8, Since: 252, Measured: true, Override: true, Text: true},
	{Name: ".profile", Holds: "begins a profile", Rank: 15, Since: 257, Measured: true, Text: true},
	{Name: ".dtbauto", Holds: "device tree, by hardware", Rank: 4, Since: 257, Measured: true, Repeats: true, Override: true, Addon: 257},
	{Name: ".hwids", Holds: "hardware IDs", Rank: 5, Since: 257, Measured: true, Override: true},
	{Name: ".efifw", Holds: "firmware", Rank: 11, Since: 258, Measured: true, Repeats: true, Override: true},
}

// OtherRank is the place of sections that the stub does not know.
const OtherRank = 13

// Sections are all rows of the table, in the order in which the stub measures.
func Sections() []Section { return append([]Section(nil), sections...) }

// SectionOf is the row of a name; nil for a section that is none of the stub's business.
func SectionOf(name string) *Section {
	if i := Order(name); i >= 0 {
		return &sections[i]
	}
	return nil
}

// Order is the place of a section in the order in which the stub measures; -1 for a section that is
// none of its business.
func Order(name string) int {
	for i := range sections {
		if sections[i].Name == name {
			return i
		}
	}
	return -1
}
