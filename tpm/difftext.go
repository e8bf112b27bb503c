package tpm

import (
	"encoding/json"
	"fmt"
	"strings"
)

// String is a line for people: which PCR, what, and how it differs.
func (d Difference) String() string { return fmt.Sprintf("PCR %d: %s", d.PCR, d.Text()) }

// Text is the line without the PCR.
func (d Difference) Text() string {
	switch {
	case d.Actual == nil:
		return d.oneSided(d.Expected, "missing: ", " is missing")
	case d.Expected == nil:
		return d.oneSided(d.Actual, "not expected: ", " was not expected") + " (" + shortDigest(d.Actual) + ")"
	}
	if d.Expected.Type == d.Actual.Type {
		if s, ok := d.change(); ok {
			return s
		}
	}
	want, got := what(d.Expected), what(d.Actual)
	if want == got || d.Expected.Type == d.Actual.Type && isImage(d.Expected.Type) {
		return fmt.Sprintf("%s is another: %s, expected %s", got, shortDigest(d.Actual), shortDigest(d.Expected))
	}
	return fmt.Sprintf("%s (%s) in place of %s (%s)", got, shortDigest(d.Actual), want, shortDigest(d.Expected))
}

// oneSided is about an event that one log alone has.
func (d Difference) oneSided(e *Event, before, after string) string {
	switch {
	case d.isCommandLine(e):
		return fmt.Sprintf("%s '%s'%s", d.lineName(), e.Describe(), after)
	case d.role != "":
		return d.named(e) + after
	case e.Type == EventTag:
		if t, err := readTagged(e.Data); err == nil && t.Tag == TagProfile {
			if d.Actual == nil {
				return fmt.Sprintf("the default profile is booted, expected %s", describeText(t.Data))
			}
			return fmt.Sprintf("profile %s is booted, expected the default", describeText(t.Data))
		}
	}
	return before + what(e)
}

// named is the role of a program and its path.
func (d Difference) named(e *Event) string {
	p, err := readImageLoad(e.Data)
	if err != nil || !strings.HasSuffix(strings.ToLower(p.Path.File()), ".efi") {
		return d.role
	}
	return d.role + " " + p.Path.File()
}

// isCommandLine reports whether an event of PCR 12 is about a command line and not about an archive.
func (d Difference) isCommandLine(e *Event) bool {
	if e.PCR != 12 || e.Type != EventIPL {
		return false
	}
	s, ok := textOf(e.Data)
	return ok && !strings.HasSuffix(s, " initrd") && e.Attested()
}

// change says how two events about one thing differ, if their data tell.
func (d Difference) change() (string, bool) {
	switch t := d.Expected.Type; {
	case isImage(t) && d.role != "":
		return fmt.Sprintf("%s is another (Authenticode %s, expected %s)", d.named(d.Actual), shortDigest(d.Actual), shortDigest(d.Expected)), true
	case t == EventEFIVariableDriverConfig, t == EventEFIVariableAuthority, t == EventEFIVariableBoot, t == EventEFIVariableBoot2:
		return describeVariableChange(d.Expected, d.Actual)
	case t == EventEFIGPT || t == EventEFIGPT2:
		return describeGPTChange(d.Expected, d.Actual)
	case d.isCommandLine(d.Expected) && d.isCommandLine(d.Actual):
		want, _ := textOf(d.Expected.Data)
		got, _ := textOf(d.Actual.Data)
		return describeWords(d.lineName(), want, got), true
	case t == EventTag:
		return d.taggedChange()
	}
	return "", false
}

func (d Difference) taggedChange() (string, bool) {
	want, err1 := readTagged(d.Expected.Data)
	got, err2 := readTagged(d.Actual.Data)
	if err1 != nil || err2 != nil || want.Tag != got.Tag {
		return "", false
	}
	name := want.Tag.String()
	switch want.Tag {
	case TagLoadOptions:
		name = "the kernel's command line"
	case TagInitrd:
		name = "the initrds that the kernel got are others, or their secret is"
		return fmt.Sprintf("%s (%s, expected %s)", name, shortDigest(d.Actual), shortDigest(d.Expected)), true
	case TagProfile:
		return fmt.Sprintf("profile %s is booted, expected %s", describeText(got.Data), describeText(want.Data)), true
	case TagLoaderConf:
		name = "loader.conf"
	}
	return fmt.Sprintf("%s is another (%s, expected %s)", name, shortDigest(d.Actual), shortDigest(d.Expected)), true
}

// lineName is what a command line in PCR 12 is.
func (d Difference) lineName() string {
	if d.role != "" {
		return d.role
	}
	return "command line"
}

// describeWords compares two command lines word by word.
func describeWords(name, want, got string) string {
	missing, extra := minusWords(want, got), minusWords(got, want)
	var parts []string
	if missing != "" {
		parts = append(parts, fmt.Sprintf("'%s' is missing", escape(missing)))
	}
	if extra != "" {
		parts = append(parts, fmt.Sprintf("'%s' was not expected", escape(extra)))
	}
	if parts == nil {
		return fmt.Sprintf("%s '%s' has its words in another order, expected '%s'", name, escape(got), escape(want))
	}
	return name + " " + strings.Join(parts, ", ")
}

// minusWords are the words of a that b does not have, in order.
func minusWords(a, b string) string {
	have := make(map[string]int)
	for _, w := range strings.Fields(b) {
		have[w]++
	}
	var out []string
	for _, w := range strings.Fields(a) {
		if have[w]--; have[w] < 0 {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}

func isImage(t EventType) bool {
	return t == EventEFIBootServicesApplication || t == EventEFIBootServicesDriver || t == EventEFIRuntimeServicesDriver
}

// what names an event in a sentence.
func what(e *Event) string {
	text := e.Describe()
	switch {
	case isImage(e.Type):
		return "program " + text
	case e.Type == EventEFIVariableDriverConfig:
		return "Secure Boot variable " + text
	case e.Type == EventEFIVariableBoot || e.Type == EventEFIVariableBoot2:
		return "boot variable " + text
	case e.Type == EventEFIVariableAuthority:
		return "authority " + text
	case e.Type == EventSeparator:
		return text
	case e.Type == EventEFIGPT || e.Type == EventEFIGPT2:
		return text
	case e.Type == EventIPL && e.PCR == PCRKernel && strings.HasPrefix(text, "."):
		return "UKI section " + text
	}
	return fmt.Sprintf("%v %q", e.Type, text)
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

// MarshalJSON is an object with pcr, kind, text and the two events as far as there are: expected and actual, each with
// type, digests by bank, and description.
func (d Difference) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		PCR      int        `json:"pcr"`
		Kind     string     `json:"kind"`
		Text     string     `json:"text"`
		Expected *diffEvent `json:"expected,omitempty"`
		Actual   *diffEvent `json:"actual,omitempty"`
	}{d.PCR, d.Kind(), d.Text(), newDiffEvent(d.Expected), newDiffEvent(d.Actual)})
}
