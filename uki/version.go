package uki

import (
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// programVersion reads the version of one of systemd's EFI programs out of .sdmagic.
func programVersion(r io.ReaderAt, f *pe.File, program string) (osmith.Version, error) {
	s, ok := f.Section(".sdmagic")
	if !ok {
		return "", fmt.Errorf("%w: no .sdmagic section", ErrUnknownStub)
	}
	d := s.Data()
	b, err := readAll(offsetReader{r, d.Offset}, d.Size, sdstub.MaxMarker)
	if err != nil {
		return "", fmt.Errorf("section .sdmagic: %w", err)
	}
	version, ok := sdstub.VersionOf(b, program)
	if !ok {
		return "", fmt.Errorf("%w: .sdmagic holds %q", ErrUnknownStub, firstRunes(string(b), 60))
	}
	return version, nil
}

// knownRelease is how a stub behaves: by its own release, or if that is not known by the one that the caller names.
func knownRelease(version osmith.Version, versionErr error, assume int) (sdstub.Release, error) {
	if versionErr != nil && assume == 0 {
		return sdstub.Release{}, versionErr
	}
	row, err := sdstub.Find(version, assume)
	if err != nil {
		return sdstub.Release{}, fmt.Errorf("%w: %w", ErrUnknownStub, err)
	}
	return row, nil
}
