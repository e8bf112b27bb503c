package upgrade

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
)

// onXBOOTLDR begins the paths of files on an extended boot loader partition (UAPI.1, "$BOOT"). No
// file of a FAT has a colon in its name.
const onXBOOTLDR = "xbootldr:"

// splitVolume is what of a path says on which file system it is, "" for the ESP, and the path
// there.
func splitVolume(name string) (volume, rest string) {
	if rest, ok := strings.CutPrefix(name, onXBOOTLDR); ok {
		return onXBOOTLDR, rest
	}
	return "", name
}

// bootFS is what the loader reads: the ESP, and the extended boot loader partition, if there is
// one.
type bootFS struct {
	esp      *bootVolume
	xbootldr *bootVolume // nil: none
}

// volume is the file system of a path, and the path there. Without an extended boot loader
// partition nothing is there.
func (b *bootFS) volume(name string) (*bootVolume, string, error) {
	volume, rest := splitVolume(name)
	switch {
	case volume == "":
		return b.esp, rest, nil
	case b.xbootldr == nil:
		return nil, rest, fs.ErrNotExist
	}
	return b.xbootldr, rest, nil
}

// Open implements [fs.FS].
func (b *bootFS) Open(name string) (fs.File, error) {
	f, rest, err := b.volume(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f.Open(rest)
}

// ReadDir implements [fs.ReadDirFS].
func (b *bootFS) ReadDir(name string) ([]fs.DirEntry, error) {
	f, rest, err := b.volume(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f.ReadDir(rest)
}

// ReadFile implements [fs.ReadFileFS].
func (b *bootFS) ReadFile(name string) ([]byte, error) {
	f, rest, err := b.volume(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f.ReadFile(rest)
}

// Stat implements [fs.StatFS].
func (b *bootFS) Stat(name string) (fs.FileInfo, error) {
	f, rest, err := b.volume(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return f.Stat(rest)
}

func (b *bootFS) change(name string, do func(v *bootVolume, rest string) error) error {
	f, rest, err := b.volume(name)
	if err != nil {
		return &fs.PathError{Op: "change", Path: name, Err: err}
	}
	return do(f, rest)
}

func (b *bootFS) Remove(name string) error { return b.change(name, (*bootVolume).Remove) }

func (b *bootFS) MkdirAll(name string) error { return b.change(name, (*bootVolume).MkdirAll) }

// Rename gives a file another name in its directory.
func (b *bootFS) Rename(from, to string) error {
	_, rest := splitVolume(to)
	return b.change(from, func(v *bootVolume, from string) error { return v.Rename(from, rest) })
}

func (b *bootFS) WriteFile(name string, content osmith.Source) error {
	return b.change(name, func(v *bootVolume, rest string) error { return v.WriteFile(rest, content) })
}

func (b *bootFS) ReplaceFile(name string, content osmith.Source) error {
	return b.change(name, func(v *bootVolume, rest string) error { return v.ReplaceFile(rest, content) })
}

// each calls do for the ESP and for the extended boot loader partition.
func (b *bootFS) each(do func(volume string, v *bootVolume) error) error {
	if err := do("", b.esp); err != nil || b.xbootldr == nil {
		return err
	}
	return do(onXBOOTLDR, b.xbootldr)
}

// Repair puts right what a power cut has left in both.
func (b *bootFS) Repair() error {
	return b.each(func(_ string, v *bootVolume) error {
		_, err := v.Repair()
		return err
	})
}

// of is the file system of a path alone.
func (b *bootFS) of(name string) *bootVolume {
	if v, _, err := b.volume(name); err == nil {
		return v
	}
	return b.esp
}

// listDir lists a directory; one that is not there has nothing.
func listDir(fsys fs.FS, dir string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// volumeFS is one file system of several, with its own paths.
type volumeFS struct {
	fs.FS
	volume string
}

// Open implements [fs.FS].
func (v volumeFS) Open(name string) (fs.File, error) { return v.FS.Open(v.volume + name) }

// ReadDir implements [fs.ReadDirFS].
func (v volumeFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(v.FS, v.volume+name) }

// readMenu reads the loader's menu of both file systems. Paths on the extended boot loader
// partition begin with its name.
func readMenu(fsys fs.FS, hasXBOOTLDR bool, o bootloader.MenuOptions) (*bootloader.Menu, error) {
	if hasXBOOTLDR {
		o.XBOOTLDR = volumeFS{fsys, onXBOOTLDR}
	}
	menu, err := bootloader.ReadMenu(volumeFS{fsys, ""}, o)
	if err != nil {
		return nil, err
	}
	for i := range menu.Findings {
		if f := &menu.Findings[i]; f.XBOOTLDR {
			f.Path = onXBOOTLDR + f.Path
		}
	}
	for _, e := range menu.Entries {
		if !e.XBOOTLDR {
			continue
		}
		e.Path = onXBOOTLDR + e.Path
		if e.Type != bootloader.EntryType1URL {
			e.Loader = onXBOOTLDR + e.Loader
		}
		for _, list := range [][]string{e.Files, e.Initrd} {
			for i := range list {
				list[i] = onXBOOTLDR + list[i]
			}
		}
	}
	return menu, nil
}

// entryDirOf is where the loader looks for UKIs on the file system of a path.
func entryDirOf(name string) string {
	volume, _ := splitVolume(name)
	return path.Join(volume + entryDir)
}
