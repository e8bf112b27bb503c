package uki

import "github.com/osmith-dev/osmith"

// Image describes a unified kernel image by its parts. Stub and Linux are required; a part that is nil, and text that is
// empty, is absent from the image. A Source of no bytes is an empty section, which stubs ignore, as ukify makes of an
// empty file. Sources are read when the result is read, so they must stay unchanged until then.
type Image struct {
	Stub  osmith.Source // systemd-stub, unsigned: linuxx64.efi.stub, linuxaa64.efi.stub...
	Linux osmith.Source // the kernel, a PE image with an EFI stub; may be signed

	// Initrd goes into one .initrd section: a single one unchanged, several one after the other, each padded with
	// zeros to a multiple of four bytes.
	Initrd []osmith.Source

	// Cmdline is the kernel command line, byte for byte. (ukify normalises white space when the text is given as an
	// argument and keeps it when it comes from a file.)
	Cmdline string

	OSRelease []byte // os-release(5); boot loaders list only images that have one

	// Uname is `uname -r` of the kernel. Empty: found by ProbeUname, and an error if that finds none, unless
	// OmitUname leaves the section out.
	Uname     string
	OmitUname bool

	Splash osmith.Source // BMP

	Microcode osmith.Source // cpio archive that the kernel reads first; into .ucode

	// DeviceTree is the device tree for every machine (.dtb). Of DeviceTreeAuto, one .dtbauto section each, the stub
	// takes the first one that is for the machine it runs on, in place of DeviceTree: by the compatible string of the
	// firmware's own tree, or by the one that HWIDs give for the machine's hardware ids.
	DeviceTree     osmith.Source
	DeviceTreeAuto []osmith.Source
	HWIDs          []HWID     // .hwids
	Firmware       []Firmware // .efifw, one section each

	// SBAT holds component lines for Secure Boot revocation, with or without the "sbat,1,..." header line. They follow
	// the lines of the stub and of the kernel. Empty: the line `uki,1,UKI,uki,1,...` that ukify writes.
	SBAT []byte

	PCRPublicKey []byte // PEM, "PUBLIC KEY": goes into .pcrpkey, which is measured
	PCRSignature []byte // JSON: goes into .pcrsig, which is not measured

	// PCRSignatureReserve is how many bytes .pcrsig has, with or without a PCRSignature yet. A shorter PCRSignature is
	// padded with spaces, which JSON allows, and a longer one is a [SpaceError]. 0: as many as PCRSignature has.
	PCRSignatureReserve int

	// Sections are further sections in the order given. Names have at most eight printable ASCII characters.
	Sections []Section

	// Profile makes the image one with profiles: os-release-like text with the fields ID and TITLE of profile 0, the
	// default one. If it is empty and there are Profiles, it is "ID=main", as ukify has it.
	Profile []byte

	// Profiles are the further profiles, from 1 on. They share all that they do not override with profile 0.
	Profiles []Profile

	// AssumeStub names the systemd release whose measurements to predict if the stub's own is newer than this package
	// knows. 0: the stub's own.
	AssumeStub int
}

// Section is a section to add to an [Image].
type Section struct {
	Name    string
	Content osmith.Source
}
