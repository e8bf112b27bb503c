package grub

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// release is what a release of GRUB does otherwise than the next.
type release struct {
	version string
	nul     bool // the load options of the kernel end in a NUL
	// initrds were seen whose last one is a multiple of four bytes alone: whether it is padded is
	// not known
	whole bool
}

// releases are those that were booted, as Debian builds them.
var releases = []release{{version: "2.12"}, {version: "2.14", nul: true, whole: true}}

// Versions are the releases of GRUB that [Run] follows.
func Versions() (out []string) {
	for _, r := range releases {
		out = append(out, r.version)
	}
	return out
}

func findRelease(version string) (release, error) {
	i := slices.IndexFunc(releases, func(r release) bool { return r.version == version })
	if i < 0 {
		return release{}, fmt.Errorf("version %q: want one of %s, whose measurements were observed", version, strings.Join(Versions(), ", "))
	}
	return releases[i], nil
}

// Version reads the release of a GRUB from its section .sbat: "2.12" of "grub,7,Free Software
// Foundation,grub,2.12,https://...". The error is an [*osmith.FormatError] for a file that is not a
// PE image.
func Version(file osmith.Source) (_ string, err error) {
	defer prefix.Add("grub", &err)
	f, err := pe.Parse(file, file.Size())
	if err != nil {
		return "", err
	}
	section, ok := f.Section(".sbat")
	if !ok {
		return "", errors.New("the GRUB version cannot be read: section .sbat is missing")
	}
	at := section.Data()
	text, err := io.ReadAll(io.NewSectionReader(file, at.Offset, min(at.Size, sbat.MaxSize)))
	if err != nil {
		return "", err
	}
	lines, err := sbat.Lines(text)
	if err != nil {
		return "", err
	}
	for _, l := range lines {
		if columns := strings.Split(l, ","); columns[0] == "grub" && len(columns) == 6 {
			return columns[4], nil
		}
	}
	return "", errors.New("section .sbat has no line for GRUB")
}
