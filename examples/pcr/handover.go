package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// handover predicts what the stub measures and passes on, with the files beside the image.
func (c *composer) handover() error {
	if c.image == nil {
		return nil // no stub
	}
	if c.in.Cmdline != "" && c.out.Variables == nil {
		return errors.New("\"cmdline\" needs \"variables\": the stub passes a command line by if Secure Boot is on")
	}
	boot := uki.Boot{Profile: c.in.Profile, Cmdline: c.in.Cmdline, SecureBoot: bytes.Equal(c.secure.SecureBoot, []byte{1}), Consoles: c.in.Consoles,
		NoBootSecret: c.in.NoSecret}
	boot.Hardware.DeviceTree = c.in.DeviceTree
	var err error
	if c.out.SMBIOS != nil {
		if boot.Hardware.SMBIOS, err = hwid.ParseSMBIOS(c.out.SMBIOS); err != nil {
			return err
		}
	}
	if boot.BootSecret, err = optional(c.in.BootSecret); err != nil {
		return err
	}
	if boot.Companions, err = c.companions(); err != nil {
		return err
	}
	variant, err := c.image.Choose(c.in.Profile, boot.Hardware)
	if err != nil {
		return err
	}
	if err := c.sections(variant); err != nil {
		return err
	}
	h, err := c.image.Handover(boot)
	if err != nil {
		return err
	}
	c.out.Handover, err = h.Measure(c.banks...)
	return err
}

// sections measures the variant of the image that boots.
func (c *composer) sections(v uki.Variant) error {
	all, err := c.image.MeasureVariants(c.banks...)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(m uki.VariantMeasurements) bool { return m.Variant == v })
	if i < 0 {
		return fmt.Errorf("%s: profile %d is not in it", c.in.UKI, c.in.Profile)
	}
	c.out.Sections = all[i].Sections
	release, err := c.out.Stub.Release()
	if err != nil || !slices.ContainsFunc(tpm.StubVersions(), func(v tpm.StubVersion) bool { return v.Release == release && v.InnerKernel }) {
		return nil // the firmware does not load the kernel
	}
	kernel, ok := c.image.Section(".linux")
	if !ok {
		return nil
	}
	digests, err := authenticode.Digests(kernel, c.banks...)
	if err != nil {
		return fmt.Errorf("the kernel in %s: %w", c.in.UKI, err)
	}
	c.out.Kernel = &tpm.Application{Size: kernel.Size(), Digests: digests}
	return nil
}

// companions finds the files beside the image. Add-ons that the firmware refuses are none.
func (c *composer) companions() (*uki.Companions, error) {
	if c.in.ESP == "" {
		return nil, nil
	}
	if c.in.UKIPath == "" {
		return nil, errors.New("\"esp\" needs \"ukiPath\": want the image whose companions are on the ESP")
	}
	found, err := uki.ReadCompanions(os.DirFS(c.in.ESP), strings.Trim(strings.ReplaceAll(c.in.UKIPath, `\`, "/"), "/"))
	if err != nil {
		return nil, err
	}
	for _, list := range []*[]uki.CompanionFile{&found.GlobalAddons, &found.Addons} {
		var accepted []uki.CompanionFile
		for _, f := range *list {
			app, err := c.program(f.Name, f.Content)
			var refused *refusedError
			if errors.As(err, &refused) {
				continue
			}
			if err != nil {
				return nil, err
			}
			accepted = append(accepted, f)
			c.out.Addons = append(c.out.Addons, *app)
		}
		*list = accepted
	}
	return found, nil
}

const globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// readBootVariables reads BootOrder and what it lists; a directory without them tells nothing.
func readBootVariables(dir fs.FS) ([]tpm.BootVariable, error) {
	read := func(name string) (tpm.BootVariable, error) {
		b, err := fs.ReadFile(dir, name+"-"+globalGUID)
		if err != nil {
			return tpm.BootVariable{}, err
		}
		if len(b) < 4 { // the attributes
			return tpm.BootVariable{}, fmt.Errorf("variable %s: %d bytes", name, len(b))
		}
		return tpm.BootVariable{Name: name, Data: b[4:]}, nil
	}
	order, err := read("BootOrder")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := []tpm.BootVariable{order}
	for b := order.Data; len(b) >= 2; b = b[2:] {
		v, err := read(fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(b)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // which firmware passes by, too
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// disk reads the partition table.
func (c *composer) disk() error {
	if c.in.Disk == "" {
		return nil
	}
	src, err := c.Open(c.in.Disk)
	if err != nil {
		return err
	}
	table, err := partition.Read(src, partition.ReadOptions{SectorSize: c.in.SectorSize})
	if err != nil {
		return fmt.Errorf("%s: %w", c.in.Disk, err)
	}
	c.out.GPT = new(tpm.PartitionTable)
	c.out.GPT.Header, c.out.GPT.Entries, err = table.MarshalPrimary()
	return err
}
