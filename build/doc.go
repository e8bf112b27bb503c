// Package build combines the other packages on the vendor's side: from parts and keys to the images
// and releases that machines install. Three calls make a product:
//
//	set, err := build.System(ctx, "out", parts, keys)                                  // hash tree, signed root hash, measured and signed UKI
//	disk, err := build.Disk(ctx, &set.Release, build.DiskOptions{Seed: seed})          // the plan of an image; partition.WriteImage writes it
//	release, err := build.Release(ctx, "out/oci", &set.Release, build.ReleaseOptions{}) // an OCI artifact, to be signed and pushed
//
// Two more report on it: [Boot] predicts what a machine measures when it boots the disk, [Compare]
// what an upgrade from one release to the next does to a machine. The same inputs give the same
// bytes.
//
// # One by one
//
//   - [UKI] writes a unified kernel image in one pass: assembled, measured, with policies and the
//     Secure Boot signature. [System] makes one for a root file system, with the hash tree and its
//     signature.
//   - [Disk] makes the usual disk of a set, or the disk that a layout describes; for definition
//     files of systemd-repart ([partition.ReadRepart]) it makes the contents, too.
//   - [WriteEROFS] and [WriteInitrd] make a file system and an initrd from a tree of files (fs.FS),
//     without dracut; packages partition/ext4 and partition/squashfs make two more file systems.
//   - [WriteExtension] makes a system or configuration extension: a disk image with a hash tree and
//     a signature of the root hash, as systemd-repart --make-ddi makes it.
//   - [SignLoader] signs systemd-boot.
//
// # Side by side with go-ukify
//
// The fields of the builder of Talos' UKIs (github.com/siderolabs/go-ukify), and their counterparts
// for [UKI]:
//
//	ukify.Builder       here
//	Arch, Version       nowhere: the stub says for which, and OSRelease which
//	SdStubPath          UKIParts.Image.Stub
//	KernelPath          UKIParts.Image.Linux
//	InitrdPath          UKIParts.Image.Initrd
//	Cmdline             UKIParts.Image.Cmdline
//	OsRelease           UKIParts.Image.OSRelease
//	SecureBootSigner    Keys.SecureBoot
//	PCRSigner           Keys.PCR
//	SdBootPath          SignLoader, its argument
//	OutSdBootPath       SignLoader, its result
//	OutUKIPath          the writer that UKI is given
//
// Parts are [github.com/osmith-dev/osmith.Source] values, of files
// ([github.com/osmith-dev/osmith.OpenFile]) or of anything else that can be read at random. Nothing
// is copied to a temporary file, no objcopy is called, and each part is read once.
//
// # Keys elsewhere
//
// A key is a crypto.Signer, in a file, a token or a service. Where only a digest can be sent, give
// a PCR key with Public alone and sign [UKIImage].ToSign; use authenticode.Prepare for a UKI
// without a Secure Boot key, and verity.PrepareSignature for a root hash.
//
// # Limits
//
// Of the contents that a layout may ask for, btrfs and XFS file systems, compressed EROFS,
// fs-verity and authenticated encryption are not made: Disk returns an [*UnmadeError] before
// anything is written, and DiskOptions.Contents takes contents made elsewhere. [Boot] predicts the
// entry that [Disk] made, started by systemd-boot.
package build
