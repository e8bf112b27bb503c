// Package build composes, on the vendor's side, what the other packages make one by one: parts and
// keys in, what a machine takes out. Three calls are a product:
//
//	set, err := build.System(ctx, "out", parts, keys)                                  // hash tree, signed root hash, measured and signed UKI
//	disk, err := build.Disk(ctx, &set.Release, build.DiskOptions{Seed: seed})          // the plan of an image; partition.WriteImage writes it
//	release, err := build.Release(ctx, "out/oci", &set.Release, build.ReleaseOptions{}) // an OCI artifact, to be signed and pushed
//
// and two more say what follows from it: [Boot] what a machine will measure when it boots the disk,
// [Compare] what a machine goes through from one release to the next. The same inputs give the same
// bytes.
//
// # One by one
//
//   - [UKI] writes a unified kernel image in one pass: assembled, measured, policies and Secure
//     Boot signature included. [System] makes one around a root file system, and all that belongs
//     to it.
//   - [Disk] makes the usual disk of a set, or what a layout says: of definition files of
//     systemd-repart ([partition.ReadRepart]) it makes the contents, too.
//   - [WriteEROFS] and [WriteInitrd] make a file system and an initrd of a tree of files (fs.FS),
//     for those who need no dracut.
//   - [WriteExtension] makes a system or configuration extension: a disk image with a hash tree and
//     a signature of the root hash, as systemd-repart --make-ddi makes it.
//   - [SignLoader] signs systemd-boot.
//
// # Side by side with go-ukify
//
// What the builder of Talos' UKIs (github.com/siderolabs/go-ukify) is told, and where the same is
// said to [UKI]:
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
// A key is a crypto.Signer, in a file, a token or a service. Where only a digest can be sent: a PCR
// key with Public alone leaves [UKIImage].ToSign, a UKI without a Secure Boot key is signed by
// authenticode.Prepare, and a root hash by verity.PrepareSignature.
//
// # Limits
//
// Of the contents that a layout may ask for, ext4, btrfs, XFS and squashfs file systems, compressed
// EROFS, fs-verity and authenticated encryption are not made: [*UnmadeError] says so before
// anything is written, and DiskOptions.Contents takes what was made elsewhere. [Boot] predicts the
// entry that [Disk] made, started by systemd-boot.
package build
