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
//	case errors.Is(err, verity.ErrRootHash): // image and tree fit together, but belong to another root hash
//	case errors.Is(err, verity.ErrData): // the *MismatchError lists the damaged blocks
//	}
//
// Format and Verify read the image once (Verify twice if neither the root hash nor the
// tree fits), in parallel, and keep a fixed amount of
// memory however large the image is.
//
// Nothing is chosen here: the salt and the UUID are arguments, so the same inputs
// give the same tree. A salt protects nothing that a root hash does not already
// protect, but a different one for every image keeps precomputed collisions from
// being shared between images; systemd-repart and veritysetup use 32 bytes.
//
// # Limits
//
// Format and Verify know hash format 1 with SHA-256 and blocks of 4096 bytes, on
// a hash device of its own that starts with a superblock. ReadSuperblock reads
// every valid superblock; Verify answers ErrNotSupported for the others. Salts
// are 0 to 256 bytes long. Data must be a whole number of blocks.
package verity
