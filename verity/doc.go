// Package verity makes and checks dm-verity hash trees: the structure by which
// the Linux kernel verifies every block it reads from a read-only image against
// one root hash.
//
// It follows the on-disk format that the kernel documents
// (https://docs.kernel.org/admin-guide/device-mapper/verity.html) with the
// superblock of cryptsetup
// (https://gitlab.com/cryptsetup/cryptsetup/-/wikis/DMVerity), and writes, byte
// for byte, what veritysetup format writes for the same salt and UUID.
//
//	root, err := verity.Format(ctx, treeFile, image, verity.Params{Salt: salt, UUID: uuid})
//	if err != nil {
//		return err
//	}
//	// Later, or elsewhere: the image, the tree and the root hash that was
//	// carried over a trusted path.
//	err = verity.Verify(ctx, image, treeFile, root)
//	switch {
//	case errors.Is(err, verity.ErrRootHash): // image and tree match each other, but not the root hash
//	case errors.Is(err, verity.ErrData): // the *MismatchError lists the damaged blocks
//	case errors.Is(err, verity.ErrSpare): // the tree covers more data than the superblock says
//	}
//
// Format and Verify read the image once (Verify twice if neither the root hash nor the tree fits),
// in parallel, without reading the holes of a sparse file, and use a fixed amount of memory for
// images of any size. A [Writer] makes the tree while the data is written. A [Reader] verifies what
// it reads, block by block, as the kernel does. [MaxTreeSize], [MaxDataSize] and
// [MaxSharedDataSize] tell how large partitions must be. [Diff] finds the blocks that a new image
// shares with an old one, from the trees alone, and [Patch] builds the new one. [SignRootHash]
// signs a root hash for the kernel. Package verity/dm activates an image: tables and the kernel
// command line.
//
// [Params] has what veritysetup can choose: hash formats 1 and 0, SHA-1 and SHA-2,
// block sizes, data and tree on one device, no superblock. An image without superblock,
// or with one that is not at the start of the hash device, is described by an [Image].
//
// The salt and the UUID are arguments, so the same inputs give the same tree. A salt protects
// nothing that a root hash does not already protect, but a different one for every image keeps
// precomputed collisions from being shared between images; systemd-repart and veritysetup use 32
// bytes.
//
// On amd64, SHA-256 hashes two blocks at a time where the CPU has the SHA extensions, and
// SHA-384 and SHA-512 eight with AVX-512, in assembly. The build tag purego leaves that
// out.
//
// # Limits
//
// Hashes other than SHA-1, SHA-256, SHA-384 and SHA-512 are read from superblocks but not computed:
// ErrNotSupported. Block sizes are 512 bytes to 512 KiB, as in veritysetup; a kernel maps data
// blocks up to its page size. Salts are 0 to 256 bytes long. Data must be a whole number of blocks.
// The bytes between the superblock and the tree have no meaning: Format makes them zero, and they
// are never read. All other bytes that hold no digest must be zero, as they must be for
// veritysetup; a kernel, which compares the digests of whole hash blocks, ignores them.
package verity
