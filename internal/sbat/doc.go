// Package sbat reads the SBAT metadata of boot images and the SbatLevel by which shim revokes them
// by generation (UEFI shim bootloader secure boot life-cycle improvements,
// https://github.com/rhboot/shim/blob/main/SBAT.md).
//
//	entries, err := sbat.Parse(section)              // the .sbat section of an image, as shim reads it
//	level, err := sbat.ParseLevel(variable)          // SbatLevelRT of shim's vendor GUID
//	if r := level.Revokes(entries); r != nil { ... } // r.Component, r.Generation, r.Least
//	lines, err := sbat.Lines(text)                   // what may be written into an image
//
// [Parse], [ParseLevel] and [Level.Revokes] do what shim 15.8 to 16.1 does (csv.c and sbat.c are
// the same in all of them), with all that it lets pass: bytes that are not ASCII, columns too many,
// text behind a NUL byte, a generation that is not a number. [Lines] is for who makes an image, and
// refuses what shim would not read as it was meant.
package sbat
