// Package uki assembles, opens and measures Unified Kernel Images: a kernel, its initrd and command
// line and whatever else belongs to one boot of one operating system, in a single EFI program built
// on systemd-stub.
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
// Measurements and bytes are values: PCR arithmetic and policies are package tpm's, Secure Boot
// signatures signing/authenticode's.
//
// An [Image] may have several profiles, device trees that the stub picks by hardware, and
// microcode; an [Addon] is what one machine adds to an image that stays as it was signed;
// [ProfileOf] takes a profile out of one image for another.
//
// [File.Choose] says which device tree a machine gets, by the ids of [hwid.SMBIOS.CHIDs];
// [File.Handover] predicts what the stub passes to the kernel and measures into PCRs 12 and 13 on
// the way, with the files that lie next to the image ([ReadCompanions]). [Handover.Measure] makes
// of it the value that package tpm predicts a boot by. [File.FindAddons] says which add-ons the
// stub applies, and [RefusedArguments] what they should not bring.
//
// [Assembled.WriteStream] writes, measures for all PCR banks and signs in one pass. What exists,
// from whatever tool, is opened with [Open], judged with [File.Check], and changed with
// [File.Edit], which refuses to lose in silence what a change destroys.
//
// # Kernels that a stub does not start
//
// A stub refuses kernels that the firmware would load: since systemd 258 it puts the kernel into
// memory itself. For each reason and each release from 252 to 262 it is known from a boot, from the
// source, or not at all whether it does. Assemble refuses what is not known to be started
// ([KernelError]) unless [Image].AllowKernelThatTheStubRefuses says otherwise, [File.Edit] calls it
// a loss ([LossStart]), and [File.Check] reports it as an error, or as [SeverityUnknown].
//
// # Limits
//
// The version of the kernel is found in x86 bzImages, and by its banner in images of other
// architectures, plain or compressed with gzip; a kernel that is compressed as a whole has to be
// decompressed before it is given, which package uki/decompress does. The stub must be unsigned and
// its sections in the order of their addresses. Results stay below 4 GiB. How stubs differ in what
// they do with companion files is known for 252, 254, 255, 257, 259 and 262 by their source, of
// which 257 and 262 were booted; add-ons that firmware will refuse have to be left out by the
// caller. A stub that is newer is an error ([ErrUnknownStub]) until [File.AssumeStub] names the
// release to treat it as.
package uki
