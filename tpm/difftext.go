package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
)

// String is a line for people: which PCR, what, and how it differs.
func (d Difference) String() string { return fmt.Sprintf("PCR %d: %s", d.PCR, d.Text()) }

// Text is the line without the PCR.
func (d Difference) Text() string {
	switch {
	case d.Got == nil:
		return d.oneSided(d.Want, "missing: ", " is missing")
	case d.Want == nil:
		return d.oneSided(d.Got, "not expected: ", " was not expected") + " (" + shortDigest(d.Got) + ")"
	}
	if d.Want.Type == d.Got.Type {
		if s, ok := d.change(); ok {
			return s
		}
	}
	want, got := d.what(d.Want), d.what(d.Got)
	if want == got || d.Want.Type == d.Got.Type && (d.Subject.Kind.isProgram() || d.Subject.Kind == SubjectDriver) {
		return fmt.Sprintf("%s is another: %s, expected %s", got, shortDigest(d.Got), shortDigest(d.Want))
	}
	return fmt.Sprintf("%s (%s) in place of %s (%s)", got, shortDigest(d.Got), want, shortDigest(d.Want))
}

// oneSided is about an event that one log alone has.
func (d Difference) oneSided(e *Event, before, after string) string {
	switch k := d.Subject.Kind; {
	case k.isCommandLine():
		return fmt.Sprintf("%s '%s'%s", d.lineName(), e.Describe(), after)
	case k.isProgram() && k != SubjectProgram:
		return d.named(e) + after
	case k == SubjectProfile && d.Got == nil:
		return fmt.Sprintf("the default profile is booted, expected %s", escape(d.Subject.Name))
	case k == SubjectProfile:
		return fmt.Sprintf("profile %s is booted, expected the default", escape(d.Subject.Name))
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
		return name + " " + path
	}
	return name
}

// change says how two events about one thing differ, if their data tell.
func (d Difference) change() (string, bool) {
	switch k := d.Subject.Kind; {
	case k.isProgram() && k != SubjectProgram:
		return fmt.Sprintf("%s is another (Authenticode %s, expected %s)", d.named(d.Got), shortDigest(d.Got), shortDigest(d.Want)), true
	case k == SubjectVariable || k == SubjectAuthority || k == SubjectBootVariable:
		return describeVariableChange(d.Want, d.Got)
	case k == SubjectGPT:
		return describeGPTChange(d.Want, d.Got)
	case k.isCommandLine():
		want, _ := textOf(d.Want.Data)
		got, _ := textOf(d.Got.Data)
		return describeWords(d.lineName(), want, got), true
	case d.Want.Type == EventTag:
		return d.taggedChange()
	}
	return "", false
}

func (d Difference) taggedChange() (string, bool) {
	want, err1 := readTagged(d.Want.Data)
	got, err2 := readTagged(d.Got.Data)
	if err1 != nil || err2 != nil || want.Tag != got.Tag {
		return "", false
	}
	name := want.Tag.String()
	switch want.Tag {
	case TagLoadOptions:
		name = "the kernel's command line"
	case TagInitrd:
		name = "the initrds that the kernel got are others, or their secret is"
		return fmt.Sprintf("%s (%s, expected %s)", name, shortDigest(d.Got), shortDigest(d.Want)), true
	case TagProfile:
		return fmt.Sprintf("profile %s is booted, expected %s", describeText(got.Data), describeText(want.Data)), true
	case TagLoaderConf:
		name = "loader.conf"
	}
	return fmt.Sprintf("%s is another (%s, expected %s)", name, shortDigest(d.Got), shortDigest(d.Want)), true
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

// what names an event in a sentence.
func (d Difference) what(e *Event) string {
	text := e.Describe()
	switch k := d.Subject.Kind; {
	case k.isProgram() || k == SubjectDriver:
		return "program " + text
	case k == SubjectVariable || k == SubjectBootVariable || k == SubjectAuthority:
		return k.String() + " " + text
	case k == SubjectSeparator && e.Type == EventSeparator || k == SubjectGPT:
		return text
	case k.isSection():
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
	}{d.PCR, d.Kind(), d.Text(), newDiffEvent(d.Want), newDiffEvent(d.Got)})
}

// describeVariableChange says how a variable differs when both events are of the same one.
func describeVariableChange(want, got *Event) (string, bool) {
	w, err1 := readVariable(want.Data)
	g, err2 := readVariable(got.Data)
	if err1 != nil || err2 != nil || w.Vendor != g.Vendor || w.Name != g.Name {
		return "", false
	}
	name := escape(g.Name)
	switch {
	case want.Type == EventEFIVariableAuthority:
		return fmt.Sprintf("a program was let in by another entry of %s", name), true
	case name == "SecureBoot" && len(w.Data) <= 1 && len(g.Data) <= 1:
		return fmt.Sprintf("SecureBoot is %s, expected %s", secureBootText(g.Data), secureBootText(w.Data)), true
	case name == "BootOrder":
		return fmt.Sprintf("BootOrder is %s, expected %s", bootOrderText(g.Data), bootOrderText(w.Data)), true
	}
	if s, ok := describeEntries(name, w.Data, g.Data); ok {
		return s, true
	}
	if want.Type == EventEFIVariableBoot || want.Type == EventEFIVariableBoot2 {
		return fmt.Sprintf("%s is %s, expected %s", name, loadOptionText(g.Data), loadOptionText(w.Data)), true
	}
	switch {
	case len(g.Data) > len(w.Data):
		return fmt.Sprintf("%s grew by %d bytes to %d", name, len(g.Data)-len(w.Data), len(g.Data)), true
	case len(g.Data) < len(w.Data):
		return fmt.Sprintf("%s shrank by %d bytes to %d", name, len(w.Data)-len(g.Data), len(g.Data)), true
	}
	return fmt.Sprintf("%s has other contents of the same size, %d bytes", name, len(g.Data)), true
}

// secureBootText is the value of SecureBoot. Firmware measures a variable that does not exist as an empty one.
func secureBootText(data []byte) string {
	if len(data) == 0 {
		return "absent"
	}
	return fmt.Sprint(data[0])
}

// maxNamed bounds the entries that a line names.
const maxNamed = 3

// describeEntries compares two lists of signatures entry by entry.
func describeEntries(name string, want, got []byte) (string, bool) {
	w, ok1 := signatureEntries(want)
	g, ok2 := signatureEntries(got)
	if !ok1 || !ok2 {
		return "", false
	}
	added, removed := minusEntries(g, w), minusEntries(w, g)
	var parts []string
	switch {
	case len(added) == 0 && len(removed) == 0:
		return fmt.Sprintf("%s has the same %d entries in another order", name, len(g)), true
	case len(removed) == 0:
		parts = append(parts, fmt.Sprintf("%s grew by %s to %d", name, entries(len(added)), len(g)))
	case len(added) == 0:
		parts = append(parts, fmt.Sprintf("%s shrank by %s to %d", name, entries(len(removed)), len(g)))
	default:
		parts = append(parts, fmt.Sprintf("%s has %s that were not expected, and lacks %d", name, entries(len(added)), len(removed)))
	}
	if len(added)+len(removed) <= maxNamed {
		for _, e := range added {
			parts = append(parts, "with "+e.text())
		}
		for _, e := range removed {
			parts = append(parts, "without "+e.text())
		}
	}
	return strings.Join(parts, ", "), true
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// minusEntries are the entries of a that b does not have.
func minusEntries(a, b []signatureEntry) []signatureEntry {
	have := make(map[signatureEntry]int, len(b))
	for _, e := range b {
		have[e]++
	}
	var out []signatureEntry
	for _, e := range a {
		if have[e]--; have[e] < 0 {
			out = append(out, e)
		}
	}
	return out
}

// text names an entry: a certificate by its subject, a hash by its start.
func (e signatureEntry) text() string {
	data := []byte(e.data[16:]) // behind the owner
	if cert, err := x509.ParseCertificate(data); err == nil {
		return fmt.Sprintf("certificate '%s'", escape(cert.Subject.String()))
	}
	return "hash " + hex.EncodeToString(data[:min(len(data), 8)]) + "…"
}

func bootOrderText(b []byte) string {
	var out []string
	for ; len(b) >= 2 && len(out) < 32; b = b[2:] {
		out = append(out, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(b)))
	}
	if out == nil {
		return "empty"
	}
	return strings.Join(out, ",")
}

// loadOptionText is the description and the path of an EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3).
func loadOptionText(b []byte) string {
	if len(b) < 8 {
		return describeBytes(b)
	}
	size := int(binary.LittleEndian.Uint16(b[4:]))
	text := b[6:]
	for i := 0; i+1 < len(text); i += 2 {
		if text[i] == 0 && text[i+1] == 0 {
			path := text[i+2:]
			return fmt.Sprintf("'%s' %s", escape(efi.DecodeUTF16(text[:i])), DevicePath(path[:min(size, len(path))]))
		}
	}
	return describeBytes(b)
}

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
			parts = append(parts, fmt.Sprintf("%s has another type, name or flags", p.text()))
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
	return "the partition table is another: " + strings.Join(parts, ", "), len(parts) > 0
}

func (p GPTPartition) text() string {
	if p.Name == "" {
		return fmt.Sprintf("partition %s", p.ID)
	}
	return fmt.Sprintf("partition '%s' %s", escape(p.Name), p.ID)
}
