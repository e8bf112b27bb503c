package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// espLoader is a program on the ESP that firmware starts, or may start.
type espLoader struct {
	path    string
	src     osmith.Source
	shim    bool          // it is a shim, which firmware judges whatever else is said of shim
	behind  osmith.Source // the shim that starts it; nil: firmware does, or Machine.Shim
	perhaps bool          // only if a Boot#### that is not known says so
}

// findLoaders finds every place of the ESP from which firmware may start something, and the rules
// of the loaders there. The error says what of that is missing or cannot be read; what can be is
// found nevertheless.
func (s *State) findLoaders(machine *arch.Architecture) error {
	places := []string{machine.Loader(), arch.SystemdDir + machine.SystemdBoot(), arch.SystemdDir + machine.Shim()}
	for _, p := range s.machine.LoaderPaths {
		places = append(places, espPath(p))
	}
	var problems []error
	for i, p := range places {
		// Firmware passes over what is not there, but for the place where it looks last.
		if err := s.addLoader(p, false); err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			problems = append(problems, fmt.Errorf("boot loader on the ESP: %w", err))
		}
	}
	if s.machine.LoaderPaths == nil {
		if err := s.otherLoaders(); err != nil {
			problems = append(problems, err)
		}
	}
	for i := 0; i < len(s.loaders); i++ {
		l := &s.loaders[i]
		if l.shim = isShim(l.src); !l.shim || l.perhaps {
			continue
		}
		// Shim starts the program of this name beside it, whatever that is (shim, DEFAULT_LOADER).
		name, shim := path.Join(path.Dir(l.path), machine.ShimLoader()), l.src
		if err := s.addLoader(name, false); err != nil {
			problems = append(problems, fmt.Errorf("boot loader after shim on the ESP: %w", err))
			continue
		}
		i := slices.IndexFunc(s.loaders, func(l espLoader) bool { return fat.SameName(l.path, name) })
		s.loaders[i].behind = shim
	}
	for _, l := range s.loaders {
		if l.shim || l.perhaps {
			continue
		}
		if s.loader == nil {
			s.loader = l.src
		}
		s.addRules(rulesOf(l.src, s.machine.AssumeLoader))
	}
	return errors.Join(problems...)
}

// isShim reports whether a program is a shim: it has the section that no other has.
func isShim(src osmith.Source) bool {
	_, err := secureboot.ReadShim(src)
	return err == nil
}

func (s *State) addLoader(name string, perhaps bool) error {
	if i := slices.IndexFunc(s.loaders, func(l espLoader) bool { return fat.SameName(l.path, name) }); i >= 0 {
		s.loaders[i].perhaps = s.loaders[i].perhaps && perhaps
		return nil
	}
	src, err := openFile(s.esp, name)
	if err == nil {
		s.loaders = append(s.loaders, espLoader{path: name, src: src, perhaps: perhaps})
	}
	return err
}

// otherLoaders adds programs in the directories of EFI, where installers put what they make a
// Boot#### for.
func (s *State) otherLoaders() error {
	vendors, err := s.esp.ReadDir("EFI")
	if err != nil {
		return err
	}
	for _, v := range vendors {
		if dir := path.Join("EFI", v.Name()); v.IsDir() && !fat.SameName(dir, entryDir) && !fat.SameName(dir, path.Dir(failedPath)) {
			files, err := s.esp.ReadDir(dir)
			if err != nil {
				return err
			}
			for _, f := range files {
				if f.IsDir() || !strings.EqualFold(path.Ext(f.Name()), ".efi") {
					continue
				}
				if err := s.addLoader(path.Join(dir, f.Name()), true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// addRules adds the rules of one more loader, unless it is of a version that is there.
func (s *State) addRules(r loaderRules) {
	if !slices.ContainsFunc(s.rules, func(have loaderRules) bool { return have.version == r.version && (have.err == nil) == (r.err == nil) }) {
		s.rules = append(s.rules, r)
	}
}

// judgeLoaders asks whether firmware starts what it finds in each of these places.
func (s *State) judgeLoaders(j *Verdict) {
	for _, l := range s.loaders {
		m := *s.machine
		switch {
		case l.shim:
			m.Shim, m.NoShim = nil, true
		case l.behind != nil && m.Shim != nil:
			m.Shim = l.behind
		}
		im, err := m.examine(l.path, l.src)
		if err == nil && im.refused() == nil {
			im.judgeStart(j, l.path)
			continue
		}
		if err == nil {
			err = im.refused()
		} else {
			err = fmt.Errorf("%s, which firmware may start: %w", l.path, err)
		}
		if l.perhaps {
			j.warn("%v; whether a Boot#### starts it is unknown: set Machine.LoaderPaths", err)
			continue
		}
		j.fail(err)
	}
	if i := slices.IndexFunc(s.loaders, func(l espLoader) bool { return l.shim && !l.perhaps }); i >= 0 && s.machine.Shim == nil {
		j.warn("%s is a shim, but Machine.Shim is not set: whether the shim starts the programs after it is unknown", s.loaders[i].path)
	}
	s.judgeDrivers(j)
}

// driversDir is where systemd-boot finds drivers, which it has firmware load before its menu
// (systemd-boot(7), "Files").
const driversDir = "EFI/systemd/drivers"

// judgeDrivers notes drivers: one that firmware refuses is left out, and one that it loads is
// measured, which is not predicted.
func (s *State) judgeDrivers(j *Verdict) {
	files, err := s.esp.ReadDir(driversDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.fail(err)
	}
	for _, f := range files {
		if !f.IsDir() && strings.EqualFold(path.Ext(f.Name()), ".efi") {
			j.warn("systemd-boot loads the driver %s: what the driver does and measures is unknown", path.Join(driversDir, f.Name()))
		}
	}
}

// ErrXBOOTLDR is a reason of the boots and returns verdicts: the contents of the extended boot
// loader partition are unknown, and the loader may start an entry there.
var ErrXBOOTLDR = errors.New("the extended boot loader partition cannot be read as firmware does")

// findXBOOTLDR is the extended boot loader partition that systemd-boot opens: the first of the
// disk; nil if there is none.
func findXBOOTLDR(t *partition.Table) int {
	return slices.IndexFunc(t.Partitions, func(p partition.Partition) bool { return p.Type == partition.XBOOTLDR })
}
