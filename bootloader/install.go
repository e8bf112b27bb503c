package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Installation describes systemd-boot on an ESP.
type Installation struct {
	Loader osmith.Source // systemd-boot, signed if Secure Boot is to accept it
	Config *Config       // nil: an empty loader.conf

	// Shim is the shim that firmware starts in place of the loader; it starts the loader and
	// verifies what the loader starts (https://github.com/rhboot/shim). Shim is installed as
	// EFI/systemd/shimx64.efi and EFI/BOOT/BOOTX64.EFI, with the loader beside each as grubx64.efi,
	// the name that shim looks for. A Boot#### must name EFI/systemd/shimx64.efi. Nil: firmware
	// starts the loader. Package upgrade finds out which shim a machine's firmware accepts
	// (LoaderOptions.Shims).
	Shim osmith.Source

	// Keys are Secure Boot keys that systemd-boot can enrol when the firmware is in setup mode:
	// signed updates of PK, KEK, db and, if need be, dbx, as loader/keys/NAME/PK.auth and so on. A
	// set named "auto" is enrolled automatically, depending on secure-boot-enroll in loader.conf.
	Keys []osmith.ESPFile

	// OmitFallback leaves out EFI/BOOT/BOOTX64.EFI, which firmware starts if none of its boot
	// options works, and on removable media.
	OmitFallback bool
}

// Files lists the files that `bootctl install` puts on an ESP, except the random seed: the loader
// under its own name and as the fallback, or after Shim; loader.conf; loader/entries.srel, which
// says that Type #1 entries are used; and the keys. The file names follow from the loader's
// architecture. If Loader is not systemd-boot, the error is [ErrNotLoader]; if Shim is not a shim
// or does not start the loader, [ErrNotShim].
func (in *Installation) Files() (files []osmith.ESPFile, err error) {
	files, _, err = in.files()
	return files, prefix.Error("bootloader", err)
}

// files reads the shim as well; nil if there is none.
func (in *Installation) files() (files []osmith.ESPFile, shim *program, err error) {
	if in.Loader == nil {
		return nil, nil, ErrMissingLoader
	}
	_, f, err := readLoader(in.Loader)
	if err != nil {
		return nil, nil, err
	}
	machine, ok := arch.ByMachine(f.Machine)
	if !ok {
		return nil, nil, fmt.Errorf("the loader is for machine type %#04x, for which EFI defines no file name", f.Machine)
	}
	config := in.Config
	if config == nil {
		config = new(Config)
	}
	text, err := config.MarshalText()
	if err != nil {
		return nil, nil, err
	}
	if in.Shim != nil {
		content, err := readSource(in.Shim, maxLoader)
		if err != nil {
			return nil, nil, fmt.Errorf("shim: %w", err)
		}
		if shim, err = readShim(content); err != nil {
			return nil, nil, fmt.Errorf("shim: %w", err)
		}
		if shim.arch != machine {
			return nil, nil, fmt.Errorf("shim is for %s and the loader for %s: want both for one architecture", shim.arch.Name, machine.Name)
		}
	}
	for _, l := range in.places(machine) {
		files = append(files, osmith.ESPFile{Path: l.Loader, Content: in.Loader})
		if l.Shim != "" {
			files = append(files, osmith.ESPFile{Path: l.Shim, Content: in.Shim})
		}
	}
	files = append(files,
		osmith.ESPFile{Path: configPath, Content: bytes.NewReader(text)},
		osmith.ESPFile{Path: srelPath, Content: strings.NewReader("type1\n")})
	if err := checkKeys(in.Keys); err != nil {
		return nil, nil, err
	}
	return append(files, in.Keys...), shim, nil
}

// BootFile is the path that a Boot#### must name ([BootProgram].File): the loader in EFI/systemd,
// or shim in front of it. Errors are those of Files.
func (in *Installation) BootFile() (name string, err error) {
	if _, err := in.Files(); err != nil {
		return "", err
	}
	_, f, err := readLoader(in.Loader)
	if err != nil {
		return "", prefix.Error("bootloader", err)
	}
	machine, _ := arch.ByMachine(f.Machine) // Files has asked
	return in.places(machine)[0].Entry(), nil
}

// checkKeys refuses sets of keys that systemd-boot or FAT would not take.
func checkKeys(files []osmith.ESPFile) error {
	sets := map[string]map[string]bool{} // by name, in lower case: the files of each
	for _, f := range files {
		dir, file := path.Split(f.Path)
		name := path.Base(dir)
		if dir != keysDir+name+"/" || !isKeySet(name) || !slices.Contains(keyFiles, file) {
			return fmt.Errorf("enrolment keys: path %q: want loader/keys/NAME/, where systemd-boot and FAT accept NAME, and PK.auth, KEK.auth, db.auth or dbx.auth", f.Path)
		}
		if f.Content == nil || f.Content.Size() == 0 {
			return fmt.Errorf("enrolment keys: %s is empty", f.Path)
		}
		set := sets[lower(name)]
		if set == nil {
			set = map[string]bool{}
			sets[lower(name)] = set
		}
		if set[file] {
			return fmt.Errorf("enrolment keys: %s is listed twice", f.Path)
		}
		set[file] = true
	}
	for name, set := range sets {
		for _, file := range keyFiles[:3] {
			if !set[file] {
				return fmt.Errorf("enrolment keys %q: %s is missing; systemd-boot enrols the whole set or nothing", name, file)
			}
		}
	}
	return nil
}

// isKeySet reports whether systemd-boot and FAT accept the name of a set of keys.
func isKeySet(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, "\"*/:<>?\\|")
}

// keyFiles are the files of a set of keys; the last one may be missing.
var keyFiles = []string{"PK.auth", "KEK.auth", "db.auth", "dbx.auth"}

// LoaderVersion is the version of a systemd-boot binary, such as "262-1", as `bootctl status` shows
// it. For any other program the error is an [*osmith.FormatError] with [ErrNotLoader].
func LoaderVersion(loader osmith.Source) (osmith.Version, error) {
	version, _, err := readLoader(loader)
	return version, prefix.Error("bootloader", err)
}

// readLoader reads the headers and the version of a systemd-boot binary.
func readLoader(loader osmith.Source) (osmith.Version, *pe.File, error) {
	f, err := pe.Parse(loader, loader.Size())
	if err != nil {
		if e, ok := errors.AsType[*osmith.FormatError](err); ok && errors.Is(err, pe.ErrNotPE) {
			e.Err = fmt.Errorf("%w: %w", ErrNotLoader, e.Err)
		}
		return "", nil, err
	}
	version, err := sdstub.ReadVersion(loader, f, sdstub.ProgramBoot)
	if err != nil {
		if errors.Is(err, sdstub.ErrNoMarker) {
			err = fmt.Errorf("%w: %w", ErrNotLoader, err)
		}
		return "", nil, &osmith.FormatError{Offset: f.Fields.SectionTable, Field: "marker", Err: err}
	}
	return version, f, nil
}
