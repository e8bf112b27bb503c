// This program demonstrates packages uki, tpm and signing/authenticode: it builds, opens, measures,
// signs and verifies unified kernel images, with ukify's names for options, without root and on any
// platform.
//
//	uki build -linux F -os-release TEXT|@F -o F [-stub F] [-initrd F]... [-cmdline TEXT|@F] [-uname V] [-microcode F] [-splash F]
//	       [-devicetree F] [-devicetree-auto F]... [-hwids DIR] [-efifw DIR]... [-sbat TEXT|@F]... [-section NAME:TEXT|@F]...
//	       [-profile TEXT|@F] [-join-profile F]... [-pcr-private-key F [-pcr-public-key F] [-phases P]]... [-pcr-banks LIST]
//	       [-policy-digest] [-secureboot-private-key F -secureboot-certificate F] [-allow-kernel-that-the-stub-refuses]
//	       [-assume-stub N]
//	uki build -profile TEXT|@F -o F [flags]
//	uki build -join-pcrsig F -pcrsig TEXT|@F -o F [-secureboot-private-key F -secureboot-certificate F]
//	uki addon -cmdline TEXT|@F -o F [flags]
//	uki addon list -esp DIR|IMG[:PART] [-xbootldr DIR|IMG[:PART]] [-vars DIR|F | -cert F...] [-firmware ROW] [-assume-stub N] [ENTRY]
//	uki addon check ADDON -uki UKI [-vars DIR|F | -cert F...] [-firmware ROW] [-override NAME]... [-assume-stub N]
//	uki addon install ADDON -esp DIR|IMG[:PART] [-xbootldr DIR|IMG[:PART]] [-vars DIR|F | -cert F...] [-firmware ROW] [-override NAME]...
//	       [-assume-stub N] [ENTRY]
//	uki inspect F [-svg OUT] [-assume-stub N] [-ukify-json]
//	uki check F [-assume-stub N] [ADDON]...
//	uki measure F [-phases P]... [-profile N] [-pcr-banks LIST] [-assume-stub N]
//	uki sign -key F -cert F [-o F] F
//	uki verify -cert F... F
//
// build without -linux makes an image of a profile alone, for -join-profile of another build.
// -policy-digest prints the policies to be signed elsewhere, in one object for all profiles, and
// leaves room for them; build -join-pcrsig puts them there.
//
// TEXT|@F is a text, or @ and the name of a file that holds it. White space in a -cmdline TEXT
// becomes single spaces, as with ukify; a file is taken as it is. An empty -os-release or -uname
// leaves the section out. What ukify adds unasked from the machine that it runs on (its os-release,
// its hardware IDs) is not added.
//
// Secure Boot signatures claim the time of SOURCE_DATE_EPOCH, none without it, so that the same
// call gives the same bytes. It has to be inside the validity of the certificate: U-Boot refuses an
// image that was signed at another time. Outputs are written beside their names and renamed; sign
// without -o replaces its file in this way.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json and -progress
// auto|bar|json|none. With -json one object is printed on stdout; it has "schema": "osmith.uki/1",
// "verb" and what json.go lists. -progress json writes lines {"verb": "build", "done": 4096,
// "total": 8192} to stderr, in bytes.
//
// build signs policies for every way to boot: on a machine that none of the device trees is for,
// too, which ukify forgets. inspect -ukify-json prints what ukify 262 does with inspect
// --json=pretty, for scripts that read that; inspect -svg draws the sections by their sizes.
//
// check lists what firmware, boot loaders or the stub would dislike. Errors are a no, and so is
// what is not known of the stub in the image; warnings are not. -assume-stub is for a stub that
// does not say its version, or that is newer than this program.
//
// addon list shows the add-ons that the stub of an entry, or of every image in EFI/Linux, finds, in
// the order in which it takes them, and whether each is accepted or skipped, and why. addon check
// judges one before a boot: kernel, machine type, signature by the machine's variables or by -cert,
// and arguments that void what was verified or measured (uki.ArgumentRules), which -override takes
// by name all the same. Without -vars and -cert it is not known whether firmware loads an add-on,
// which is a no unless -override signature says otherwise. addon install does the same and writes
// what was judged beside the image, or without ENTRY for all images into loader/addons, so that a
// power cut leaves the old state or the new.
//
// Exit status: 0 yes; 1 no: not verified, errors found, not an image that could be measured; 2
// usage or I/O.
package main

import (
	"errors"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
)

func main() { program.Main() }

var program = cli.Program{Name: "uki", Schema: "osmith.uki/1", IsNo: isNo, Verbs: []cli.Verb{
	{Name: "build", Usage: "-linux F -stub F -os-release TEXT|@F -o F [flags]",
		Example: "uki build -linux vmlinuz -initrd initrd.img -cmdline 'ro quiet' -os-release @/etc/os-release -stub linuxx64.efi.stub -o linux.efi",
		Flags:   buildFlags},
	{Name: "addon", Usage: "-cmdline TEXT|@F -o F [flags]", Example: "uki addon -cmdline 'debug' -stub addonx64.efi.stub -o debug.addon.efi",
		Flags: addonFlags},
	{Name: "addon list", Usage: "-esp DIR|IMG[:PART] [-vars DIR|-cert F...] [ENTRY]", Example: "uki addon list -esp /efi -vars /sys/firmware/efi/efivars acme_1.efi",
		Most: 1, Flags: addonListFlags},
	{Name: "addon check", Usage: "ADDON -uki UKI [-vars DIR|-cert F...] [-override NAME]...", Example: "uki addon check console.addon.efi -uki acme_1.efi -cert db.crt",
		Least: 1, Most: 1, Flags: addonCheckFlags},
	{Name: "addon install", Usage: "ADDON -esp DIR|IMG[:PART] [-vars DIR|-cert F...] [-override NAME]... [ENTRY]",
		Example: "uki addon install console.addon.efi -esp /efi -vars /sys/firmware/efi/efivars acme_1.efi", Least: 1, Most: 2, Flags: addonInstallFlags},
	{Name: "inspect", Usage: "F [-svg OUT]", Example: "uki inspect linux.efi -svg linux.svg", Least: 1, Most: 1, Flags: inspectFlags},
	{Name: "check", Usage: "F [ADDON]...", Example: "uki check linux.efi linux.efi.extra.d/*.addon.efi", Least: 1, Most: 1000, Flags: checkFlags},
	{Name: "measure", Usage: "F [-phases P]... [-profile N] [-pcr-banks LIST]", Example: "uki measure linux.efi -phases enter-initrd -pcr-banks sha256",
		Least: 1, Most: 1, Flags: measureFlags},
	{Name: "sign", Usage: "-key F -cert F [-o F] F", Example: "uki sign -key db.key -cert db.crt -o signed.efi linux.efi", Least: 1, Most: 1, Flags: signFlags},
	{Name: "verify", Usage: "-cert F... F", Example: "uki verify -cert db.crt signed.efi", Least: 1, Most: 1, Flags: verifyFlags},
}}

// isNo tells what is wrong with the image from what is wrong with the call.
func isNo(err error) bool {
	var format *osmith.FormatError
	return errors.As(err, &format) || errors.Is(err, uki.ErrUnknownStub)
}
