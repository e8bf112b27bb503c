package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Payload is what the data of an event says, read by the event's type. It is one of [SpecID],
// [StartupLocality], [Vendor], [Separator], [Text], [Version], [Variable], [ImageLoad], [GPT],
// [Tagged], [FirmwareBlob], [HandoffTables], [DeviceSecurity] and [Opaque].
type Payload interface{ String() string }

// StartupLocality is the locality from which the TPM was started: 0, 3 or 4 (with an H-CRTM). PCR 0
// begins with it (Firmware Profile 1.06, section 10.4.5.3).
type StartupLocality byte

func (n StartupLocality) String() string { return fmt.Sprintf("startup locality %d", byte(n)) }

// Vendor is any other EV_NO_ACTION event, identified by its signature of 16 bytes: "SP800-155
// Event", for example.
type Vendor struct {
	Signature string
	Data      []byte // the data after the signature
}

func (v Vendor) String() string { return escape(v.Signature) + ": " + describeBytes(v.Data) }

// Separator ends the measurements of the firmware in one PCR. Its data are zeros or ones, or say
// which error the firmware met. Windows ends its own measurements in PCRs 12 to 14 with the text
// "WBCL".
type Separator []byte

// Error reports whether the firmware met an error.
func (s Separator) Error() bool {
	return (len(s) != 4 || !allByte(s, 0) && !allByte(s, 0xff)) && string(s) != windowsLogEnd
}

func (s Separator) String() string {
	switch {
	case string(s) == windowsLogEnd:
		return "separator of Windows (WBCL)"
	case s.Error() && len(s) == 4:
		return fmt.Sprintf("separator after an error: %x", []byte(s))
	case s.Error():
		return "separator after an error: " + describeText(s)
	}
	return "separator"
}

// Text is an action, a version, or what a boot loader calls the thing that it measured.
type Text string

func (t Text) String() string { return escape(string(t)) }

// Version is the version of the firmware's first code where the version is not text: a GUID, or
// nothing.
type Version []byte

func (v Version) String() string {
	switch {
	case allByte(v, 0):
		return "empty version"
	case len(v) == 16:
		return "version " + efi.GUID(v).String()
	}
	return describeBytes(v)
}

// Opaque are data whose form this package does not know or that are not text.
type Opaque []byte

func (o Opaque) String() string { return describeBytes(o) }

// ImageLoad is a UEFI_IMAGE_LOAD_EVENT (Firmware Profile 1.06, section 10.2.3): a program that the
// firmware loaded.
type ImageLoad struct {
	Location uint64 // address in memory
	Size     uint64 // bytes, in memory or of the file
	LinkTime uint64 // address for which it was linked
	Path     DevicePath
}

func (i ImageLoad) String() string {
	path := i.Path.File()
	if path == "" {
		path = i.Path.String()
	}
	if path == "" {
		path = "a program without a path"
	}
	if i.Size > 0 {
		path += fmt.Sprintf(" (%d bytes)", i.Size)
	}
	return path
}

func readImageLoad(b []byte) (ImageLoad, error) {
	if len(b) < 32 {
		return ImageLoad{}, dataError(len(b), "image load event", "%d bytes, want 32 or more", len(b))
	}
	le := binary.LittleEndian
	n := le.Uint64(b[24:])
	if n > uint64(len(b)-32) {
		return ImageLoad{}, dataError(24, "device path", "%d bytes, %d left", n, len(b)-32)
	}
	return ImageLoad{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), DevicePath(b[32 : 32+n : 32+n])}, nil
}

// Payload reads the event's data. Data that do not have the form of the event's type are a
// [*osmith.FormatError] whose Offset counts from the start of the data; types without a form give
// [Text] or [Opaque]. What the payload says is unverified unless [Event.Attested].
func (e *Event) Payload() (Payload, error) {
	p, err := e.payload()
	if err != nil {
		return nil, prefix.Error(pkg, fmt.Errorf("event data: %w", err))
	}
	return p, nil
}

func (e *Event) payload() (Payload, error) {
	switch e.Type {
	case EventNoAction:
		return readNoAction(e)
	case EventSeparator:
		return Separator(e.Data), nil
	case EventEFIVariableDriverConfig, EventEFIVariableBoot, EventEFIVariableBoot2, EventEFIVariableAuthority,
		EventEFISPDMDevicePolicy, EventEFISPDMDeviceAuthority:
		return some(readVariable(e.Data))
	case EventEFIBootServicesApplication, EventEFIBootServicesDriver, EventEFIRuntimeServicesDriver:
		return some(readImageLoad(e.Data))
	case EventEFIGPT, EventEFIGPT2:
		return some(readGPT(e.Data))
	case EventTag:
		return some(readTagged(e.Data))
	case EventEFIPlatformFirmwareBlob:
		return some(readFirmwareBlob(e.Data))
	case EventEFIPlatformFirmwareBlob2:
		return some(readFirmwareBlob2(e.Data))
	case EventEFIHandoffTables:
		return some(readHandoffTables(e.Data, 0))
	case EventEFIHandoffTables2:
		return some(readHandoffTables2(e.Data))
	case EventEFISPDMFirmwareBlob, EventEFISPDMFirmwareConfig:
		return some(readDeviceSecurity(e.Data))
	}
	if s, ok := iplText(e); ok {
		return Text(s), nil
	}
	if e.Type == EventCRTMVersion {
		return Version(e.Data), nil
	}
	if e.Type == EventPostCode || e.Type == EventPostCode2 || e.Type == EventCRTMContents {
		if f, err := readFirmwareBlob(e.Data); err == nil {
			return f, nil
		}
		if f, err := readFirmwareBlob2(e.Data); err == nil {
			return f, nil
		}
	}
	return Opaque(e.Data), nil
}

// some makes nil of a payload that could not be read.
func some[P Payload](p P, err error) (Payload, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func readNoAction(e *Event) (Payload, error) {
	const signature = 16
	switch {
	case isSpecID(e):
		return some(readSpecID(e.Data))
	case bytes.HasPrefix(e.Data, localitySignature):
		if len(e.Data) != signature+1 {
			return nil, dataError(signature, "startup locality", "%d bytes, want 1", len(e.Data)-signature)
		}
		return StartupLocality(e.Data[signature]), nil
	case len(e.Data) >= signature:
		if s, ok := textOf(e.Data[:signature]); ok {
			return Vendor{s, e.Data[signature:]}, nil
		}
	}
	if s, ok := textOf(e.Data); ok {
		return Text(s), nil
	}
	if t, err := readTagged(e.Data); err == nil && t.Tag == TagWindowsTrustPoint {
		return t, nil
	}
	return Opaque(e.Data), nil
}

// Attested reports whether every digest of the event covers what its data say, so that a TPM which
// vouches for the log's replay vouches for the data too. For a boot variable, a tagged event and
// GRUB's events, only the contents are covered, not the name or tag before them. For a program, a
// firmware volume or a table, the digest is of the thing itself: the data are only what the
// firmware says about it. Events that a TPM does not extend are never attested: those of type
// EV_NO_ACTION, whatever digests they have, and those for a PCR that does not exist.
func (e *Event) Attested() bool {
	if !e.extends() || !e.registers().exists(e.PCR) {
		return false
	}
	if hashedAs(e, e.Data) {
		return true
	}
	switch e.Type {
	case EventEFIVariableBoot:
		v, err := readVariable(e.Data)
		return err == nil && hashedAs(e, v.Data)
	case EventEFIVariableAuthority:
		return byteTooMany(e)
	case EventIPL:
		return attestedText(e)
	case EventTag: // a profile's number is measured as it is written beside the digest
		t, err := readTagged(e.Data)
		return err == nil && hashedAs(e, t.Data)
	}
	return false
}

// grubCmdline is what GRUB writes before the command line that it starts a kernel with; only the
// line is measured.
const grubCmdline = "kernel_cmdline: "

// attestedText reports whether the digest of a boot loader's event is of the text beside it, in one
// of the forms that they write: systemd's stub hashes the name of a section with a NUL, old
// systemd-boot counts one byte too many, and GRUB writes "grub_cmd X", "grub_cmd: X" or
// "kernel_cmdline: X" and hashes X.
func attestedText(e *Event) bool {
	s, ok := iplText(e)
	if !ok {
		return false
	}
	forms := [][]byte{append([]byte(s), 0), []byte(s), utf16z(s), efi.AppendUTF16(nil, s)}
	if _, command, ok := strings.Cut(s, " "); ok && (strings.HasPrefix(s, "grub_") || strings.HasPrefix(s, grubCmdline)) {
		forms = append(forms, []byte(command), append([]byte(command), 0))
	}
	return slices.ContainsFunc(forms, func(f []byte) bool { return hashedAs(e, f) })
}

// dataError is about an event's data; the offset counts from their start.
func dataError(offset int, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: int64(offset), Field: field, Err: fmt.Errorf(format, args...)}
}

// textOf is the data as text if they are text, in UTF-16 or in UTF-8, without the NULs at the end.
func textOf(b []byte) (string, bool) {
	if len(b) >= 4 && b[1] == 0 && b[0] != 0 {
		// Some writers (old systemd-boot) count one byte too many.
		if s := efi.DecodeUTF16(b); printable(s) {
			if rest := b[2*efi.UTF16Len(s):]; len(rest) <= 3 || allByte(rest, 0) {
				return s, true
			}
		}
	}
	s := strings.TrimRight(string(b), "\x00")
	return s, s != "" && validText(s)
}

// iplText is the text beside a boot loader's event. Shim before 15.5 counts one byte too many for
// the names of its lists.
func iplText(e *Event) (string, bool) {
	if s, ok := textOf(e.Data); ok || e.Type != EventIPL || len(e.Data) < 2 {
		return s, ok
	}
	name := e.Data[:len(e.Data)-1]
	if name[len(name)-1] != 0 {
		return "", false
	}
	return textOf(name)
}

// Variable is a UEFI_VARIABLE_DATA (Firmware Profile 1.06, section 10.2.6): the contents of an EFI
// variable when it was measured.
type Variable struct {
	Vendor osmith.GUID
	Name   string
	Data   []byte
}

// String is the variable's name, with its vendor unless that is UEFI's or shim's, and a summary of
// its contents, with the names of certificates and boot options.
func (v Variable) String() string { return v.text() }

func readVariable(b []byte) (Variable, error) {
	const fixed = 32
	if len(b) < fixed {
		return Variable{}, dataError(len(b), "variable", "%d bytes, want %d or more", len(b), fixed)
	}
	units, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	rest := b[fixed:]
	if units > uint64(len(rest)/2) {
		return Variable{}, dataError(16, "variable name", "%d characters, %d bytes left", units, len(rest))
	}
	if size > uint64(len(rest))-2*units {
		return Variable{}, dataError(24, "variable contents", "%d bytes, %d left", size, uint64(len(rest))-2*units)
	}
	name, data := rest[:2*units], rest[2*units:]
	return Variable{efi.GUID(b), efi.DecodeUTF16(name), data[:size:size]}, nil
}

// splitVariable is [readVariable] for callers that only want to know.
func splitVariable(b []byte) (vendor osmith.GUID, name string, data []byte, ok bool) {
	v, err := readVariable(b)
	return v.Vendor, escape(v.Name), v.Data, err == nil
}

// signatureEntry is one entry of an EFI signature list.
type signatureEntry struct {
	kind osmith.GUID
	data string // owner, then certificate or hash
}

// signatureEntries reads EFI_SIGNATURE_LISTs (UEFI 2.10, section 32.4.1). ok is false if b is
// something else.
func signatureEntries(b []byte) (entries []signatureEntry, ok bool) {
	const header, owner = 28, 16
	le := binary.LittleEndian
	for len(b) > 0 {
		if len(b) < header {
			return nil, false
		}
		size, skip, each := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:])), uint64(le.Uint32(b[24:]))
		if size < header+skip || size > uint64(len(b)) || each <= owner || (size-header-skip)%each != 0 {
			return nil, false
		}
		kind := efi.GUID(b)
		for rest := b[header+skip : size]; len(rest) > 0; rest = rest[each:] {
			entries = append(entries, signatureEntry{kind, string(rest[:each])})
		}
		b = b[size:]
	}
	return entries, true
}

// Tag is the number that identifies an event of a boot loader, of systemd's stub or of the kernel.
type Tag uint32

// The tags of Linux (drivers/firmware/efi/libstub) and systemd.
const (
	// Linux, PCR 9: the initrd that the kernel received
	TagInitrd       Tag = 0x8f3b22ec
	TagLoadOptions  Tag = 0x8f3b22ed                // Linux, PCR 9: the command line
	TagSMBIOSType1  Tag = sdstub.TagSMBIOSType1     // systemd 261, PCR 1
	TagSMBIOSType2  Tag = sdstub.TagSMBIOSType2     // likewise
	TagSMBIOSType11 Tag = sdstub.TagSMBIOSType11    // likewise
	TagLoaderConf   Tag = sdstub.TagLoaderConf      // systemd-boot, PCR 5
	TagProfile      Tag = sdstub.TagProfile         // stub, PCR 12: the number of the profile
	TagDeviceTree   Tag = sdstub.TagAddonDeviceTree // stub, PCR 12: the device tree of an add-on
	TagMicrocode    Tag = sdstub.TagAddonMicrocode  // likewise
	TagInitrdAddon  Tag = sdstub.TagAddonInitrd     // likewise
)

var tagNames = map[Tag]string{
	TagWindowsTrustBoundary: "Windows: trust boundary",
	TagWindowsELAM:          "Windows: antimalware driver",
	TagWindowsModule:        "Windows: module",
	TagWindowsTrustPoint:    "Windows: trust point",
	TagWindowsNoAuthority:   "Windows: no authority",
	TagWindowsAuthority:     "Windows: key of an authority",

	TagInitrd:       "initrds of the kernel",
	TagLoadOptions:  "command line of the kernel",
	TagSMBIOSType1:  "SMBIOS type 1",
	TagSMBIOSType2:  "SMBIOS type 2",
	TagSMBIOSType11: "SMBIOS type 11",
	TagLoaderConf:   "loader.conf",
	TagProfile:      "profile",
	TagDeviceTree:   "device tree add-on",
	TagMicrocode:    "microcode add-on",
	TagInitrdAddon:  "initrd add-on",
}

// usualDescriptions are what Linux and systemd write beside tags: no more than the tag says.
var usualDescriptions = map[Tag]string{
	TagInitrd: textInitrd, TagLoadOptions: textLoadOptions, TagLoaderConf: "loader.conf",
	TagSMBIOSType1: "smbios:type1", TagSMBIOSType2: "smbios:type2", TagSMBIOSType11: "smbios:type11",
}

// String is the name of a known tag, and the number of an unknown one.
func (t Tag) String() string {
	if s, ok := tagNames[t]; ok {
		return s
	}
	return fmt.Sprintf("tag 0x%08x", uint32(t))
}

// Tagged is the data of an EV_EVENT_TAG (TCG_PCClientTaggedEvent, Firmware Profile 1.06, section
// 10.4.2.1): a tag and, from systemd and Linux, a description; what was measured is only in the
// digest. From Windows, the data are what was measured.
type Tagged struct {
	Tag  Tag
	Data []byte
}

func (t Tagged) String() string {
	if isWindowsContainer(t.Tag) {
		return t.Tag.String() + ": " + describeWindows(t.Data)
	}
	if text, ok := textOf(t.Data); ok && text == usualDescriptions[t.Tag] {
		return t.Tag.String()
	}
	return t.Tag.String() + ": " + describeText(t.Data)
}

func readTagged(b []byte) (Tagged, error) {
	if len(b) < 8 {
		return Tagged{}, dataError(len(b), "tagged event", "%d bytes, want 8 or more", len(b))
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if uint64(size) != uint64(len(b)-8) {
		return Tagged{}, dataError(4, "tagged event", "%d bytes, %d left", size, len(b)-8)
	}
	return Tagged{Tag(binary.LittleEndian.Uint32(b)), b[8:]}, nil
}

// taggedData is the inverse of readTagged.
func taggedData(t Tag, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(t))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// GPT is a UEFI_GPT_DATA (Firmware Profile 1.06, section 10.2.5): the partition table of the disk
// that was booted from.
type GPT struct {
	Disk                    osmith.GUID
	FirstUsable, LastUsable uint64 // LBA
	Partitions              []GPTPartition
	Header                  []byte // as on disk
}

// GPTPartition is one used entry of the table.
type GPTPartition struct {
	Type, ID          osmith.GUID
	FirstLBA, LastLBA uint64
	Attributes        uint64
	Name              string
}

func (g GPT) String() string {
	return fmt.Sprintf("partition table %s with %d partitions", g.Disk, len(g.Partitions))
}

const (
	gptHeaderSize = 92  // UEFI 2.10, section 5.3.2
	gptEntrySize  = 128 // the least that an entry has
)

func readGPT(b []byte) (GPT, error) {
	if len(b) < gptHeaderSize+8 || string(b[:8]) != "EFI PART" {
		return GPT{}, dataError(0, "partition table", "%d bytes, want a GPT header and a count", len(b))
	}
	le := binary.LittleEndian
	size := le.Uint32(b[12:])
	if size < gptHeaderSize || uint64(size) > uint64(len(b)-8) {
		return GPT{}, dataError(12, "partition table header", "%d bytes, want %d or more, and %d are left", size, gptHeaderSize, len(b)-8)
	}
	each, count := uint64(le.Uint32(b[84:])), le.Uint64(b[size:])
	entries := b[size+8:]
	if each < gptEntrySize || count > uint64(len(entries))/each {
		return GPT{}, dataError(int(size), "partition count", "%d of %d bytes each, %d bytes left", count, each, len(entries))
	}
	g := GPT{Disk: efi.GUID(b[56:]), FirstUsable: le.Uint64(b[40:]), LastUsable: le.Uint64(b[48:]), Header: b[:size:size]}
	for i := range count {
		e := entries[i*each:]
		g.Partitions = append(g.Partitions, GPTPartition{
			Type: efi.GUID(e), ID: efi.GUID(e[16:]),
			FirstLBA: le.Uint64(e[32:]), LastLBA: le.Uint64(e[40:]), Attributes: le.Uint64(e[48:]), Name: efi.DecodeUTF16(e[56:128]),
		})
	}
	return g, nil
}

// gptData is what edk2 measures of a partition table: the header, the number of used entries, and
// these.
func gptData(header, table []byte) ([]byte, error) {
	if len(header) < gptHeaderSize || string(header[:8]) != "EFI PART" {
		return nil, fmt.Errorf("GPT header of %d bytes: want the %d bytes that begin with \"EFI PART\"", len(header), gptHeaderSize)
	}
	le := binary.LittleEndian
	size, each := le.Uint32(header[12:]), uint64(le.Uint32(header[84:]))
	if size < gptHeaderSize || uint64(size) > uint64(len(header)) {
		return nil, fmt.Errorf("GPT header says that it has %d bytes; %d are given", size, len(header))
	}
	if each < gptEntrySize || each > 4096 || uint64(len(table))%each != 0 || uint64(len(table))/each > uint64(le.Uint32(header[80:])) {
		return nil, fmt.Errorf("GPT entries: %d bytes given, the header has up to %d entries of %d bytes", len(table), le.Uint32(header[80:]), each)
	}
	var count uint64
	var used []byte
	for ; len(table) > 0; table = table[each:] {
		if !allByte(table[:16], 0) {
			count++
			used = append(used, table[:each]...)
		}
	}
	out := append([]byte(nil), header[:size]...)
	return append(le.AppendUint64(out, count), used...), nil
}

// FirmwareBlob is a UEFI_PLATFORM_FIRMWARE_BLOB or, with a Description, a
// UEFI_PLATFORM_FIRMWARE_BLOB2 (Firmware Profile 1.06, sections 10.2.4 and 10.2.5): a part of the
// firmware, which was measured.
type FirmwareBlob struct {
	Description  string
	Base, Length uint64 // address and bytes
}

func (f FirmwareBlob) String() string {
	s := fmt.Sprintf("firmware volume of %d bytes at 0x%x", f.Length, f.Base)
	if f.Description != "" {
		s += " (" + escape(f.Description) + ")"
	}
	return s
}

func readFirmwareBlob(b []byte) (FirmwareBlob, error) {
	if len(b) != 16 {
		return FirmwareBlob{}, dataError(0, "firmware blob", "%d bytes, want 16", len(b))
	}
	return FirmwareBlob{"", binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

func readFirmwareBlob2(b []byte) (FirmwareBlob, error) {
	text, rest, err := readDescription(b)
	if err != nil {
		return FirmwareBlob{}, err
	}
	f, err := readFirmwareBlob(rest)
	f.Description = text
	return f, err
}

// readDescription takes a description from the start of b: a length in one byte, then text.
func readDescription(b []byte) (string, []byte, error) {
	if len(b) < 1 || int(b[0]) > len(b)-1 {
		return "", nil, dataError(0, "description", "%d bytes do not hold it", len(b))
	}
	n := 1 + int(b[0])
	return strings.TrimRight(string(b[1:n]), "\x00"), b[n:], nil
}

// HandoffTables is a UEFI_HANDOFF_TABLE_POINTERS or, with a Description, a
// UEFI_HANDOFF_TABLE_POINTERS2: the tables that were measured, ACPI and SMBIOS among them.
type HandoffTables struct {
	Description string
	Tables      []HandoffTable
}

// HandoffTable is one entry of the system's configuration table.
type HandoffTable struct {
	Vendor  osmith.GUID
	Address uint64
}

var tableNames = map[string]string{
	"eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI 1.0",
	"8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI 2.0",
	"eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS",
	"f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3",
}

func (h HandoffTables) String() string {
	names := make([]string, 0, min(len(h.Tables), 8))
	for _, t := range h.Tables[:min(len(h.Tables), 8)] {
		name := t.Vendor.String()
		if known, ok := tableNames[name]; ok {
			name = known
		}
		names = append(names, name)
	}
	s := "tables " + strings.Join(names, ", ")
	if h.Description != "" {
		s = escape(h.Description) + ": " + s
	}
	return s
}

// readHandoffTables reads the number of tables and the tables; at is where b starts in the event's
// data.
func readHandoffTables(b []byte, at int) (HandoffTables, error) {
	const each = 24
	if len(b) < 8 {
		return HandoffTables{}, dataError(at, "handoff tables", "%d bytes, want 8 or more", len(b))
	}
	count := binary.LittleEndian.Uint64(b)
	if count > uint64(len(b)-8)/each {
		return HandoffTables{}, dataError(at, "handoff tables", "%d tables, %d bytes left", count, len(b)-8)
	}
	var h HandoffTables
	for i := range count {
		e := b[8+i*each:]
		h.Tables = append(h.Tables, HandoffTable{efi.GUID(e), binary.LittleEndian.Uint64(e[16:])})
	}
	return h, nil
}

func readHandoffTables2(b []byte) (HandoffTables, error) {
	text, rest, err := readDescription(b)
	if err != nil {
		return HandoffTables{}, err
	}
	h, err := readHandoffTables(rest, len(b)-len(rest))
	h.Description = text
	return h, err
}

// DeviceSecurity is a DEVICE_SECURITY_EVENT_DATA (Firmware Profile 1.06, section 10.2.7): a
// measurement that a device gave of itself over SPDM, in version 1 or 2.
type DeviceSecurity struct {
	Version    uint16
	AuthState  byte   // version 2: how the device was authenticated
	DeviceType uint32 // 0 none, 1 PCI, 2 USB
	Path       DevicePath
	// SPDM measurement block and device context (version 2: sub-header and context)
	Block []byte
}

func (d DeviceSecurity) String() string {
	return fmt.Sprintf("SPDM device of type %d at %s: %d bytes", d.DeviceType, d.Path, len(d.Block))
}

func readDeviceSecurity(b []byte) (DeviceSecurity, error) {
	le := binary.LittleEndian
	switch {
	case strings.HasPrefix(string(b), "SPDM Device Sec\x00") && len(b) >= 28:
		// signature, u16 version, u16 length, u32 hash algorithm, u32 device type
		if n := int(le.Uint16(b[18:])); n != len(b) {
			return DeviceSecurity{}, dataError(18, "device security event", "%d bytes, the event has %d", n, len(b))
		}
		return DeviceSecurity{Version: le.Uint16(b[16:]), DeviceType: le.Uint32(b[24:]), Block: b[28:]}, nil
	case strings.HasPrefix(string(b), "SPDM Device Sec2") && len(b) >= 52:
		// signature, u16 version, u8 auth state, u8 reserved, u32 length, u32 device type, u32
		// sub-header type, u32 sub-header length, u64 sub-header UID, u64 path length
		n, path := uint64(le.Uint32(b[20:])), le.Uint64(b[44:])
		if n != uint64(len(b)) {
			return DeviceSecurity{}, dataError(20, "device security event", "%d bytes, the event has %d", n, len(b))
		}
		if path > uint64(len(b)-52) {
			return DeviceSecurity{}, dataError(44, "device path", "%d bytes, %d left", path, len(b)-52)
		}
		return DeviceSecurity{le.Uint16(b[16:]), b[18], le.Uint32(b[24:]), DevicePath(b[52 : 52+path : 52+path]), b[52+path:]}, nil
	}
	return DeviceSecurity{}, dataError(0, "device security event", "%d bytes without the signature of one", len(b))
}
