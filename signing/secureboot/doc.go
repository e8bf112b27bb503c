// Package secureboot makes and reads the variables by which UEFI firmware decides what it runs
// (UEFI Specification 2.10, sections 8.2.2, 32.3 to 32.6,
// https://uefi.org/specs/UEFI/2.10/32_Secure_Boot_and_Driver_Signing.html), and answers whether a
// machine would run an image, today and after a change.
//
//	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", Owner: owner, NotBefore: from, NotAfter: to})
//	enrollment, err := keys.Enroll(secureboot.EnrollOptions{Time: when, OptionROMs: secureboot.OptionROMs{Keep: microsofts}, MustBoot: images})
//	files, err := enrollment.LoaderKeys("auto")              // for the ESP; systemd-boot enrols them
//	machine, err := secureboot.ReadVariables(os.DirFS("/sys/firmware/efi/efivars"))
//	image, err := secureboot.ReadImage(file)
//	report := secureboot.EvaluateSet(machine, []secureboot.Image{image}, secureboot.EvaluateSetOptions{Pending: pending})
//	fmt.Print(report)                                        // uki.efi: allowed: db has the certificate "CN=Acme OS Signature Database Key"
//
// What it does, in the order of a machine's life: [Generate] and [NewKeyPair] make keys and
// certificates; [Hierarchy.Enroll] enrols them, and requires a decision on option ROMs; [Update]
// and [Hierarchy.SignUpdate] change variables later; [Apply] tells what a change would do, or why
// firmware would refuse it; [ChooseUpdates] and [Missing] tell which published updates a machine
// lacks; [Evaluate] and [EvaluateSet] what would boot; [PlanRotation] exchanges keys step by step,
// and the machine boots after each step. The state of a machine is a value,
// [osmith.FirmwareVariables], which package tpm takes too. It comes from efivarfs ([ReadVariables])
// or from the variable store of a virtual machine ([ParseStore], [WriteStore]).
//
// Signature lists of every type are read and written back as they were; certificates and the
// digests of images and certificates are understood. An .auth file is EFI_VARIABLE_AUTHENTICATION_2
// with a bare SignedData, without signed attributes, under SHA-256: byte for byte what
// sign-efi-sig-list of efitools writes for the same key, time and content. With ContentInfo, as
// bootctl writes it, or under SHA-384 and SHA-512, is accepted when reading, as edk2 does since
// 2023. Times and dates are arguments. edk2 looks at the time stamps of variables only; U-Boot
// refuses an image whose signing time is outside of the validity of its signer's certificate.
//
// Keys are crypto.Signers, and every signature can also be made elsewhere from a digest:
// [Update.Digest] and [Update.Join], [Hierarchy.EnrollUpdates], [Step.Digest] and [Step.Join].
//
// [Evaluate], [Apply] and [ParseAuth] follow edk2 exactly, including what it overlooks, by rows for
// its versions ([Firmware]); [Evaluate] also has rows for U-Boot's EFI loader, from observed
// behaviour. Package authenticode is strict. An unknown answer counts as not allowed
// ([Verdict].Unknown). A verdict names the entry of db that is measured into PCR 7.
//
// Where a [Shim] starts the images, [EvaluateOptions].Shim has shim judge instead of firmware,
// according to its source (versions 15.8 to 16.1): the keys and hashes it was built with, db and
// dbx, MokList and MokListX, MokDBState and MokSBState, and the .sbat of the image against the
// level that this shim sets ([Shim.Level]). The differences to firmware are many: it looks at
// SHA-256 (and some SHA-1) digests only, at the first certificate of each list, at no digests of
// certificates, and a revoked signature does not spoil a good one; its OpenSSL has no elliptic
// curves. Where its variables are not known, the verdict is not allowed. With neither Shim nor
// [EvaluateOptions].NoShim, an image has to pass firmware and the machine's SbatLevel.
//
// Limits: name constraints and revocation lists in a message are not judged; RSA PKCS #1 v1.5 and
// ECDSA; no time stamps of signatures; of shim not the files beside it (revocations_sbat.efi,
// shim_certificate*.efi), nor the certificate that a build with ENABLE_SHIM_CERT makes for itself,
// nor the kernel inside a UKI, and not that systemd-boot asks firmware about an image that shim
// 15.8 has refused; audit and deployed mode, which edk2 does not have, are not known; Microsoft's
// certificates are in a table by name and fingerprint, but not shipped.
package secureboot
