//go:build !purego

package sha256x2

import "golang.org/x/sys/cpu"

// useKernel is set when the CPU has what blocks needs. golang.org/x/sys/cpu does not
// tell of the SHA extensions.
var useKernel = cpu.X86.HasAVX && cpu.X86.HasSSSE3 && cpu.X86.HasSSE41 && hasSHA()

// hasSHA reports bit 29 of EBX of CPUID leaf 7, subleaf 0 (Intel SDM volume 2A, CPUID).
func hasSHA() bool {
	if highest, _ := cpuid(0); highest < 7 {
		return false
	}
	_, b := cpuid(7)
	return b>>29&1 == 1
}

// Accelerated reports whether two messages at a time are faster than one by one.
func Accelerated() bool { return useKernel }

// cpuid returns EAX and EBX of a leaf, subleaf 0.
//
//go:noescape
func cpuid(leaf uint32) (a, b uint32)

// blocks compresses n blocks of 64 bytes at pa into sa, and at pb into sb.
//
//go:noescape
func blocks(sa, sb *[8]uint32, pa, pb *byte, n int)
