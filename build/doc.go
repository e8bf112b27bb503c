// Package build composes, on the vendor's side, what the other packages make one by one: parts and keys in, what a machine takes out. The same inputs give the same bytes.
//
// [WriteExtension] makes a system or configuration extension of a file system: a disk image with a hash tree and a signature of the root hash, as systemd-repart --make-ddi makes it.
package build
