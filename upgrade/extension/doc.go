// Package extension reads and judges extension images of systemd: system extensions (sysext), which
// add to /usr and /opt, and configuration extensions (confext), which add to /etc
// (systemd-sysext(8)). As parts of an OS release they lie beside its UKI, where the stub finds them
// and hands them to the initrd.
//
// [Read] reads an image as systemd does, a GPT disk image with a file system, its dm-verity hash
// tree and a signature of the root hash (a DDI), and says how it is protected. It fails closed: a
// signature that is there and cannot be read, is not one over the root hash, or is of other
// partitions is an error, and never an image that is "protected by verity alone", which is what
// systemd makes of it under a policy such as root=verity+signed. [Image.Verify] holds every block
// against the root hash.
//
// Whose signature counts is for the kernel, and for certificates in the initrd, to decide:
// [Image.Trusted] asks by certificates that the caller names.
//
// With which OS an image goes is said by a file within it, extension-release ([Release]). This
// package reads no file systems: the vendor states the text of the file beside the image ([File]),
// and where the caller can open the file system, the two are compared.
//
// build.WriteExtension makes such images.
package extension
