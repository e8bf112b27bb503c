package tpm

import (
	"slices"
	"strings"
)

// roles notes what each program of PCR 4 is in its boot. The UKI is the last one before its stub measures sections into
// PCR 11; what comes before is a loader, what comes after was loaded by the stub.
func (l *Log) roles(out map[*Event]string) {
	var programs []*Event
	stub := slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == PCRKernel && e.extends() })
	if stub < 0 {
		return
	}
	addons := false
	for i := range l.Events {
		e := &l.Events[i]
		if (Difference{}).isCommandLine(e) && addons {
			out[e] = "command line add-on"
			addons = false // it is the first line after them
		}
		if e.PCR != 4 || e.Type != EventEFIBootServicesApplication {
			continue
		}
		p, err := readImageLoad(e.Data)
		switch {
		case err == nil && strings.HasSuffix(strings.ToLower(p.Path.File()), ".addon.efi"):
			out[e] = "add-on"
			addons = true
		case i < stub:
			programs = append(programs, e)
			out[e] = "the boot loader"
		default:
			out[e] = "the kernel in the UKI, or an add-on:"
		}
	}
	if n := len(programs); n > 0 {
		out[programs[n-1]] = "the UKI"
	}
}

// Causes leaves those differences that are not explained by others: another section of the UKI is why its Authenticode
// digest in PCR 4 is another, and another add-on why a command line is. It is what to tell a person first.
func Causes(ds []Difference) []Difference {
	c := causes{}
	for _, d := range ds {
		c.note(d)
	}
	return slices.DeleteFunc(slices.Clone(ds), c.explains)
}

// causes are what was found to differ, as far as it has consequences.
type causes struct {
	section, addon, profile, archive, smbios, secureBoot bool
	cmdline, extra                                       bool
}

// tag is the tag of a difference, 0 if it has none.
func (d Difference) tag() Tag {
	for _, e := range []*Event{d.Expected, d.Actual} {
		if e == nil || e.Type != EventTag {
			continue
		}
		if t, err := readTagged(e.Data); err == nil {
			return t.Tag
		}
	}
	return 0
}

// event is the expected event, or the actual one if none was.
func (d Difference) event() *Event {
	if d.Expected != nil {
		return d.Expected
	}
	return d.Actual
}

func (c *causes) note(d Difference) {
	e := d.event()
	text := e.Describe()
	tag := d.tag()
	switch {
	case d.PCR == PCRKernel && e.Type == EventIPL && strings.HasPrefix(text, "."):
		c.section = true
		c.cmdline = c.cmdline || strings.HasPrefix(text, ".cmdline")
	case d.role == "add-on":
		c.addon = true
	case tag == TagProfile:
		c.profile = true
	case (d.PCR == 12 || d.PCR == 13) && e.Type == EventIPL && strings.HasSuffix(text, " initrd"),
		tag == TagMicrocode, tag == TagInitrdAddon:
		c.archive = true
	case tag == TagSMBIOSType11 || tag == TagSMBIOSType1 || tag == TagSMBIOSType2:
		c.smbios = true
	case d.isCommandLine(e):
		c.extra = true
	case e.Type == EventEFIVariableDriverConfig && strings.HasPrefix(text, "SecureBoot "):
		c.secureBoot = true
	}
}

// explains reports whether a difference follows from another.
func (c *causes) explains(d Difference) bool {
	e := d.event()
	tag := d.tag()
	switch {
	case d.role == "the UKI" && d.Kind() == "changed":
		return c.section && !c.profile
	case d.PCR == PCRKernel && strings.HasPrefix(e.Describe(), "."):
		return c.profile && e.Type == EventIPL
	case d.PCR == 12 && (tag == TagDeviceTree || tag == TagMicrocode || tag == TagInitrdAddon):
		return c.addon
	case d.isCommandLine(e):
		return c.addon || c.smbios || c.profile && strings.HasPrefix(e.Describe(), "@")
	case tag == TagLoadOptions:
		return c.cmdline || c.addon || c.profile || c.extra || c.smbios
	case tag == TagInitrd:
		return c.section || c.profile || c.archive || c.addon
	case e.Type == EventEFIVariableAuthority:
		return c.secureBoot
	case e.Type == EventEFIHandoffTables || e.Type == EventEFIHandoffTables2:
		return c.smbios
	}
	return false
}
