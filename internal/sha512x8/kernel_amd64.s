//go:build !purego

#include "textflag.h"

// Each register holds one word of all eight lanes: Z0 to Z7 the state, Z8 to Z23 the
// last 16 words of the messages, Z24 to Z31 what is temporary.

// K holds the constants of FIPS 180-4, section 4.2.3.
DATA K<>+0(SB)/8, $0x428a2f98d728ae22
DATA K<>+8(SB)/8, $0x7137449123ef65cd
DATA K<>+16(SB)/8, $0xb5c0fbcfec4d3b2f
DATA K<>+24(SB)/8, $0xe9b5dba58189dbbc
DATA K<>+32(SB)/8, $0x3956c25bf348b538
DATA K<>+40(SB)/8, $0x59f111f1b605d019
DATA K<>+48(SB)/8, $0x923f82a4af194f9b
DATA K<>+56(SB)/8, $0xab1c5ed5da6d8118
DATA K<>+64(SB)/8, $0xd807aa98a3030242
DATA K<>+72(SB)/8, $0x12835b0145706fbe
DATA K<>+80(SB)/8, $0x243185be4ee4b28c
DATA K<>+88(SB)/8, $0x550c7dc3d5ffb4e2
DATA K<>+96(SB)/8, $0x72be5d74f27b896f
DATA K<>+104(SB)/8, $0x80deb1fe3b1696b1
DATA K<>+112(SB)/8, $0x9bdc06a725c71235
DATA K<>+120(SB)/8, $0xc19bf174cf692694
DATA K<>+128(SB)/8, $0xe49b69c19ef14ad2
DATA K<>+136(SB)/8, $0xefbe4786384f25e3
DATA K<>+144(SB)/8, $0x0fc19dc68b8cd5b5
DATA K<>+152(SB)/8, $0x240ca1cc77ac9c65
DATA K<>+160(SB)/8, $0x2de92c6f592b0275
DATA K<>+168(SB)/8, $0x4a7484aa6ea6e483
DATA K<>+176(SB)/8, $0x5cb0a9dcbd41fbd4
DATA K<>+184(SB)/8, $0x76f988da831153b5
DATA K<>+192(SB)/8, $0x983e5152ee66dfab
DATA K<>+200(SB)/8, $0xa831c66d2db43210
DATA K<>+208(SB)/8, $0xb00327c898fb213f
DATA K<>+216(SB)/8, $0xbf597fc7beef0ee4
DATA K<>+224(SB)/8, $0xc6e00bf33da88fc2
DATA K<>+232(SB)/8, $0xd5a79147930aa725
DATA K<>+240(SB)/8, $0x06ca6351e003826f
DATA K<>+248(SB)/8, $0x142929670a0e6e70
DATA K<>+256(SB)/8, $0x27b70a8546d22ffc
DATA K<>+264(SB)/8, $0x2e1b21385c26c926
DATA K<>+272(SB)/8, $0x4d2c6dfc5ac42aed
DATA K<>+280(SB)/8, $0x53380d139d95b3df
DATA K<>+288(SB)/8, $0x650a73548baf63de
DATA K<>+296(SB)/8, $0x766a0abb3c77b2a8
DATA K<>+304(SB)/8, $0x81c2c92e47edaee6
DATA K<>+312(SB)/8, $0x92722c851482353b
DATA K<>+320(SB)/8, $0xa2bfe8a14cf10364
DATA K<>+328(SB)/8, $0xa81a664bbc423001
DATA K<>+336(SB)/8, $0xc24b8b70d0f89791
DATA K<>+344(SB)/8, $0xc76c51a30654be30
DATA K<>+352(SB)/8, $0xd192e819d6ef5218
DATA K<>+360(SB)/8, $0xd69906245565a910
DATA K<>+368(SB)/8, $0xf40e35855771202a
DATA K<>+376(SB)/8, $0x106aa07032bbd1b8
DATA K<>+384(SB)/8, $0x19a4c116b8d2d0c8
DATA K<>+392(SB)/8, $0x1e376c085141ab53
DATA K<>+400(SB)/8, $0x2748774cdf8eeb99
DATA K<>+408(SB)/8, $0x34b0bcb5e19b48a8
DATA K<>+416(SB)/8, $0x391c0cb3c5c95a63
DATA K<>+424(SB)/8, $0x4ed8aa4ae3418acb
DATA K<>+432(SB)/8, $0x5b9cca4f7763e373
DATA K<>+440(SB)/8, $0x682e6ff3d6b2b8a3
DATA K<>+448(SB)/8, $0x748f82ee5defb2fc
DATA K<>+456(SB)/8, $0x78a5636f43172f60
DATA K<>+464(SB)/8, $0x84c87814a1f0ab72
DATA K<>+472(SB)/8, $0x8cc702081a6439ec
DATA K<>+480(SB)/8, $0x90befffa23631e28
DATA K<>+488(SB)/8, $0xa4506cebde82bde9
DATA K<>+496(SB)/8, $0xbef9a3f7b2c67915
DATA K<>+504(SB)/8, $0xc67178f2e372532b
DATA K<>+512(SB)/8, $0xca273eceea26619c
DATA K<>+520(SB)/8, $0xd186b8c721c0c207
DATA K<>+528(SB)/8, $0xeada7dd6cde0eb1e
DATA K<>+536(SB)/8, $0xf57d4f7fee6ed178
DATA K<>+544(SB)/8, $0x06f067aa72176fba
DATA K<>+552(SB)/8, $0x0a637dc5a2c898a6
DATA K<>+560(SB)/8, $0x113f9804bef90dae
DATA K<>+568(SB)/8, $0x1b710b35131c471b
DATA K<>+576(SB)/8, $0x28db77f523047d84
DATA K<>+584(SB)/8, $0x32caab7b40c72493
DATA K<>+592(SB)/8, $0x3c9ebe0a15c9bebc
DATA K<>+600(SB)/8, $0x431d67c49c100d4c
DATA K<>+608(SB)/8, $0x4cc5d4becb3e42b6
DATA K<>+616(SB)/8, $0x597f299cfc657e2a
DATA K<>+624(SB)/8, $0x5fcb6fab3ad6faec
DATA K<>+632(SB)/8, $0x6c44198c4a475817
GLOBL K<>(SB), RODATA|NOPTR, $640

// swap reverses the bytes of each word.
DATA swap<>+0(SB)/8, $0x0001020304050607
DATA swap<>+8(SB)/8, $0x08090a0b0c0d0e0f
DATA swap<>+16(SB)/8, $0x0001020304050607
DATA swap<>+24(SB)/8, $0x08090a0b0c0d0e0f
DATA swap<>+32(SB)/8, $0x0001020304050607
DATA swap<>+40(SB)/8, $0x08090a0b0c0d0e0f
DATA swap<>+48(SB)/8, $0x0001020304050607
DATA swap<>+56(SB)/8, $0x08090a0b0c0d0e0f
GLOBL swap<>(SB), RODATA|NOPTR, $64

// round is one round (FIPS 180-4, section 6.4.2). Truth tables of VPTERNLOGQ: 0x96 is
// exclusive or, 0xca is Ch and 0xe8 is Maj.
#define round(off, a, b, c, d, e, f, g, h, w) \
	VPADDQ.BCST off(AX), w, Z24 \
	VPADDQ Z24, h, h \
	VPRORQ $14, e, Z25 \
	VPRORQ $18, e, Z26 \
	VPRORQ $41, e, Z27 \
	VPTERNLOGQ $0x96, Z27, Z26, Z25 \
	VMOVDQA64 e, Z28 \
	VPTERNLOGQ $0xca, g, f, Z28 \
	VPADDQ Z25, h, h \
	VPADDQ Z28, h, h \
	VPADDQ h, d, d \
	VPRORQ $28, a, Z29 \
	VPRORQ $34, a, Z30 \
	VPRORQ $39, a, Z31 \
	VPTERNLOGQ $0x96, Z31, Z30, Z29 \
	VMOVDQA64 a, Z28 \
	VPTERNLOGQ $0xe8, c, b, Z28 \
	VPADDQ Z29, h, h \
	VPADDQ Z28, h, h

// schedule replaces word t by word t+16, from words t+1, t+9 and t+14.
#define schedule(w0, w1, w9, w14) \
	VPRORQ $1, w1, Z24 \
	VPRORQ $8, w1, Z25 \
	VPSRLQ $7, w1, Z26 \
	VPTERNLOGQ $0x96, Z26, Z25, Z24 \
	VPRORQ $19, w14, Z27 \
	VPRORQ $61, w14, Z28 \
	VPSRLQ $6, w14, Z29 \
	VPTERNLOGQ $0x96, Z29, Z28, Z27 \
	VPADDQ w9, w0, w0 \
	VPADDQ Z24, w0, w0 \
	VPADDQ Z27, w0, w0

// transpose takes 64 bytes of each message, whose addresses are in R8 to R13, BX and SI,
// and puts the words into w0 to w7: pairs of words first, then pairs of pairs, then halves.
#define transpose(off, w0, w1, w2, w3, w4, w5, w6, w7) \
	VMOVDQU64 off(R8), w0 \
	VMOVDQU64 off(R9), w1 \
	VMOVDQU64 off(R10), w2 \
	VMOVDQU64 off(R11), w3 \
	VMOVDQU64 off(R12), w4 \
	VMOVDQU64 off(R13), w5 \
	VMOVDQU64 off(BX), w6 \
	VMOVDQU64 off(SI), w7 \
	VPUNPCKLQDQ w1, w0, Z24 \
	VPUNPCKHQDQ w1, w0, Z25 \
	VPUNPCKLQDQ w3, w2, Z26 \
	VPUNPCKHQDQ w3, w2, Z27 \
	VPUNPCKLQDQ w5, w4, Z28 \
	VPUNPCKHQDQ w5, w4, Z29 \
	VPUNPCKLQDQ w7, w6, Z30 \
	VPUNPCKHQDQ w7, w6, Z31 \
	VSHUFI64X2 $0x44, Z26, Z24, w0 \
	VSHUFI64X2 $0xee, Z26, Z24, w1 \
	VSHUFI64X2 $0x44, Z30, Z28, w2 \
	VSHUFI64X2 $0xee, Z30, Z28, w3 \
	VSHUFI64X2 $0x44, Z27, Z25, w4 \
	VSHUFI64X2 $0xee, Z27, Z25, w5 \
	VSHUFI64X2 $0x44, Z31, Z29, w6 \
	VSHUFI64X2 $0xee, Z31, Z29, w7 \
	VSHUFI64X2 $0x88, w2, w0, Z24 \
	VSHUFI64X2 $0xdd, w2, w0, Z26 \
	VSHUFI64X2 $0x88, w3, w1, Z28 \
	VSHUFI64X2 $0xdd, w3, w1, Z30 \
	VSHUFI64X2 $0x88, w6, w4, Z25 \
	VSHUFI64X2 $0xdd, w6, w4, Z27 \
	VSHUFI64X2 $0x88, w7, w5, Z29 \
	VSHUFI64X2 $0xdd, w7, w5, Z31 \
	VPSHUFB swap<>(SB), Z24, w0 \
	VPSHUFB swap<>(SB), Z25, w1 \
	VPSHUFB swap<>(SB), Z26, w2 \
	VPSHUFB swap<>(SB), Z27, w3 \
	VPSHUFB swap<>(SB), Z28, w4 \
	VPSHUFB swap<>(SB), Z29, w5 \
	VPSHUFB swap<>(SB), Z30, w6 \
	VPSHUFB swap<>(SB), Z31, w7

// func blocks(s *state, p *[Lanes]*byte, n int)
TEXT ·blocks(SB), NOSPLIT, $0-24
	MOVQ s+0(FP), DI
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), DX
	MOVQ 0(SI), R8
	MOVQ 8(SI), R9
	MOVQ 16(SI), R10
	MOVQ 24(SI), R11
	MOVQ 32(SI), R12
	MOVQ 40(SI), R13
	MOVQ 48(SI), BX
	MOVQ 56(SI), SI
	VMOVDQU64 0(DI), Z0
	VMOVDQU64 64(DI), Z1
	VMOVDQU64 128(DI), Z2
	VMOVDQU64 192(DI), Z3
	VMOVDQU64 256(DI), Z4
	VMOVDQU64 320(DI), Z5
	VMOVDQU64 384(DI), Z6
	VMOVDQU64 448(DI), Z7

loop:
	TESTQ DX, DX
	JE    done
	transpose(0, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	transpose(64, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)
	LEAQ  K<>(SB), AX
	MOVQ  $4, CX

sixteen:
	round(0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8)
	schedule(Z8, Z9, Z17, Z22)
	round(8, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z9)
	schedule(Z9, Z10, Z18, Z23)
	round(16, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z10)
	schedule(Z10, Z11, Z19, Z8)
	round(24, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11)
	schedule(Z11, Z12, Z20, Z9)
	round(32, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12)
	schedule(Z12, Z13, Z21, Z10)
	round(40, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z13)
	schedule(Z13, Z14, Z22, Z11)
	round(48, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z14)
	schedule(Z14, Z15, Z23, Z12)
	round(56, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15)
	schedule(Z15, Z16, Z8, Z13)
	round(64, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16)
	schedule(Z16, Z17, Z9, Z14)
	round(72, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z17)
	schedule(Z17, Z18, Z10, Z15)
	round(80, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z18)
	schedule(Z18, Z19, Z11, Z16)
	round(88, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19)
	schedule(Z19, Z20, Z12, Z17)
	round(96, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20)
	schedule(Z20, Z21, Z13, Z18)
	round(104, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z21)
	schedule(Z21, Z22, Z14, Z19)
	round(112, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z22)
	schedule(Z22, Z23, Z15, Z20)
	round(120, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23)
	schedule(Z23, Z8, Z16, Z21)
	ADDQ  $128, AX
	DECQ  CX
	JNE   sixteen

	round(0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8)
	round(8, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z9)
	round(16, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z10)
	round(24, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z11)
	round(32, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z12)
	round(40, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z13)
	round(48, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z14)
	round(56, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z15)
	round(64, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z16)
	round(72, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z17)
	round(80, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z18)
	round(88, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z19)
	round(96, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z20)
	round(104, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z21)
	round(112, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z22)
	round(120, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z23)

	VPADDQ    0(DI), Z0, Z0
	VMOVDQU64 Z0, 0(DI)
	VPADDQ    64(DI), Z1, Z1
	VMOVDQU64 Z1, 64(DI)
	VPADDQ    128(DI), Z2, Z2
	VMOVDQU64 Z2, 128(DI)
	VPADDQ    192(DI), Z3, Z3
	VMOVDQU64 Z3, 192(DI)
	VPADDQ    256(DI), Z4, Z4
	VMOVDQU64 Z4, 256(DI)
	VPADDQ    320(DI), Z5, Z5
	VMOVDQU64 Z5, 320(DI)
	VPADDQ    384(DI), Z6, Z6
	VMOVDQU64 Z6, 384(DI)
	VPADDQ    448(DI), Z7, Z7
	VMOVDQU64 Z7, 448(DI)
	ADDQ      $128, R8
	ADDQ      $128, R9
	ADDQ      $128, R10
	ADDQ      $128, R11
	ADDQ      $128, R12
	ADDQ      $128, R13
	ADDQ      $128, BX
	ADDQ      $128, SI
	DECQ      DX
	JMP       loop

done:
	VZEROUPPER
	RET
