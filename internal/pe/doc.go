// Package pe reads the headers of PE/COFF images (Microsoft PE Format,
// https://learn.microsoft.com/windows/win32/debug/pe-format; UEFI Specification 2.10 section 2.1.1)
// as far as firmware looks at them: where the sections are, where the certificate table is, and at
// which file offsets a writer patches fields.
//
// It is written for hostile input: every size is checked against the file before it is used,
// nothing is allocated from an unchecked count, and section data is read by the caller when and if
// it wants it. Symbol tables, relocations, imports and the COFF string table are not looked at. A
// reader of a stream learns from [HeadersSize] how much it has to keep for that.
package pe
