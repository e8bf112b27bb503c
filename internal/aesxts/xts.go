package aesxts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// MaxSector is the largest sector in bytes.
const MaxSector = 4096

// unit is what numbers of sectors count, in bytes.
const unit = 512

// Cipher is a key that is set up. Its methods may be called concurrently.
type Cipher struct {
	data, tweak cipher.Block // of the portable loop

	// Round keys for the kernel, nil where there is none.
	encrypting, decrypting, tweaking []byte
}

// New sets up a key of 32 bytes (AES-128) or 64 (AES-256): the first half is for the data, the
// second one for the tweaks.
func New(key []byte) (*Cipher, error) { return newCipher(key, useKernel) }

func newCipher(key []byte, kernel bool) (*Cipher, error) {
	if len(key) != 32 && len(key) != 64 {
		return nil, fmt.Errorf("key of %d bytes for aes-xts, want 32 or 64", len(key))
	}
	if kernel {
		c := &Cipher{encrypting: schedule(key[:len(key)/2]), tweaking: schedule(key[len(key)/2:])}
		c.decrypting = inverse(c.encrypting)
		return c, nil
	}
	data, err := aes.NewCipher(key[:len(key)/2])
	if err != nil {
		return nil, err
	}
	tweak, err := aes.NewCipher(key[len(key)/2:])
	if err != nil {
		return nil, err
	}
	return &Cipher{data: data, tweak: tweak}, nil
}

// Encrypt encrypts src, which is any number of whole sectors of sectorSize bytes (512, 1024, 2048
// or 4096), to dst. The number of the first one is first, in units of 512 bytes. dst is src or does
// not overlap it, and is not shorter.
func (c *Cipher) Encrypt(dst, src []byte, sectorSize int, first uint64) {
	check(dst, src, sectorSize)
	if c.encrypting != nil {
		c.kernel(dst, src, sectorSize, first, false)
		return
	}
	c.crypt(dst, src, sectorSize, first, c.data.Encrypt)
}

// Decrypt is the reverse of [Cipher.Encrypt].
func (c *Cipher) Decrypt(dst, src []byte, sectorSize int, first uint64) {
	check(dst, src, sectorSize)
	if c.encrypting != nil {
		c.kernel(dst, src, sectorSize, first, true)
		return
	}
	c.crypt(dst, src, sectorSize, first, c.data.Decrypt)
}

func check(dst, src []byte, sectorSize int) {
	switch {
	case sectorSize != 512 && sectorSize != 1024 && sectorSize != 2048 && sectorSize != MaxSector:
		panic(fmt.Sprintf("aesxts: sectors of %d bytes", sectorSize))
	case len(src)%sectorSize != 0 || len(dst) < len(src):
		panic(fmt.Sprintf("aesxts: %d bytes into %d: want whole sectors of %d", len(src), len(dst), sectorSize))
	}
}

// batch is how many sectors the kernel takes at a time: their tweaks are encrypted together, eight
// in flight as well.
const batch = 64

func (c *Cipher) kernel(dst, src []byte, sectorSize int, first uint64, decrypt bool) {
	var tweaks [batch * aes.BlockSize]byte
	rounds, eights := len(c.encrypting)/aes.BlockSize-1, sectorSize/(8*aes.BlockSize)
	for len(src) > 0 {
		n := min(batch, len(src)/sectorSize)
		for i := range n {
			binary.LittleEndian.PutUint64(tweaks[aes.BlockSize*i:], first)
			clear(tweaks[aes.BlockSize*i+8:][:8])
			first += uint64(sectorSize / unit)
		}
		// some more than there are sectors
		encryptBlocks(&tweaks[0], (n+7)/8, &c.tweaking[0], rounds)
		if decrypt {
			decryptSectors(&dst[0], &src[0], n, eights, &tweaks[0], &c.decrypting[0], rounds)
		} else {
			encryptSectors(&dst[0], &src[0], n, eights, &tweaks[0], &c.encrypting[0], rounds)
		}
		dst, src = dst[n*sectorSize:], src[n*sectorSize:]
	}
}

// crypt makes the tweaks of a sector at once, so that they are combined with it by the vector
// instructions of XORBytes.
func (c *Cipher) crypt(dst, src []byte, sectorSize int, first uint64, block func(dst, src []byte)) {
	tweaks := make([]byte, sectorSize)
	for ; len(src) > 0; first += uint64(sectorSize / unit) {
		c.tweaks(tweaks, first)
		sector := dst[:sectorSize]
		subtle.XORBytes(sector, src[:sectorSize], tweaks)
		for i := 0; i < sectorSize; i += aes.BlockSize {
			b := sector[i : i+aes.BlockSize : i+aes.BlockSize]
			block(b, b)
		}
		subtle.XORBytes(sector, sector, tweaks)
		dst, src = dst[sectorSize:], src[sectorSize:]
	}
}

// tweaks fills t with those of a sector: the encrypted number, and its products with the powers of
// x in GF(2^128).
func (c *Cipher) tweaks(t []byte, number uint64) {
	clear(t[:aes.BlockSize])
	binary.LittleEndian.PutUint64(t, number)
	c.tweak.Encrypt(t[:aes.BlockSize], t[:aes.BlockSize])
	low, high := binary.LittleEndian.Uint64(t), binary.LittleEndian.Uint64(t[8:])
	for i := aes.BlockSize; i < len(t); i += aes.BlockSize {
		carry := -(high >> 63) & 0x87 // x^128 = x^7 + x^2 + x + 1
		high = high<<1 | low>>63
		low = low<<1 ^ carry
		binary.LittleEndian.PutUint64(t[i:], low)
		binary.LittleEndian.PutUint64(t[i+8:], high)
	}
}
