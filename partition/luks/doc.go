// Package luks formats, opens and changes LUKS2 volumes, offline: on images and devices, without
// root, device mapper or cryptsetup.
//
// It follows the LUKS2 On-Disk Format Specification, version 1.1.4
// (https://gitlab.com/cryptsetup/LUKS2-docs), and where that and cryptsetup 2.6 to 2.8 differ, what
// cryptsetup takes. A new volume with a recovery key, and data in it:
//
//	v, key, err := luks.Format(disk, passphrase, luks.FormatOptions{Rand: rand.Reader, Label: "state"})
//	recovery, slot, err := v.AddRecoveryKey(key, luks.KeyOptions{Rand: rand.Reader})
//	w, err := v.NewWriter(key)
//	_, err = io.Copy(w, content)
//	err = w.Close()
//
// A slot for the TPM, with the token that tpm/sealing makes, in one write; and later another policy
// in its place:
//
//	var v *luks.Volume // from Format or Open
//	var key *luks.Key  // from Format or Unlock
//	slot, err := v.AddKey(key, sealing.Passphrase(secret), luks.KeyOptions{Rand: rand.Reader, KDF: luks.RandomKeyKDF, Token: token})
//	err = v.ChangeKey(key, slot, sealing.Passphrase(secret), luks.KeyOptions{Rand: rand.Reader, KDF: luks.RandomKeyKDF, Token: token})
//
// [NewImage] is a volume with content as a Source, for the content of a partition.
//
// # Reading
//
// A header has two copies, of which the newer one counts, and the first if they are equally new. It
// is read once, checked, and used from memory. What cryptsetup takes and this package refuses:
// members that are there twice, sectors of other sizes than 512 to 4096, key slots whose area is
// too small for their key, or with another number of stripes than 4000 or another priority than 0
// to 2, numbers with leading zeros, key slots and tokens above 31, and digests or salts of another
// length. With an empty digest cryptsetup says of any passphrase that it opens the volume.
//
// Members, tokens, slot types, digests and flags that are not known stay, byte for byte, through
// every change. A requirement that is not known, reencryption, OPAL, inline tags, integrity and the
// null cipher make a volume that is only shown ([Header].Unsupported): keys, changes and data are
// an [*UnsupportedError]. Nobody has signed a header: who can write to the disk can exchange it for
// that of another volume, whose key they know. Compare the key, or measure it, before what is
// inside is trusted.
//
// # Power cuts
//
// A change writes the copy of the header that does not count, then the other one, with Sync after
// each if the disk has it, and reads back what it wrote. At any moment the old or the new header is
// whole, if the device writes sectors of 512 bytes whole or not at all. The area of a new key slot
// is written before the header; that of a slot that is removed is overwritten before. A failed
// change leaves the Volume unusable ([ErrBroken]); open it again. Reading never writes: a damaged
// copy stays until [Volume.Repair] or the next change, and where another file system begins in its
// place, both are refused.
//
// # Keys
//
// Random bytes are an argument, so that the same bytes give the same volume; give
// [crypto/rand.Reader] where they are to be a secret. KDFs are [DefaultKDF] unless said otherwise,
// are never changed with anything else, and bounded by [Limits] when a slot is opened. The last
// slot that a person can use stays: a passphrase, a recovery key, a FIDO2 or PKCS #11 token
// ([LastKeyError]). Tokens are values: tpm/sealing makes and reads those of TPMs.
//
// # Limits
//
// Data is aes-xts-plain64, by keys of 256 or 512 bits; key slots of other ciphers stay and are not
// opened. LUKS1 is recognised ([ErrLUKS1]), and of a detached header all but the data can be used
// ([ErrDetached]). A volume must not be open elsewhere while it is changed. Memory is at most some
// copies of the header, of 4 MiB at most, what the KDF takes, and some MiB for data.
package luks
