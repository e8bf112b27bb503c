package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
)

func inspectFlags(flags *flag.FlagSet) func(*cli.Call, []string) error {
	svg := flags.String("svg", "", "`file` for a picture of the disk")
	return func(c *cli.Call, operands []string) error {
		im, t, err := openDisk(c, operands[0], os.O_RDONLY)
		if err != nil {
			return err
		}
		if *svg != "" {
			if err := cli.WriteFile(*svg, []byte(partition.SVG(t, im.Size()))); err != nil {
				return err
			}
		}
		object := describe(t)
		object.head, object.Size = header(c, operands[0]), im.Size()
		var text strings.Builder
		text.WriteString(partition.Diagram(t, im.Size(), 100))
		for _, e := range object.BadEntries {
			fmt.Fprintf(&text, "bad entry %d  %s  sectors %d to %d\n", e.Number, e.Name, e.FirstLBA, e.LastLBA)
		}
		for _, s := range object.Slots {
			fmt.Fprintf(&text, "slot %s  %-9s  %s  %s\n", s.Name, s.State, s.Label, s.RootHash)
		}
		if err := c.Answer(object, strings.ToValidUTF8(text.String(), "?")); err != nil {
			return err
		}
		if len(object.Findings) > 0 {
			var all []error
			for _, f := range t.Findings() {
				all = append(all, errors.New(f.String()))
			}
			return cli.No{Err: errors.Join(append(all, errors.New("disk repair repairs what can be repaired"))...)}
		}
		return nil
	}
}

// table makes a disk without a table a negative answer.
func table(name string, err error) error {
	if errors.Is(err, partition.ErrNoTable) || errors.Is(err, partition.ErrDamaged) {
		return cli.No{Err: fmt.Errorf("%s: %w", name, err)}
	}
	return err
}

func describe(t *partition.Table) *inspectJSON {
	out := &inspectJSON{DiskID: t.DiskID, SectorSize: t.SectorSize, Whole: t.PrimaryErr == nil && t.BackupErr == nil,
		UsedBackup: t.UsedBackup, HybridMBR: t.HybridMBR, Findings: []findingJSON{}, Partitions: []partitionJSON{}, BadEntries: []badEntryJSON{}, Slots: []slotJSON{}}
	for _, f := range t.Findings() {
		out.Findings = append(out.Findings, findingJSON{f.Code, f.Text})
	}
	for _, e := range t.BadEntries {
		out.BadEntries = append(out.BadEntries, badEntryJSON{e.Number, e.Type, e.ID, e.Name, e.FirstLBA, e.LastLBA, e.Err.Error()})
	}
	if t.PrimaryErr != nil {
		out.PrimaryError = t.PrimaryErr.Error()
	}
	if t.BackupErr != nil {
		out.BackupError = t.BackupErr.Error()
	}
	for i, p := range t.Partitions {
		off, size := t.Extent(i)
		attributes := partition.AttributeNames(p.Attributes)
		if attributes == nil {
			attributes = []string{}
		}
		out.Partitions = append(out.Partitions, partitionJSON{p.Number, p.Type, partition.TypeName(p.Type), p.ID, p.Name, off, size, attributes})
	}
	slots, err := partition.FindSlots(t, partition.SlotOptions{})
	if err != nil {
		return out // not every disk has slots
	}
	number := func(i int) int {
		if i < 0 {
			return 0
		}
		return t.Partitions[i].Number
	}
	for _, s := range slots.Slots {
		out.Slots = append(out.Slots, slotJSON{s.Name(), string(s.State), s.Label, s.Version, hex.EncodeToString(slots.RootHash(s)),
			number(s.Data), number(s.Tree), number(s.Signature)})
	}
	return out
}

func repairFlags(flags *flag.FlagSet) func(*cli.Call, []string) error {
	hybrid := flags.Bool("keep-hybrid", false, "repair a GPT beside a hybrid MBR, which stays as it is")
	sector := flags.Int("sector-size", 0, "`bytes` of a logical sector: 512 or 4096 (default: as found)")
	return func(c *cli.Call, operands []string) error {
		disk, err := c.OpenFile(operands[0], os.O_RDWR)
		if err != nil {
			return err
		}
		var seed osmith.GUID
		rand.Read(seed[:]) // never fails
		done, err := partition.Repair(disk, partition.RepairOptions{SectorSize: *sector, KeepHybridMBR: *hybrid, Seed: seed})
		if err != nil {
			return refused(operands[0], err)
		}
		t, err := partition.Read(disk, partition.ReadOptions{SectorSize: *sector})
		if err != nil {
			return table(operands[0], err)
		}
		if err := disk.Close(); err != nil {
			return err
		}
		text := strings.TrimRight(done.String(), "\n")
		if err := c.Answer(repairJSON{header(c, operands[0]), done.Changed(), text}, text+"\n"); err != nil {
			return err
		}
		var left []error
		for _, f := range t.Findings() {
			if f.Code != "hybrid-mbr" || !*hybrid {
				left = append(left, errors.New(f.String()))
			}
		}
		if left != nil {
			return cli.No{Err: fmt.Errorf("%s: what a person has to decide is left: %w", operands[0], errors.Join(left...))}
		}
		return nil
	}
}

// refused makes a table that cannot be repaired a negative answer, with advice.
func refused(name string, err error) error {
	var entry *partition.EntryError
	switch {
	case errors.Is(err, partition.ErrHybridMBR):
		return cli.No{Err: fmt.Errorf("%s: %w: with -keep-hybrid it stays; without it, remove the other records first", name, err)}
	case errors.Is(err, partition.ErrNoRoom):
		return cli.No{Err: fmt.Errorf("%s: %w: nothing was written; make the disk or image larger, or its last partition smaller", name, err)}
	case errors.As(err, &entry):
		return cli.No{Err: fmt.Errorf("%s: %w: nothing was written; remove or shrink one of the partitions, for example with sgdisk", name, err)}
	}
	return table(name, err)
}
