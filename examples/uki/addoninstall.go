package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/uki"
)

func addonInstallFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	var p espvolume.Place
	p.Flags(set)
	j := new(judging)
	j.flags(set)
	return func(c *cli.Call, operands []string) error {
		if err := j.firmware.read(); err != nil {
			return err
		}
		add, err := readAddon(c, operands[0], filepath.Base(operands[0]))
		if err != nil {
			return err
		}
		v, err := p.Open(c, true)
		if err != nil {
			return err
		}
		entry := ""
		if len(operands) > 1 {
			entry = operands[1]
		}
		found, err := images(c, v, entry, *j.assume)
		if err != nil {
			return err
		}
		r := newAddonResult(c, operands[0])
		if err := j.judgeAll(r, found, entry == "", add); err != nil {
			return err
		}
		if no := r.no(); no != nil {
			return errors.Join(no, c.Answer(r, r.text()))
		}
		volume, dir := v.ESP, uki.AddonDirectory("")
		if entry != "" {
			volume, dir = found[0].volume, uki.AddonDirectory(found[0].path)
		}
		r.Place = path.Join(dir, add.name)
		if r.Unchanged, err = put(volume, r.Place, add.content); err != nil {
			return err
		}
		r.Installed = true
		return c.Answer(r, r.text())
	}
}

// judgeAll judges an add-on by the image that it is for, or by all images on the ESP. One for all
// images may be for the kernel of some of them alone.
func (j *judging) judgeAll(r *addonResult, found []target, global bool, add *candidate) error {
	var passed []finding
	taken := 0
	for _, t := range found {
		if global && t.xbootldr {
			continue // its stub looks on its own partition
		}
		_, beside, err := j.list(t)
		if err != nil {
			return about{t.path, err}
		}
		one := newAddonResult(&cli.Call{}, r.File)
		if err := j.judge(one, t.file, beside, global, add); err != nil {
			return about{t.path, err}
		}
		if global && len(one.Findings) == 1 && one.Findings[0].Code == "addon-uname" {
			passed = append(passed, one.Findings[0])
			continue
		}
		taken++
		header := r.header
		*r = *one
		r.header = header
		if !r.Good {
			return nil
		}
	}
	if taken > 0 {
		return nil
	}
	for _, f := range passed {
		r.add(f.File, f.said)
	}
	if len(found) == 0 || len(passed) == 0 {
		return cli.No{Err: fmt.Errorf("no image in %s that the add-on could be for", imageDir)}
	}
	return nil
}

// put writes what was judged, unless it is there already, and reads it back.
func put(volume espvolume.Volume, name string, content []byte) (unchanged bool, err error) {
	have, err := fs.ReadFile(volume, name)
	switch {
	case err == nil && bytes.Equal(have, content):
		return true, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if err := volume.Put(name, bytes.NewReader(content)); err != nil {
		return false, err
	}
	f, err := volume.Open(name)
	if err != nil {
		return false, err
	}
	have, err = io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err == nil && !bytes.Equal(have, content) {
		err = fmt.Errorf("%s: %d bytes were written, and other %d are there: the medium or its driver is at fault", name, len(content), len(have))
	}
	return false, err
}
