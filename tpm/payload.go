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
)

// Payload is what the data of an event says, read by the event's type. It is one of [SpecID], [StartupLocality],
// [Vendor], [Separator], [Text], [Variable], [ImageLoad], [GPT], [Tagged], [FirmwareBlob], [HandoffTables],
// [DeviceSecurity] and [Opaque].
type Payload interface{ String() string }

// StartupLocality is the locality from which the TPM was started: 0, 3 or 4 (with an H-CRTM). PCR 0 begins with it
// (Firmware Profile 1.06, section 10.4.5.3).
type StartupLocality byte

func (n StartupLocality) String() string { return fmt.Sprintf("startup locality %d", byte(n)) }

// Vendor is an EV_NO_ACTION event of another kind, known by its signature of 16 bytes: "SP800-155 Event", for example.
type Vendor struct {
	Signature string
	Data      []byte // behind the signature
}

func (v Vendor) String() string { return escape(v.Signature) + ": " + describeBytes(v.Data) }

// Separator ends the measurements of the firmware in one PCR. Its data are zeros or ones, or say which error the
// firmware met.
type Separator []byte

// Error reports whether the firmware met an error.
func (s Separator) Error() bool { return len(s) != 4 || !allByte(s, 0) && !allByte(s, 0xff) }

func (s Separator) String() string {
	switch {
	case len(s) != 4:
		return describeBytes(s)
	case s.Error():
		return fmt.Sprintf("separator after an error: %x", []byte(s))
	}
	return "separator"
}

// Text is an action, a version, or what a boot loader calls the thing that it measured.
type Text string

func (t Text) String() string { return escape(string(t)) }

// Opaque are data whose form this package does not know or that are no text.
type Opaque []byte

func (o Opaque) String() string { return describeBytes(o) }

// ImageLoad is a UEFI_IMAGE_LOAD_EVENT (Firmware Profile 1.06, section 10.2.3): a program that the firmware loaded.
type ImageLoad struct {
	Location uint64 // address in memory
	Size     uint64 // bytes, in memory or of the file
	LinkTime uint64 // address that it was linked for
	Path     DevicePath
}

func (i ImageLoad) String() string {
	path := i.Path.File()
	if path == "" {
		path = i.Path.String()
	}
	if path == "" {
		path = "image"
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

// Payload reads the event's data. Data that do not have the form of the event's type are a [*osmith.FormatError] whose Offset
// counts from the start of the data; types without a form give [Text] or [Opaque]. Nothing vouches for what it says
// unless [Event.Attested].
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
	if s, ok := textOf(e.Data); ok {
		return Text(s), nil
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
	return Opaque(e.Data), nil
}

// Attested reports whether every digest of the event covers what its data say, so that a TPM which vouches for the log's
// replay vouches for the data too; of a boot variable, a tagged event and GRUB's events that is the contents, and not the
// name or tag before them. Of a program, a firmware volume or a table the digest is of the thing itself: there
// the data are only what the firmware says about it.
func (e *Event) Attested() bool {
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

// attestedText reports whether the digest of a boot loader's event is of the text beside it, in one of the forms that they
// write: systemd's stub hashes the name of a section with a NUL, old systemd-boot counts one byte too many, and GRUB writes
// "grub_cmd X" or "grub_cmd: X" and hashes X.
func attestedText(e *Event) bool {
	s, ok := textOf(e.Data)
	if !ok {
		return false
	}
	forms := [][]byte{append([]byte(s), 0), []byte(s), utf16z(s), efi.AppendUTF16(nil, s)}
	if _, command, ok := strings.Cut(s, " "); ok && strings.HasPrefix(s, "grub_") {
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
		if s := efi.DecodeUTF16(b); printable(s) && len(b)-2*efi.UTF16Len(s) <= 3 {
			return s, true
		}
	}
	s := strings.TrimRight(string(b), "\x00")
	return s, s != "" && validText(s)
}
