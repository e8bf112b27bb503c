package uki

// Section characteristics of added sections (Microsoft PE Format, "Section Flags"), as ukify sets them. None is
// executable or writable: the stub copies the kernel out before it runs it.
const (
	codeFlags = 0x40000020 // code, readable
	dataFlags = 0x40000040 // initialised data, readable
)

// fileRank is the place of sections in a file among those that are added to the stub: images that ukify 257 and 262 write, which
// interop_test.go compares byte for byte. A profile begins with its .profile whatever its rank. What the stub makes of sections is
// in package sdstub.
var fileRank = map[string]int{
	".osrel": 1, ".cmdline": 2, ".dtb": 3, ".dtbauto": 4, ".hwids": 5, ".uname": 6, ".splash": 7, ".pcrpkey": 8, ".linux": 9,
	".initrd": 10, ".efifw": 11, ".ucode": 12, ".sbat": 14, ".profile": 15, ".pcrsig": 16,
}

// otherRank is the place of sections that the stub does not know.
const otherRank = 13

// rankOf is the place of a section in a file.
func rankOf(name string) int {
	if rank, ok := fileRank[name]; ok {
		return rank
	}
	return otherRank
}

// flagsOf is the Characteristics field of a section to be added.
func flagsOf(name string) uint32 {
	if name == ".linux" {
		return codeFlags
	}
	return dataFlags
}
