package uki

// A sectionKind is one row of the table of sections that systemd-stub knows.
type sectionKind struct {
	name     string
	measured bool // into PCR 11
	repeats  bool // more than one instance per profile; the stub picks by hardware
	since    int  // first systemd release whose stub reads, and if measured measures, the section
}

// sectionKinds is the one table of sections. Its order is the canonical one, in which the stub measures whatever the
// order in the file; it is append-only. Names, order and what is measured: systemd 262, src/fundamental/uki.c and uki.h,
// and UAPI.5 "Unified Kernel Image" (https://uapi-group.org/specifications/specs/unified_kernel_image/). Releases: the
// unified_sections array of systemd 252 and 253 (eight sections), NEWS of 254 (.uname), 256 (.ucode), 257 (.profile,
// .dtbauto, .hwids), 258 (.efifw), and systemd issue 27990 (.sbat, 254).
var sectionKinds = [...]sectionKind{
	{name: ".linux", measured: true, since: 252},
	{name: ".osrel", measured: true, since: 252},
	{name: ".cmdline", measured: true, since: 252},
	{name: ".initrd", measured: true, since: 252},
	{name: ".ucode", measured: true, since: 256},
	{name: ".splash", measured: true, since: 252},
	{name: ".dtb", measured: true, since: 252},
	{name: ".uname", measured: true, since: 254},
	{name: ".sbat", measured: true, since: 254},
	{name: ".pcrsig", measured: false, since: 252},
	{name: ".pcrpkey", measured: true, since: 252},
	{name: ".profile", measured: true, since: 257},
	{name: ".dtbauto", measured: true, repeats: true, since: 257},
	{name: ".hwids", measured: true, since: 257},
	{name: ".efifw", measured: true, repeats: true, since: 258},
}

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
