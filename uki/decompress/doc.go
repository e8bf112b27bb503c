// Package decompress unpacks Linux kernels that are compressed as a whole, since firmware and stub
// load only plain ones: with gzip, as the Image.gz of arm64 and riscv, with zstd or with xz. The
// compressed kernel inside of an EFI zboot kernel (vmlinuz.efi) is found by the header of that.
//
// It is a package of its own so that package uki links no compression but gzip, which the standard
// library has. It reads and writes sequentially, and needs as much memory as the format asks for:
// up to 128 MiB, the window of zstd --ultra -22, which kernels are compressed with. The output is
// bounded ([Options]); a kernel that would be longer is a [*LimitError].
//
// x86 bzImages are EFI programs that decompress themselves, and so are zboot kernels: both are
// taken for plain.
package decompress
