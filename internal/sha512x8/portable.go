//go:build !amd64 || purego

package sha512x8

// Accelerated reports whether eight messages at a time are faster than one by one.
func Accelerated() bool { return false }

func blocks(*state, *[Lanes]*byte, int) { panic("sha512x8: no kernel") }
