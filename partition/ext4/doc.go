// Package ext4 writes an ext4 file system of a tree of files: without root, a loop device or
// mkfs.ext4, and with the same bytes for the same files.
//
//	size, err := ext4.Write(ctx, file, os.DirFS("var"), ext4.Options{Label: "var", UUID: id, Size: 4 << 30})
//
// What it writes has the features that mkfs.ext4 of e2fsprogs 1.47 gives a file system by default:
// 64-bit block numbers, extents, checksums of all metadata, hashed directories, flexible block
// groups, a journal, and room for group descriptors, so that the mounted file system can grow with
// its partition. Linux mounts it from 4.0 on.
//
// Blocks have 4096 bytes and inodes 256. Extended attributes and access control lists are stored,
// up to a block of them for a file. Hard links become files of their own, no blocks are reserved
// for root, and a time after the year 2446 becomes the last one that there is.
//
// Sources: Linux 6.12, Documentation/filesystems/ext4; e2fsprogs 1.47.2, mke2fs.conf(5) and
// mke2fs(8), for sizes that a user may expect.
package ext4
