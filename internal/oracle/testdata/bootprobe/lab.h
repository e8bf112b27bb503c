typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#define EFI __attribute__((ms_abi))

typedef struct {
	u32 a;
	u16 b, c;
	u8 d[8];
} guid;

// method is a function pointer at an offset of a table or protocol of UEFI.
#define method(table, offset, type) (*(type *)((u8 *)(table) + (offset)))

static void out(u8 c) {
	u8 status;
	do
		__asm__ volatile("inb %w1, %0" : "=a"(status) : "Nd"((u16)0x3fd));
	while (!(status & 0x20));
	__asm__ volatile("outb %0, %w1" : : "a"(c), "Nd"((u16)0x3f8));
}

static void say(const char *s) {
	while (*s)
		out(*s++);
}

// jump is what lab.efi offers to the programs that it comes to start by way of the boot loader.
#define JUMP {0x6f736d69, 0x7468, 0x4c41, {0x42, 0, 0, 0, 0, 0, 0, 1}}
#define LOADED_IMAGE {0x5b1b31a1, 0x9562, 0x11d2, {0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}}
#define LOADER {0x4a67b082, 0x0a4c, 0x41cf, {0xb6, 0xc7, 0x44, 0x0b, 0x29, 0xbb, 0x8c, 0x4f}}
