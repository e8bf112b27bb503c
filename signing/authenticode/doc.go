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
// To avoid reading an image again, a [Digester] hashes it, and a [StreamSigner] signs it, while it
// is written. A remote key signs between [Prepare] and [Prepared.Join]; [Prepared.JoinAttributes]
// and [Attach] take what systemd-sbsign, sbsign or osslsigncode prepared or signed. [Signatures]
// lists, [Remove], [RemoveAll] and SignOptions.Replace remove signatures.
//
// A signature has the structure that sbsign and systemd-sbsign write: SignedData over
// SpcIndirectData with "<<<Obsolete>>>" for a file link, the signed attributes contentType,
// messageDigest and, if a time is given, signingTime, which has to be inside the validity of the
// certificate. The S/MIME capabilities that these two add only because their library does, and the
// statement type that osslsigncode adds, are left out: verifiers do not read them. sbverify,
// osslsigncode, pesigcheck and edk2 accept the result, and this package accepts the signatures of
// sbsign, systemd-sbsign, osslsigncode and pesign.
//
// Verification follows edk2 (SecurityPkg, DxeImageVerificationLib), not Windows and not U-Boot: no
// dates, no time stamps, no key usage of the signer; any of several signatures is enough; a
// certificate in the middle of a chain can be the trusted one. It is stricter in what it parses:
// DER only; overlapping sections, bytes behind the certificate table, padding that is not zero, and
// a signature that cannot be read next to a good one are errors. Deviations of old tools are
// accepted if the signature covers them: pesign before version 114 wrote a different type into
// SpcIndirectData, as in the signatures of Debian 11, and of fwupd in Debian 12. Package secureboot
// answers whether a given machine, with its db, dbx and kind of firmware, would boot an image.
//
// In an image that Verify accepts, every bit is signed, except the checksum in its header and the
// unsigned parts of the certificate table: unsigned attributes, which hold time stamps;
// certificates that the path to the trusted one does not need, and revocation lists; whether
// algorithms have no parameters or NULL parameters, and how the signer is named; other entries; the
// lengths around these; and, in an image with gaps between its sections, the gaps.
//
// Files are read in pieces of 256 KiB at most, whatever their size. The certificate table is
// limited to 16 MiB, the headers of an image to be signed to 1 MiB.
//
// Limits: time stamps are read but neither made nor trusted; page hashes and nested signatures are
// ignored; SHA-1 signatures are read and listed, but neither they nor chains with a SHA-1 signature
// are accepted; RSA-PSS is not supported. A signature whose certificate crypto/x509 cannot parse
// cannot be read. An image with gaps between its sections can be verified but not signed
// ([ErrGaps]), since tools disagree about its digest.
package authenticode
