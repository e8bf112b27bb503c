package secureboot

import (
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// SVNOwner is the owner of entries of dbx that are not digests but security version numbers: the
// lowest versions of Windows' boot managers that may still start. Firmware takes them for digests,
// which match no image; the boot managers check them and refuse to start
// (PreSignedObjects/DBX/dbx_info_msft_latest.json and scripts/utility_functions.py of
// https://github.com/microsoft/secureboot_objects).
var SVNOwner = osmith.MustParseGUID("9d132b6c-59d5-4388-ab1c-185cfcb2eb92")

// svnApplications are the boot managers with a version number, by what dbx_info_msft_latest.json
// calls them.
var svnApplications = map[osmith.GUID]string{
	osmith.MustParseGUID("9d132b61-59d5-4388-ab1c-185c3cb2eb92"): "bootmgfw.efi",
	osmith.MustParseGUID("e8f82e9d-e127-4158-a488-4c18abe2f284"): "cdboot.efi",
	osmith.MustParseGUID("c999cac2-7ffe-496f-8127-9e2a8a535976"): "wdsmgfw.efi",
}

// An SVN is a security version number: a boot manager with a lower one refuses to start.
type SVN struct {
	Application  osmith.GUID
	Major, Minor uint16
}

// svnEntry is the form of a version number in the place of a SHA-256 digest.
type svnEntry struct {
	Version      uint8    // of this form
	Application  [16]byte // mixed-endian
	Minor, Major uint16
	Reserved     [11]byte
}

const svnVersion = 1

// ParseSVN reads an entry of a list of a type as a security version number. ok is false if the
// owner or type differs, or the form is unknown.
func ParseSVN(typ osmith.GUID, s Signature) (v SVN, ok bool) {
	var e svnEntry
	if typ != TypeSHA256 || s.Owner != SVNOwner || len(s.Data) != binary.Size(e) {
		return SVN{}, false
	}
	if _, err := binary.Decode(s.Data, binary.LittleEndian, &e); err != nil || e.Version != svnVersion || e.Reserved != [11]byte{} {
		return SVN{}, false
	}
	return SVN{Application: efi.GUID(e.Application[:]), Major: e.Major, Minor: e.Minor}, true
}

// Name is the file name of the boot manager, or the GUID of an unknown one.
func (v SVN) Name() string {
	if name, ok := svnApplications[v.Application]; ok {
		return name
	}
	return v.Application.String()
}

// String is name and version, such as "bootmgfw.efi 9.0".
func (v SVN) String() string { return fmt.Sprintf("%s %d.%d", v.Name(), v.Major, v.Minor) }

// Less reports whether the version is below that of another entry; it does not compare the
// applications.
func (v SVN) Less(other SVN) bool {
	return v.Major < other.Major || v.Major == other.Major && v.Minor < other.Minor
}

// SVNs returns the highest version of each application in lists, in the order in which the
// applications first occur.
func SVNs(lists []SignatureList) (all []SVN) {
	at := map[osmith.GUID]int{}
	for _, l := range lists {
		for _, s := range l.Signatures {
			v, ok := ParseSVN(l.Type, s)
			if !ok {
				continue
			}
			if i, known := at[v.Application]; !known {
				at[v.Application], all = len(all), append(all, v)
			} else if all[i].Less(v) {
				all[i] = v
			}
		}
	}
	return all
}
