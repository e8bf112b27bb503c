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
	size := flags.Int64("size", 0, "size of the disk in `bytes`; 0: that of the layout, or as small as possible")
	sectorSize := flags.Int("sector-size", 0, "512 or 4096 `bytes`; 0: that of the layout, or 512")
	seed := flags.String("seed", "", "`UUID` to derive IDs from that the layout does not give")
	return func(c *cli.Call, operands []string) error {
		if *out == "" {
			return cli.Usagef("-o is missing")
		}
		show := c.Progress()
		l, dir, err := readLayout(operands[0])
		if err != nil {
			return err
		}
		if *size != 0 {
			l.Size = *size
		}
		if *sectorSize != 0 {
			l.SectorSize = *sectorSize
		}
		if *seed != "" {
			if l.Seed, err = osmith.ParseGUID(*seed); err != nil {
				return cli.Usagef("-seed: %v", err)
			}
		}
		if l.Seed.IsZero() {
			if _, err := rand.Read(l.Seed[:]); err != nil {
				return err
			}
		}
		content, err := openContent(c, &l, dir)
		if err != nil {
			return err
		}
		im, err := partition.Plan(l)
		if err != nil {
			return err
		}
		if err := content.makeFAT(im); err != nil {
			return err
		}
		if err := write(c, *out, im, show); err != nil {
			return err
		}
		plan, err := json.Marshal(im)
		if err != nil {
			return err
		}
		return c.Answer(planJSON{header(c, *out), true, plan}, im.String())
	}
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
