package osmith

import (
	"crypto"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Measurement is one section of a unified kernel image as systemd-stub measures it into PCR 11: the
// PCR is extended with the hash of the section's name and a NUL byte, then with the hash of its
// data. Measurements come in the order in which the stub measures.
type Measurement struct {
	Section string                 // ".linux", ".osrel", ...
	Size    int64                  // bytes of data as loaded
	Digests map[crypto.Hash][]byte // of the data as loaded, one for each hash asked for
}

// FirmwareVariables are the raw contents of the EFI variables that decide what a machine boots, and
// that it measures into PCR 7. They are without the four bytes of attributes that efivarfs puts in
// front. A variable that does not exist is nil, and is not the same as one that is empty.
//
// SecureBoot and SetupMode are different: nil means that nothing is known, and firmware that has no
// such variable, as it cannot verify anything, has it empty and not nil.
//
// Of the variables of shim (vendor 605dab50-e046-4300-abb6-3dd810dd8b23), which are those from
// SbatLevel on, nil means that nothing is known. One that is known not to exist is empty and not
// nil, as no variable can be. Most of them are for boot services only: a variable store has them,
// an operating system sees the copies that shim makes at each start, with RT in their names.
type FirmwareVariables struct {
	// one byte: 1 when firmware verifies what it starts; empty: there is no such variable; nil: not
	// known
	SecureBoot []byte
	// one byte: 1 when there is no PK; empty: there is no such variable; nil: not known
	SetupMode []byte
	PK, KEK   []byte // EFI signature lists, as all of the next
	DB, DBX   []byte
	DBT, DBR  []byte // time stamp and recovery databases, rare

	// least generations of what shim still starts, or its copy SbatLevelRT, which is the same
	SbatLevel []byte
	// one byte: which level the next shim sets; an operating system writes it, and shim deletes it
	SbatPolicy []byte

	// MokList and MokListX are EFI signature lists of what the owner of the machine has shim start
	// and refuse. MokListRT and MokListXRT are the copies: in front of them stands what the shim
	// that ran was built to start and refuse. If one copy was too large for a variable, both are
	// nil.
	MokList, MokListX     []byte
	MokListRT, MokListXRT []byte

	MokSBState []byte // one byte, or its copy MokSBStateRT: not 0 when shim verifies nothing
	// one byte, or its copy MokIgnoreDB: not 0 when shim does not look at db
	MokDBState []byte
	// one byte, or its copy MokPolicyRT: bit 0 when shim starts only what is compatible with NX
	MokPolicy []byte
	// one byte: 1 when the kernel shall trust MokListRT; shim makes it when there is no
	// MokListTrusted
	MokListTrustedRT []byte

	// Times are when PK, KEK, db, dbx, dbt and dbr, by these names, were last written, as far as
	// that is known: firmware keeps the times and a variable store shows them, efivarfs does not.
	// Firmware refuses an update that is not later.
	Times map[string]time.Time
}

// ShimVariables are the contents that shim measures as it starts. Nil means that it is not known
// what shim will find; empty that there is no such variable, and nothing is measured.
type ShimVariables struct {
	// signature lists: what shim brings along, then those of the owner; never empty, as shim makes
	// a list of nothing then
	MokList, MokListX []byte
	MokSBState        []byte // one byte
	SbatLevel         []byte // text without NUL; never empty
	// one byte that is 1: there is no variable MokListTrusted; empty: there is one
	MokListTrusted []byte
	MokPolicy      []byte // one byte
}

// GRUBEvent is one measurement of GRUB: a command into PCR 8, or a file into PCR 9.
type GRUBEvent struct {
	PCR     int
	Data    []byte // of the event, which is of type EV_IPL
	Digests map[crypto.Hash][]byte
}

// Handover is what systemd-stub does behind the measurement of the sections: what it measures into
// PCRs 12 and 13, and what it hands to the kernel, which measures that into PCR 9.
type Handover struct {
	// what the boot loader starts the stub with, and measures first: "@1 quiet"
	Passed      string
	Events      []HandoverEvent // in their order
	LoadOptions []byte          // of the kernel: UTF-16LE with a NUL at the end; nil: none
	// digests of all initrds as the kernel gets them; nil: none, or unknown
	Initrd  map[crypto.Hash][]byte
	Unknown string // what is not known of LoadOptions and Initrd; "": nothing
}

// HandoverEvent is one measurement of a [Handover].
type HandoverEvent struct {
	Kind        HandoverKind
	PCR         int    // 12 or 13
	Tag         uint32 // of an EV_EVENT_TAG; 0: an EV_IPL event
	Description string // beside the digest, not measured
	Digests     map[crypto.Hash][]byte
}

// HandoverKind says what a [HandoverEvent] measures.
type HandoverKind int

// The kinds of events, in the order in which stubs since systemd 257 measure them.
const (
	// number of a profile that is not the default one
	HandoverProfile         HandoverKind = iota + 1
	HandoverPassedCmdline                // command line that the boot loader passed
	HandoverAddonCmdline                 // command lines of add-ons
	HandoverSMBIOSCmdline                // command line from SMBIOS
	HandoverAddonDeviceTree              // device tree of one add-on
	// credentials, system or configuration extensions
	HandoverArchive
	HandoverAddonMicrocode // microcode of one add-on
	HandoverAddonInitrd    // initrd of one add-on
)

func (k HandoverKind) String() string {
	names := []string{"profile", "passed command line", "add-on command line", "SMBIOS command line", "add-on device tree",
		"companion files", "add-on microcode", "add-on initrd"}
	if k < 1 || int(k) > len(names) {
		return fmt.Sprintf("HandoverKind(%d)", int(k))
	}
	return names[k-1]
}

// Version is the version of a systemd program, as its .sdmagic section and `bootctl status` show
// it: "257.13-1~deb13u1". The number of the release alone ("262") is one, too.
type Version string

// Release is the number of the systemd release that the version begins with: 257 of
// "257.13-1~deb13u1".
func (v Version) Release() (int, error) {
	digits := 0
	for digits < len(v) && v[digits] >= '0' && v[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(string(v[:digits]))
	if err != nil {
		return 0, fmt.Errorf("systemd version %q: want a version that begins with a release number, as 258 or 258.1", string(v))
	}
	return n, nil
}

// Point is the number of the point release: 13 of "257.13-1~deb13u1", 0 of "257" and of "258~rc1".
// It is at most [math.MaxInt32].
func (v Version) Point() int {
	rest := strings.TrimLeft(string(v), "0123456789")
	digits, ok := strings.CutPrefix(rest, ".")
	if !ok || rest == string(v) {
		return 0
	}
	digits = digits[:len(digits)-len(strings.TrimLeft(digits, "0123456789"))]
	n, _ := strconv.ParseUint(digits, 10, 31) // the largest number where it is out of range
	return int(n)
}
