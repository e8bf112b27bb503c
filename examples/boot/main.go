// This program demonstrates package bootloader: it shows what systemd-boot will start from an ESP
// and why, says that a boot was good or bad, and installs or updates the loader, on a machine that
// runs, or on a disk or image of one that is off.
//
//	boot list    -esp DIR|IMG[:PART] [-xbootldr DIR|IMG[:PART]] [-vars FILE|DIR|efivarfs|none] [-loader-as N]
//	boot why     ... [ENTRY]
//	boot bless   ... [-good-if-uncounted]
//	boot bad     ... [ENTRY]
//	boot install -esp DIR|IMG[:PART] -loader F [-shim F] [-conf KEY=VALUE]... [-keys DIR] [-random-seed] [-no-fallback] [-dry-run] [-vars FILE|DIR|efivarfs [-boot-option]]
//	             [-replace-newer-loader] [-accept-lower-sbat-generation]
//	boot gc      -esp DIR|IMG[:PART] [-dry-run] [-keep ENTRY]... [-vars FILE|DIR|none] [-machine DIR] [-offline] [-no-secure-boot] [-no-shim] [-loader-as N]
//
// IMG is an image file or a block device with a partition table, of which the ESP is taken, and the
// extended boot loader partition if there is one, or a FAT without a table; PART is the number, the
// name or the PARTUUID of another partition in it. It is written by package fat: a power cut leaves
// what was there before or what is there then. It must not be mounted while it is changed. ENTRY is
// an id of the menu or a path, with any boot counter.
//
// DIR is a directory, such as the mount point of an ESP. Where that is a FAT on Linux, it is
// changed through the kernel so that a power cut leaves each file as it was or as it shall be,
// which takes Linux 6.0 and the room of what is renamed (package upgrade, MountedVolume). On
// another file system what is to be written is put beside its name, synced, and renamed, and the
// directory is synced before the next change begins.
//
// -vars has the EFI variables by which the loader chooses: those of this machine (efivarfs), a copy
// of that directory, or the variable store of a virtual machine that is off (OVMF_VARS.fd). Without
// it list and why tell what the loader starts if no variable says otherwise; bless and bad take
// efivarfs, and bad of an image file wants to be told (none: no variable is set).
//
// list shows the menu, best entry first. why says what makes the loader start an entry, why not the
// one that is named, and what it starts after that if nothing is ever declared good. bless takes
// the counter off the name of what was started, as systemd-bless-boot does; boot-bless.service
// calls it. bad marks an entry, or what was started, as one without tries left, unless no other
// good one would be started then. install shows what it is going to do, and does it, in the order
// in which a cut leaves a machine that starts. A loader.conf that is there is edited; -conf KEY=
// removes a key. -keys DIR has PK.auth, KEK.auth, db.auth and perhaps dbx.auth, which become the
// set "auto" that the loader may enrol by itself (secure-boot-enroll in loader.conf), or
// directories with them, which become sets of their names. -boot-option has firmware start the
// loader; where firmware refuses to store that, the fallback in EFI/BOOT is started, and the
// installation is none the worse. Where a newer loader stays, the rest is done, and the answer is
// no.
//
// gc removes what interrupted upgrades have left, entries whose root file system is on no partition
// of the disk any more, and add-ons without their UKI, as package upgrade finds them; what is not
// known to be one of these stays, and the machine must come up with a good version afterwards. It
// needs the whole disk, and writes a mounted ESP as package upgrade does. DIR and devices are taken
// for those of this machine, which is read, or of the one of whose files -machine is a copy;
// -offline says of a device, and an image file of itself, that its machine is off, and its
// variables are those of -vars then.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json and -progress
// auto|bar|json|none. With -json one object is printed on stdout; it has "schema": "osmith.boot/1",
// "verb" and what json.go lists.
//
// Exit status: 0 yes; 1 no: not counted, no such entry, nothing else to start, not a loader, a
// newer loader stays, no ESP or not one, no FAT, no room; 2 usage or I/O, a disk that is in use
// among it.
package main

import (
	"errors"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

func main() { program.Main() }

const where = "-esp DIR|IMG[:PART] "

var program = cli.Program{Name: "boot", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Name: "list", Usage: where + "[-vars FILE|efivarfs] [flags]", Example: "boot list -esp disk.img -vars OVMF_VARS.fd", Flags: listFlags},
	{Name: "why", Usage: where + "[-vars FILE|efivarfs] [flags] [ENTRY]", Example: "boot why -esp /efi -vars efivarfs acme_1.efi", Most: 1, Flags: whyFlags},
	{Name: "bless", Usage: where + "[-vars efivarfs] [-good-if-uncounted] [flags]", Example: "boot bless -esp /efi", Flags: blessFlags},
	{Name: "bad", Usage: where + "[-vars FILE|efivarfs|none] [flags] [ENTRY]", Example: "boot bad -esp disk.img -vars none acme_2.efi", Most: 1, Flags: badFlags},
	{Name: "gc", Usage: where + "[-dry-run] [-vars FILE|none] [flags]", Example: "boot gc -esp /efi -dry-run", Flags: gcFlags},
	{Name: "install", Usage: where + "-loader F [flags]", Example: "boot install -esp disk.img -loader systemd-bootx64.efi -conf timeout=3 -random-seed", Flags: installFlags},
}}

// isNo tells answers of the packages that are negative ones.
func isNo(err error) bool {
	for _, no := range []error{bootloader.ErrNotCounted, bootloader.ErrNoEntry, bootloader.ErrAlreadyBad, bootloader.ErrTwinExists, bootloader.ErrName, bootloader.ErrNotLoader, bootloader.ErrNotShim, bootloader.ErrConfigValue,
		partition.ErrNoTable, partition.ErrNoSlots, upgrade.ErrNoESP, upgrade.ErrXBOOTLDR, upgrade.ErrNothingToReturnTo, fat.ErrNoRoom, fat.ErrDirectoryFull, fat.ErrAmbiguous, fat.ErrFATsDiffer, fat.ErrFATDamaged} {
		if errors.Is(err, no) {
			return true
		}
	}
	return has[*upgrade.LayoutError](err) || has[*upgrade.NotRunningError](err) || has[*upgrade.UnrepairedError](err) || has[*osmith.FormatError](err) || has[*fat.NotFATError](err) || has[*fat.SpaceError](err) || has[*bootloader.LoaderVersionError](err)
}

// has reports whether an error is, or wraps, one of that type.
func has[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
