//go:build !amd64 || purego

package sha512dual

// Accelerated reports whether both hashes together take less than one after the other.
func Accelerated() bool { return false }

func blocks(*state, *byte, int) { panic("sha512dual: no kernel") }
