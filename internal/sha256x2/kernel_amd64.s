//go:build !purego

#include "textflag.h"

// Two independent SHA-256 states are advanced in turn. The instructions of one state
// depend on each other and take several cycles each; those of the other fill the gaps.
//
// Instructions: Intel SDM volume 2B, SHA256RNDS2, SHA256MSG1, SHA256MSG2. A state is two
// registers, X1 = {a,b,e,f} and X2 = {c,d,g,h} with the first word highest. SHA256RNDS2
// takes two words of message plus constant from X0.

// K holds the constants of FIPS 180-4, section 4.2.2.
DATA K<>+0(SB)/4, $0x428a2f98
DATA K<>+4(SB)/4, $0x71374491
DATA K<>+8(SB)/4, $0xb5c0fbcf
DATA K<>+12(SB)/4, $0xe9b5dba5
DATA K<>+16(SB)/4, $0x3956c25b
DATA K<>+20(SB)/4, $0x59f111f1
DATA K<>+24(SB)/4, $0x923f82a4
DATA K<>+28(SB)/4, $0xab1c5ed5
DATA K<>+32(SB)/4, $0xd807aa98
DATA K<>+36(SB)/4, $0x12835b01
DATA K<>+40(SB)/4, $0x243185be
DATA K<>+44(SB)/4, $0x550c7dc3
DATA K<>+48(SB)/4, $0x72be5d74
DATA K<>+52(SB)/4, $0x80deb1fe
DATA K<>+56(SB)/4, $0x9bdc06a7
DATA K<>+60(SB)/4, $0xc19bf174
DATA K<>+64(SB)/4, $0xe49b69c1
DATA K<>+68(SB)/4, $0xefbe4786
DATA K<>+72(SB)/4, $0x0fc19dc6
DATA K<>+76(SB)/4, $0x240ca1cc
DATA K<>+80(SB)/4, $0x2de92c6f
DATA K<>+84(SB)/4, $0x4a7484aa
DATA K<>+88(SB)/4, $0x5cb0a9dc
DATA K<>+92(SB)/4, $0x76f988da
DATA K<>+96(SB)/4, $0x983e5152
DATA K<>+100(SB)/4, $0xa831c66d
DATA K<>+104(SB)/4, $0xb00327c8
DATA K<>+108(SB)/4, $0xbf597fc7
DATA K<>+112(SB)/4, $0xc6e00bf3
DATA K<>+116(SB)/4, $0xd5a79147
DATA K<>+120(SB)/4, $0x06ca6351
DATA K<>+124(SB)/4, $0x14292967
DATA K<>+128(SB)/4, $0x27b70a85
DATA K<>+132(SB)/4, $0x2e1b2138
DATA K<>+136(SB)/4, $0x4d2c6dfc
DATA K<>+140(SB)/4, $0x53380d13
DATA K<>+144(SB)/4, $0x650a7354
DATA K<>+148(SB)/4, $0x766a0abb
DATA K<>+152(SB)/4, $0x81c2c92e
DATA K<>+156(SB)/4, $0x92722c85
DATA K<>+160(SB)/4, $0xa2bfe8a1
DATA K<>+164(SB)/4, $0xa81a664b
DATA K<>+168(SB)/4, $0xc24b8b70
DATA K<>+172(SB)/4, $0xc76c51a3
DATA K<>+176(SB)/4, $0xd192e819
DATA K<>+180(SB)/4, $0xd6990624
DATA K<>+184(SB)/4, $0xf40e3585
DATA K<>+188(SB)/4, $0x106aa070
DATA K<>+192(SB)/4, $0x19a4c116
DATA K<>+196(SB)/4, $0x1e376c08
DATA K<>+200(SB)/4, $0x2748774c
DATA K<>+204(SB)/4, $0x34b0bcb5
DATA K<>+208(SB)/4, $0x391c0cb3
DATA K<>+212(SB)/4, $0x4ed8aa4a
DATA K<>+216(SB)/4, $0x5b9cca4f
DATA K<>+220(SB)/4, $0x682e6ff3
DATA K<>+224(SB)/4, $0x748f82ee
DATA K<>+228(SB)/4, $0x78a5636f
DATA K<>+232(SB)/4, $0x84c87814
DATA K<>+236(SB)/4, $0x8cc70208
DATA K<>+240(SB)/4, $0x90befffa
DATA K<>+244(SB)/4, $0xa4506ceb
DATA K<>+248(SB)/4, $0xbef9a3f7
DATA K<>+252(SB)/4, $0xc67178f2
GLOBL K<>(SB), RODATA|NOPTR, $256

// swap reverses the bytes of each word.
DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16

// rounds4 does four rounds of one state with the message words in m. k points to the
// constants, off is that of the first round.
#define rounds4(off, abef, cdgh, m) \
	VPADDD      off(AX), m, X0     \
	SHA256RNDS2 X0, abef, cdgh     \
	VPSHUFD     $0x0e, X0, X0      \
	SHA256RNDS2 X0, cdgh, abef

// schedule replaces the four oldest message words, m0, by the next four.
#define schedule(m0, m1, m2, m3, tmp) \
	SHA256MSG1 m1, m0          \
	VPALIGNR   $4, m2, m3, tmp \
	VPADDD     tmp, m0, m0     \
	SHA256MSG2 m3, m0

// both does four rounds of both states, and schedules the words of 16 rounds later.
#define both(off, a0, a1, a2, a3, b0, b1, b2, b3) \
	rounds4(off, X1, X2, a0)       \
	rounds4(off, X3, X4, b0)       \
	schedule(a0, a1, a2, a3, X13)  \
	schedule(b0, b1, b2, b3, X14)

// last is both where no words are needed any more.
#define last(off, a0, b0) \
	rounds4(off, X1, X2, a0) \
	rounds4(off, X3, X4, b0)

// load reads four words of message.
#define load(off, from, m) \
	VMOVDQU off(from), m \
	VPSHUFB X15, m, m

// func blocks(sa, sb *[8]uint32, pa, pb *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $64-40
	MOVQ    sa+0(FP), DI
	MOVQ    sb+8(FP), R8
	MOVQ    pa+16(FP), SI
	MOVQ    pb+24(FP), R9
	MOVQ    n+32(FP), DX
	LEAQ    K<>(SB), AX
	VMOVDQU swap<>(SB), X15
	VMOVDQU 0(DI), X1
	VMOVDQU 16(DI), X2
	VMOVDQU 0(R8), X3
	VMOVDQU 16(R8), X4

loop:
	TESTQ DX, DX
	JE    done
	VMOVDQU X1, 0(SP)
	VMOVDQU X2, 16(SP)
	VMOVDQU X3, 32(SP)
	VMOVDQU X4, 48(SP)
	load(0, SI, X5)
	load(16, SI, X6)
	load(32, SI, X7)
	load(48, SI, X8)
	load(0, R9, X9)
	load(16, R9, X10)
	load(32, R9, X11)
	load(48, R9, X12)

	both(0, X5, X6, X7, X8, X9, X10, X11, X12)
	both(16, X6, X7, X8, X5, X10, X11, X12, X9)
	both(32, X7, X8, X5, X6, X11, X12, X9, X10)
	both(48, X8, X5, X6, X7, X12, X9, X10, X11)
	both(64, X5, X6, X7, X8, X9, X10, X11, X12)
	both(80, X6, X7, X8, X5, X10, X11, X12, X9)
	both(96, X7, X8, X5, X6, X11, X12, X9, X10)
	both(112, X8, X5, X6, X7, X12, X9, X10, X11)
	both(128, X5, X6, X7, X8, X9, X10, X11, X12)
	both(144, X6, X7, X8, X5, X10, X11, X12, X9)
	both(160, X7, X8, X5, X6, X11, X12, X9, X10)
	both(176, X8, X5, X6, X7, X12, X9, X10, X11)
	last(192, X5, X9)
	last(208, X6, X10)
	last(224, X7, X11)
	last(240, X8, X12)

	VPADDD 0(SP), X1, X1
	VPADDD 16(SP), X2, X2
	VPADDD 32(SP), X3, X3
	VPADDD 48(SP), X4, X4
	ADDQ   $64, SI
	ADDQ   $64, R9
	DECQ   DX
	JMP    loop

done:
	VMOVDQU X1, 0(DI)
	VMOVDQU X2, 16(DI)
	VMOVDQU X3, 0(R8)
	VMOVDQU X4, 16(R8)
	RET

// func cpuid(leaf uint32) (a, b uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-16
	MOVL leaf+0(FP), AX
	XORL CX, CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	RET
