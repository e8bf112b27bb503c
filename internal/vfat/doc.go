// Package vfat is a model of how the Linux vfat driver changes a volume, for tests.
//
// What writes files to a mounted EFI system partition does not decide which sector is written when:
// the kernel does. A test on a machine without vfat mounts a disk of internal/faultio with this
// package instead, and gets the writes that the driver would make:
//
//	volume, err := vfat.Mount(disk)
//	disk.Record()
//	err = change(volume) // Create, Exchange, Remove, Mkdir and Sync; Truncate, Rename and Unlink show what is not safe
//	faults, err := disk.Faults(faultio.FaultOptions{Sector: 512})
//	for state := range faults.States() {
//		// what a power cut may have left
//	}
//
// # The model
//
// All changes go to a cache of sectors, from which they reach the medium in any order until
// [Volume.Sync]. So each change of a sector is a write of that sector when it happens, and only
// Sync calls the disk's Sync: internal/faultio then makes every order, and every version of every
// sector. The order in which the operations write matters for states that are prefixes alone.
//
//   - A new name takes the first run of free slots that is long enough, in which the pieces of the
//     long name come before the 8.3 entry; it may lie in two sectors, and in two clusters. Where
//     there is none the directory grows.
//   - A name comes without a first cluster and without a size. Both are written with the inode,
//     later: for [Volume.Create] twice, once while half of the data has clusters; for
//     [Volume.Rename] onto a free name, too, whose new name is that of an empty file until then.
//   - A rename onto an existing file leaves the slots of that name where they are, and changes its
//     8.3 entry. The old name goes, then the clusters of what was replaced are freed.
//   - Names are removed sector by sector, and chains are freed in all FATs, each sector at once.
//   - Of FAT32, the free count and the hint of the next free cluster follow each operation.
//
// It is taken from what the driver is seen to do and from Microsoft's "FAT: General Overview of
// On-Disk Format" (fatgen103). No code of the driver was read for it, and none is shared with
// partition/fat, which tests judge by it.
//
// # Limits
//
// The mark that a volume is in use, which the driver leaves in the boot sector from mount to
// unmount, is not written: a volume is mounted long before what is tested begins. There is no
// clock: all times are the first that FAT knows. Names are the same if they are but for the case of
// ASCII letters. In a cut state with entries behind the end of a directory, these count as taken
// when a name is added, and are not found otherwise. A FAT32 that does not mirror its FATs is
// written as if it did.
package vfat
