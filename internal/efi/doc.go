// Package efi holds what EFI structures share: GUIDs and UTF-16 strings as they are encoded, and
// the vendors of variables (UEFI Specification 2.10, appendix A and section 2.3.1,
// https://uefi.org/specs/UEFI/2.10/).
//
// An [osmith.GUID] is in the order in which people write it; the mixed-endian form exists only
// where bytes are appended or parsed, here.
package efi
