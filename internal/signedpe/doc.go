// Package signedpe reads what Secure Boot looks at in a PE image: the bytes that an Authenticode
// digest covers, the entries of the certificate table, and what a signature in one says (Windows
// Authenticode Portable Executable Signature Format, version 1.0; UEFI Specification 2.10, section
// 32.2.4). Packages signing/authenticode, which signs and verifies, and signing/secureboot, which
// answers for a machine's firmware, share it and know nothing of each other.
//
// Offsets in errors count from the start of the file.
package signedpe
