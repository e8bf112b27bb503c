// Package sha512dual computes SHA-384 and SHA-512 of one message at the same time (FIPS 180-4). The
// two differ in their initial values alone, so that the message schedule is shared and the two
// states fill a vector register; PCR banks of both hashes are what wants it. It needs AVX-512VL,
// and is the standard library's two hashes elsewhere.
package sha512dual
