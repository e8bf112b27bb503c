package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// Program is one of the programs that lead from the firmware to the UKI or kernel, with the
// program's own measurements: a [*Shim], a [*SystemdBoot], a [*GRUB] or an [*OtherProgram].
type Program interface {
	application() *Application

	// kind is the part that it has in the boot.
	kind() SubjectKind
}

// Shim is shim (https://github.com/rhboot/shim), versions 15.8 to 16.1: it measures its lists of
// keys and its state and, while Secure Boot is on, verifies all later programs in place of the
// firmware.
type Shim struct {
	Application

	// Variables are what shim measures into PCRs 7 and 14 as it starts; secureboot.Shim.Measured
	// makes them. A field that is nil is unknown, and its PCR is not predicted.
	Variables osmith.ShimVariables
}

// SystemdBoot is systemd-boot.
type SystemdBoot struct {
	Application
	Conf []byte // contents of \loader\loader.conf, nil if there is no such file

	// Version is the loader's version, where it differs from that of the UKI's stub: UKIs of
	// several releases may share one loader. "": the version in [Boot].Stub.
	Version osmith.Version
}

// GRUB is GRUB 2, which measures the commands that it runs into PCR 8, and the files that it reads
// into PCR 9. Without Before, the events of the earlier boot's log are expected again, provided
// that all files which GRUB read in that boot are listed in GRUB and unchanged.
type GRUB struct {
	Application
	Files []GRUBFile

	// Before and After are what GRUB measures before and after it loads the next program; package
	// bootloader/grub computes them from GRUB's configuration. Boot.Handover then holds what the
	// kernel receives: LoadOptions and Initrd.
	Before, After []osmith.GRUBEvent
}

// GRUBFile is a file that GRUB reads: its configuration, a kernel, an initrd.
type GRUBFile struct {
	Name    string // GRUB's name of the file: "(hd0,gpt1)/EFI/debian/grub.cfg", "/vmlinuz"
	Digests map[crypto.Hash][]byte
}

// OtherProgram is any other program that starts the next one through the firmware or shim.
type OtherProgram struct {
	Application

	// Extends are the PCRs that the program itself measures into; they are not predicted. Nil:
	// unknown, and no PCR is predicted. For a program that measures nothing, set an empty list.
	Extends []int
}

func (s *Shim) application() *Application         { return &s.Application }
func (s *SystemdBoot) application() *Application  { return &s.Application }
func (g *GRUB) application() *Application         { return &g.Application }
func (o *OtherProgram) application() *Application { return &o.Application }

func (s *Shim) kind() SubjectKind         { return SubjectLoader }
func (s *SystemdBoot) kind() SubjectKind  { return SubjectLoader }
func (g *GRUB) kind() SubjectKind         { return SubjectLoader }
func (o *OtherProgram) kind() SubjectKind { return SubjectLoader }

// run appends what a program measures before it starts the next one.
func (p *predictor) run(c Program) {
	switch c := c.(type) {
	case *Shim:
		c.run(p)
	case *SystemdBoot:
		c.run(p)
	case *GRUB:
		c.run(p)
	case *OtherProgram:
		c.run(p)
	}
}

// applications are all programs of the boot that are given, in the order in which they start.
func (b *Boot) applications() []*Application {
	var out []*Application
	for _, c := range b.Chain {
		out = append(out, c.application())
	}
	if !b.bareKernel() {
		out = append(out, &b.UKI)
	}
	if b.Kernel != nil {
		out = append(out, b.Kernel)
	}
	for i := range b.Addons {
		out = append(out, &b.Addons[i])
	}
	return out
}

// checkChain refuses chains that no machine has.
func (b *Boot) checkChain() error {
	shim := false
	for i, c := range b.Chain {
		switch c := c.(type) {
		case nil:
			return fmt.Errorf("program %d of the chain is nil", i)
		case *GRUB:
			for _, e := range slices.Concat(c.Before, c.After) {
				if e.PCR != 8 && e.PCR != 9 {
					return fmt.Errorf("%s measures %s into PCR %d: want 8 or 9", c.name(), escape(string(e.Data)), e.PCR)
				}
			}
			if c.Before == nil && c.After != nil {
				return fmt.Errorf("%s: what GRUB measures after it starts the kernel is given, but not what it measures before", c.name())
			}
		case *Shim:
			if i > 0 {
				return fmt.Errorf("shim %s is program %d of the chain: want it first, because firmware starts it", c.name(), i)
			}
			if b.NoShim {
				return errors.New("the chain has a shim, but NoShim is set")
			}
			shim = true
		}
	}
	if b.bareKernel() && len(b.Chain) == 0 {
		return errors.New("a kernel without a UKI, and no program that starts it")
	}
	return b.checkAuthorities(shim)
}

// checkAuthorities refuses what cannot be the reason why a program starts.
func (b *Boot) checkAuthorities(shim bool) error {
	if on, known := b.secureBoot(); !known || !on {
		return nil
	}
	for _, a := range b.applications() {
		if a.Authority == nil {
			continue
		}
		vendor, name, data, ok := splitVariable(a.Authority)
		if !ok || len(data) <= 16 {
			return fmt.Errorf("the authority of %s (%d bytes) is not event data: want UEFI_VARIABLE_DATA with an entry of db or MokListRT", a.name(), len(a.Authority))
		}
		switch {
		case vendor == imageSecurityDatabase && name == "db":
			if !bytes.Contains(b.Variables.DB, data) {
				return fmt.Errorf("the authority of %s is not an entry of db", a.name())
			}
		case !shim:
			return fmt.Errorf("the authority of %s is from the variable %s, but without shim, firmware reads only db", a.name(), escape(name))
		}
	}
	return nil
}

// systemdBoot is the systemd-boot that starts the UKI or kernel, nil if something else does.
func (b *Boot) systemdBoot() *SystemdBoot {
	if len(b.Chain) == 0 {
		return nil
	}
	s, _ := b.Chain[len(b.Chain)-1].(*SystemdBoot)
	return s
}

// shim is the one of the chain, nil if there is none.
func (b *Boot) shim() *Shim {
	if len(b.Chain) == 0 {
		return nil
	}
	s, _ := b.Chain[0].(*Shim)
	return s
}

// grub is the one that starts the UKI or kernel, nil if something else does.
func (b *Boot) grub() *GRUB {
	if len(b.Chain) == 0 {
		return nil
	}
	g, _ := b.Chain[len(b.Chain)-1].(*GRUB)
	return g
}

// run is import_mok_state of shim: each variable in the order of its table.
func (s *Shim) run(p *predictor) {
	v := &s.Variables
	mirror := func(pcr int, name string, content []byte) {
		switch {
		case content == nil:
			p.doubt(fmt.Sprintf("shim measures its variable %s, whose content is not known", name), pcr)
		case len(content) > 0:
			p.hash(Subject{Kind: SubjectShimVariable, Name: name}, pcr, EventIPL, content, append([]byte(name), 0))
		}
	}
	variable := func(name string, content []byte) {
		switch {
		case content == nil:
			p.doubt(fmt.Sprintf("shim measures its variable %s, whose content is not known", name), 7)
		case len(content) > 0:
			p.data(Subject{SubjectAuthority, name, efi.ShimLock}, 7, EventEFIVariableAuthority, variableData(efi.ShimLock, name, content))
		}
	}
	mirror(14, "MokList", v.MokList)
	mirror(14, "MokListX", v.MokListX)
	variable("MokSBState", v.MokSBState)
	mirror(14, "MokSBState", v.MokSBState)
	variable("SbatLevel", v.SbatLevel)
	mirror(14, "MokListTrusted", v.MokListTrusted)
	mirror(14, "MokPolicy", v.MokPolicy)
	for _, never := range []struct {
		pcr  int
		name string
		data []byte
	}{{14, "MokList", v.MokList}, {14, "MokListX", v.MokListX}, {7, "SbatLevel", v.SbatLevel}} {
		if never.data != nil && len(never.data) == 0 {
			p.doubt(fmt.Sprintf("shim never measures %s as empty, as it is given", never.name), never.pcr)
		}
	}
}

// verifiesNothing reports whether shim lets everything start; known is false if that cannot be
// told.
func (s *Shim) verifiesNothing() (nothing, known bool) {
	return len(s.Variables.MokSBState) == 1 && s.Variables.MokSBState[0] != 0, s.Variables.MokSBState != nil
}

func (s *SystemdBoot) run(p *predictor) {
	if p.loader.SMBIOS {
		p.measureSMBIOS()
	}
	if s.Conf != nil && p.loader.LoaderConf {
		p.hash(Subject{Kind: SubjectLoaderConf}, 5, EventTag, s.Conf, taggedData(TagLoaderConf, utf16z("loader.conf")))
	}
}

// run repeats what GRUB measured in the earlier boot up to the start of the kernel. What it
// measures behind that, end does.
func (g *GRUB) run(p *predictor) {
	if g.Before != nil {
		g.measure(p, g.Before)
		return
	}
	if why := g.changed(p); why != "" {
		p.doubt(why, 8, 9)
		return
	}
	p.log.Events = append(p.log.Events, p.earlier.grub...)
}

// end repeats what GRUB measured when it had loaded the kernel, and the kernel, which it had passed
// the same command line and initrds.
func (g *GRUB) end(p *predictor) {
	if g.Before != nil {
		g.measure(p, g.After)
		p.kernelStub()
		return
	}
	if p.doubts[8] == "" && p.doubts[9] == "" {
		p.log.Events = append(p.log.Events, p.earlier.grubEnd...)
	}
}

func (g *GRUB) measure(p *predictor, events []osmith.GRUBEvent) {
	for _, e := range events {
		p.add(Subject{}, e.PCR, EventIPL, e.Digests, e.Data)
	}
}

// changed says why GRUB's part of the earlier boot is not that of this one; "" if it is.
func (g *GRUB) changed(p *predictor) string {
	if p.earlier == nil || len(p.earlier.grub) == 0 {
		return "what GRUB measures is known only from a boot with it, whose log is not given"
	}
	kernel := slices.ContainsFunc(p.earlier.grubEnd, func(e Event) bool { return e.Type == EventIPL })
	if kernel != p.boot.bareKernel() {
		return "GRUB started a kernel in one of the two boots, and another program in the other: what it measures is not the same"
	}
	read := 0
	for _, e := range slices.Concat(p.earlier.grub, p.earlier.grubEnd) {
		if e.PCR != 9 || e.Type != EventIPL {
			continue
		}
		read++
		name := strings.TrimRight(string(e.Data), "\x00")
		if !g.has(name, e) {
			return fmt.Sprintf("GRUB read %s in the earlier boot, which is not among the files that are given with the digest that it had", escape(name))
		}
	}
	if read == 0 {
		return "GRUB measured no file in the earlier boot"
	}
	return ""
}

func (g *GRUB) has(name string, e Event) bool {
	for _, f := range g.Files {
		same := f.Name == name
		for h, sum := range e.Digests {
			same = same && bytes.Equal(f.Digests[h], sum)
		}
		if same {
			return true
		}
	}
	return false
}

func (o *OtherProgram) run(p *predictor) {
	why := fmt.Sprintf("%s measures into this PCR, and what is not known", o.name())
	if o.Extends == nil {
		p.doubt(fmt.Sprintf("which PCRs %s measures into is not known", o.name()), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15)
		return
	}
	p.doubt(why, o.Extends...)
}
