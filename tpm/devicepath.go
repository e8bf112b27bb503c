package tpm

import "github.com/osmith-dev/osmith/internal/efi"

// DevicePath is an EFI_DEVICE_PATH_PROTOCOL as firmware writes it beside the digest of a program
// (UEFI 2.10, section 10.3).
type DevicePath []byte

// String is the path as text, nodes separated by slashes, in the notation of UEFI 2.10, section
// 10.6: for example PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI. A node of an
// unknown kind is Path(type,subtype,bytes); at bytes that cannot be a node the text ends with "…".
// The text is safe to print and not longer than a few lines.
func (p DevicePath) String() string { return escapeTo(efi.PathText(p), 4*maxText) }

// File is the path of the file that a device path ends in, "" if it names none. It is safe to
// print.
func (p DevicePath) File() string { return escape(p.file()) }

// file is the path as the log has it.
func (p DevicePath) file() string { return efi.PathFile(p) }
