package slots

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// maxStatusFile bounds RAUC's status file, which has some hundred bytes for a slot.
const maxStatusFile = 1 << 20

// RAUCStatus is the status file of RAUC (statusfile= in system.conf, or slot.raucs of a slot;
// RAUC's documentation, "Reference", section "Slot Status"): what was installed into each slot, and
// when. It does not say what starts: [RAUCUBoot] and [RAUCGRUB] do. It is read-only in this
// package.
type RAUCStatus struct {
	raw    []byte
	groups []statusGroup
}

type statusGroup struct {
	name string
	keys []Variable
}

// RAUCSlot is the status of a slot in the file. A value that the file lacks is "".
type RAUCSlot struct {
	Name          string // "rootfs.0"; "" for the slot that holds the file
	Status        string // result of the last installation: "ok" or "failed"
	Compatible    string // compatible string of the installed bundle
	Version       string // version of the bundle
	SHA256        string // of the image
	Size          string // of the image, in bytes
	Installed     string // when, as RAUC writes it: "2026-12-02T00:13:04Z"
	Activated     string // when it was last made the slot to start
	InstallCount  string
	ActivateCount string
}

// ParseRAUCStatus reads a status file, a key file of GLib. An error is a [*osmith.FormatError].
func ParseRAUCStatus(text []byte) (s *RAUCStatus, err error) {
	defer prefix.Add("slots", &err)
	bad := func(at int, err error) (*RAUCStatus, error) {
		return nil, &osmith.FormatError{Offset: int64(at), Field: "slot status", Err: err}
	}
	switch {
	case len(text) > maxStatusFile:
		return bad(0, fmt.Errorf("%d bytes, want %d at most", len(text), maxStatusFile))
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return bad(0, errors.New("want UTF-8 without NUL"))
	}
	s = &RAUCStatus{raw: bytes.Clone(text)}
	at := 0
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case strings.HasPrefix(trimmed, "["):
			name, ok := strings.CutSuffix(trimmed[1:], "]")
			if !ok || strings.ContainsAny(name, "[]") {
				return bad(at, fmt.Errorf("%.60q: want [GROUP]", trimmed))
			}
			s.groups = append(s.groups, statusGroup{name: name})
		default:
			key, value, ok := strings.Cut(trimmed, "=")
			if key = strings.TrimSpace(key); !ok || key == "" || len(s.groups) == 0 {
				return bad(at, fmt.Errorf("%.60q: want KEY=VALUE after a [GROUP] line", trimmed))
			}
			g := &s.groups[len(s.groups)-1]
			g.keys = append(g.keys, Variable{key, strings.TrimSpace(value)})
		}
		at += len(line)
	}
	return s, nil
}

// MarshalBinary is the file as it was read.
func (s *RAUCStatus) MarshalBinary() ([]byte, error) { return bytes.Clone(s.raw), nil }

// Slots are the slots of the file, in its order.
func (s *RAUCStatus) Slots() (all []RAUCSlot) {
	for _, g := range s.groups {
		name, ok := strings.CutPrefix(g.name, "slot.")
		if !ok && g.name != "slot" {
			continue
		}
		slot := RAUCSlot{Name: name}
		if !ok {
			slot.Name = ""
		}
		for _, k := range g.keys {
			if to := slot.field(k.Name); to != nil {
				*to = k.Value
			}
		}
		all = append(all, slot)
	}
	return all
}

func (s *RAUCSlot) field(key string) *string {
	switch key {
	case "status":
		return &s.Status
	case "bundle.compatible":
		return &s.Compatible
	case "bundle.version":
		return &s.Version
	case "sha256":
		return &s.SHA256
	case "size":
		return &s.Size
	case "installed.timestamp":
		return &s.Installed
	case "installed.count":
		return &s.InstallCount
	case "activated.timestamp":
		return &s.Activated
	case "activated.count":
		return &s.ActivateCount
	}
	return nil
}
