// Package sbat reads the SBAT metadata of boot images and the SbatLevel by which shim revokes them by generation (UEFI shim bootloader
// secure boot life-cycle improvements, https://github.com/rhboot/shim/blob/main/SBAT.md).
//
//	entries, err := sbat.Parse(section)              // the .sbat section of an image
//	level, err := sbat.ParseLevel(variable)          // SbatLevelRT of shim's vendor GUID
//	if r := level.Revokes(entries); r != nil { ... } // r.Component, r.Generation, r.Least
//
// Both are read as strictly as shim 15.8 and 16 do, and compared as they do: what it would refuse to parse is an error here, and so is
// what is not printable ASCII. Names are compared byte for byte; a generation that is no number is 0.
package sbat
