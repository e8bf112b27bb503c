package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// firmwareFlag is -firmware, the row that judges images and takes updates.
func firmwareFlag(set *flag.FlagSet) func() (secureboot.Firmware, error) {
	row := set.String("firmware", "", fmt.Sprintf("`row` of firmware that judges and takes updates: one of %v, or any for firmware of which nothing is known (default the newest)",
		secureboot.Firmwares()))
	return func() (secureboot.Firmware, error) {
		f := secureboot.Firmware(*row)
		if f != "" && f != secureboot.FirmwareAny && !slices.Contains(secureboot.Firmwares(), f) {
			return "", cli.Usagef("-firmware %s: want one of %v, or any", f, secureboot.Firmwares())
		}
		return f, nil
	}
}

// timeFlag is -time: by it, by SOURCE_DATE_EPOCH, or by the clock.
func timeFlag(set *flag.FlagSet) func() (time.Time, error) {
	text := set.String("time", "", "`time` such as 2026-01-31T12:00:00Z (default: SOURCE_DATE_EPOCH, or now)")
	return func() (time.Time, error) {
		if *text == "" {
			return cli.SourceDate(time.Now().UTC())
		}
		t, err := time.Parse(time.RFC3339, *text)
		if err != nil {
			return time.Time{}, cli.Usagef("-time %q: want a time such as 2026-01-31T12:00:00Z", *text)
		}
		return t.UTC(), nil
	}
}

// romFlags are the decision on option ROMs.
type romFlags struct {
	keep, digests cli.List
	vars          string
	none          bool
}

func addROMFlags(set *flag.FlagSet) *romFlags {
	f := new(romFlags)
	set.Var(&f.keep, "keep", "`certificate`, PEM or DER, that db has too; may be repeated")
	set.Var(&f.digests, "option-rom-digest", "SHA-256 Authenticode digest in `hex` of an option ROM that db allows; may be repeated")
	set.BoolVar(&f.none, "trust-no-option-roms-at-the-risk-of-a-black-screen", false, "for hardware that is known to do without option ROMs")
	return f
}

func (f *romFlags) decided() bool {
	return len(f.keep) > 0 || len(f.digests) > 0 || f.vars != "" || f.none
}

func (f *romFlags) decision() (secureboot.OptionROMs, error) {
	o := secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: f.none}
	for _, name := range f.keep {
		certs, err := cli.ReadCertificates(name)
		if err != nil {
			return o, err
		}
		o.Keep = append(o.Keep, certs...)
	}
	for _, text := range f.digests {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 32 {
			return o, cli.Usagef("-option-rom-digest %q: want 64 hexadecimal digits", text)
		}
		o.AllowDigests = append(o.AllowDigests, [32]byte(b))
	}
	return o, nil
}
