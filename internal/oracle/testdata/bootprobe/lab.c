// lab is an EFI program that starts the boot loader of every file system that has a file \lab, one after the other, as often as that says.
// The file is a number of starts (one byte), and then variables of the boot loader: name in UTF-16 with NUL, size (two bytes), content.
#include "lab.h"

typedef u64(EFI *handle_protocol)(void *, guid *, void **);
typedef u64(EFI *locate_handles)(u32, guid *, void *, u64 *, void ***);
typedef u64(EFI *connect)(void *, void *, void *, u8);
typedef u64(EFI *load_image)(u8, void *, void *, void *, u64, void **);
typedef u64(EFI *start_image)(void *, u64 *, void *);
typedef u64(EFI *install)(void **, guid *, u32, void *);
typedef u64(EFI *open_volume)(void *, void **);
typedef u64(EFI *open_file)(void *, void **, const u16 *, u64, u64);
typedef u64(EFI *read_file)(void *, u64 *, void *);
typedef u64(EFI *close_file)(void *);
typedef u64(EFI *set_variable)(const u16 *, guid *, u32, u64, void *);
typedef void(EFI *reset_system)(u32, u64, u64, void *);

static const u16 loader_path[] = u"\\EFI\\BOOT\\BOOTX64.EFI";
static const u16 forgotten[][32] = {
	u"LoaderEntryOneShot", u"LoaderEntryDefault", u"LoaderEntryPreferred", u"LoaderEntrySysFail", u"LoaderEntryLastBooted",
	u"LoaderConfigTimeout", u"LoaderConfigTimeoutOneShot"};
static const u16 volatiles[][24] = {u"LoaderEntrySelected", u"LoaderBootCountPath", u"LoaderEntries", u"LoaderInfo"};

static void number(u64 n) {
	if (n >= 10)
		number(n / 10);
	out('0' + n % 10);
}

__attribute__((section(".text.start"))) u64 EFI start(void *image, void *table) {
	void *runtime = *(void **)((u8 *)table + 88), *boot = *(void **)((u8 *)table + 96);
	guid fs_guid = {0x964e5b22, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
	guid block_guid = {0x964e5b21, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
	guid path_guid = {0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
	guid loader = LOADER, jump = JUMP;
	void *back[5], *handle = 0, **handles;
	u64 count;
	if (method(boot, 312, locate_handles)(2, &block_guid, 0, &count, &handles) == 0)
		for (u64 i = 0; i < count; i++)
			method(boot, 264, connect)(handles[i], 0, 0, 1);
	method(boot, 128, install)(&handle, &jump, 0, back);
	if (method(boot, 312, locate_handles)(2, &fs_guid, 0, &count, &handles))
		count = 0;
	for (volatile u64 i = 0; i < count; i++) {
		void *fs, *root, *file;
		u8 config[4096], path[512], *device;
		u64 size = sizeof config;
		if (method(boot, 152, handle_protocol)(handles[i], &fs_guid, &fs) || method(fs, 8, open_volume)(fs, &root))
			continue;
		if (method(root, 8, open_file)(root, &file, u"\\lab", 1, 0))
			continue;
		if (method(file, 32, read_file)(file, &size, config) || size < 3)
			continue;
		method(file, 16, close_file)(file);
		method(root, 16, close_file)(root);
		for (u64 k = 0; k < sizeof forgotten / sizeof *forgotten; k++)
			method(runtime, 88, set_variable)(forgotten[k], &loader, 0, 0, 0);
		for (u64 at = 3; at + 4 < size;) {
			u16 *name = (u16 *)(config + at);
			while (config[at] | config[at + 1])
				at += 2;
			at += 2;
			u64 n = config[at] | config[at + 1] << 8;
			method(runtime, 88, set_variable)(name, &loader, 7, n, config + at + 2);
			at += 2 + n;
		}
		for (volatile int turn = 0; turn < config[0]; turn++) {
			say("\r\nCASE ");
			number(config[1] | config[2] << 8);
			say("\r\n");
			for (u64 k = 0; k < sizeof volatiles / sizeof *volatiles; k++)
				method(runtime, 88, set_variable)(volatiles[k], &loader, 0, 0, 0);
			method(boot, 152, handle_protocol)(handles[i], &path_guid, (void **)&device);
			u64 n = 0;
			for (u8 *node = device; node[0] != 0x7f; node += node[2] | node[3] << 8)
				for (int k = 0; k < (node[2] | node[3] << 8); k++)
					path[n++] = node[k];
			path[n++] = 4, path[n++] = 4, path[n++] = sizeof loader_path + 4, path[n++] = 0;
			for (u64 k = 0; k < sizeof loader_path; k++)
				path[n++] = ((const u8 *)loader_path)[k];
			path[n++] = 0x7f, path[n++] = 0xff, path[n++] = 4, path[n++] = 0;
			void *loaded;
			if (__builtin_setjmp(back) == 0) {
				if (method(boot, 200, load_image)(0, image, path, 0, 0, &loaded)) {
					say("NO LOADER\r\n");
					continue;
				}
				method(boot, 208, start_image)(loaded, 0, 0);
				say("RETURNED\r\n");
			}
		}
	}
	say("\r\nDONE\r\n");
	method(runtime, 104, reset_system)(2, 0, 0, 0);
	for (;;)
		;
}
