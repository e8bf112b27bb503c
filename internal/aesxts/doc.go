// Package aesxts encrypts and decrypts sectors as dm-crypt does with aes-xts-plain64: AES in XTS mode (IEEE 1619-2018) with a tweak that is the
// sector's number, which counts 512 bytes whatever the sector's size.
//
// A call takes many sectors, so that a kernel which has several blocks in flight can take the place of the portable loop.
package aesxts
