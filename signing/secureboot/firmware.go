package secureboot

import (
	"crypto"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// Firmware names a row of behaviour: how some firmware judges images.
type Firmware string

// The rows. Their differences were seen on builds of each; those of edk2 were read in its source
// too.
const (
	// FirmwareEDK2Stable202608 is edk2 as of August 2026 (Debian forky).
	FirmwareEDK2Stable202608 Firmware = "edk2-2026.08"
	// FirmwareEDK2Stable202211 is edk2 as of November 2022 (Debian 12): it has no elliptic curves,
	// and looks up only the SHA-256 digest of an unsigned image.
	FirmwareEDK2Stable202211 Firmware = "edk2-2022.11"
	// FirmwareUBoot202610 is U-Boot's EFI loader as of 2026.10-rc2, with MbedTLS.
	FirmwareUBoot202610 Firmware = "u-boot-2026.10"
	// FirmwareUBoot202501 is U-Boot's EFI loader as of 2025.01 (Debian forky's u-boot-qemu), with
	// MbedTLS.
	FirmwareUBoot202501 Firmware = "u-boot-2025.01"
	// FirmwareUBootLegacy is U-Boot's EFI loader without MbedTLS: 2023.01 (Debian 12), and
	// 2026.10-rc2 built with LEGACY_CRYPTO.
	FirmwareUBootLegacy Firmware = "u-boot-legacy"
	// FirmwareAny is unknown firmware.
	FirmwareAny Firmware = "any"
)

// firmwareRow is one kind of firmware, or one build of it.
type firmwareRow struct {
	name  Firmware
	judge func(keyLists, Image) Verdict
}

// keyLists are the lists that images are checked against.
type keyLists struct {
	db, dbx   []SignatureList
	hasDBX    bool
	malformed error // of one of them, which it names
}

func parseKeyLists(v osmith.FirmwareVariables) (l keyLists) {
	var err error
	if l.db, err = parseLists(v.DB); err != nil {
		return keyLists{malformed: fmt.Errorf("db cannot be parsed: %w", err)}
	}
	if l.dbx, err = parseLists(v.DBX); err != nil {
		return keyLists{malformed: fmt.Errorf("dbx cannot be parsed: %w", err)}
	}
	l.hasDBX = len(v.DBX) > 0
	return l
}

var firmwareRows = []firmwareRow{
	edk2Row{FirmwareEDK2Stable202608, edk2.Options{}, []crypto.Hash{crypto.SHA512, crypto.SHA384, crypto.SHA256, crypto.SHA1}}.row(),
	edk2Row{FirmwareEDK2Stable202211, edk2.Options{NoEC: true, OpenSSL11: true}, []crypto.Hash{crypto.SHA256}}.row(),
	ubootRow{name: FirmwareUBoot202610}.row(),
	ubootRow{name: FirmwareUBoot202501, shortListsCrash: true}.row(),
	ubootRow{name: FirmwareUBootLegacy, legacy: true}.row(),
}

// Firmwares returns all rows: those of edk2, then those of U-Boot, each newest first.
func Firmwares() (list []Firmware) {
	for _, r := range firmwareRows {
		list = append(list, r.name)
	}
	return list
}

// evaluateRows asks the row that was named, and the others whether they differ.
func evaluateRows(v osmith.FirmwareVariables, im Image, named Firmware) Verdict {
	if named == "" {
		named = firmwareRows[0].name
	}
	chosen, lists := -1, parseKeyLists(v)
	all := make([]Verdict, len(firmwareRows))
	for i, row := range firmwareRows {
		all[i] = row.judge(lists, im)
		if row.name == named || named == FirmwareAny && (chosen < 0 || stricter(all[i], all[chosen])) {
			chosen = i
		}
	}
	if chosen < 0 {
		return unknown(RuleFirmwareUnknown, "unknown firmware %q: want one of %v, or %q", named, Firmwares(), FirmwareAny)
	}
	r := all[chosen]
	if named == FirmwareAny && !r.Allowed {
		why, open := strings.CutPrefix(r.Reason, cannotBeTold)
		r.Reason = fmt.Sprintf("%s: %s", firmwareRows[chosen].name, why)
		if open {
			r.Reason = cannotBeTold + r.Reason
		}
	}
	for i, other := range all {
		switch {
		case i == chosen:
		case other.Unknown:
			r.Undecided = append(r.Undecided, firmwareRows[i].name)
		case other.Allowed != r.Allowed:
			r.Differs = append(r.Differs, firmwareRows[i].name)
		}
	}
	return r
}

// stricter orders the answers of several rows: a refusal is more than what cannot be told, and that
// is more than a yes.
func stricter(a, b Verdict) bool {
	rank := func(v Verdict) int {
		switch {
		case v.Allowed:
			return 0
		case v.Unknown:
			return 1
		}
		return 2
	}
	return rank(a) > rank(b)
}
