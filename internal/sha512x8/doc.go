// Package sha512x8 hashes eight messages of the same length at a time with SHA-512 or
// SHA-384.
//
// On amd64 with AVX-512 each of the eight has a lane of every register. Elsewhere, and
// with the build tag purego, [Accelerated] is false and [Hasher] uses crypto/sha512.
package sha512x8
