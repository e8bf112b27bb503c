// Package fec makes, checks and uses the error correction of dm-verity: parity with which a kernel,
// or [Repair], restores blocks that a medium has lost. A hash tree alone only detects damaged
// blocks.
//
// The code and its layout are those of the kernel
// (https://docs.kernel.org/admin-guide/device-mapper/verity.html, parameters fec_*;
// drivers/md/dm-verity-fec.c) and of veritysetup format --fec-device (cryptsetup 2.8,
// lib/verity/verity_fec.c), whose output Encode equals byte for byte: Reed-Solomon
// RS(255, 255-roots) over GF(256), spread over the image so that damaged blocks next
// to each other fall into different codewords.
//
//	params := verity.Params{Salt: salt}
//	hash, err := fec.HashArea(tree, params) // after the superblock
//	if err != nil {
//		return err
//	}
//	err = fec.Encode(ctx, parityFile, image, hash, fec.Params{Roots: 2})
//	// Later, when verity.Verify has found damage:
//	report, err := fec.Repair(ctx, fec.Image{
//		Data: image, Hash: hash, Parity: parityFile,
//		Params: params, RootHash: root, Roots: 2,
//	}, imageFile, io.NewOffsetWriter(treeFile, 4096))
//
// Data, hash area and parity may be on devices of their own, or all on one: then give each as an
// io.SectionReader, and writers as io.OffsetWriter. The code also covers bytes after the tree up to
// the end of the hash area. So the hash area must be the same for Encode, Check and Repair, and for
// the kernel, whose table has [Blocks] as fec_blocks.
//
// # What can be repaired
//
// With r roots and R rounds ([Rounds]): any r blocks among those whose numbers have the same
// remainder modulo R, hence any r*R consecutive blocks. The tree shows which blocks are damaged;
// where it cannot, the code alone finds r/2 errors in 255 bytes. Roots cost r/(255-r) of the image:
// 0.8 % for 2, 10.4 % for 24.
//
// Every block is verified against the root hash before it is written, so that an
// attempt beyond what the code can do never changes a block for the worse.
//
// # Limits
//
// Data blocks and hash blocks must have the same size. The superblock is not covered by the code
// (nor in a veritysetup image), but verity.Superblock can rebuild it. [Check] finds damage of the
// parity; to repair it, encode again.
package fec
