// Package aesxts encrypts and decrypts sectors as dm-crypt does with aes-xts-plain64: AES in XTS
// mode (IEEE 1619-2018) with a tweak that is the sector's number, which counts 512 bytes whatever
// the sector's size.
//
// A call takes many sectors. On amd64 a kernel has eight blocks in flight and doubles tweaks in
// vector registers (AES-NI with AVX); elsewhere, and with the build tag purego, a portable loop
// takes the blocks one by one.
package aesxts
