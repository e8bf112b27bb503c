package upgrade

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/partition/fat"
)

// removed are the files that go when an entry is removed, itself first: what lies beside its UKI,
// and of a Type #1 entry what it names and nothing else needs.
func (s *State) removed(e *Entry, going func(*Entry) bool) (files []espFile, err error) {
	files = append(files, espFile{e.Path, e.size, StepRemoveEntry})
	files = append(files, e.files...)
	for _, name := range e.Files {
		needed, err := s.neededBy(name, going)
		if err != nil {
			return nil, err
		}
		info, err := fs.Stat(s.esp, name)
		if err != nil {
			return nil, err
		}
		if needed {
			continue
		}
		kind := StepRemoveFile
		if slices.ContainsFunc(s.Entries, func(e *Entry) bool { return fat.SameName(e.Path, name) }) {
			kind = StepRemoveEntry
		}
		files = append(files, espFile{name, info.Size(), kind})
	}
	return files, nil
}

// neededBy reports whether a file stays although entries go: another entry names it, a text that no
// entry was made of has its name, or firmware may start it.
func (s *State) neededBy(name string, going func(*Entry) bool) (bool, error) {
	names := func(other string) bool { return fat.SameName(other, name) }
	if slices.ContainsFunc(s.loaders, func(l espLoader) bool { return names(l.path) }) {
		return true, nil
	}
	texts := map[string]bool{} // of entries that are known, whether they go
	for _, e := range s.Entries {
		texts[fold(e.Path)] = true
		if !going(e) && (names(e.Path) || slices.ContainsFunc(e.Files, names)) {
			return true, nil
		}
	}
	volume, rest := splitVolume(name)
	list, err := listDir(s.esp, volume+type1Dir)
	if err != nil {
		return false, err
	}
	for _, f := range list {
		conf := volume + path.Join(type1Dir, f.Name())
		if f.IsDir() || texts[fold(conf)] {
			continue
		}
		b, err := fs.ReadFile(s.esp, conf)
		if err != nil {
			return false, err
		}
		if strings.Contains(fold(strings.ReplaceAll(string(b), `\`, "/")), fold(rest)) {
			return true, nil
		}
	}
	return false, nil
}
