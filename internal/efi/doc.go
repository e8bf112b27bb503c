// Package efi holds the two encodings that every EFI structure shares: GUIDs and UTF-16 strings
// (UEFI Specification 2.10, appendix A and section 2.3.1, https://uefi.org/specs/UEFI/2.10/).
//
// An [osmith.GUID] is in the order in which people write it; the mixed-endian form exists only where bytes are appended or
// parsed, here.
package efi
