// Package squashfs writes a tree of files as a squashfs 4.0 file system: compressed, read-only, and
// reproducible.
//
//	size, err := squashfs.Write(ctx, image, os.DirFS("root"), squashfs.Options{})
//
// It takes the place of mksquashfs where an image is built without root and without foreign tools.
// The same files and options give the same bytes on every machine, with any number of workers, for
// one version of this module: another version may bring compressors that give other bytes.
//
// The format is described in "Squashfs Binary Format" by Zachary Dremann and David Oberhollenzer
// (https://dr-emann.github.io/squashfs/), and in Linux, Documentation/filesystems/squashfs.rst.
//
// # What is stored
//
// Contents are compressed in blocks ([Options].BlockSize). The end of a file that fills no block,
// which is all of a small file, shares a block with the ends of others (a fragment). Blocks of
// zeros take no room, and files with equal contents are stored once. An image can be exported by
// NFS, and large directories have an index, by which Linux finds a name without reading all others.
//
// Extended attributes are stored, equal sets once; the format has no access control lists. Hard
// links become files of their own, and times are whole seconds from 1970 to 2106: a later one
// becomes the last of them.
//
// # Memory
//
// Files are read one block at a time, so memory use does not depend on their size: it is a few
// blocks for each worker, the tables of its compressor (with zstd up to 40 MiB), and what is kept
// of each file until the end, some hundred bytes. A file may be read a second time, if it is larger
// than a block and as large as one before it, to find out whether the two are equal.
package squashfs
