// Package fat builds, reads and updates the FAT file system of an EFI System Partition.
//
// It follows Microsoft's "FAT: General Overview of On-Disk Format", version 1.03 (fatgen103,
// https://download.microsoft.com/download/1/6/1/161ba512-40e2-4cc9-843a-923143f3456c/fatgen103.doc),
// and the UEFI Specification 2.10, section 13.3
// (https://uefi.org/specs/UEFI/2.10/13_Protocols_Media_Access.html#file-system-format).
//
// A new volume from files, reproducible:
//
//	files := []osmith.ESPFile{
//		{Path: "EFI/BOOT/BOOTX64.EFI", Content: loader},
//		{Path: "EFI/Linux/os_1.0+3-0.efi", Content: uki},
//	}
//	err := fat.Build(target, files, fat.BuildOptions{Size: 256 << 20, VolumeID: 0x12345678, Label: "ESP"})
//
// And an update of an existing one, which a power cut cannot break:
//
//	esp, err := fat.Open(disk)
//	err = esp.WriteFile("EFI/Linux/os_1.1+3-0.efi", newUKI)
//	err = esp.Rename("EFI/Linux/os_1.1+3-0.efi", "EFI/Linux/os_1.1.efi")
//
// # Power cuts
//
// Every update writes data and FATs, then one sector of the directory, then the FAT entries of
// clusters that are no longer needed, with Sync between the steps if the target has it. The only
// assumption is that the device writes a logical sector completely or not at all ([OpenOptions]); a
// sector of the FAT may be eight times as large. After a power cut the volume shows either the old
// or the new state; at worst fsck.fat finds lost clusters, a second FAT that lags behind, pieces of
// a long name, or an old free count. [FS.Repair] puts these right. An update never writes the boot
// sector and sets no dirty bit, since it never leaves damage that a dirty bit would announce.
//
// Disks with physical sectors of 4 KiB and logical ones of 512 bytes (512e) can lose the 4 KiB that
// they rewrite, in any order of writes. A new volume keeps files, directories and their FAT entries
// in separate blocks of 4 KiB, and changes use free blocks if there is room; a FAT32 has room
// unless it is nearly full or has thousands of files. Then an upgrade rewrites no block of the
// running system's files, except to rename or remove one, or to move the end of its directory.
//
// # Volumes made by other systems
//
// Before the first change of a volume all its directories and chains are read. If the copies of the
// FAT differ, or one does not begin with the media byte, the copy that matches the files is kept
// and written over the others; if that is not clear, every change fails with [ErrFATsDiffer] or
// [ErrFATDamaged]. A cluster that belongs to a file is never overwritten, and never freed with a
// different file, even if the FAT says that it is free. [FS.Check] reports damage of a volume and
// its dirty bits; [FS.Repair] lists what it repairs.
//
// Names are compared as [SameName] does, and also by the 8.3 alias. A name in its exact case is
// preferred; a change of a name that two files could have fails with [ErrAmbiguous]. A long name
// that cannot be an element of a path ([Attributes]) stays as it is on the disk, and its file is
// listed by its 8.3 alias.
//
// # Limits
//
// FAT12, FAT16 and FAT32 are built, read and updated; a FAT32 with fewer than 65,525 clusters,
// which mkfs.vfat -F 32 can make, is only read. The root directory of a FAT12 or FAT16 does not
// grow. Do not open a volume for updates while it is mounted. A file has at most 4 GiB - 1 byte, a
// directory 65,536 entries. Files cannot be moved to another directory ([ErrCrossDirectory]).
// Memory use does not depend on the size of files, only on directories and one bit for each
// cluster.
package fat
