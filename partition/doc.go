// Package partition reads, plans and writes disks with a GUID partition table (GPT).
//
// It follows the UEFI Specification 2.10, chapter 5
// (https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html), and for types, attributes
// and IDs the Discoverable Partitions Specification
// (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/). Disks may
// have sectors of 512 or 4096 bytes.
//
// A disk image with an ESP, one filled and one empty slot:
//
//	data, tree, err := partition.VerityIDs(rootHash)
//	im, err := partition.Plan(partition.Layout{DiskID: diskID, Partitions: []partition.Spec{
//		{Type: partition.ESP, ID: espID, Name: "esp", Content: esp},
//		{Type: partition.RootX8664, ID: data, Name: "root_1.0", Content: root, Attributes: partition.AttrReadOnly},
//		{Type: partition.RootX8664Verity, ID: tree, Name: "root_1.0", Content: hashes, Attributes: partition.AttrReadOnly},
//		{Type: partition.RootX8664, ID: emptyID, Name: partition.EmptyName, Size: 1 << 30},
//	}})
//	err = partition.WriteImage(file, im, partition.WriteOptions{TargetIsZero: true})
//	fmt.Print(im)
//
// Sizes may also be shared out by weight, as systemd-repart does it and with the same result, and a
// layout may be a file ([ReadLayout]), definition files of systemd-repart ([ReadRepart]) or the
// layout of a known system (package partition/layouts). [PlanOnto] adds what a disk in use lacks,
// and removes nothing. [FindSlots] is the A/B view of a table.
//
// A table that was read with [Read] can be edited and written again: data that the package does not
// know stays byte for byte, and a power cut at any write leaves the old or the new table
// ([Table.Write]), both for firmware, which looks for a backup in the last sector only, and for a
// kernel, which does not look for a backup. [Table.PlanWrite] says beforehand what firmware will
// measure of the table.
//
// [Repair] repairs a damaged table, and moves the backup of a disk that grew to its new end; on
// Linux, UpdateKernel tells the kernel what changed while other partitions are in use.
//
// # Limits
//
// Entry arrays of more than 4 MiB are not read, nor is a table whose backup would lie beyond the
// end of the disk, as that of a truncated image. Package partition/fat makes and updates the file
// system of an ESP.
package partition
