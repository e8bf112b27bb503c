package uki

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// Addon describes a PE add-on by its parts: what one machine or one customer adds to a signed image
// without changing it. The stub loads the add-ons beside the image (NAME.efi.extra.d/*.addon.efi)
// and those for all images (/loader/addons/*.addon.efi), has their signatures checked as firmware
// does, and measures their contents into PCR 12.
//
// Stub and one of Cmdline, DeviceTree, DeviceTreeAuto, Initrd and Microcode are required; the parts
// have the meaning that they have in an [Image]. UAPI.5, "PE Addons", and systemd-stub(7).
type Addon struct {
	Stub osmith.Source // systemd's addon stub, unsigned: addonx64.efi.stub...

	Cmdline        string // appended to the command line of the image
	DeviceTree     osmith.Source
	DeviceTreeAuto []osmith.Source
	HWIDs          []hwid.Record // hardware IDs by which the stub chooses among DeviceTreeAuto
	Initrd         []osmith.Source
	Microcode      osmith.Source

	// Uname restricts the add-on to images that have the same text in .uname, or no .uname.
	Uname string

	// SBAT holds component lines as in Image. Empty: the line `uki-addon,1,UKI Addon,addon,1,...`
	// that ukify writes.
	SBAT []byte

	Sections []Section
}

// Assemble checks the parts and lays the add-on out on its stub, in the bytes that ukify 262 writes
// for them; see [Image.Assemble].
func (a *Addon) Assemble() (_ *Assembled, err error) {
	defer prefix.Add("uki", &err)
	p, err := a.plan()
	if err != nil {
		return nil, err
	}
	return p.layout()
}

func (a *Addon) plan() (*plan, error) {
	if a.Stub == nil {
		return nil, &PartError{"Stub", ErrMissing}
	}
	p, err := planOn(a.Stub, "addon")
	if err != nil {
		return nil, err
	}
	all := &parts{
		cmdline: a.Cmdline, uname: a.Uname, initrd: a.Initrd, ucode: a.Microcode, dtb: a.DeviceTree, dtbauto: a.DeviceTreeAuto,
		hwids: a.HWIDs, sections: a.Sections,
	}
	sbat, err := p.mergedSBAT(nil, a.SBAT, sbatAddon)
	if err != nil {
		return nil, err
	}
	if !p.replaceSBAT(sbat) {
		all.sbat = sbat
	}
	if p.added, err = all.contents(); err != nil {
		return nil, err
	}
	applies := false
	for _, s := range p.added {
		switch k := sdstub.SectionOf(s.name); {
		case s.name == ".linux":
			return nil, &PartError{"Sections", errors.New("section .linux makes this a bootable image, which no stub loads as an add-on")}
		case s.name == ".profile":
			return nil, &PartError{"Sections", errors.New("an add-on has no profiles")}
		case k != nil && k.Addon > 0 && s.size > 0:
			applies = true
		}
	}
	if !applies {
		const parts = "Cmdline, DeviceTree, DeviceTreeAuto, Initrd, Microcode"
		return nil, &PartError{"Addon", fmt.Errorf("%w: none of the sections that a stub applies (%s)", ErrMissing, parts)}
	}
	return p, p.checkNames()
}
