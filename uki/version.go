package uki

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/osmith-dev/osmith/internal/pe"
)

// The marker in .sdmagic: "#### LoaderInfo: systemd-stub VERSION ####", of the stub of add-ons systemd-addon (systemd,
// src/boot/stub.c and addon.c).
const (
	magicStart = "#### LoaderInfo: systemd-"
	magicEnd   = " ####"
	maxMagic   = 256
)

// stubVersion reads the version out of .sdmagic.
func stubVersion(r io.ReaderAt, f *pe.File) (string, error) { return programVersion(r, f, "stub") }

// programVersion is stubVersion of another of systemd's EFI programs.
func programVersion(r io.ReaderAt, f *pe.File, program string) (string, error) {
	s, ok := f.Section(".sdmagic")
	if !ok {
		return "", fmt.Errorf("%w: no .sdmagic section", ErrUnknownStub)
	}
	d := s.Data()
	b, err := readAll(offsetReader{r, d.Offset}, d.Size, maxMagic)
	if err != nil {
		return "", fmt.Errorf("section .sdmagic: %w", err)
	}
	rest, ok := bytes.CutPrefix(b, []byte(magicStart+program+" "))
	version, _, found := bytes.Cut(rest, []byte(magicEnd))
	if !ok || !found || len(version) == 0 {
		return "", fmt.Errorf("%w: .sdmagic holds %q", ErrUnknownStub, firstRunes(string(b), 60))
	}
	return string(version), nil
}

// stubRelease is the systemd release number that a version string begins with: 262 of "262-1", 257 of "257.13-1~deb13u1".
func stubRelease(version string) (int, error) {
	digits := 0
	for digits < len(version) && version[digits] >= '0' && version[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(version[:digits])
	if err != nil {
		return 0, fmt.Errorf("%w: %q does not begin with a release number", ErrUnknownStub, version)
	}
	return n, nil
}

// knownRelease is the row of the section table to use for a stub: its own release, or the one the caller names.
func knownRelease(version string, versionErr error, assume int) (int, error) {
	n := assume
	if n == 0 {
		if versionErr != nil {
			return 0, versionErr
		}
		var err error
		if n, err = stubRelease(version); err != nil {
			return 0, err
		}
	}
	if n < oldestStub || n > newestStub {
		return 0, fmt.Errorf("%w: what release %d measures is not known (known: %d to %d)", ErrUnknownStub, n, oldestStub, newestStub)
	}
	return n, nil
}
