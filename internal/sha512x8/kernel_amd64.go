//go:build !purego

package sha512x8

import "golang.org/x/sys/cpu"

var useKernel = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW

// Accelerated reports whether eight messages at a time are faster than one by one.
func Accelerated() bool { return useKernel }

// blocks compresses n blocks of 128 bytes of each message.
//
//go:noescape
func blocks(s *state, p *[Lanes]*byte, n int)
