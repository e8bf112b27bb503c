//go:build !purego

#include "textflag.h"

// X0 to X7 hold one word of both states each, SHA-512 in the lower half, SHA-384 in the upper. The message schedule, which both share, is made two
// words at a time in X8 to X15 and left on the stack with the constants added; a round takes its word from there for both.

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
GLOBL swap<>(SB), RODATA|NOPTR, $16

// round is one round (FIPS 180-4, section 6.4.2). Truth tables of VPTERNLOGQ: 0x96 is
// exclusive or, 0xca is Ch and 0xe8 is Maj.
#define round(off, a, b, c, d, e, f, g, h) \
	VPADDQ.BCST off(SP), h, h \
	VPRORQ $14, e, X25 \
	VPRORQ $18, e, X26 \
	VPRORQ $41, e, X27 \
	VMOVDQA64 e, X28 \
	VPTERNLOGQ $0xca, g, f, X28 \
	VPADDQ X28, h, h \
	VPTERNLOGQ $0x96, X27, X26, X25 \
	VPADDQ X25, h, h \
	VPADDQ h, d, d \
	VPRORQ $28, a, X29 \
	VPRORQ $34, a, X30 \
	VPRORQ $39, a, X31 \
	VMOVDQA64 a, X28 \
	VPTERNLOGQ $0xe8, c, b, X28 \
	VPTERNLOGQ $0x96, X31, X30, X29 \
	VPADDQ X28, h, h \
	VPADDQ X29, h, h

// schedule replaces words t and t+1 in w0 by words t+16 and t+17, from the pairs behind it: w2 of words t+2 and t+3, w8 and w10 of t+8 to t+11, w14 of
// t+14 and t+15; and puts them with their constants on the stack.
#define schedule(off, w0, w2, w8, w10, w14) \
	VPALIGNR $8, w0, w2, X16 \
	VPALIGNR $8, w8, w10, X17 \
	VPRORQ $1, X16, X18 \
	VPRORQ $8, X16, X19 \
	VPSRLQ $7, X16, X20 \
	VPADDQ X17, w0, w0 \
	VPTERNLOGQ $0x96, X20, X19, X18 \
	VPRORQ $19, w14, X21 \
	VPRORQ $61, w14, X22 \
	VPSRLQ $6, w14, X23 \
	VPADDQ X18, w0, w0 \
	VPTERNLOGQ $0x96, X23, X22, X21 \
	VPADDQ X21, w0, w0 \
	VPADDQ off(AX), w0, X24 \
	VMOVDQU64 X24, off(SP)

// load takes two words of the message.
#define load(off, w) \
	VMOVDQU64 off(SI), w \
	VPSHUFB swap<>(SB), w, w \
	VPADDQ off(AX), w, X24 \
	VMOVDQU64 X24, off(SP)

// func blocks(s *state, p *byte, n int)
TEXT ·blocks(SB), 0, $640-24
	MOVQ s+0(FP), DI
	MOVQ p+8(FP), SI
	MOVQ n+16(FP), DX
	LEAQ K<>(SB), AX
	VMOVDQU64 0(DI), X0
	VMOVDQU64 16(DI), X1
	VMOVDQU64 32(DI), X2
	VMOVDQU64 48(DI), X3
	VMOVDQU64 64(DI), X4
	VMOVDQU64 80(DI), X5
	VMOVDQU64 96(DI), X6
	VMOVDQU64 112(DI), X7

loop:
	TESTQ DX, DX
	JE    done
	load(0, X8)
	load(16, X9)
	load(32, X10)
	load(48, X11)
	load(64, X12)
	load(80, X13)
	load(96, X14)
	load(112, X15)
	round(0, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(128, X8, X9, X12, X13, X15)
	round(8, X7, X0, X1, X2, X3, X4, X5, X6)
	round(16, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(144, X9, X10, X13, X14, X8)
	round(24, X5, X6, X7, X0, X1, X2, X3, X4)
	round(32, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(160, X10, X11, X14, X15, X9)
	round(40, X3, X4, X5, X6, X7, X0, X1, X2)
	round(48, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(176, X11, X12, X15, X8, X10)
	round(56, X1, X2, X3, X4, X5, X6, X7, X0)
	round(64, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(192, X12, X13, X8, X9, X11)
	round(72, X7, X0, X1, X2, X3, X4, X5, X6)
	round(80, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(208, X13, X14, X9, X10, X12)
	round(88, X5, X6, X7, X0, X1, X2, X3, X4)
	round(96, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(224, X14, X15, X10, X11, X13)
	round(104, X3, X4, X5, X6, X7, X0, X1, X2)
	round(112, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(240, X15, X8, X11, X12, X14)
	round(120, X1, X2, X3, X4, X5, X6, X7, X0)
	round(128, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(256, X8, X9, X12, X13, X15)
	round(136, X7, X0, X1, X2, X3, X4, X5, X6)
	round(144, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(272, X9, X10, X13, X14, X8)
	round(152, X5, X6, X7, X0, X1, X2, X3, X4)
	round(160, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(288, X10, X11, X14, X15, X9)
	round(168, X3, X4, X5, X6, X7, X0, X1, X2)
	round(176, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(304, X11, X12, X15, X8, X10)
	round(184, X1, X2, X3, X4, X5, X6, X7, X0)
	round(192, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(320, X12, X13, X8, X9, X11)
	round(200, X7, X0, X1, X2, X3, X4, X5, X6)
	round(208, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(336, X13, X14, X9, X10, X12)
	round(216, X5, X6, X7, X0, X1, X2, X3, X4)
	round(224, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(352, X14, X15, X10, X11, X13)
	round(232, X3, X4, X5, X6, X7, X0, X1, X2)
	round(240, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(368, X15, X8, X11, X12, X14)
	round(248, X1, X2, X3, X4, X5, X6, X7, X0)
	round(256, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(384, X8, X9, X12, X13, X15)
	round(264, X7, X0, X1, X2, X3, X4, X5, X6)
	round(272, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(400, X9, X10, X13, X14, X8)
	round(280, X5, X6, X7, X0, X1, X2, X3, X4)
	round(288, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(416, X10, X11, X14, X15, X9)
	round(296, X3, X4, X5, X6, X7, X0, X1, X2)
	round(304, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(432, X11, X12, X15, X8, X10)
	round(312, X1, X2, X3, X4, X5, X6, X7, X0)
	round(320, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(448, X12, X13, X8, X9, X11)
	round(328, X7, X0, X1, X2, X3, X4, X5, X6)
	round(336, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(464, X13, X14, X9, X10, X12)
	round(344, X5, X6, X7, X0, X1, X2, X3, X4)
	round(352, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(480, X14, X15, X10, X11, X13)
	round(360, X3, X4, X5, X6, X7, X0, X1, X2)
	round(368, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(496, X15, X8, X11, X12, X14)
	round(376, X1, X2, X3, X4, X5, X6, X7, X0)
	round(384, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(512, X8, X9, X12, X13, X15)
	round(392, X7, X0, X1, X2, X3, X4, X5, X6)
	round(400, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(528, X9, X10, X13, X14, X8)
	round(408, X5, X6, X7, X0, X1, X2, X3, X4)
	round(416, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(544, X10, X11, X14, X15, X9)
	round(424, X3, X4, X5, X6, X7, X0, X1, X2)
	round(432, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(560, X11, X12, X15, X8, X10)
	round(440, X1, X2, X3, X4, X5, X6, X7, X0)
	round(448, X0, X1, X2, X3, X4, X5, X6, X7)
	schedule(576, X12, X13, X8, X9, X11)
	round(456, X7, X0, X1, X2, X3, X4, X5, X6)
	round(464, X6, X7, X0, X1, X2, X3, X4, X5)
	schedule(592, X13, X14, X9, X10, X12)
	round(472, X5, X6, X7, X0, X1, X2, X3, X4)
	round(480, X4, X5, X6, X7, X0, X1, X2, X3)
	schedule(608, X14, X15, X10, X11, X13)
	round(488, X3, X4, X5, X6, X7, X0, X1, X2)
	round(496, X2, X3, X4, X5, X6, X7, X0, X1)
	schedule(624, X15, X8, X11, X12, X14)
	round(504, X1, X2, X3, X4, X5, X6, X7, X0)
	round(512, X0, X1, X2, X3, X4, X5, X6, X7)
	round(520, X7, X0, X1, X2, X3, X4, X5, X6)
	round(528, X6, X7, X0, X1, X2, X3, X4, X5)
	round(536, X5, X6, X7, X0, X1, X2, X3, X4)
	round(544, X4, X5, X6, X7, X0, X1, X2, X3)
	round(552, X3, X4, X5, X6, X7, X0, X1, X2)
	round(560, X2, X3, X4, X5, X6, X7, X0, X1)
	round(568, X1, X2, X3, X4, X5, X6, X7, X0)
	round(576, X0, X1, X2, X3, X4, X5, X6, X7)
	round(584, X7, X0, X1, X2, X3, X4, X5, X6)
	round(592, X6, X7, X0, X1, X2, X3, X4, X5)
	round(600, X5, X6, X7, X0, X1, X2, X3, X4)
	round(608, X4, X5, X6, X7, X0, X1, X2, X3)
	round(616, X3, X4, X5, X6, X7, X0, X1, X2)
	round(624, X2, X3, X4, X5, X6, X7, X0, X1)
	round(632, X1, X2, X3, X4, X5, X6, X7, X0)

	VPADDQ    0(DI), X0, X0
	VMOVDQU64 X0, 0(DI)
	VPADDQ    16(DI), X1, X1
	VMOVDQU64 X1, 16(DI)
	VPADDQ    32(DI), X2, X2
	VMOVDQU64 X2, 32(DI)
	VPADDQ    48(DI), X3, X3
	VMOVDQU64 X3, 48(DI)
	VPADDQ    64(DI), X4, X4
	VMOVDQU64 X4, 64(DI)
	VPADDQ    80(DI), X5, X5
	VMOVDQU64 X5, 80(DI)
	VPADDQ    96(DI), X6, X6
	VMOVDQU64 X6, 96(DI)
	VPADDQ    112(DI), X7, X7
	VMOVDQU64 X7, 112(DI)
	ADDQ      $128, SI
	DECQ      DX
	JMP       loop

done:
	RET
