// Package signing has no code; it says which of its sub-packages signs what, and who checks it.
//
//   - [github.com/osmith-dev/osmith/signing/authenticode] signs and verifies PE images: boot
//     loaders, Unified Kernel Images, add-ons. The firmware (or shim) checks these signatures, at
//     every boot, before it runs the image.
//   - [github.com/osmith-dev/osmith/signing/secureboot] makes the keys and variables by which the
//     firmware checks: PK, KEK, db and dbx as signature lists and as .auth files, and answers
//     whether a machine with given variables would boot a given image. Only the firmware checks
//     these signatures.
//   - [github.com/osmith-dev/osmith/signing/cosign] verifies a release, an OCI artifact, before any
//     of it is written to a disk. The updater checks these signatures; the firmware knows nothing
//     of them.
//
// An operating system vendor needs all three: cosign decides what may be installed, authenticode
// what may be started, secureboot which signers the machine trusts. They do not import each other.
// The signature of a dm-verity root hash, which the kernel checks when it sets up the root file
// system, belongs to package verity; the signature of a PCR policy, which the TPM checks before it
// gives away the disk's key, to package tpm.
//
//	keys, err := secureboot.Generate(nil, options)                                             // once
//	err = authenticode.Sign(out, unsigned, keys.DB.Key, keys.DB.Cert, authenticode.SignOptions{}) // every build
//	image, err := secureboot.ReadImage(signed)                                                 // before an upgrade:
//	verdict := secureboot.Evaluate(variables, image, secureboot.EvaluateOptions{})             // would it boot?
//
// All keys are crypto.Signer values, so they may live in an HSM, a KMS or a file.
package signing
