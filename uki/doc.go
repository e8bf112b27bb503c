// Package uki assembles, opens and measures Unified Kernel Images: a kernel, its initrd, its
// command line and everything else for one boot of one operating system, in a single EFI program
// built on systemd-stub.
//
// It follows UAPI.5, the Unified Kernel Image specification
// (https://uapi-group.org/specifications/specs/unified_kernel_image/), systemd-stub(7)
// (https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html), and, for the bytes,
// what ukify 262 writes and what stubs 252 to 262 measure.
//
//	image := &uki.Image{
//		Stub: stub, Linux: kernel, Initrd: []osmith.Source{initrd},
//		Cmdline:   "ro roothash=" + hex.EncodeToString(root),
//		OSRelease: osRelease,
//	}
//	measured, err := image.Measurements(crypto.SHA256) // what PCR 11 will hold: sign a policy for it
//	image.PCRSignature = signature
//	assembled, err := image.Assemble() // a view over the parts: nothing is copied
//	_, err = assembled.WriteTo(file)
//
// Package tpm computes PCR values and policies from the measurements; package signing/authenticode
// signs the image for Secure Boot.
//
// An [Image] may have several profiles, device trees that the stub picks by hardware, and
// microcode; an [Addon] extends the image on one machine without changing what was signed;
// [ProfileOf] takes a profile out of one image for use in another.
//
// [File.Choose] says which device tree the stub chooses for a machine, by the ids of
// [hwid.SMBIOS.CHIDs]; [File.Handover] predicts what the stub passes to the kernel and measures
// into PCRs 12 and 13, given the files that lie next to the image ([ReadCompanions]).
// [Handover.Measure] turns it into the input for a prediction of package tpm. [File.FindAddons]
// says which add-ons the stub applies, and [RefusedArguments] which kernel arguments they should
// not add.
//
// [Assembled.WriteStream] writes, measures for all PCR banks and signs in one pass. [Open] opens
// the image of any tool, [File.Check] judges it, and [File.Edit] changes it, and refuses a change
// that would silently invalidate or remove something.
//
// # Kernels that a stub does not start
//
// A stub refuses some kernels that the firmware would load: since systemd 258 it puts the kernel
// into memory itself. A table says for each reason and each release from 252 to 262 whether the
// stub refuses, and whether that is known from a boot, from the source, or unknown. Assemble
// refuses a kernel that is not known to start ([KernelError]) unless
// [Image].AllowKernelThatTheStubRefuses is set, [File.Edit] calls it a loss ([LossStart]), and
// [File.Check] reports it as an error, or as [SeverityUnknown].
//
// # Limits
//
// The version of the kernel is found in x86 bzImages, and by its banner in images of other
// architectures, plain or compressed with gzip; decompress a kernel that is compressed as a whole
// first, with package uki/decompress. The stub must be unsigned and its sections in the order of
// their addresses. Results stay below 4 GiB. What stubs do with companion files is known for 252,
// 254, 255, 257, 259 and 262 from their source, of which 257 and 262 were booted; the caller has to
// leave out add-ons that firmware will refuse. A newer stub is an error ([ErrUnknownStub]) until
// [File.AssumeStub] names the release to treat it as.
package uki
