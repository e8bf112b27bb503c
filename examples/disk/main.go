// This program demonstrates packages partition, partition/fat and bootloader: it builds disk images
// from a layout, looks at disks, plans and repairs them, and works on the EFI system partition,
// without root, mounts or loop devices.
//
//	disk build -o IMG [-size N] [-sector-size N] [-seed UUID] [-layout-only] [-key-file F] [-private-key PEM -certificate F] LAYOUT.json|REPART.d
//	disk inspect IMG [-svg F]
//	disk plan [flags of build] [IMG] LAYOUT.json|REPART.d
//	disk repair IMG [-keep-hybrid] [-sector-size N]
//	disk ls IMG PART [PATH]
//	disk esp ls IMG[:PART] [PATH]
//	disk esp cat IMG[:PART] PATH
//	disk esp put IMG[:PART] FILE PATH
//	disk esp rm IMG[:PART] PATH
//	disk esp mv IMG[:PART] OLD NEW
//	disk esp inspect IMG[:PART]
//	disk esp repair IMG[:PART]
//	disk esp menu IMG[:PART] [-loader-as RELEASE]
//
// LAYOUT.json has the schema osmith.layout/1 (package partition, ReadLayout), REPART.d holds
// definition files of systemd-repart; paths inside are relative to the file or directory, those of
// CopyFiles= to -copy-source. IDs that the layout does not give are derived from the seed as by
// systemd-repart; without a seed it is random. build makes what package build makes: copies of
// files (CopyBlocks=), FAT, EROFS, swap areas, hash trees, signatures of root hashes (-private-key,
// -certificate) and encrypted volumes (-key-file); with -layout-only it places partitions, copies
// files, and leaves the rest to other programs. Specifiers of definition files are given by
// -specifier M=acmeos or -os-release FILE, the architecture by -architecture (the local one) or
// -force-architecture (--architecture of systemd-repart). plan without IMG plans a new disk.
// SOURCE_DATE_EPOCH is the time in FAT file systems. PART is a number, a name or a PARTUUID;
// without it, esp takes the only partition of type esp, or IMG itself if that is a FAT volume. ls
// reads FAT, SquashFS, EROFS, ext4 and ISO 9660. inspect takes an image or a block device. build
// writes beside IMG and renames.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json, build also
// -progress auto|bar|json|none. With -json one object is printed on stdout; it has "schema":
// "osmith.disk/1", "verb" and what json.go lists. -progress json writes lines {"verb": "build",
// "done": 4096, "total": 8192} to stderr, in bytes.
//
// inspect says what firmware and kernels see otherwise in the table, and answers 1 then; so does
// repair if it refuses, or if something is left that a person has to decide. esp menu says what
// systemd-boot lists and boots if no key is pressed and no EFI variable says otherwise, by the
// rules of the version that is there, what it ignores, and which files are missing; entries that
// cannot boot answer 1. repair gives partitions without an ID of their own a random one.
//
// Exit status: 0 yes; 1 no: the layout does not fit, others see another table, the file system is
// not clean, there is no such file or its name is ambiguous; 2 usage or I/O.
package main

import (
	"errors"
	"io/fs"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

func main() { program.Main() }

var program = cli.Program{Name: "disk", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Name: "build", Usage: "-o IMG [-size N] [-sector-size N] [-seed UUID] [-layout-only] LAYOUT.json|REPART.d",
		Example: "disk build -o disk.img layout.json", Least: 1, Most: 1, Flags: buildFlags},
	{Name: "inspect", Usage: "IMG [-svg F]", Example: "disk inspect disk.img -svg disk.svg", Least: 1, Most: 1, Flags: inspectFlags},
	{Name: "plan", Usage: "[IMG] [-size N] [-sector-size N] [-seed UUID] [-layout-only] LAYOUT.json|REPART.d",
		Example: "disk plan disk.img layout.json", Least: 1, Most: 2, Flags: planFlags},
	{Name: "repair", Usage: "IMG [-keep-hybrid] [-sector-size N]", Example: "disk repair disk.img", Least: 1, Most: 1, Flags: repairFlags},
	{Name: "ls", Usage: "IMG PART [PATH]", Example: "disk ls disk.img root_1 /etc", Least: 2, Most: 3, Do: ls},
	{Name: "esp ls", Usage: "IMG[:PART] [PATH]", Example: "disk esp ls disk.img EFI/Linux", Least: 1, Most: 2, Do: espLs},
	{Name: "esp cat", Usage: "IMG[:PART] PATH", Example: "disk esp cat disk.img loader/loader.conf", Least: 2, Most: 2, Do: espCat},
	{Name: "esp put", Usage: "IMG[:PART] FILE PATH", Example: "disk esp put disk.img os.efi EFI/Linux/os_2+3.efi", Least: 3, Most: 3, Do: espPut},
	{Name: "esp rm", Usage: "IMG[:PART] PATH", Example: "disk esp rm disk.img EFI/Linux/os_1.efi", Least: 2, Most: 2, Do: espRm},
	{Name: "esp mv", Usage: "IMG[:PART] OLD NEW",
		Example: "disk esp mv disk.img EFI/Linux/os_2+3.efi EFI/Linux/os_2.efi", Least: 3, Most: 3, Do: espMv},
	{Name: "esp inspect", Usage: "IMG[:PART]", Example: "disk esp inspect disk.img", Least: 1, Most: 1, Do: espInspect},
	{Name: "esp repair", Usage: "IMG[:PART]", Example: "disk esp repair disk.img", Least: 1, Most: 1, Do: espRepair},
	{Name: "esp menu", Usage: "IMG[:PART] [-loader-as RELEASE]", Example: "disk esp menu disk.img", Least: 1, Most: 1, Flags: menuFlags},
}}

// isNo tells a negative answer from a failure.
func isNo(err error) bool {
	var space *partition.SpaceError
	var full *fat.SpaceError
	var other *fat.NotFATError
	return errors.As(err, &space) || errors.As(err, &full) || errors.As(err, &other)
}

// missing makes a file that is not inside of an image a negative answer. A file of the host that is
// missing is a failure.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fat.ErrCrossDirectory) || errors.Is(err, fat.ErrAmbiguous) {
		return cli.No{Err: err}
	}
	return err
}
