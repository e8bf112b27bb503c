package luks

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"hash"
)

// newHash is a hash by the name that it has in headers. SHA-1 is that of volumes which were LUKS1
// once; it is not written.
func newHash(name string) (hash.Hash, bool) {
	switch name {
	case "sha256":
		return sha256.New(), true
	case "sha512":
		return sha512.New(), true
	case "sha384":
		return sha512.New384(), true
	case "sha224":
		return sha256.New224(), true
	case "sha1":
		return sha1.New(), true
	case "sha3-256":
		return sha3.New256(), true
	case "sha3-512":
		return sha3.New512(), true
	}
	return nil, false
}

// hashFunc is newHash for callers that need many.
func hashFunc(name string) func() hash.Hash {
	return func() hash.Hash {
		h, _ := newHash(name)
		return h
	}
}

// writtenHash reports whether a hash is one that new slots and digests may have.
func writtenHash(name string) bool {
	return name == "sha256" || name == "sha512"
}
