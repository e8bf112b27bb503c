// Package loaderfiles is what programs share about the boot loader on an ESP: where it is, and what
// flags say of loader.conf and of keys.
package loaderfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/arch"
)

// Found is a program in the place of the boot loader.
type Found struct {
	Path    string
	Version osmith.Version
	Err     error // why Version is not known: [bootloader.ErrNotLoader], or it cannot be read
}

// Find finds the loader of an architecture in those places that are asked about: the first
// systemd-boot, or what may be one, or else the first program. Nil: there is none.
func Find(esp fs.FS, a *arch.Architecture, ask func(arch.LoaderPlace) bool) (found *Found, err error) {
	if a.EFI == "" {
		return nil, nil
	}
	for _, at := range a.LoaderPlaces() {
		if !ask(at) {
			continue
		}
		f, err := look(esp, at.Loader)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("%s: %w", at.Loader, err)
		case !errors.Is(f.Err, bootloader.ErrNotLoader):
			return f, nil
		case found == nil:
			found = f
		}
	}
	return found, nil
}

func look(esp fs.FS, name string) (_ *Found, err error) {
	f, err := esp.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	found := &Found{Path: name}
	found.Version, found.Err = bootloader.LoaderVersion(io.NewSectionReader(f.(io.ReaderAt), 0, info.Size()))
	return found, nil
}

// Config takes KEY=VALUE, and KEY= for keys to remove. What the loader would not read is a call
// that makes no sense.
func Config(list []string) (set *bootloader.Config, remove []string, err error) {
	var text strings.Builder
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		switch {
		case !ok || key == "" || strings.ContainsAny(s, "\r\n"):
			return nil, nil, cli.Usagef("-conf %q: want KEY=VALUE, or KEY= to remove a key", s)
		case value == "":
			remove = append(remove, key)
		default:
			fmt.Fprintf(&text, "%s %s\n", key, value)
		}
	}
	set = bootloader.ParseConfig([]byte(text.String()))
	for _, l := range set.Ignored {
		return nil, nil, cli.Usagef("-conf %s=%s: %s", l.Key, l.Value, l.Reason)
	}
	if _, err := bootloader.EditConfig(nil, bootloader.ConfigEdit{Set: set, Remove: remove}); err != nil {
		return nil, nil, cli.Usagef("-conf: %v", err)
	}
	return set, remove, nil
}

// maxKeys bounds a file of keys.
const maxKeys = 1 << 20

// Keys reads sets of keys: the files of one, which is called auto, or directories.
func Keys(dir string) ([]osmith.ESPFile, error) {
	sets := map[string]string{"auto": dir}
	if _, err := os.Stat(filepath.Join(dir, "PK.auth")); errors.Is(err, fs.ErrNotExist) {
		list, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("-keys: %w", err)
		}
		delete(sets, "auto")
		for _, d := range list {
			if d.IsDir() {
				sets[d.Name()] = filepath.Join(dir, d.Name())
			}
		}
	} else if err != nil {
		return nil, fmt.Errorf("-keys: %w", err)
	}
	var files []osmith.ESPFile
	for set, from := range sets {
		for _, name := range []string{"PK.auth", "KEK.auth", "db.auth", "dbx.auth"} {
			b, err := cli.ReadFile(filepath.Join(from, name), maxKeys)
			if errors.Is(err, fs.ErrNotExist) && name == "dbx.auth" {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("-keys: %w", err)
			}
			files = append(files, osmith.ESPFile{Path: path.Join("loader/keys", set, name), Content: bytes.NewReader(b)})
		}
	}
	if files == nil {
		return nil, cli.Usagef("-keys %s: neither PK.auth nor a directory with it is there", dir)
	}
	return files, nil
}
