package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// A program is a systemd-boot, or, without a version, a shim.
type program struct {
	content []byte
	version osmith.Version
	arch    *arch.Architecture
	sbat    []sbat.Entry
	sbatErr error // why shim would not take the SBAT section
}

func readProgram(content []byte) (*program, error) {
	version, f, err := readLoader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	p := &program{content: content, version: version}
	p.arch, _ = arch.ByMachine(f.Machine)
	p.readSBAT(f)
	return p, nil
}

// readSBAT reads the generations of the components.
func (p *program) readSBAT(f *pe.File) {
	var section []byte
	for _, s := range f.Sections {
		if s.Name == ".sbat" {
			if section != nil {
				p.sbatErr = errors.New("two sections .sbat")
				return
			}
			section = p.content[s.Data().Offset:s.Data().End()]
		}
	}
	p.sbat, p.sbatErr = sbat.Parse(section)
}

// An espFile is a file, or where one would be, as it is spelled on the ESP.
type espFile struct {
	path     string
	there    bool
	readOnly bool
}

// findFile finds a file without regard to case. A directory in its place, or a file where one of
// its directories should be, is an error.
func findFile(esp fs.FS, name string) (espFile, error) {
	at, rest := ".", strings.Split(name, "/")
	for i, part := range rest {
		next, err := lookupIn(esp, at, part)
		if errors.Is(err, fs.ErrNotExist) {
			return espFile{path: path.Join(at, path.Join(rest[i:]...))}, nil
		}
		if err != nil {
			return espFile{}, err
		}
		info, err := fs.Stat(esp, next)
		if err != nil {
			return espFile{}, err
		}
		last := i == len(rest)-1
		switch {
		case last && info.IsDir():
			return espFile{}, fmt.Errorf("%s is a directory, want a file: remove it", next)
		case last:
			return espFile{next, true, info.Mode()&0o222 == 0}, nil
		case !info.IsDir():
			return espFile{}, fmt.Errorf("%s is a file, want a directory: remove it", next)
		}
		at = next
	}
	return espFile{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
}

var errTooLong = errors.New("file is too large")

// read is the content, up to a size. With [errTooLong] the result has one byte more.
func (f espFile) read(esp fs.FS, limit int64) ([]byte, error) {
	file, err := esp.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return b, &fs.PathError{Op: "read", Path: f.path, Err: fmt.Errorf("%w: more than %d bytes", errTooLong, limit)}
	}
	return b, nil
}

// program reads a file as a systemd-boot; why says that it is none, err that it cannot be read.
func (f espFile) program(esp fs.FS) (p *program, why, err error) {
	content, err := f.read(esp, maxLoader)
	if errors.Is(err, errTooLong) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p, why = readProgram(content)
	return p, why, nil
}

func (f espFile) unknownVersion(why error) error {
	return fmt.Errorf("%s is not replaced, because its version cannot be read: %w: remove the file if it is not needed", f.path, why)
}

// readSource is all of a source, up to a size.
func readSource(src osmith.Source, limit int64) ([]byte, error) {
	if src.Size() > limit {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", errTooLong, src.Size(), limit)
	}
	b := make([]byte, src.Size())
	if err := readFull(src, b, 0); err != nil {
		return nil, err
	}
	return b, nil
}
