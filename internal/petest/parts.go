package petest

import (
	"encoding/binary"
	"fmt"
)

const sbatHeader = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"

// dllCharacteristics of systemd's EFI binaries: high-entropy addresses, relocatable, NX-compatible.
const dllCharacteristics = 0x0160

// Stub is a stand-in for systemd-stub of that version ("262-1"): the marker in .sdmagic, a .sbat
// section with the 1024 bytes of room that systemd 258 and later leave, and header space for 120
// more sections.
func Stub(version string) []byte {
	return systemd("stub", version, 1024, nil)
}

// AddonStub is a stand-in for the stub of add-ons: code, the marker, no .sbat, and headers with
// room for 17 more sections.
func AddonStub(version string) []byte {
	return Image{SizeOfHeaders: 1024, DllCharacteristics: dllCharacteristics, ImageBase: imageBase, Sections: []Section{
		{Name: ".text", Content: halt, Code: true},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-addon " + version + " ####\x00")},
	}}.Bytes()
}

// Loader is a stand-in for systemd-boot of that version.
func Loader(version string) []byte {
	osrel := Section{Name: ".osrel", Content: []byte("ID=systemd-boot\nVERSION=\"" + version + "\"\nNAME=\"systemd-boot " + version + "\"\n")}
	return systemd("boot", version, 0, []Section{osrel})
}

func systemd(what, version string, sbatRoom int, more []Section) []byte {
	sbat := sbatHeader + fmt.Sprintf("systemd-%s,1,osmith stand-in,systemd,%s,https://systemd.io/\n", what, version)
	im := Image{SizeOfHeaders: 0x2000, DllCharacteristics: dllCharacteristics, ImageBase: imageBase, Sections: []Section{
		{Name: ".text", Content: halt, Code: true},
		{Name: ".rodata", Content: []byte("osmith stand-in for systemd-" + what + ", does not boot\x00")},
		{Name: ".sbat", Content: []byte(sbat), RawSize: sbatRoom},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-" + what + " " + version + " ####\x00")},
	}}
	im.Sections = append(im.Sections, more...)
	return im.Bytes()
}

// Offsets of the real-mode setup header (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode
// Kernel Header").
const (
	setupBootFlag      = 0x1fe
	setupMagic         = 0x202 // "HdrS"
	setupProtocol      = 0x206
	setupKernelVersion = 0x20e // pointer to the version string, less 0x200
	setupRelocatable   = 0x234
	setupXLoadFlags    = 0x236
	setupCmdlineSize   = 0x238
)

// Kernel is a stand-in for an x86-64 bzImage whose `uname -r` is the argument. It is a PE with the
// EFI stub's outer shape and the setup header with the version string; more sections, such as
// .sbat, follow its own.
func Kernel(uname string, more ...Section) []byte {
	const versionAt = 0x400
	im := Image{SizeOfHeaders: 0x1000, DllCharacteristics: 0x0100, ImageVersion: 3, Whole: true, Sections: []Section{
		{Name: ".setup", Content: []byte("setup\x00")},
		{Name: ".text", Content: append(append([]byte(nil), halt...), "osmith stand-in for Linux "+uname+", does not boot\x00"...), Code: true},
	}}
	im.Sections = append(im.Sections, more...)
	b := im.Bytes()
	le := binary.LittleEndian
	le.PutUint16(b[setupBootFlag:], 0xaa55)
	copy(b[setupMagic:], "HdrS")
	le.PutUint16(b[setupProtocol:], 0x020f)
	le.PutUint16(b[setupKernelVersion:], versionAt-0x200)
	b[setupRelocatable] = 1
	le.PutUint16(b[setupXLoadFlags:], 0x3f) // 64 bits, above 4 GiB, both handovers
	le.PutUint32(b[setupCmdlineSize:], 2047)
	copy(b[versionAt:0x1000-1], uname+" (osmith@stand-in) #1 SMP")
	return b
}

// Shim is a stand-in for shim with the sections .vendor_cert, .sbatlevel and .sbat. The names of
// the first two are longer than eight bytes: their headers have offsets into the string table,
// which is behind a symbol table of that many symbols and has names in it,
// ".vendor_cert\x00.sbatlevel\x00". It has the text by which real ones find the loader beside them.
func Shim(vendorCert, sbatLevel, sbat []byte, symbols uint32, names string) []byte {
	b := Image{SizeOfHeaders: 1024, Sections: []Section{{Name: ".text", Content: append([]byte{0xf4, 0}, utf16(`\grubx64.efi`)...)}, {Name: "/4", Content: vendorCert},
		{Name: "/17", Content: sbatLevel}, {Name: ".sbat", Content: sbat}}}.Bytes()
	header := binary.LittleEndian.Uint32(b[0x3c:]) + 4
	binary.LittleEndian.PutUint32(b[header+8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[header+12:], symbols)
	b = append(b, make([]byte, 18*symbols)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(4+len(names)))
	return append(b, names...)
}

// utf16 is an ASCII text with a NUL, as EFI programs have it.
func utf16(s string) (b []byte) {
	for _, c := range []byte(s + "\x00") {
		b = append(b, c, 0)
	}
	return b
}
