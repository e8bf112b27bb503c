//go:build !purego

#include "textflag.h"

// X0 to X7 hold eight blocks, X8 a round key, X9 the next tweak, X10 what carries over in its doubling, X15 the polynomial. The tweaks of the eight blocks are on the stack
// meanwhile.

// carry has x^128 = x^7 + x^2 + x + 1 for the carry out of the high half, and 1 for that out of the low one.
DATA carry<>+0(SB)/8, $0x87
DATA carry<>+8(SB)/8, $1
GLOBL carry<>(SB), RODATA|NOPTR, $16

// LOAD reads block i, adds its tweak, keeps that, and doubles it: all sign bits of the tweak's words, put in the places to which they carry, choose what is added.
#define LOAD(i, block) \
	VMOVDQU X9, (16*i)(SP)         \
	VPXOR   (16*i)(SI), X9, block  \
	VPSHUFD $0x13, X9, X10         \
	VPSRAD  $31, X10, X10          \
	VPAND   X15, X10, X10          \
	VPADDQ  X9, X9, X9             \
	VPXOR   X10, X9, X9

#define STORE(i, block) \
	VPXOR   (16*i)(SP), block, block \
	VMOVDQU block, (16*i)(DI)

#define EIGHT(op) \
	op X8, X0, X0 \
	op X8, X1, X1 \
	op X8, X2, X2 \
	op X8, X3, X3 \
	op X8, X4, X4 \
	op X8, X5, X5 \
	op X8, X6, X6 \
	op X8, X7, X7

// CRYPT takes all sectors, eight blocks at a time.
#define CRYPT(round, last) \
	MOVQ    dst+0(FP), DI       \
	MOVQ    src+8(FP), SI       \
	MOVQ    sectors+16(FP), R8  \
	MOVQ    eights+24(FP), R9   \
	MOVQ    tweaks+32(FP), R10  \
	MOVQ    keys+40(FP), R11    \
	MOVQ    rounds+48(FP), R12  \
	VMOVDQU carry<>(SB), X15    \
sector:                         \
	VMOVDQU (R10), X9           \
	ADDQ    $16, R10            \
	MOVQ    R9, BX              \
blocks:                         \
	LOAD(0, X0)                 \
	LOAD(1, X1)                 \
	LOAD(2, X2)                 \
	LOAD(3, X3)                 \
	LOAD(4, X4)                 \
	LOAD(5, X5)                 \
	LOAD(6, X6)                 \
	LOAD(7, X7)                 \
	VMOVDQU (R11), X8           \
	EIGHT(VPXOR)                \
	LEAQ    16(R11), DX         \
	LEAQ    -1(R12), CX         \
rounds:                         \
	VMOVDQU (DX), X8            \
	EIGHT(round)                \
	ADDQ    $16, DX             \
	DECQ    CX                  \
	JNZ     rounds              \
	VMOVDQU (DX), X8            \
	EIGHT(last)                 \
	STORE(0, X0)                \
	STORE(1, X1)                \
	STORE(2, X2)                \
	STORE(3, X3)                \
	STORE(4, X4)                \
	STORE(5, X5)                \
	STORE(6, X6)                \
	STORE(7, X7)                \
	ADDQ    $128, SI            \
	ADDQ    $128, DI            \
	DECQ    BX                  \
	JNZ     blocks              \
	DECQ    R8                  \
	JNZ     sector

// func encryptSectors(dst, src *byte, sectors, eights int, tweaks, keys *byte, rounds int)
TEXT ·encryptSectors(SB), NOSPLIT, $128-56
	CRYPT(VAESENC, VAESENCLAST)
	RET

// func decryptSectors(dst, src *byte, sectors, eights int, tweaks, keys *byte, rounds int)
TEXT ·decryptSectors(SB), NOSPLIT, $128-56
	CRYPT(VAESDEC, VAESDECLAST)
	RET

// func encryptBlocks(blocks *byte, eights int, keys *byte, rounds int)
TEXT ·encryptBlocks(SB), NOSPLIT, $0-32
	MOVQ blocks+0(FP), DI
	MOVQ eights+8(FP), BX
	MOVQ keys+16(FP), R11
	MOVQ rounds+24(FP), R12
blocks:
	VMOVDQU (R11), X8
	VPXOR   (DI), X8, X0
	VPXOR   16(DI), X8, X1
	VPXOR   32(DI), X8, X2
	VPXOR   48(DI), X8, X3
	VPXOR   64(DI), X8, X4
	VPXOR   80(DI), X8, X5
	VPXOR   96(DI), X8, X6
	VPXOR   112(DI), X8, X7
	LEAQ    16(R11), DX
	LEAQ    -1(R12), CX
rounds:
	VMOVDQU (DX), X8
	EIGHT(VAESENC)
	ADDQ    $16, DX
	DECQ    CX
	JNZ     rounds
	VMOVDQU (DX), X8
	EIGHT(VAESENCLAST)
	VMOVDQU X0, (DI)
	VMOVDQU X1, 16(DI)
	VMOVDQU X2, 32(DI)
	VMOVDQU X3, 48(DI)
	VMOVDQU X4, 64(DI)
	VMOVDQU X5, 80(DI)
	VMOVDQU X6, 96(DI)
	VMOVDQU X7, 112(DI)
	ADDQ    $128, DI
	DECQ    BX
	JNZ     blocks
	RET

// func invertKey(key *byte)
TEXT ·invertKey(SB), NOSPLIT, $0-8
	MOVQ     key+0(FP), DI
	VMOVDQU  (DI), X0
	VAESIMC  X0, X0
	VMOVDQU  X0, (DI)
	RET

// substitute is SubWord of FIPS 197 for each of four words.
// func substitute(words *[4]uint32)
TEXT ·substitute(SB), NOSPLIT, $0-8
	MOVQ             words+0(FP), DI
	VMOVDQU          (DI), X0
	VAESKEYGENASSIST $0, X0, X1
	VMOVDQU          X1, (DI)
	RET
