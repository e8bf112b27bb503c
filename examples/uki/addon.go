package main

import (
	"cmp"
	"flag"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/uki"
)

func addonFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	parts := new(partFlags)
	parts.addCommon(set)
	out := addOutputFlags(set)
	return func(c *cli.Call, _ []string) error {
		by, err := out.signer()
		if err != nil {
			return err
		}
		addon, err := parts.addon(c)
		if err != nil {
			return err
		}
		assembled, err := addon.Assemble()
		if err != nil {
			return byFlag(err)
		}
		r := &buildResult{header: newHeader(c, out.name), Signed: by != nil, FreeSections: assembled.FreeSections()}
		finish := c.WatchReads(c.InputSize())
		r.Size, r.SHA256, err = write(out.name, by, writerTo(assembled))
		finish()
		if err != nil {
			return err
		}
		return c.Answer(r, "")
	}
}

// addon opens the parts and describes the add-on.
func (p *partFlags) addon(c *cli.Call) (*uki.Addon, error) {
	var err error
	read := reader{c: c, err: &err}
	addon := &uki.Addon{
		Stub:           read.source(cmp.Or(p.stub, defaultStub((*arch.Architecture).AddonStub))),
		Cmdline:        read.words(&p.cmdline),
		DeviceTree:     read.source(p.deviceTree),
		DeviceTreeAuto: read.sources(p.deviceTrees),
		HWIDs:          read.hwids(p.hwids),
		Initrd:         read.sources(p.initrds),
		Microcode:      read.source(p.microcode),
		Uname:          p.uname.value,
		SBAT:           read.sbat(p.sbat),
		Sections:       read.sections(p.extra),
	}
	return addon, err
}
