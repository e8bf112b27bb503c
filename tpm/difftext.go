package tpm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

// String is a line for people: which PCR, what, and how it differs.
func (d Difference) String() string { return d.register() + ": " + d.Text() }

// register is the name of the PCR, or of the register of another kind.
func (d Difference) register() string {
	e := d.Got
	if e == nil {
		e = d.Want
	}
	if e == nil {
		e = &Event{}
	}
	return e.registers().Name(d.PCR)
}

// Text is the line without the PCR.
func (d Difference) Text() string {
	switch d.Kind() {
	case kindMissing:
		return d.oneSided(d.Want, "missing: ", " is missing")
	case kindExtra:
		return d.oneSided(d.Got, "not expected: ", " was not expected") + " (" + shortDigest(d.Got) + ")"
	case kindMoved:
		return d.movedText()
	case kindRenumbered:
		w, g := bootOption(d.Want), bootOption(d.Got)
		return fmt.Sprintf("boot option %s has the number %s, expected %s", loadOptionText(g.Data), escape(g.Name), escape(w.Name))
	}
	if d.noUKI {
		return fmt.Sprintf("%s (%s) was started in place of %s (%s)", d.started(d.Got), shortDigest(d.Got), d.started(d.Want), shortDigest(d.Want))
	}
	if d.Want.Type == d.Got.Type {
		if s, ok := d.change(); ok {
			return s
		}
	}
	want, got := d.what(d.Want), d.what(d.Got)
	if want == got || d.Want.Type == d.Got.Type && (d.Subject.Kind.isProgram() || d.Subject.Kind == SubjectDriver) {
		return got + " differs" + d.digests()
	}
	name := d.Want.Type.String()
	if w, ok := strings.CutPrefix(want, name+" "); ok && d.Want.Type == d.Got.Type {
		// both are of what nothing more is known than the type
		return fmt.Sprintf("%s is %s (%s), expected %s (%s)", name, strings.TrimPrefix(got, name+" "), shortDigest(d.Got), w, shortDigest(d.Want))
	}
	return fmt.Sprintf("%s (%s) in place of %s (%s)", got, shortDigest(d.Got), want, shortDigest(d.Want))
}

// digests are those of a change, in brackets.
func (d Difference) digests() string {
	return fmt.Sprintf(" (%s, expected %s)", shortDigest(d.Got), shortDigest(d.Want))
}

// movedText is about an event that is there, in another place.
func (d Difference) movedText() string {
	if w, g := bootOption(d.Want), bootOption(d.Got); w.Name != g.Name {
		return fmt.Sprintf("boot option %s has the number %s, expected %s", loadOptionText(g.Data), escape(g.Name), escape(w.Name))
	}
	when := "later"
	if d.gotPlace < d.wantPlace {
		when = "earlier"
	}
	return fmt.Sprintf("%s was measured %s than expected: event %d of %s, expected as event %d", d.what(d.Got), when, d.gotPlace, d.register(), d.wantPlace)
}

// started is a program in one of two boots of which only one started a UKI.
func (d Difference) started(e *Event) string {
	if (e == d.Got) == d.ukiIsGot {
		return d.named(e)
	}
	return "program " + pathOr(programPath(e), "without a path")
}

func pathOr(path, otherwise string) string {
	if path == "" {
		return otherwise
	}
	return escape(path)
}

// oneSided is about an event that one log alone has.
func (d Difference) oneSided(e *Event, before, after string) string {
	switch k := d.Subject.Kind; {
	case k.isCommandLine():
		return d.lineName() + " " + quoteLine(lineText(e)) + after
	case k.isProgram() && k != SubjectProgram:
		return d.named(e) + after
	case k == SubjectProfile && d.Got == nil:
		return fmt.Sprintf("the default profile is booted, expected profile %s", escape(d.Subject.Name))
	case k == SubjectProfile:
		return fmt.Sprintf("profile %s is booted, expected the default one", escape(d.Subject.Name))
	case k == SubjectAuthority:
		if v, err := readVariable(e.Data); err == nil && v.isAuthority() && d.Got == nil {
			return fmt.Sprintf("no program was let in by %s, which was expected", v.authority())
		} else if err == nil && v.isAuthority() {
			return fmt.Sprintf("a program was let in by %s, which was not expected", v.authority())
		}
	}
	return before + d.what(e)
}

// named is what a program is in its boot, and its path.
func (d Difference) named(e *Event) string {
	name := "the " + d.Subject.Kind.String()
	switch d.Subject.Kind {
	case SubjectAddon:
		name = "add-on"
	case SubjectKernel:
		name = "the kernel in the UKI, or an add-on:"
	}
	if path := programPath(e); strings.HasSuffix(strings.ToLower(path), ".efi") {
		return name + " " + escape(path)
	}
	return name
}

// change says how two events about one thing differ, if their data tell.
func (d Difference) change() (string, bool) {
	switch k := d.Subject.Kind; {
	case k.isProgram() && k != SubjectProgram:
		return d.programChange(), true
	case k == SubjectVariable || k == SubjectSetting || k == SubjectAuthority || k == SubjectBootVariable:
		return describeVariableChange(d.Want, d.Got)
	case k == SubjectGPT:
		return describeGPTChange(d.Want, d.Got)
	case k.isCommandLine():
		return describeWords(d.lineName(), lineText(d.Want), lineText(d.Got)), true
	case k == SubjectShimVariable:
		return d.shimChange(), true
	case k == SubjectSection:
		return d.contentsChange("UKI section " + escape(d.Subject.Name)), true
	case d.Want.Type == EventTag:
		return d.taggedChange()
	}
	return "", false
}

// shimChange is about a list of shim's, of which the log has the name alone.
func (d Difference) shimChange() string {
	name := d.what(d.Got)
	if d.Want.contents != nil && d.Got.contents != nil {
		if s, ok := describeEntries(name, d.Want.contents, d.Got.contents); ok {
			return s
		}
	}
	return name + " differs" + d.digests()
}

func lineText(e *Event) string {
	text, _ := textOf(e.Data)
	return text
}

// programChange is about a program replaced by another program with the same part in the boot.
func (d Difference) programChange() string {
	name := d.named(d.Got)
	expected := "expected "
	if w, g := programPath(d.Want), programPath(d.Got); !strings.EqualFold(withoutCounter(w), withoutCounter(g)) {
		expected += pathOr(w, "a program without a path") + " with "
	}
	text := fmt.Sprintf("%s differs (Authenticode %s, %s%s)", name, shortDigest(d.Got), expected, shortDigest(d.Want))
	if parts := d.partNames(); parts != "" {
		text += ": " + parts
	}
	return text
}

// withoutCounter is the path of a boot entry without the tries in its name (Automatic Boot
// Assessment), which change with every boot.
func withoutCounter(path string) string { return bootCounter.ReplaceAllString(path, "$2") }

var bootCounter = regexp.MustCompile(`(?i)(\+[0-9]+(?:-[0-9]+)?)(\.efi)$`)

// partNames says which sections of a UKI differ.
func (d Difference) partNames() string {
	var parts []string
	for _, p := range d.Parts { // those of which it is known how they differ
		if p.tellsContents() {
			parts = append(parts, p.contentsChange(escape(p.Subject.Name)))
		}
	}
	for _, kind := range []struct{ kind, text string }{{kindChanged, "%s differ"}, {kindExtra, "%s not expected"}, {kindMissing, "%s missing"}} {
		var names []string
		for _, p := range d.Parts {
			if name := escape(p.Subject.Name); p.Kind() == kind.kind && !p.tellsContents() && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			text := fmt.Sprintf(kind.text, strings.Join(names, ", "))
			if len(names) == 1 && kind.kind == kindChanged {
				text += "s"
			}
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

func (d Difference) taggedChange() (string, bool) {
	want, err1 := readTagged(d.Want.Data)
	got, err2 := readTagged(d.Got.Data)
	if err1 != nil || err2 != nil || want.Tag != got.Tag {
		return "", false
	}
	switch name := want.Tag.String(); want.Tag {
	case TagLoadOptions:
		return d.contentsChange("the kernel's command line"), true
	case TagInitrd:
		return "the initrds that the kernel got differ, or the secret in them does" + d.digests(), true
	case TagProfile:
		return fmt.Sprintf("profile %s is booted, expected profile %s", describeText(got.Data), describeText(want.Data)), true
	case TagDeviceTree, TagMicrocode, TagInitrdAddon:
		if w, g := describeText(want.Data), describeText(got.Data); w != g {
			return fmt.Sprintf("%s: of %s%s, expected that of %s", name, g, d.digests(), w), true
		}
		return fmt.Sprintf("%s of %s differs%s", name, describeText(got.Data), d.digests()), true
	default:
		if isWindowsContainer(want.Tag) {
			if s := describeWindowsChange(want.Data, got.Data); s != "" {
				return name + ": " + s, true
			}
		}
		return d.contentsChange(name), true
	}
}

// contentsChange is about something that was measured beside its name: how its text differs, if
// both are known.
func (d Difference) contentsChange(name string) string {
	want, _ := contentsText(d.Want.contents)
	got, _ := contentsText(d.Got.contents)
	switch {
	case !d.tellsContents():
		return name + " differs" + d.digests()
	case d.Subject.Kind == SubjectLoadOptions || d.Subject.Name == ".cmdline":
		return describeWords(name, want, got)
	}
	return describeLines(name, want, got)
}

// tellsContents reports whether it is known how the two texts differ that were measured.
func (d Difference) tellsContents() bool {
	if d.Want == nil || d.Got == nil {
		return false
	}
	_, ok1 := contentsText(d.Want.contents)
	_, ok2 := contentsText(d.Got.contents)
	return ok1 && ok2
}

// contentsText is what was measured as text, if it is known and is text.
func contentsText(contents []byte) (string, bool) {
	if contents == nil {
		return "", false
	}
	if len(contents) == 0 {
		return "", true
	}
	return textOf(contents)
}

// lineName is what a command line in PCR 12 is.
func (d Difference) lineName() string {
	if d.Subject.Kind == SubjectAddonCommandLine {
		return SubjectAddonCommandLine.String()
	}
	return SubjectCommandLine.String()
}

// describeWords compares two command lines word by word.
func describeWords(name, want, got string) string {
	missing, extra := minusWords(want, got), minusWords(got, want)
	var parts []string
	if missing != "" {
		parts = append(parts, quoteLine(missing)+" is missing")
	}
	if extra != "" {
		parts = append(parts, quoteLine(extra)+" was not expected")
	}
	if parts != nil {
		return name + ": " + strings.Join(parts, ", ")
	}
	w, g := firstDifference(strings.Fields(want), strings.Fields(got))
	if w == "" && g == "" { // in white space
		return fmt.Sprintf("%s has the same words, with other white space between them: %s, expected %s", name, quoteLine(got), quoteLine(want))
	}
	return fmt.Sprintf("%s has its words in another order: %s where %s was expected", name, quoteLine(g), quoteLine(w))
}

// firstDifference are the texts from the first on that differs.
func firstDifference(want, got []string) (string, string) {
	for len(want) > 0 && len(got) > 0 && want[0] == got[0] {
		want, got = want[1:], got[1:]
	}
	return strings.Join(want, " "), strings.Join(got, " ")
}

// describeLines compares two texts line by line.
func describeLines(name, want, got string) string {
	missing, extra := minus(strings.Split(want, "\n"), strings.Split(got, "\n")), minus(strings.Split(got, "\n"), strings.Split(want, "\n"))
	quoted := func(lines []string) string {
		out := make([]string, 0, len(lines))
		for _, l := range lines {
			out = append(out, quote(strings.TrimSpace(l)))
		}
		return strings.Join(atMost(out, 2*maxNamed), ", ")
	}
	var parts []string
	if len(missing) > 0 {
		parts = append(parts, quoted(missing)+" missing")
	}
	if len(extra) > 0 {
		parts = append(parts, quoted(extra)+" not expected")
	}
	if parts == nil {
		w, g := firstDifference(strings.Split(want, "\n"), strings.Split(got, "\n"))
		parts = append(parts, fmt.Sprintf("its lines are in another order: %s where %s was expected", quote(g), quote(w)))
	}
	return name + ": " + strings.Join(parts, ", ")
}

// minusWords are the words of a that b does not have, in order.
func minusWords(a, b string) string {
	return strings.Join(minus(strings.Fields(a), strings.Fields(b)), " ")
}

// minus are those of a that b does not have, each as often as it is there more often, in order.
func minus[T comparable](a, b []T) (out []T) {
	have := make(map[T]int, len(b))
	for _, x := range b {
		have[x]++
	}
	for _, x := range a {
		if have[x]--; have[x] < 0 {
			out = append(out, x)
		}
	}
	return out
}

// what names an event in a sentence.
func (d Difference) what(e *Event) string {
	text := e.Describe()
	switch k := d.Subject.Kind; {
	case k.isProgram() || k == SubjectDriver:
		return "program " + strings.TrimPrefix(text, "a program ")
	case k == SubjectVariable || k == SubjectSetting || k == SubjectBootVariable || k == SubjectAuthority:
		return k.String() + " " + text
	case k == SubjectSeparator && e.Type == EventSeparator || k == SubjectGPT:
		return text
	case k.isSection():
		return "UKI section " + text
	case k == SubjectShimVariable:
		return fmt.Sprintf("%s (%s)", text, shimPurposes[d.Subject.Name])
	case k == SubjectCompanion:
		return "companion files " + quoteEscaped(text)
	case e.Type == EventTag && k != SubjectUnknown:
		return text
	}
	return fmt.Sprintf("%v %s", e.Type, quoteEscaped(text))
}

// diffEvent is one side of a difference in JSON.
type diffEvent struct {
	Type        string            `json:"type"`
	Digests     map[string]string `json:"digests"`
	Description string            `json:"description"`
}

func newDiffEvent(e *Event) *diffEvent {
	if e == nil {
		return nil
	}
	out := &diffEvent{Type: e.Type.String(), Digests: make(map[string]string), Description: e.Describe()}
	for _, d := range jsonDigests(e) {
		out.Digests[d.HashAlg] = d.Digest
	}
	return out
}

// MarshalJSON returns an object with pcr, kind, text and the events that the difference has:
// expected and actual, each with type, digests by bank, and description. register is the name of
// the register if it is not a PCR; parts are differences as well.
func (d Difference) MarshalJSON() ([]byte, error) {
	register := ""
	if r := d.register(); r != RegistersPCR.Name(d.PCR) {
		register = r
	}
	return json.Marshal(struct {
		PCR      int          `json:"pcr"`
		Register string       `json:"register,omitempty"`
		Kind     string       `json:"kind"`
		Text     string       `json:"text"`
		Expected *diffEvent   `json:"expected,omitempty"`
		Actual   *diffEvent   `json:"actual,omitempty"`
		Parts    []Difference `json:"parts,omitempty"`
	}{d.PCR, register, d.Kind(), d.Text(), newDiffEvent(d.Want), newDiffEvent(d.Got), d.Parts})
}

// maxNamed bounds the partitions that a line names.
const maxNamed = 3

// describeGPTChange compares two partition tables by the partitions' IDs.
func describeGPTChange(want, got *Event) (string, bool) {
	w, err1 := readGPT(want.Data)
	g, err2 := readGPT(got.Data)
	if err1 != nil || err2 != nil {
		return "", false
	}
	var parts []string
	if w.Disk != g.Disk {
		parts = append(parts, fmt.Sprintf("of disk %s, expected %s", g.Disk, w.Disk))
	}
	find := func(list []GPTPartition, id osmith.GUID) (GPTPartition, bool) {
		i := slices.IndexFunc(list, func(p GPTPartition) bool { return p.ID == id })
		if i < 0 {
			return GPTPartition{}, false
		}
		return list[i], true
	}
	for _, p := range g.Partitions {
		old, ok := find(w.Partitions, p.ID)
		switch {
		case !ok:
			parts = append(parts, fmt.Sprintf("with %s", p.text()))
		case old.FirstLBA != p.FirstLBA || old.LastLBA != p.LastLBA:
			parts = append(parts, fmt.Sprintf("%s has LBAs %d to %d, expected %d to %d", p.text(), p.FirstLBA, p.LastLBA, old.FirstLBA, old.LastLBA))
		case old != p:
			parts = append(parts, fmt.Sprintf("%s differs in type, name or flags", p.text()))
		}
	}
	for _, p := range w.Partitions {
		if _, ok := find(g.Partitions, p.ID); !ok {
			parts = append(parts, fmt.Sprintf("without %s", p.text()))
		}
	}
	if parts == nil && !bytes.Equal(w.Header, g.Header) {
		parts = append(parts, "its header differs")
	}
	if len(parts) > 2*maxNamed {
		parts = append(parts[:2*maxNamed], "…")
	}
	return "the partition table differs: " + strings.Join(parts, ", "), len(parts) > 0
}

func (p GPTPartition) text() string {
	if p.Name == "" {
		return fmt.Sprintf("partition %s", p.ID)
	}
	return fmt.Sprintf("partition %s %s", quote(p.Name), p.ID)
}
