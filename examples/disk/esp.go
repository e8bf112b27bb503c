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

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// withESP opens the file system that an operand IMG[:PART] names.
func withESP(c *cli.Call, operand string, flag int, do func(*fat.FS) error) error {
	name, part := splitPart(operand)
	window, where, err := espOf(c, name, part, flag)
	if err != nil {
		return err
	}
	var volume *fat.FS
	if flag == os.O_RDONLY {
		volume, err = fat.OpenReader(window)
	} else {
		volume, err = fat.Open(window)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return missing(do(volume))
}

// espOf finds the ESP of an image, and says where it is. An image without a partition table may be
// a FAT volume itself.
func espOf(c *cli.Call, name, part string, flag int) (osmith.Disk, string, error) {
	disk, err := c.OpenFile(name, flag)
	if err != nil {
		return nil, "", err
	}
	t, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		if _, no := fat.OpenReader(disk); no == nil && part == "" {
			return disk, name, nil
		}
		return nil, "", table(name, err)
	}
	i, err := findESP(t)
	if part != "" {
		i, err = find(t, part)
	}
	if err != nil {
		return nil, "", err
	}
	return t.Window(disk, i), fmt.Sprintf("%s, partition %d", name, t.Partitions[i].Number), nil
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

// espPut writes a file that is new, or replaces one; both survive a power cut. Directories are made
// as needed.
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

// espInspect says what the volume is and what is wrong with it. Anything wrong is a negative
// answer.
func espInspect(c *cli.Call, operands []string) error {
	return withESP(c, operands[0], os.O_RDONLY, func(volume *fat.FS) error {
		found, err := volume.Check()
		if err != nil {
			return err
		}
		id := volume.VolumeID()
		out := volumeJSON{head: header(c, operands[0]), Kind: volume.Kind(), Label: volume.Label(), VolumeID: fmt.Sprintf("%04X-%04X", id>>16, id&0xffff),
			ClusterSize: volume.ClusterSize(), Free: volume.Free(), Clean: found.Clean(), InUse: found.InUse, IOErrors: found.IOErrors,
			FATs: []fatJSON{}, Lost: found.LostClusters, Problems: []string{}}
		for _, f := range found.FATs {
			out.FATs = append(out.FATs, fatJSON{f.Number, f.Head, f.Differs, f.Damaged})
		}
		if found.FATsErr != nil {
			out.FATsError = found.FATsErr.Error()
		}
		for _, p := range found.Problems {
			out.Problems = append(out.Problems, p.String())
		}
		text := fmt.Sprintf("FAT%d  %s  %q  clusters of %d bytes, %d bytes free\n%s", out.Kind, out.VolumeID, out.Label, out.ClusterSize, out.Free, found)
		if err := c.Answer(out, strings.ToValidUTF8(text, "?")); err != nil || out.Clean {
			return err
		}
		return cli.No{Err: errors.New("the file system is not clean: disk esp repair repairs what a power cut or another tool left")}
	})
}

// espRepair puts right what power cuts and other makers leave. What it does not dare to touch is a
// negative answer.
func espRepair(c *cli.Call, operands []string) error {
	return withESP(c, operands[0], os.O_RDWR, func(volume *fat.FS) error {
		done, err := volume.Repair()
		if _, damaged := errors.AsType[*osmith.FormatError](err); damaged || errors.Is(err, fat.ErrReadOnly) || errors.Is(err, fat.ErrFATsDiffer) || errors.Is(err, fat.ErrFATDamaged) {
			return cli.No{Err: err}
		}
		if err != nil {
			return err
		}
		return c.Answer(repairJSON{header(c, operands[0]), done != fat.Repaired{}, done.String()}, done.String()+"\n")
	})
}
