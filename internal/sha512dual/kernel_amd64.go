//go:build !purego

package sha512dual

import "golang.org/x/sys/cpu"

var useKernel = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512BW

// Accelerated reports whether both hashes together take less than one after the other.
func Accelerated() bool { return useKernel }

// blocks compresses n blocks of 128 bytes.
//
//go:noescape
func blocks(s *state, p *byte, n int)
