package tpm

import (
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Causes returns the differences that other differences do not explain: if the UKI changed, its
// sections differ too; if an add-on changed, a command line differs too. Show a person the causes
// first.
//
// An explanation is a relation between two events: the first explains the second only if the stub,
// the loader or the firmware derives the second from the first. On the left is what is explained,
// on the right what explains it:
//
//	sections of the UKI                   the UKI, if no profile differs; the sections are then the Parts of that cause
//	all that the stub measures            the UKI, if the boot started none
//	sections, and what the kernel gets    the UKI, if none was expected
//	sections of the UKI                   the profile that is booted, each of them once
//	the command line "@1" of the loader   profile 1, if there is nothing else in it
//	the command line of add-ons           an add-on that explains nothing else; or a type 11 string of SMBIOS
//	another command line for the stub     a type 11 string of SMBIOS; no other structure has command lines
//	device tree, microcode, initrd        the add-on whose file name they have, each once
//	the kernel's command line             .cmdline, and the command lines in PCR 12
//	the kernel's initrds                  sections that are passed in it, companion files, microcode and initrds of add-ons
//	authorities from db                   SecureBoot, from off to on or from on to off
//
// An extra event explains only extra events, a missing event only missing ones, and a changed event
// only changes. A moved or renumbered event explains no other event and is not explained by one. If
// more events could be explained than there are explanations, the package cannot tell which of them
// are explained, and reports all of them as causes: a superfluous cause is better than a hidden
// one. Changes that one digest covers cannot be told apart: a changed UKI and a changed section of
// it are one cause, and so are changed initrds and a changed section that they hold.
func Causes(ds []Difference) []Difference {
	c := causes{all: ds, explained: make([]bool, len(ds)), parts: make(map[int][]int)}
	c.profile()
	c.authorities()
	c.addons()
	c.image()
	c.kernel()
	c.noUKI()
	out := make([]Difference, 0, len(ds))
	for i, d := range ds {
		if c.explained[i] {
			continue
		}
		for _, k := range c.parts[i] {
			d.Parts = append(d.Parts, ds[k])
		}
		out = append(out, d)
	}
	return out
}

// causes are the differences of two logs, and which of them are explained.
type causes struct {
	all       []Difference
	explained []bool
	parts     map[int][]int // by the index of the UKI, those of its sections
}

// of are the indices of the differences in subjects of some kinds.
func (c *causes) of(kinds ...SubjectKind) (out []int) {
	for i := range c.all {
		if slices.Contains(kinds, c.all[i].Subject.Kind) {
			out = append(out, i)
		}
	}
	return out
}

// by reports whether one of the differences leads to another.
func (c *causes) by(causes []int, d Difference) bool {
	return slices.ContainsFunc(causes, func(i int) bool { return c.all[i].leadsTo(d) })
}

// leadsTo reports whether a difference may lead to another by its direction: what is there in
// addition changes an event or brings one, what is missing changes or takes one, and what changed
// changes one.
func (d Difference) leadsTo(o Difference) bool {
	switch kind := d.Kind(); o.Kind() {
	case kindChanged:
		return kind == kindChanged || kind == kindMissing || kind == kindExtra
	case kindMissing, kindExtra:
		return kind == o.Kind()
	}
	return false
}

// profile is about what the choice of a profile changes.
func (c *causes) profile() {
	profiles := c.of(SubjectProfile)
	if len(profiles) != 1 {
		return
	}
	p := c.all[profiles[0]]
	for _, i := range c.sections() {
		c.explained[i] = sdstub.SectionOf(c.all[i].Subject.Name) != nil
	}
	if passed := c.of(SubjectPassed); len(passed) == 1 {
		i := passed[0]
		wantNumber, want := profilePassed(c.all[i].Want)
		gotNumber, got := profilePassed(c.all[i].Got)
		c.explained[i] = want == got && wantNumber == profileNumber(p.Want) && gotNumber == profileNumber(p.Got)
	}
}

// sections are the differences that sections of a UKI make: other contents, or the events of its
// name and of its contents more or less. Anything else in PCR 11 the stub did not measure.
func (c *causes) sections() (out []int) {
	byName := make(map[string][]int)
	for _, i := range c.of(SubjectSectionName, SubjectSection) {
		name := c.all[i].Subject.Name
		byName[name] = append(byName[name], i)
	}
	for _, is := range byName {
		first, last := c.all[is[0]], c.all[is[len(is)-1]]
		kind := first.Kind()
		switch {
		case first.repeated || last.repeated:
		case len(is) == 1 && first.Subject.Kind == SubjectSection && kind == kindChanged,
			len(is) == 2 && first.Subject.Kind == SubjectSectionName && last.Subject.Kind == SubjectSection && kind == last.Kind() && (kind == kindMissing || kind == kindExtra):
			out = append(out, is...)
		}
	}
	slices.Sort(out)
	return out
}

// profileNumber is the number of the profile that an event tells; "" if there is no event.
func profileNumber(e *Event) string {
	if e == nil {
		return ""
	}
	return taggedSubject(e).Name
}

// profilePassed is the number of the profile that a command line of the loader begins with, as
// "@1", and the rest of the line.
func profilePassed(e *Event) (number, rest string) {
	if e == nil {
		return "", ""
	}
	text, _ := textOf(e.Data)
	first, rest, _ := strings.Cut(text, " ")
	if number, ok := strings.CutPrefix(first, "@"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
		return number, rest
	}
	return "", text
}

// authorities is about those that Secure Boot, once it is on, lets programs start by, and that are
// missing once it is off.
func (c *causes) authorities() {
	kind := ""
	for _, i := range c.of(SubjectVariable) {
		d := c.all[i]
		if d.Subject.Name != "SecureBoot" || d.Subject.Vendor != globalVariable || d.Kind() != kindChanged {
			continue
		}
		want, err1 := readVariable(d.Want.Data)
		got, err2 := readVariable(d.Got.Data)
		if err1 != nil || err2 != nil || len(want.Data) != 1 || len(got.Data) != 1 {
			continue
		}
		switch [2]byte{want.Data[0], got.Data[0]} {
		case [2]byte{0, 1}:
			kind = kindExtra
		case [2]byte{1, 0}:
			kind = kindMissing
		}
	}
	for _, i := range c.of(SubjectAuthority) {
		d := c.all[i]
		c.explained[i] = kind != "" && d.Kind() == kind && d.Subject.Name == "db" && d.Subject.Vendor == imageSecurityDatabase
	}
}

// addons is about what add-ons and SMBIOS bring: which of them an add-on holds, the log does not
// say.
func (c *causes) addons() {
	addons := c.of(SubjectAddon)
	free := c.addonParts(addons)
	strings11 := slices.DeleteFunc(c.of(SubjectSMBIOS), func(i int) bool { return c.all[i].Subject.Name != TagSMBIOSType11.String() })
	lines := c.of(SubjectCommandLine, SubjectAddonCommandLine)

	// The stub makes one line of those of all add-ons, and reads one string of SMBIOS.
	bySMBIOS, byAddon, unexplained := -1, -1, 0
	for _, i := range lines {
		d := c.all[i]
		switch {
		case byAddon < 0 && d.Subject.Kind == SubjectAddonCommandLine && slices.ContainsFunc(free, func(a int) bool { return c.all[a].leadsToLine(d) }):
			byAddon = i
		case bySMBIOS < 0 && c.by(strings11, d):
			bySMBIOS = i
		default:
			unexplained++
		}
	}
	if unexplained > 0 { // any of the lines may be the one that nothing explains
		return
	}
	for _, i := range []int{bySMBIOS, byAddon} {
		if i >= 0 {
			c.explained[i] = true
		}
	}
}

// addonParts is about what add-ons bring besides command lines, beside which the stub writes the
// file names of the add-ons. It returns the add-ons that explain none of it.
func (c *causes) addonParts(addons []int) []int {
	free, unknown := slices.Clone(addons), false
	for _, kind := range []SubjectKind{SubjectAddonDeviceTree, SubjectAddonMicrocode, SubjectAddonInitrd} {
		parts := c.of(kind)
		for _, i := range parts {
			of := func(a int) bool { return c.all[a].leadsTo(c.all[i]) && c.all[a].addonOf(c.all[i]) }
			named := slices.DeleteFunc(slices.Clone(addons), func(a int) bool { return !of(a) })
			rivals := slices.DeleteFunc(slices.Clone(parts), func(o int) bool {
				return !slices.ContainsFunc(named, func(a int) bool { return c.all[a].addonOf(c.all[o]) })
			})
			c.explained[i] = len(named) > 0 && len(rivals) <= len(named)
			if c.explained[i] {
				free = slices.DeleteFunc(free, of)
			} else {
				unknown = true
			}
		}
	}
	if unknown { // whose part it is: any of them may be without a command line
		return nil
	}
	return free
}

// addonOf reports whether a difference of an add-on is about the one whose file name stands beside
// a part of an add-on.
func (d Difference) addonOf(part Difference) bool {
	same := func(addon, part *Event) bool {
		if addon == nil || part == nil {
			return true
		}
		t, err := readTagged(part.Data)
		text, ok := textOf(t.Data)
		return err == nil && ok && fileName(programPath(addon)) == fileName(text)
	}
	return same(d.Want, part.Want) && same(d.Got, part.Got)
}

// fileName is the last part of a path on the ESP, where names differ in letter case only by what
// wrote them.
func fileName(path string) string {
	return strings.ToLower(path[strings.LastIndexAny(path, `\/`)+1:])
}

// leadsToLine reports whether an add-on may have changed the words of a command line so: one that
// is there in addition takes none away, and one that is missing brings none.
func (d Difference) leadsToLine(line Difference) bool {
	if !d.leadsTo(line) || line.Kind() != kindChanged {
		return d.leadsTo(line)
	}
	want, _ := textOf(line.Want.Data)
	got, _ := textOf(line.Got.Data)
	switch d.Kind() {
	case kindExtra:
		return minusWords(want, got) == ""
	case kindMissing:
		return minusWords(got, want) == ""
	}
	return true
}

// image is about the UKI as a program: its digest is over its sections.
func (c *causes) image() {
	images := c.of(SubjectUKI)
	if len(images) != 1 || len(c.of(SubjectProfile)) > 0 {
		return
	}
	if d := c.all[images[0]]; d.noUKI || d.Kind() != kindChanged {
		return
	}
	for _, i := range c.sections() {
		c.explained[i] = true
		c.parts[images[0]] = append(c.parts[images[0]], i)
	}
}

// ofUKI are the kinds of what follows the start of a UKI in any case; besideUKI those of what is
// measured only after it, and not with every UKI: other files, the loader and SMBIOS bring it.
var (
	ofUKI     = []SubjectKind{SubjectSectionName, SubjectSection, SubjectLoadOptions, SubjectInitrd}
	besideUKI = []SubjectKind{SubjectPassed, SubjectProfile, SubjectCommandLine, SubjectAddonCommandLine, SubjectAddon, SubjectAddonDeviceTree, SubjectAddonMicrocode,
		SubjectAddonInitrd, SubjectCompanion, SubjectKernel}
)

// noUKI is about a UKI that only one of the boots started: what follows its start in that boot is
// missing in the other one. What the other boot measured in its place is its own.
func (c *causes) noUKI() {
	images := c.of(SubjectUKI)
	if len(images) != 1 || !c.all[images[0]].noUKI {
		return
	}
	follows, kinds := kindMissing, slices.Concat(ofUKI, besideUKI)
	if c.all[images[0]].ukiIsGot {
		follows, kinds = kindExtra, ofUKI
	}
	for _, i := range c.of(kinds...) {
		// and not another kernel's command line by a section
		c.explained[i] = c.all[i].Kind() == follows
	}
}

// passedSections are the sections that the stub puts into the initrd.
var passedSections = []string{".initrd", ".ucode", ".osrel", ".pcrpkey", ".profile"}

// kernel is about what the kernel gets, which it measures itself.
func (c *causes) kernel() {
	lines := c.of(SubjectCommandLine, SubjectAddonCommandLine)
	for _, i := range c.of(SubjectPassed) {
		_, want := profilePassed(c.all[i].Want)
		_, got := profilePassed(c.all[i].Got)
		if want != got {
			lines = append(lines, i)
		}
	}
	initrds := c.of(SubjectAddonMicrocode, SubjectAddonInitrd)
	for _, i := range c.sections() {
		switch name := c.all[i].Subject.Name; {
		case name == ".cmdline":
			lines = append(lines, i)
		case slices.Contains(passedSections, name):
			initrds = append(initrds, i)
		}
	}
	for _, i := range c.of(SubjectCompanion) {
		if isArchive(c.all[i].Subject.Name) {
			initrds = append(initrds, i)
		}
	}
	if options := c.of(SubjectLoadOptions); len(options) == 1 {
		c.explained[options[0]] = c.by(lines, c.all[options[0]])
	}
	if initrd := c.of(SubjectInitrd); len(initrd) == 1 {
		c.explained[initrd[0]] = c.by(initrds, c.all[initrd[0]])
	}
}

// isArchive reports whether the stub calls an archive of companion files so.
func isArchive(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, "credentials initrd") || strings.HasSuffix(name, "extension initrd")
}
