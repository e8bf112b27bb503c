// Package authenticode digests, signs and verifies PE images in the way UEFI Secure Boot expects
// (Windows Authenticode Portable Executable Signature Format, version 1.0; UEFI Specification 2.10,
// section 32.5, https://uefi.org/specs/UEFI/2.10/32_Secure_Boot_and_Driver_Signing.html).
//
//	src, err := osmith.OpenFile("linux.efi")
//	err = authenticode.Sign(out, src, key, cert, authenticode.SignOptions{Time: when})
//	sum, err := authenticode.Digest(src, crypto.SHA256)  // what PCR 4 and dbx entries are about
//	sig, err := authenticode.Verify(signed, []*x509.Certificate{cert})
//	var changed *authenticode.DigestError
//	switch {
//	case errors.Is(err, authenticode.ErrUnsigned), errors.Is(err, authenticode.ErrUntrusted), errors.As(err, &changed):
//	}
//
// An image that is just being written need not be read again: a [Digester] hashes what passes by,
// and a [StreamSigner] signs it on the way into its file. A key that is elsewhere signs between
// [Prepare] and [Prepared.Join]; [Prepared.JoinAttributes] and [Attach] take what systemd-sbsign,
// sbsign or osslsigncode prepared or signed. [Signatures] lists, [Remove], [RemoveAll] and
// SignOptions.Replace take away.
//
// A signature has the structure that sbsign and systemd-sbsign write: SignedData over
// SpcIndirectData with "<<<Obsolete>>>" for a file link, the signed attributes contentType,
// messageDigest and, if a time is given, signingTime, which has to be inside the validity of the
// certificate. The S/MIME capabilities that these two add by an accident of their library, and the
// statement type that osslsigncode adds, are left out: nobody looks at them. sbverify,
// osslsigncode, pesigcheck and edk2 accept the result, and what sbsign, systemd-sbsign,
// osslsigncode and pesign wrote is accepted here.
//
// Verification follows edk2 (SecurityPkg, DxeImageVerificationLib), not Windows and not U-Boot: no
// dates, no time stamps, no key usage of the signer; any of several signatures is enough; a
// certificate in the middle of a chain can be the trusted one. It is stricter in what it parses:
// DER only; overlapping sections, bytes behind the certificate table, padding that is not zero, and
// a signature that cannot be read next to a good one are errors. What old tools did is accepted
// where it is signed with the rest: pesign before version 114 wrote another type into
// SpcIndirectData, as the signatures of Debian 11 have it, and of fwupd in Debian 12. Whether a
// given machine would boot an image, with its db and dbx and by its kind of firmware, is what
// package secureboot answers.
//
// Of an image that Verify accepts, all is what was signed but for the checksum in its header and
// what is not signed in the certificate table: unsigned attributes, which is where time stamps are;
// certificates that the path to the trusted one does not need, and revocation lists; whether
// algorithms have no parameters or NULL ones, and by what the signer is named; other entries; the
// lengths around these; and, in an image with gaps between its sections, what is in the gaps.
// Without any of them no bit can be changed.
//
// Files are read in pieces of 256 KiB at most, whatever their size. The certificate table is
// limited to 16 MiB, the headers of an image to be signed to 1 MiB.
//
// Limits: time stamps are read but neither made nor trusted; page hashes and nested signatures are
// ignored; SHA-1 signatures are read and listed, never accepted, nor is a chain with one in it; no
// RSA-PSS. A certificate that crypto/x509 cannot parse makes its signature one that cannot be read.
// An image with gaps between its sections can be verified but not signed ([ErrGaps]), since tools
// disagree about its digest.
package authenticode
