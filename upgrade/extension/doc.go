// Package extension reads and judges extension images of systemd: system extensions (sysext), which
// add to /usr and /opt, and configuration extensions (confext), which add to /etc
// (systemd-sysext(8)). As parts of an OS release they lie beside its UKI, where the stub finds them
// and hands them to the initrd.
//
// [Read] reads an image as systemd does, a GPT disk image with a file system, its dm-verity hash
// tree and a signature of the root hash (a DDI), and says how it is protected. It fails closed: a
// signature that cannot be read, does not sign the root hash, or belongs to other partitions is an
// error; systemd would treat such an image as protected by verity alone under a policy such as
// root=verity+signed. [Image.Verify] verifies every block against the root hash.
//
// On the machine the kernel, and certificates in the initrd, decide which signatures are trusted;
// [Image.Trusted] decides by certificates that the caller names.
//
// A file in the image, extension-release ([Release]), names the OS that the image is for. This
// package reads no file systems: the vendor states the text of the file beside the image ([File]),
// and where the caller can open the file system, the two are compared.
//
// build.WriteExtension makes such images.
package extension
