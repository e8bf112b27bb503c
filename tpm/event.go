package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// EventType says what an event measured (TCG PC Client Platform Firmware Profile 1.06, section
// 10.4.1).
type EventType uint32

// The event types of PC clients. The names in comments are the specification's.
const (
	EventPrebootCert          EventType = 0x00000000 // EV_PREBOOT_CERT
	EventPostCode             EventType = 0x00000001 // EV_POST_CODE
	EventUnused               EventType = 0x00000002 // EV_UNUSED
	EventNoAction             EventType = 0x00000003 // EV_NO_ACTION: extends nothing
	EventSeparator            EventType = 0x00000004 // EV_SEPARATOR
	EventAction               EventType = 0x00000005 // EV_ACTION
	EventTag                  EventType = 0x00000006 // EV_EVENT_TAG: u32 id, u32 size, data
	EventCRTMContents         EventType = 0x00000007 // EV_S_CRTM_CONTENTS
	EventCRTMVersion          EventType = 0x00000008 // EV_S_CRTM_VERSION
	EventCPUMicrocode         EventType = 0x00000009 // EV_CPU_MICROCODE
	EventPlatformConfigFlags  EventType = 0x0000000a // EV_PLATFORM_CONFIG_FLAGS
	EventTableOfDevices       EventType = 0x0000000b // EV_TABLE_OF_DEVICES
	EventCompactHash          EventType = 0x0000000c // EV_COMPACT_HASH
	EventIPL                  EventType = 0x0000000d // EV_IPL: boot loaders and systemd's stub
	EventIPLPartitionData     EventType = 0x0000000e // EV_IPL_PARTITION_DATA
	EventNonhostCode          EventType = 0x0000000f // EV_NONHOST_CODE
	EventNonhostConfig        EventType = 0x00000010 // EV_NONHOST_CONFIG
	EventNonhostInfo          EventType = 0x00000011 // EV_NONHOST_INFO
	EventOmitBootDeviceEvents EventType = 0x00000012 // EV_OMIT_BOOT_DEVICE_EVENTS
	EventPostCode2            EventType = 0x00000013 // EV_POST_CODE2

	EventEFIVariableDriverConfig    EventType = 0x80000001 // EV_EFI_VARIABLE_DRIVER_CONFIG
	EventEFIVariableBoot            EventType = 0x80000002 // EV_EFI_VARIABLE_BOOT
	EventEFIBootServicesApplication EventType = 0x80000003 // EV_EFI_BOOT_SERVICES_APPLICATION
	EventEFIBootServicesDriver      EventType = 0x80000004 // EV_EFI_BOOT_SERVICES_DRIVER
	EventEFIRuntimeServicesDriver   EventType = 0x80000005 // EV_EFI_RUNTIME_SERVICES_DRIVER
	EventEFIGPT                     EventType = 0x80000006 // EV_EFI_GPT_EVENT
	EventEFIAction                  EventType = 0x80000007 // EV_EFI_ACTION
	EventEFIPlatformFirmwareBlob    EventType = 0x80000008 // EV_EFI_PLATFORM_FIRMWARE_BLOB
	EventEFIHandoffTables           EventType = 0x80000009 // EV_EFI_HANDOFF_TABLES
	EventEFIPlatformFirmwareBlob2   EventType = 0x8000000a // EV_EFI_PLATFORM_FIRMWARE_BLOB2
	EventEFIHandoffTables2          EventType = 0x8000000b // EV_EFI_HANDOFF_TABLES2
	EventEFIVariableBoot2           EventType = 0x8000000c // EV_EFI_VARIABLE_BOOT2
	EventEFIGPT2                    EventType = 0x8000000d // EV_EFI_GPT_EVENT2
	EventEFIHCRTM                   EventType = 0x80000010 // EV_EFI_HCRTM_EVENT
	EventEFIVariableAuthority       EventType = 0x800000e0 // EV_EFI_VARIABLE_AUTHORITY
	EventEFISPDMFirmwareBlob        EventType = 0x800000e1 // EV_EFI_SPDM_FIRMWARE_BLOB
	EventEFISPDMFirmwareConfig      EventType = 0x800000e2 // EV_EFI_SPDM_FIRMWARE_CONFIG
	EventEFISPDMDevicePolicy        EventType = 0x800000e3 // EV_EFI_SPDM_DEVICE_POLICY
	EventEFISPDMDeviceAuthority     EventType = 0x800000e4 // EV_EFI_SPDM_DEVICE_AUTHORITY
)

var eventNames = map[EventType]string{
	EventPrebootCert:                "EV_PREBOOT_CERT",
	EventPostCode:                   "EV_POST_CODE",
	EventUnused:                     "EV_UNUSED",
	EventNoAction:                   "EV_NO_ACTION",
	EventSeparator:                  "EV_SEPARATOR",
	EventAction:                     "EV_ACTION",
	EventTag:                        "EV_EVENT_TAG",
	EventCRTMContents:               "EV_S_CRTM_CONTENTS",
	EventCRTMVersion:                "EV_S_CRTM_VERSION",
	EventCPUMicrocode:               "EV_CPU_MICROCODE",
	EventPlatformConfigFlags:        "EV_PLATFORM_CONFIG_FLAGS",
	EventTableOfDevices:             "EV_TABLE_OF_DEVICES",
	EventCompactHash:                "EV_COMPACT_HASH",
	EventIPL:                        "EV_IPL",
	EventIPLPartitionData:           "EV_IPL_PARTITION_DATA",
	EventNonhostCode:                "EV_NONHOST_CODE",
	EventNonhostConfig:              "EV_NONHOST_CONFIG",
	EventNonhostInfo:                "EV_NONHOST_INFO",
	EventOmitBootDeviceEvents:       "EV_OMIT_BOOT_DEVICE_EVENTS",
	EventPostCode2:                  "EV_POST_CODE2",
	EventEFIVariableDriverConfig:    "EV_EFI_VARIABLE_DRIVER_CONFIG",
	EventEFIVariableBoot:            "EV_EFI_VARIABLE_BOOT",
	EventEFIBootServicesApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",
	EventEFIBootServicesDriver:      "EV_EFI_BOOT_SERVICES_DRIVER",
	EventEFIRuntimeServicesDriver:   "EV_EFI_RUNTIME_SERVICES_DRIVER",
	EventEFIGPT:                     "EV_EFI_GPT_EVENT",
	EventEFIAction:                  "EV_EFI_ACTION",
	EventEFIPlatformFirmwareBlob:    "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	EventEFIHandoffTables:           "EV_EFI_HANDOFF_TABLES",
	EventEFIPlatformFirmwareBlob2:   "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	EventEFIHandoffTables2:          "EV_EFI_HANDOFF_TABLES2",
	EventEFIVariableBoot2:           "EV_EFI_VARIABLE_BOOT2",
	EventEFIGPT2:                    "EV_EFI_GPT_EVENT2",
	EventEFIHCRTM:                   "EV_EFI_HCRTM_EVENT",
	EventEFIVariableAuthority:       "EV_EFI_VARIABLE_AUTHORITY",
	EventEFISPDMFirmwareBlob:        "EV_EFI_SPDM_FIRMWARE_BLOB",
	EventEFISPDMFirmwareConfig:      "EV_EFI_SPDM_FIRMWARE_CONFIG",
	EventEFISPDMDevicePolicy:        "EV_EFI_SPDM_DEVICE_POLICY",
	EventEFISPDMDeviceAuthority:     "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// String is the specification's name of the type, or the number of a type that the specification
// does not name.
func (t EventType) String() string {
	if s, ok := eventNames[t]; ok {
		return s
	}
	return fmt.Sprintf("0x%08x", uint32(t))
}

// Event is one entry of a log: a PCR was extended with Digests, and Data says why. Data is what the
// firmware wrote beside the digest; for some types the digest is of Data, for others of something
// else, such as a program.
type Event struct {
	// 0 to 23, or a number of Log.Registers; a log may hold other numbers, which no TPM has
	// (0xffffffff reads as -1)
	PCR     int
	Type    EventType
	Digests map[crypto.Hash][]byte
	Data    []byte

	// Subject is what the event measured. An event made by hand may leave it empty: the subject is
	// then found when logs are compared.
	Subject Subject

	// order are the algorithms as the log has them, nil for those of the header, to write a log
	// back as it was; foreign are the digests of algorithms that are no bank here.
	order   []uint16
	foreign map[uint16][]byte

	cc       bool   // PCR is the number of a register of RegistersCC
	contents []byte // what was measured, if it is known and the data do not say it
}

// hashesData reports whether the digest of an event of this type is the hash of its data (Firmware
// Profile 1.06, section 10.4.1).
func (t EventType) hashesData() bool {
	switch t {
	case EventCRTMVersion, EventSeparator, EventEFIVariableDriverConfig, EventEFIVariableAuthority, EventEFIAction, EventEFIGPT,
		EventEFIVariableBoot2, EventEFIGPT2:
		return true
	}
	return false
}

// extends reports whether the event changes a PCR.
func (e *Event) extends() bool { return e.Type != EventNoAction }

// localitySignature starts the data of the EV_NO_ACTION event that tells the locality of the TPM's
// startup.
var localitySignature = []byte("StartupLocality\x00")

// locality is the startup locality that the event tells, if it is such an event.
func (e *Event) locality() (byte, bool) {
	n := len(localitySignature)
	if e.Type != EventNoAction || e.PCR != 0 || len(e.Data) != n+1 || !bytes.HasPrefix(e.Data, localitySignature) {
		return 0, false
	}
	return e.Data[n], true
}

// sameDigests compares the digests of the algorithms that both events have. Without a common one
// they differ, and so do events for different kinds of registers.
func (e *Event) sameDigests(o *Event) bool {
	if e.cc != o.cc {
		return false
	}
	common := false
	for h, d := range e.Digests {
		if od, ok := o.Digests[h]; ok {
			if !slices.Equal(d, od) {
				return false
			}
			common = true
		}
	}
	for id, d := range e.foreign {
		if od, ok := o.foreign[id]; ok {
			if !slices.Equal(d, od) {
				return false
			}
			common = true
		}
	}
	return common || e.Type == EventNoAction && o.Type == EventNoAction
}

// AlgorithmSM3 is TPM_ALG_SM3_256 (TCG Algorithm Registry 01.34). Package crypto has no Hash for
// it, so Digests never holds its digests: see [Event.Digest] and [Log.ReplaySM3].
const AlgorithmSM3 = 0x0012

// Digest is the event's digest by an algorithm of the TCG Algorithm Registry, which need not be one
// of [Banks]; nil if the event has no such digest.
func (e *Event) Digest(algorithm uint16) []byte {
	d, _ := e.digest(algorithm)
	return bytes.Clone(d)
}

func (e *Event) digest(algorithm uint16) ([]byte, bool) {
	if a, ok := pcrbank.ByID(algorithm); ok {
		d, ok := e.Digests[a.Hash]
		return d, ok
	}
	d, ok := e.foreign[algorithm]
	return d, ok
}
