package main

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
)

func buildFlags(flags *flag.FlagSet) func(*cli.Call, []string) error {
	out := flags.String("o", "", "`image` to write")
	var layout layoutFlags
	layout.declare(flags)
	return func(c *cli.Call, operands []string) error {
		if *out == "" {
			return cli.Usagef("-o is missing")
		}
		show := c.Progress()
		l, dir, warnings, err := layout.read(c, operands[0])
		if err != nil {
			return err
		}
		im, err := layout.plan(c, &l, dir)
		if err != nil {
			return err
		}
		if layout.layoutOnly {
			if err := dropUnmade(im); err != nil {
				return err
			}
		}
		if err := write(c, *out, im, show); err != nil {
			return err
		}
		plan, err := json.Marshal(im)
		if err != nil {
			return err
		}
		return c.Answer(planJSON{header(c, *out), true, plan, texts(warnings)}, im.String())
	}
}

// plan plans a new disk and makes its file systems. Without a seed, one is drawn.
func (f *layoutFlags) plan(c *cli.Call, l *partition.Layout, dir string) (*partition.Image, error) {
	if l.Seed.IsZero() {
		if _, err := rand.Read(l.Seed[:]); err != nil {
			return nil, err
		}
	}
	if !f.layoutOnly {
		return f.fill(c, l, dir)
	}
	if err := openContent(c, f, l, dir); err != nil {
		return nil, err
	}
	im, err := partition.Plan(*l)
	return im, f.advise(err)
}

// dropUnmade leaves the partitions that another program fills as zeros.
func dropUnmade(im *partition.Image) error {
	for i := range im.Table.Partitions {
		if _, ok := im.Content(i).(unmade); ok {
			if err := im.SetContent(i, unmade(0)); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes the image beside its name, and renames.
func write(c *cli.Call, name string, im *partition.Image, show func(done, total int64)) error {
	out, err := cli.Create(name)
	if err != nil {
		return err
	}
	defer out.Drop()
	if !out.InPlace() {
		if err := out.Truncate(im.Size); err != nil {
			return err
		}
	}
	device, err := osmith.NewDevice(out.File)
	if err != nil {
		return err
	}
	if have := device.Size(); have != im.Size {
		return cli.Usagef("%s has %d bytes, the disk is planned with %d: give -size %d", name, have, im.Size, have)
	}
	target := &stoppable{device, c}
	if err := partition.WriteImage(target, im, partition.WriteOptions{TargetIsZero: !out.InPlace(), Progress: show}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return cli.Keep(out)
}

// stoppable ends a long write when the user interrupts it.
type stoppable struct {
	*osmith.Device
	c *cli.Call
}

func (s *stoppable) WriteAt(p []byte, off int64) (int, error) {
	if err := s.c.Err(); err != nil {
		return 0, err
	}
	return s.Device.WriteAt(p, off)
}
