package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/diagram"
	"github.com/osmith-dev/osmith/examples/internal/erofsfs"
	"github.com/osmith-dev/osmith/examples/internal/layoutfile"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// isLayout tells a layout, or a directory of definitions, from an image.
func isLayout(file string) (bool, error) {
	info, err := os.Stat(file)
	if err != nil {
		return false, err
	}
	return info.IsDir() || strings.HasSuffix(file, ".json"), nil
}

// readDisk tells of a disk or of a layout, and plans the upgrade of the disk to the release.
func (r *report) readDisk(c *cli.Call, file string, m *machine, next *release.Release) error {
	r.Disk = &disk{Name: name(file), Slots: []slot{}, Findings: []string{}}
	layout, err := isLayout(file)
	if err != nil {
		return err
	}
	if layout {
		return r.Disk.readLayout(file)
	}
	in, err := c.Open(file)
	if err != nil {
		return err
	}
	t, err := partition.Read(in, partition.ReadOptions{})
	if errors.Is(err, partition.ErrNoTable) || errors.Is(err, partition.ErrDamaged) {
		return cli.No{Err: fmt.Errorf("%s: %w", file, err)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	d := r.Disk
	d.show(t, in.Size())
	for _, f := range t.Findings() {
		d.Findings = append(d.Findings, text(f.String()))
	}
	return d.plan(c, in.Device, m, next)
}

// readLayout plans an empty disk.
func (d *disk) readLayout(file string) error {
	l, err := layoutfile.Read(file)
	if err != nil {
		return err
	}
	if l.LayoutOnly = true; l.Seed == (osmith.GUID{}) {
		l.Seed = osmith.GUID{1} // identifiers do not matter here
	}
	im, err := partition.Plan(l)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	d.Layout = true
	d.show(im.Table, im.Size)
	return nil
}

// show tells what the table says.
func (d *disk) show(t *partition.Table, size int64) {
	d.table, d.Size, d.SectorSize, d.Diagram = t, size, t.SectorSize, partition.Diagram(t, size, 100)
	slots, err := partition.FindSlots(t, partition.SlotOptions{})
	if err != nil {
		return // not every disk has slots
	}
	for _, s := range slots.Slots {
		d.Slots = append(d.Slots, slot{s.Name(), string(s.State), name(s.Version)})
	}
}

// plan judges the upgrade of the disk to the release. What keeps it from being judged is in Error.
func (d *disk) plan(c *cli.Call, device *osmith.Device, m *machine, next *release.Release) error {
	state, err := upgrade.Inspect(device, m.Machine)
	if err == nil {
		d.Plan, err = upgrade.NewPlan(c, device, next, m.Machine, upgrade.PlanOptions{ExtensionFileSystem: erofsfs.Open, At: m.day})
	}
	if err != nil {
		d.Error = text(err.Error())
		return c.Err()
	}
	d.drawing = diagram.OfUpgrade(state, d.Plan)
	return nil
}
