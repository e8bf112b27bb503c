package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition/fat"
)

// withESP opens the file system that an operand IMG[:PART] names.
func withESP(c *cli.Call, operand string, flag int, do func(*fat.FS) error) error {
	name, part := splitPart(operand)
	disk, t, err := openDisk(c, name, flag)
	if err != nil {
		return err
	}
	i, err := findESP(t)
	if part != "" {
		i, err = find(t, part)
	}
	if err != nil {
		return err
	}
	window := t.Window(disk, i)
	var volume *fat.FS
	if flag == os.O_RDONLY {
		volume, err = fat.OpenReader(window)
	} else {
		volume, err = fat.Open(window)
	}
	if err != nil {
		return fmt.Errorf("%s, partition %d: %w", name, t.Partitions[i].Number, err)
	}
	return missing(do(volume))
}

func espLs(c *cli.Call, operands []string) error {
	return withESP(c, operands[0], os.O_RDONLY, func(volume *fat.FS) error { return list(c, operands, 1, "fat", volume) })
}

func espCat(c *cli.Call, operands []string) error {
	return withESP(c, operands[0], os.O_RDONLY, func(volume *fat.FS) error {
		name := inside(operands[1])
		f, err := volume.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.IsDir() {
			return errors.Join(err, cli.No{Err: fmt.Errorf("%s is a directory", name)})
		}
		if !c.JSON {
			_, err = io.Copy(c.Stdout, f)
			return err
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err != nil {
			return err
		}
		return c.Answer(fileJSON{head: header(c, operands[0]), Path: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil)), Free: volume.Free()}, "")
	})
}

// espPut writes a file that is new, or replaces one; both survive a power cut. Directories are made as needed.
func espPut(c *cli.Call, operands []string) error {
	src, err := c.Open(operands[1])
	if err != nil {
		return err
	}
	return withESP(c, operands[0], os.O_RDWR, func(volume *fat.FS) error {
		name := inside(operands[2])
		if info, err := volume.Stat(name); err == nil && info.IsDir() || strings.HasSuffix(operands[2], "/") {
			name = path.Join(name, path.Base(strings.ReplaceAll(operands[1], `\`, "/")))
		}
		_, err := volume.Stat(name)
		switch {
		case err == nil:
			err = volume.ReplaceFile(name, src)
		case errors.Is(err, fs.ErrNotExist):
			if dir := path.Dir(name); dir != "." {
				if err := volume.MkdirAll(dir); err != nil {
					return err
				}
			}
			err = volume.WriteFile(name, src)
		}
		if err != nil {
			return err
		}
		return c.Answer(fileJSON{head: header(c, operands[0]), Path: name, Size: src.Size(), Free: volume.Free()}, "")
	})
}

func espRm(c *cli.Call, operands []string) error {
	return withESP(c, operands[0], os.O_RDWR, func(volume *fat.FS) error {
		name := inside(operands[1])
		if err := volume.Remove(name); err != nil {
			return err
		}
		return c.Answer(fileJSON{head: header(c, operands[0]), Path: name, Free: volume.Free()}, "")
	})
}

func espMv(c *cli.Call, operands []string) error {
	return withESP(c, operands[0], os.O_RDWR, func(volume *fat.FS) error {
		name := inside(operands[2])
		if err := volume.Rename(inside(operands[1]), name); err != nil {
			return err
		}
		return c.Answer(fileJSON{head: header(c, operands[0]), Path: name, Free: volume.Free()}, "")
	})
}
