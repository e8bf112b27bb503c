// probe is an EFI program that boot entries stand for: it says on the first serial port what started it. Then it goes back to lab.efi, if
// that has started the boot loader, and else starts the machine again.
#include "lab.h"

typedef u64(EFI *handle_protocol)(void *, guid *, void **);
typedef u64(EFI *locate_protocol)(guid *, void *, void **);
typedef u64(EFI *get_variable)(const u16 *, guid *, u32 *, u64 *, void *);
typedef void(EFI *reset_system)(u32, u64, u64, void *);

// text prints UTF-16 code units: NUL as |, those that are not plain in braces.
static void text(const u8 *p, u64 bytes) {
	for (u64 i = 0; i + 1 < bytes; i += 2) {
		u16 c = p[i] | p[i + 1] << 8;
		if (c == 0) {
			out('|');
		} else if (c >= 0x20 && c < 0x7f && c != '|' && c != '{') {
			out(c);
		} else {
			out('{');
			for (int s = 12; s >= 0; s -= 4)
				out("0123456789abcdef"[c >> s & 15]);
			out('}');
		}
	}
}

__attribute__((section(".text.start"))) u64 EFI start(void *image, void *table) {
	void *runtime = *(void **)((u8 *)table + 88), *boot = *(void **)((u8 *)table + 96);
	guid loaded_image = LOADED_IMAGE, loader = LOADER, jump = JUMP;
	u8 *li, buffer[16384];
	say("\r\nPROBE file=");
	if (method(boot, 152, handle_protocol)(image, &loaded_image, (void **)&li) == 0) {
		for (u8 *node = *(u8 **)(li + 32); node && node[0] != 0x7f; node += node[2] | node[3] << 8)
			if (node[0] == 4 && node[1] == 4)
				text(node + 4, (node[2] | node[3] << 8) - 4);
		say(" options=");
		text(*(u8 **)(li + 56), *(u32 *)(li + 48));
	}
	static const u16 names[][24] = {u"LoaderEntrySelected", u"LoaderBootCountPath", u"LoaderEntries", u"LoaderEntryOneShot", u"LoaderEntryLastBooted", u"LoaderInfo"};
	for (u64 i = 0; i < sizeof names / sizeof *names; i++) {
		u64 size = sizeof buffer;
		out(' ');
		for (const u16 *p = names[i]; *p; p++)
			out(*p);
		out('=');
		if (method(runtime, 72, get_variable)(names[i], &loader, 0, &size, buffer))
			say("none");
		else
			text(buffer, size);
	}
	say(" END\r\n");
	void **back;
	if (method(boot, 320, locate_protocol)(&jump, 0, (void **)&back) == 0)
		__builtin_longjmp(back, 1);
	method(runtime, 104, reset_system)(0, 0, 0, 0);
	for (;;)
		;
}
