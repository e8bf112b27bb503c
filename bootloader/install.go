package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Installation describes systemd-boot on an ESP.
type Installation struct {
	Loader osmith.Source // systemd-boot, signed if Secure Boot is to accept it
	Config *Config       // nil: an empty loader.conf

	// Keys are Secure Boot keys that systemd-boot can enrol when the firmware is in setup mode. A set named "auto" is
	// enrolled without being asked for, as secure-boot-enroll in loader.conf says.
	Keys []EnrolmentKeys

	// OmitFallback leaves out EFI/BOOT/BOOTX64.EFI, which firmware starts when no boot entry of its own works, and on
	// removable media.
	OmitFallback bool
}

// EnrolmentKeys are authenticated EFI variables (.auth files) for the directory loader/keys/NAME.
type EnrolmentKeys struct {
	Name        string
	PK, KEK, DB []byte
	DBX         []byte // optional
}

// Files lists what `bootctl install` puts on an ESP, besides a random seed: the loader under its own name and as the
// fallback, loader.conf, loader/entries.srel, which says that Type #1 entries are used, and the keys. The file names
// follow from the loader's architecture. A file that is not systemd-boot is refused ([ErrNotLoader]).
func (in *Installation) Files() ([]osmith.ESPFile, error) {
	if in.Loader == nil {
		return nil, fmt.Errorf("bootloader: %w", ErrMissingLoader)
	}
	if _, err := LoaderVersion(in.Loader); err != nil {
		return nil, err
	}
	f, err := pe.Parse(in.Loader, in.Loader.Size())
	if err != nil {
		return nil, formatError(err)
	}
	machine, ok := arch.ByMachine(f.Machine)
	if !ok {
		return nil, fmt.Errorf("bootloader: loader for machine type %#04x, which has no EFI name", f.Machine)
	}
	config := in.Config
	if config == nil {
		config = new(Config)
	}
	text, err := config.MarshalText()
	if err != nil {
		return nil, err
	}
	files := []osmith.ESPFile{{Path: "EFI/systemd/systemd-boot" + machine.EFI + ".efi", Content: in.Loader}}
	if !in.OmitFallback {
		files = append(files, osmith.ESPFile{Path: machine.Loader(), Content: in.Loader})
	}
	files = append(files,
		osmith.ESPFile{Path: configPath, Content: bytes.NewReader(text)},
		osmith.ESPFile{Path: "loader/entries.srel", Content: strings.NewReader("type1\n")})
	seen := make(map[string]bool)
	for _, k := range in.Keys {
		list, err := k.files()
		if err != nil {
			return nil, err
		}
		if seen[lower(k.Name)] {
			return nil, fmt.Errorf("bootloader: enrolment keys %q are there twice", k.Name)
		}
		seen[lower(k.Name)] = true
		files = append(files, list...)
	}
	return files, nil
}

func (k EnrolmentKeys) files() ([]osmith.ESPFile, error) {
	if k.Name == "" || k.Name[0] == '.' || strings.ContainsAny(k.Name, "\"*/:<>?\\|") {
		return nil, fmt.Errorf("bootloader: enrolment keys %q: not a name that systemd-boot and FAT accept", k.Name)
	}
	var files []osmith.ESPFile
	for _, v := range []struct {
		name     string
		auth     []byte
		optional bool
	}{{"PK", k.PK, false}, {"KEK", k.KEK, false}, {"db", k.DB, false}, {"dbx", k.DBX, true}} {
		if len(v.auth) == 0 {
			if v.optional {
				continue
			}
			return nil, fmt.Errorf("bootloader: enrolment keys %q: %s is missing, systemd-boot enrols all or nothing", k.Name, v.name)
		}
		files = append(files, osmith.ESPFile{Path: "loader/keys/" + k.Name + "/" + v.name + ".auth", Content: bytes.NewReader(v.auth)})
	}
	return files, nil
}

// LoaderVersion is the version of a systemd-boot binary, such as "262-1", as `bootctl status` shows it. Another program
// is a [*FormatError] with [ErrNotLoader].
func LoaderVersion(loader osmith.Source) (osmith.Version, error) {
	f, err := pe.Parse(loader, loader.Size())
	if err != nil {
		return "", formatError(err)
	}
	s, ok := f.Section(".sdmagic")
	if !ok {
		return "", &FormatError{f.Fields.SectionTable, "section table", fmt.Errorf("no .sdmagic section: %w", ErrNotLoader)}
	}
	at := s.Data()
	b := make([]byte, min(at.Size, sdstub.MaxMarker))
	if err := readFull(loader, b, at.Offset); err != nil {
		return "", &FormatError{at.Offset, "section .sdmagic", err}
	}
	version, ok := sdstub.VersionOf(b, sdstub.ProgramBoot)
	if !ok {
		return "", &FormatError{at.Offset, "section .sdmagic", fmt.Errorf("holds %q: %w", b, ErrNotLoader)}
	}
	return version, nil
}

// formatError turns an error of the PE reader into this package's type.
func formatError(err error) error {
	var f *osmith.FormatError
	if !errors.As(err, &f) {
		return &FormatError{0, "image", err}
	}
	if errors.Is(f.Err, pe.ErrNotPE) {
		return &FormatError{f.Offset, f.Field, fmt.Errorf("%w: %w", ErrNotLoader, f.Err)}
	}
	return &FormatError{f.Offset, f.Field, f.Err}
}
