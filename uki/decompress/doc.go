// Package decompress unpacks Linux kernels that are compressed as a whole, since firmware and stub
// load only plain ones: with gzip, as the Image.gz of arm64 and riscv, with zstd or with xz. The
// compressed kernel inside an EFI zboot kernel (vmlinuz.efi) is found by that kernel's header.
//
// It is a separate package so that package uki links only gzip, of the standard library. It reads
// and writes sequentially, and needs the memory of the format's window: up to 128 MiB, for zstd
// --ultra -22, which kernels are compressed with. The output is bounded ([Options]); a longer
// kernel is a [*LimitError].
//
// x86 bzImages are EFI programs that decompress themselves, and so are zboot kernels: both are
// returned as plain kernels.
package decompress
