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
	"github.com/osmith-dev/osmith/partition/fat"
)

// espLoader is a program on the ESP that firmware starts, or may start.
type espLoader struct {
	path    string
	src     osmith.Source
	perhaps bool // only if a Boot#### that is not known says so
}

// findLoaders finds every place of the ESP from which firmware may start something, and the rules of the loaders there.
func (s *State) findLoaders(machine *arch.Architecture) error {
	var err error
	if s.loader, err = openFile(s.esp, machine.Loader()); err != nil {
		return fmt.Errorf("boot loader on the ESP: %w", err)
	}
	s.loaders = []espLoader{{path: machine.Loader(), src: s.loader}}
	places := []string{"EFI/systemd/" + machine.SystemdBoot()}
	for _, p := range s.machine.LoaderPaths {
		places = append(places, espPath(p))
	}
	for _, p := range places {
		// Firmware passes over what is not there.
		if err := s.addLoader(p, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("boot loader on the ESP: %w", err)
		}
	}
	if s.machine.LoaderPaths == nil {
		if err := s.otherLoaders(); err != nil {
			return err
		}
	}
	for _, l := range s.loaders {
		if !l.perhaps {
			s.addRules(rulesOf(l.src, s.machine.AssumeLoader))
		}
	}
	return nil
}

func (s *State) addLoader(name string, perhaps bool) error {
	if slices.ContainsFunc(s.loaders, func(l espLoader) bool { return fat.SameName(l.path, name) }) {
		return nil
	}
	src, err := openFile(s.esp, name)
	if err == nil {
		s.loaders = append(s.loaders, espLoader{name, src, perhaps})
	}
	return err
}

// otherLoaders adds programs in the directories of EFI, where installers put what they make a Boot#### for.
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
		im, err := s.machine.examine(l.path, l.src)
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
			j.warn("%v; whether a Boot#### starts it is not known (Machine.LoaderPaths)", err)
			continue
		}
		j.fail(err)
	}
}
