package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Firmware is one .efifw section: a firmware update for the machines whose hardware id leads to ID
// ([hwid.TypeFirmware]). Stubs of systemd 258 to 262 find and measure it; they do not apply it.
type Firmware struct {
	ID      string // "fwid", without NUL bytes
	Payload osmith.Source
}

// rawFirmware is the header of .efifw, little-endian; id and payload follow (systemd 262,
// src/boot/efi-firmware.h, EfiFwHeader). ukify 262 writes the magic as a single zero byte, which no
// stub accepts.
type rawFirmware struct {
	Magic   uint32
	Header  uint32 // bytes of the header
	ID      uint32 // bytes of the id with its NUL byte
	Payload uint32 // bytes of the payload
}

const (
	firmwareMagic  = 0xfeeddead
	firmwareHeader = 16
	maxFirmwareID  = 4096
)

// EncodeFirmware is the content of a .efifw section, reading the payload when it is read.
func EncodeFirmware(f Firmware) (_ osmith.Source, err error) {
	defer prefix.Add("uki", &err)
	if f.Payload == nil {
		return nil, &PartError{"Firmware", fmt.Errorf("payload of %q: %w", f.ID, ErrMissing)}
	}
	if f.ID == "" || len(f.ID) >= maxFirmwareID || strings.IndexByte(f.ID, 0) >= 0 {
		return nil, partError("Firmware", "id %q: want 1 to %d bytes without NUL", firstRunes(f.ID, 40), maxFirmwareID-1)
	}
	if f.Payload.Size() > math.MaxUint32-firmwareHeader-maxFirmwareID {
		return nil, &SpaceError{"firmware " + f.ID, f.Payload.Size(), math.MaxUint32 - firmwareHeader - maxFirmwareID}
	}
	h, err := binary.Append(nil, binary.LittleEndian, rawFirmware{firmwareMagic, firmwareHeader, uint32(len(f.ID) + 1), uint32(f.Payload.Size())})
	if err != nil {
		return nil, err
	}
	h = append(append(h, f.ID...), 0)
	out := new(view)
	out.add("header", bytes.NewReader(h), int64(len(h)))
	out.add("firmware "+f.ID, f.Payload, f.Payload.Size())
	return out, nil
}

// ParseFirmware reads the content of a .efifw section by the rules of the stub. If the stub would
// not accept it, such as the headers that ukify 262 writes, the error is a [*osmith.FormatError].
func ParseFirmware(src osmith.Source) (_ *Firmware, err error) {
	defer prefix.Add("uki", &err)
	bad := func(at int64, field, format string, args ...any) (*Firmware, error) {
		return nil, &osmith.FormatError{Offset: at, Field: ".efifw " + field, Err: fmt.Errorf(format, args...)}
	}
	if src == nil {
		return bad(0, "section", "%w", ErrMissing)
	}
	if src.Size() < firmwareHeader {
		return bad(0, "header", "%d bytes, want %d", src.Size(), firmwareHeader)
	}
	h, err := readAll(src, firmwareHeader, firmwareHeader)
	if err != nil {
		return bad(0, "header", "%w", err)
	}
	var raw rawFirmware
	if _, err := binary.Decode(h, binary.LittleEndian, &raw); err != nil {
		return bad(0, "header", "%w", err)
	}
	if raw.Magic != firmwareMagic {
		return bad(0, "magic", "%#08x, want %#08x", raw.Magic, uint32(firmwareMagic))
	}
	header := int64(raw.Header)
	if header < firmwareHeader { // a longer one holds what later versions have added
		return bad(4, "header length", "%d, want %d or more", header, firmwareHeader)
	}
	idLen, payload := int64(raw.ID), int64(raw.Payload)
	if idLen == 0 || idLen > maxFirmwareID {
		return bad(8, "id length", "%d, want 1 to %d", idLen, maxFirmwareID)
	}
	if end := header + idLen + payload; end > src.Size() {
		return bad(12, "payload length", "ends at %d, the section has %d bytes", end, src.Size())
	}
	id, err := readAll(offsetReader{src, header}, idLen, maxFirmwareID)
	if err != nil {
		return bad(header, "id", "%w", err)
	}
	if bytes.IndexByte(id, 0) != len(id)-1 {
		return bad(header, "id", "%w", errors.New("the NUL byte is not the last byte"))
	}
	v := new(view)
	v.add("firmware payload", offsetReader{src, header + idLen}, payload)
	return &Firmware{ID: string(id[:len(id)-1]), Payload: v}, nil
}
