// Package luks formats, opens and changes LUKS2 volumes, offline: on images and devices, without
// root, device mapper or cryptsetup.
//
// It follows the LUKS2 On-Disk Format Specification, version 1.1.4
// (https://gitlab.com/cryptsetup/LUKS2-docs), and, where they differ, cryptsetup 2.6 to 2.8. A new
// volume with a recovery key, and data in it:
//
//	v, key, err := luks.Format(disk, passphrase, luks.FormatOptions{Rand: rand.Reader, Label: "state"})
//	recovery, slot, err := v.AddRecoveryKey(key, luks.KeyOptions{Rand: rand.Reader})
//	w, err := v.NewWriter(key)
//	_, err = io.Copy(w, content)
//	err = w.Close()
//
// A slot for the TPM, with the token that tpm/sealing makes, in one write; and later a new policy
// in its place:
//
//	var v *luks.Volume // from Format or Open
//	var key *luks.Key  // from Format or Unlock
//	slot, err := v.AddKey(key, sealing.Passphrase(secret), luks.KeyOptions{Rand: rand.Reader, KDF: luks.RandomKeyKDF, Token: token})
//	err = v.ChangeKey(key, slot, sealing.Passphrase(secret), luks.KeyOptions{Rand: rand.Reader, KDF: luks.RandomKeyKDF, Token: token})
//
// [NewImage] makes an encrypted volume with its content as a Source, for a partition of an image.
//
// # Reading
//
// A header has two copies; the newer one counts, and the first if they are equally new. The header
// is read once, checked, and used from memory. This package refuses, although cryptsetup accepts
// it: members that are listed twice, sectors of other sizes than 512 to 4096, key slots whose area
// is too small for their key, whose stripes are not 4000 or whose priority is not 0 to 2, numbers
// with leading zeros, key slots and tokens above 31, and digests or salts of the wrong length.
// (With an empty digest cryptsetup reports success for any passphrase.)
//
// Unknown members, tokens, slot types, digests and flags stay, byte for byte, through every change.
// A volume with an unknown requirement, reencryption, OPAL, inline tags, integrity or the null
// cipher can only be shown ([Header].Unsupported): its keys, changes and data are an
// [*UnsupportedError]. Headers are not signed: an attacker who can write to the disk can replace a
// header by that of a volume whose key they know. Compare or measure the key before you trust the
// contents.
//
// # Power cuts
//
// A change first writes the copy of the header that does not count, then the other copy, with Sync
// after each if the disk has it, and reads both back. At any moment either the old or the new
// header is complete, if the device writes sectors of 512 bytes completely or not at all. The area
// of a new key slot is written before the header; the area of a removed slot is overwritten before
// the header. A failed change leaves the Volume unusable ([ErrBroken]); open it again. Reading
// never writes: a damaged copy stays until [Volume.Repair] or the next change, and where another
// file system begins in its place, both are refused.
//
// # Keys
//
// Random bytes are an argument, so that the same bytes give the same volume; pass
// [crypto/rand.Reader] if they must be secret. The KDF is [DefaultKDF] unless the options set one;
// a change of anything else leaves it as it is; and [Limits] bound it when a slot is opened. The
// last slot that a person can use (passphrase, recovery key, FIDO2 or PKCS #11 token) cannot be
// removed ([LastKeyError]). Tokens are values: tpm/sealing makes and reads tokens for TPMs.
//
// # Limits
//
// Data is aes-xts-plain64, by keys of 256 or 512 bits; key slots of other ciphers stay and are not
// opened. LUKS1 is recognised ([ErrLUKS1]), and a detached header can be used for everything but
// the data ([ErrDetached]). A volume must not be open elsewhere while it is changed. Memory use is
// a few copies of the header (at most 4 MiB each), the memory of the KDF, and a few MiB for data.
package luks
