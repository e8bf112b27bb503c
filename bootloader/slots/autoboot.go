package slots

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// maxAutoboot is how much of autoboot.txt the firmware reads ("autoboot.txt ... is limited to 512
// bytes").
const maxAutoboot = 512

// Autoboot is autoboot.txt of a Raspberry Pi
// (https://www.raspberrypi.com/documentation/computers/config_txt.html#autoboot-txt): under [all]
// the partition that is started, under [tryboot] the one that a restart with the flag tryboot
// starts, once. The flag is in a register: `reboot "0 tryboot"` sets it, and a start or a power cut
// clears it. Autoboot is read-only in this package: no tool of a distribution writes the file.
type Autoboot struct {
	raw     []byte
	tryboot Answer
	items   []autobootItem
}

type autobootItem struct {
	section string
	Variable
}

// ParseAutoboot reads the file. tryboot says whether the flag is set for the next start, which the
// file does not record. An error is a [*osmith.FormatError].
func ParseAutoboot(text []byte, tryboot Answer) (a *Autoboot, err error) {
	defer prefix.Add("slots", &err)
	bad := func(at int, err error) (*Autoboot, error) {
		return nil, &osmith.FormatError{Offset: int64(at), Field: "autoboot.txt", Err: err}
	}
	if len(text) > maxAutoboot {
		return bad(0, fmt.Errorf("%d bytes, want at most %d: firmware reads no more", len(text), maxAutoboot))
	}
	a = &Autoboot{raw: bytes.Clone(text), tryboot: tryboot}
	section, at := "all", 0
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		key, value, ok := strings.Cut(trimmed, "=")
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case strings.HasPrefix(trimmed, "["):
			if section, ok = strings.CutSuffix(trimmed[1:], "]"); !ok {
				return bad(at, errors.New("want [SECTION]"))
			}
		case !ok:
			return bad(at, errors.New("want a line KEY=VALUE"))
		default:
			a.items = append(a.items, autobootItem{section, Variable{strings.TrimSpace(key), strings.TrimSpace(value)}})
		}
		at += len(line)
	}
	return a, nil
}

// MarshalBinary is the file as it was read.
func (a *Autoboot) MarshalBinary() ([]byte, error) { return bytes.Clone(a.raw), nil }

// partition is the one that a section has, "" for none. Of two settings the last one holds. Not ok:
// it is not a number of a partition.
func (a *Autoboot) partition(section string) (text string, ok bool) {
	for _, i := range slices.Backward(a.items) {
		if i.section == section && i.Name == "boot_partition" {
			n, err := strconv.ParseUint(i.Value, 10, 8)
			return i.Value, err == nil && strconv.FormatUint(n, 10) == i.Value
		}
	}
	return "", true
}

// other reports whether the file has sections by board or the like, which need not hold here.
func (a *Autoboot) other() bool {
	return slices.ContainsFunc(a.items, func(i autobootItem) bool {
		return i.section != "all" && i.section != "tryboot" && i.section != "none" && i.Name == "boot_partition"
	})
}

// Properties are documented with [Reader].
func (a *Autoboot) Properties() Properties {
	return Properties{
		Name: "autoboot.txt of Raspberry Pi", Evidence: EvidenceSource,
		Counts: AnswerYes, FallsBack: AnswerYes, TellsGood: AnswerNo, TellsRunning: AnswerNo, KeepsValid: AnswerNo, Torn: AnswerNo,
	}
}

// Slots are documented with [Reader]: the partitions of [all] and [tryboot], by their numbers.
func (a *Autoboot) Slots() (all []Slot) {
	for i, section := range []string{"all", "tryboot"} {
		p, ok := a.partition(section)
		if !ok || p == "" || len(all) > 0 && all[0].Name == p {
			continue
		}
		s := Slot{Name: p, Tries: -1, Priority: 2 - i}
		if section == "tryboot" && a.tryboot != AnswerUnknown {
			s.Tries = 0
			if a.tryboot == AnswerYes {
				s.Tries = 1
			}
		}
		all = append(all, s)
	}
	return all
}

// Boot is documented with [Reader].
func (a *Autoboot) Boot() (Start, Reader) {
	after := *a
	after.tryboot = AnswerNo
	section := "all"
	switch {
	case a.other():
		return Start{Reason: "boot_partition is in a section that applies to some machines only"}, nil
	case a.tryboot == AnswerUnknown:
		return Start{Reason: "whether the tryboot flag is set is unknown"}, nil
	case a.tryboot == AnswerYes:
		section = "tryboot"
	}
	p, ok := a.partition(section)
	if ok && p == "" && section == "tryboot" {
		p, ok = a.partition("all")
	}
	if !ok || p == "" {
		return Start{Reason: "no boot_partition is a number: firmware starts the first bootable partition"}, &after
	}
	return Start{Outcome: OutcomeSlot, Slot: p, Reason: "boot_partition of [" + section + "]"}, &after
}
