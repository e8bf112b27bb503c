package verity

import (
	"encoding/hex"
	"strings"
)

// Sidecars are the files beside a disk or file system image from which systemd learns how to verify
// it: systemd-nspawn --image=, RootImage= of a service, portable services, systemd-dissect
// (systemd.exec(5), RootHash=, RootHashSignature= and RootVerity=).
type Sidecars struct {
	RootHash  string // the root hash in hexadecimal: see [RootHashText]
	Signature string // its PKCS #7 signature in DER, as [SignRootHash] makes it
	Tree      string // the hash tree with its superblock, unless the image has a partition for it
}

// SidecarsOf returns the names of the files beside an image: the name of the image without a suffix
// ".raw", and then ".roothash", ".roothash.p7s" and ".verity"; with usr, for an image whose root
// hash covers /usr, ".usrhash" and ".usrhash.p7s" in place of the first two (systemd 262,
// src/shared/dissect-image.c, verity_settings_load and build_auxiliary_path).
func SidecarsOf(image string, usr bool) Sidecars {
	name := strings.TrimSuffix(image, ".raw")
	hash := ".roothash"
	if usr {
		hash = ".usrhash"
	}
	return Sidecars{RootHash: name + hash, Signature: name + hash + ".p7s", Tree: name + ".verity"}
}

// RootHashText is the content of [Sidecars].RootHash, which [SignRootHash] signs: lower-case
// hexadecimal digits without a line end.
func RootHashText(root []byte) []byte { return hex.AppendEncode(nil, root) }
