package sdstub

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// The programs that have a marker.
const (
	ProgramStub  = "stub"  // of unified kernel images: src/boot/stub.c
	ProgramAddon = "addon" // of add-ons: src/boot/addon.c
	ProgramBoot  = "boot"  // the boot loader: src/boot/boot.c
)

// MaxMarker is how much of a .sdmagic section is enough to read.
const MaxMarker = 256

// VersionOf reads the marker of a program, the content of its .sdmagic section: "#### LoaderInfo:
// systemd-PROGRAM VERSION ####". It is false for anything else, the marker of another program
// included.
func VersionOf(marker []byte, program string) (osmith.Version, bool) {
	rest, ok := bytes.CutPrefix(marker, []byte("#### LoaderInfo: systemd-"+program+" "))
	version, _, found := bytes.Cut(rest, []byte(" ####"))
	return osmith.Version(version), ok && found && len(version) > 0
}

// ErrNoMarker is returned for a program that has no marker, or that of another program.
var ErrNoMarker = errors.New("no marker of systemd")

// maxProgram bounds how much of a program is searched for its marker. Those of systemd have up to
// 200 KiB.
const maxProgram = 4 << 20

// ReadVersion reads the version of one of systemd's EFI programs: out of its .sdmagic section, or
// if it has none, as those of 252 that were not linked for x86, out of whatever it has in front of
// the sections that were added to it. Two markers that differ are none.
func ReadVersion(r io.ReaderAt, f *pe.File, program string) (osmith.Version, error) {
	if s, ok := f.Section(".sdmagic"); ok {
		d := s.Data()
		b := make([]byte, min(d.Size, MaxMarker))
		if n, err := r.ReadAt(b, d.Offset); n < len(b) {
			return "", fmt.Errorf("section .sdmagic: %w", noEOF(err))
		}
		version, ok := VersionOf(b, program)
		if !ok {
			return "", fmt.Errorf("%w: .sdmagic holds %q", ErrNoMarker, firstBytes(b, 60))
		}
		return version, nil
	}
	end := f.Size
	for _, s := range f.Sections {
		if SectionOf(s.Name) != nil && s.Name != ".sbat" && s.RawSize > 0 {
			end = min(end, int64(s.Offset))
		}
	}
	b := make([]byte, min(end, maxProgram))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return "", fmt.Errorf("looking for the marker: %w", noEOF(err))
	}
	var found osmith.Version
	for {
		at := bytes.Index(b, []byte("#### LoaderInfo: "))
		if at < 0 {
			break
		}
		b = b[at:]
		if version, ok := VersionOf(b[:min(len(b), MaxMarker)], program); ok {
			if found != "" && found != version {
				return "", fmt.Errorf("%w: no .sdmagic section, and two versions elsewhere, %s and %s", ErrNoMarker, found, version)
			}
			found = version
		}
		b = b[1:]
	}
	if found == "" {
		return "", fmt.Errorf("%w: no .sdmagic section, and no marker of systemd-%s elsewhere", ErrNoMarker, program)
	}
	return found, nil
}

func firstBytes(b []byte, n int) []byte { return b[:min(len(b), n)] }
