package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An Output is written beside its name and gets it by [Keep], so that a failure leaves no half
// file. A device is written in place.
type Output struct {
	*os.File
	name, temporary string
}

// Create opens the output of that name.
func Create(name string) (*Output, error) { return create(name, false) }

// create makes what is secret a file that only its owner can read from the first moment on,
// whatever was there.
func create(name string, secret bool) (*Output, error) {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory", name)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		return &Output{File: f, name: name}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	temporary := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text())
	mode := fs.FileMode(0o666)
	if secret {
		mode = 0o600
	}
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = fmt.Errorf("create %s: %w", name, p.Err)
		}
		return nil, err
	}
	o := &Output{f, name, temporary}
	if info != nil && !secret { // what is replaced keeps its permissions
		if err := f.Chmod(info.Mode().Perm()); err != nil {
			o.Drop()
			return nil, err
		}
	}
	return o, nil
}

// InPlace reports whether the output is a device, whose size is what it is.
func (o *Output) InPlace() bool { return o.temporary == "" }

// WriteFile writes a small file as an output.
func WriteFile(name string, content []byte) error { return writeFile(name, content, false) }

// WriteSecret is [WriteFile] for what only its owner may read.
func WriteSecret(name string, content []byte) error { return writeFile(name, content, true) }

func writeFile(name string, content []byte, secret bool) error {
	o, err := create(name, secret)
	if err != nil {
		return err
	}
	defer o.Drop()
	if _, err := o.Write(content); err != nil {
		return err
	}
	return Keep(o)
}

// Keep gives the outputs their names, once all are on the disk.
func Keep(outputs ...*Output) error {
	for _, o := range outputs {
		if err := o.sync(); err != nil {
			return errors.Join(err, o.Close())
		}
		if err := o.Close(); err != nil {
			return err
		}
	}
	for _, o := range outputs {
		if o.temporary == "" {
			continue
		}
		if err := os.Rename(o.temporary, o.name); err != nil {
			return err
		}
		o.temporary = ""
	}
	return nil
}

// sync is for files and block devices: /dev/null, /dev/stdout and pipes have nothing to sync.
func (o *Output) sync() error {
	info, err := o.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode(); !mode.IsRegular() && mode.Type() != fs.ModeDevice {
		return nil
	}
	return o.Sync()
}

// Drop closes the file and removes what was not kept.
func (o *Output) Drop() {
	_ = o.Close() // closed by Keep, or there is an error to report already
	if o.temporary != "" {
		_ = os.Remove(o.temporary)
	}
}
