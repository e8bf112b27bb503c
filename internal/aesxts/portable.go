//go:build !amd64 || purego

package aesxts

const useKernel = false

func encryptSectors(dst, src *byte, sectors, eights int, tweaks, keys *byte, rounds int) {
	panic("aesxts: no kernel")
}

func decryptSectors(dst, src *byte, sectors, eights int, tweaks, keys *byte, rounds int) {
	panic("aesxts: no kernel")
}

func encryptBlocks(blocks *byte, eights int, keys *byte, rounds int) { panic("aesxts: no kernel") }

func schedule([]byte) []byte { panic("aesxts: no kernel") }

func inverse([]byte) []byte { panic("aesxts: no kernel") }
