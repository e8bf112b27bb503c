// Package sha256x2 hashes two messages of the same length at a time.
//
// On amd64 with the SHA extensions a single SHA-256 waits for its own last round most
// of the time; two in turn take about as long as one. Elsewhere, and with the build tag
// purego, [Accelerated] is false and [Hasher] uses crypto/sha256.
package sha256x2
