// Package kernelimage reads how a kernel is packed, which packages uki and uki/decompress both need
// to know: what it is compressed with, the header of EFI zboot kernels, and the banner with its
// version.
package kernelimage
