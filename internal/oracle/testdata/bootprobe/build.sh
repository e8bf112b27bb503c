#!/bin/sh
# build.sh makes probe.bin and lab.bin: position-independent code without relocations, whose first byte is the entry point.
cd "$(dirname "$0")" || exit 1
for name in probe lab; do
	gcc -Os -fPIE -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -mno-red-zone -fcf-protection=none -mno-sse \
		-nostdlib -static -Wl,-T,flat.ld -Wl,--build-id=none -Wl,--oformat=binary -o "$name.bin" "$name.c" || exit 1
done
