package uki

// A sectionKind is one row of the table of sections that systemd-stub knows.
type sectionKind struct {
	name     string
	measured bool // into PCR 11
	repeats  bool // more than one instance per profile; the stub picks by hardware
	override bool // an instance in a profile takes the place of the one shared by all profiles
	addon    bool // an add-on may carry it for the stub to apply
	since    int  // first systemd release whose stub reads, and if measured measures, the section
	rank     int  // place in a file among the sections that are added to the stub
	flags    uint32
}

// Section characteristics of added sections (Microsoft PE Format, "Section Flags"), as ukify sets them. None is
// executable or writable: the stub copies the kernel out before it runs it.
const (
	codeFlags = 0x40000020 // code, readable
	dataFlags = 0x40000040 // initialised data, readable
)

// sectionKinds is the one table of sections. Its order is the canonical one, in which the stub measures whatever the
// order in the file; it is append-only. Sources, column by column:
//
//   - name, order, measured, repeats, override: systemd 262, src/fundamental/uki.c and uki.h, src/boot/pe.c
//     (pe_locate_profile_sections), and UAPI.5 "Unified Kernel Image", sections "UKI Components" and "Multi-Profile UKIs"
//     (https://uapi-group.org/specifications/specs/unified_kernel_image/);
//   - addon: systemd-stub(7), "Companion Files", and UAPI.5, "PE Addons";
//   - since: the unified_sections array of systemd 252 and 253 (eight sections), NEWS of 254 (.uname), 256 (.ucode), 257
//     (.profile, .dtbauto, .hwids), 258 (.efifw), and systemd issue 27990 (.sbat, 254);
//   - rank and flags: images that ukify 257 and 262 write, which interop_test.go compares byte for byte. A profile
//     begins with its .profile whatever the rank says.
var sectionKinds = [...]sectionKind{
	{name: ".linux", measured: true, override: true, since: 252, rank: 9, flags: codeFlags},
	{name: ".osrel", measured: true, override: true, since: 252, rank: 1, flags: dataFlags},
	{name: ".cmdline", measured: true, override: true, addon: true, since: 252, rank: 2, flags: dataFlags},
	{name: ".initrd", measured: true, override: true, addon: true, since: 252, rank: 10, flags: dataFlags},
	{name: ".ucode", measured: true, override: true, addon: true, since: 256, rank: 12, flags: dataFlags},
	{name: ".splash", measured: true, override: true, since: 252, rank: 7, flags: dataFlags},
	{name: ".dtb", measured: true, override: true, addon: true, since: 252, rank: 3, flags: dataFlags},
	{name: ".uname", measured: true, override: true, since: 254, rank: 6, flags: dataFlags},
	{name: ".sbat", measured: true, override: true, since: 254, rank: 14, flags: dataFlags},
	{name: ".pcrsig", measured: false, override: true, since: 252, rank: 16, flags: dataFlags},
	{name: ".pcrpkey", measured: true, override: true, since: 252, rank: 8, flags: dataFlags},
	{name: ".profile", measured: true, since: 257, rank: 15, flags: dataFlags},
	{name: ".dtbauto", measured: true, repeats: true, override: true, addon: true, since: 257, rank: 4, flags: dataFlags},
	{name: ".hwids", measured: true, override: true, since: 257, rank: 5, flags: dataFlags},
	{name: ".efifw", measured: true, repeats: true, override: true, since: 258, rank: 11, flags: dataFlags},
}

// otherRank is the place of sections that the stub does not know.
const otherRank = 13

// The stubs whose measurements the table describes.
const (
	oldestStub = 252
	newestStub = 262
)

// kindOf finds the row of a section name; nil for a section that is none of the stub's business.
func kindOf(name string) *sectionKind {
	for i := range sectionKinds {
		if sectionKinds[i].name == name {
			return &sectionKinds[i]
		}
	}
	return nil
}

// rankOf is the place of a section in a file.
func rankOf(name string) int {
	if k := kindOf(name); k != nil {
		return k.rank
	}
	return otherRank
}

// flagsOf is the Characteristics field of a section to be added.
func flagsOf(name string) uint32 {
	if k := kindOf(name); k != nil {
		return k.flags
	}
	return dataFlags
}
