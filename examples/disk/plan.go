package main

import (
	"encoding/json"
	"flag"
	"os"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
)

// planFlags plans a layout onto a disk, or a new disk when there is one operand.
func planFlags(flags *flag.FlagSet) func(*cli.Call, []string) error {
	var layout layoutFlags
	layout.declare(flags)
	return func(c *cli.Call, operands []string) error {
		name := operands[len(operands)-1]
		l, dir, warnings, err := layout.read(c, name)
		if err != nil {
			return err
		}
		var im *partition.Image
		image := ""
		if len(operands) == 1 {
			im, err = layout.plan(c, &l, dir)
		} else {
			image = operands[0]
			im, err = layout.planOnto(c, image, &l, dir)
		}
		if err != nil {
			return err
		}
		object, err := json.Marshal(im)
		if err != nil {
			return err
		}
		return c.Answer(planJSON{header(c, image), true, object, texts(warnings)}, im.Operations().String())
	}
}

// planOnto plans a layout onto a disk in use. Without a seed any IDs do: a plan is not written.
func (f *layoutFlags) planOnto(c *cli.Call, image string, l *partition.Layout, dir string) (*partition.Image, error) {
	disk, t, err := openDisk(c, image, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if err := t.Resize(disk.Size()); err != nil {
		// the backup table of a disk that grew moves first
		return nil, err
	}
	if l.SectorSize == 0 {
		l.SectorSize = t.SectorSize
	}
	if err := openContent(c, f, l, dir); err != nil {
		return nil, err
	}
	if l.Seed.IsZero() {
		l.Seed = t.DiskID
	}
	im, err := partition.PlanOnto(t, *l)
	return im, f.advise(err)
}
