package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// Logs in which something that is not expected stands beside something that explains it at first
// sight.
func TestCausesOfTamperedBoots(t *testing.T) {
	want := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	for _, c := range []struct{ file, causes string }{
		{"other-serial-and-injected-cmdline.bin", "PCR 1: SMBIOS type 1 differs (1a55958f2a343b7a…, expected 5c3e2de241f7798c…)\n" +
			"PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (696e44b9e595fc49…)\n"},
		{"addons-and-injected-cmdline.bin", "PCR 4: add-on \\loader\\addons\\global.addon.efi was not expected (224788ffed6c8a43…)\n" +
			"PCR 4: add-on \\EFI\\Linux\\bootlab_2.efi.extra.d\\local.addon.efi was not expected (b487b1f711ca1f91…)\n" +
			"PCR 9: the initrds that the kernel got differ, or the secret in them does (9e8361cbb7a9f01a…, expected 4aab36f388bff679…)\n" +
			"PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (696e44b9e595fc49…)\n"},
	} {
		assert.Equal(t, c.causes, lines(Causes(Diff(want, parsed(t, "tampered", c.file)))))
	}
}

// A tampering changes one thing of a recorded boot, with what follows from it.
type tampering struct {
	name string

	// apply changes the log and returns for each independent event that it changed the digests of
	// which at least one must stand in a cause; nil if the log no longer has what is to be changed.
	apply func(l *tampered) [][]string
}

// tampered is a log under change.
type tampered struct{ *Log }

func sha256Of(s string) []byte { return pcrbank.Sum(crypto.SHA256, []byte(s)) }

func (l *tampered) find(kind SubjectKind, name string) int {
	return slices.IndexFunc(l.Events, func(e Event) bool { return e.Subject.Kind == kind && (name == "" || e.Subject.Name == name) })
}

// set gives an event another digest.
func (l *tampered) set(kind SubjectKind, name, contents string) [][]string {
	i := l.find(kind, name)
	if i < 0 {
		return nil
	}
	l.Events[i].Digests = map[crypto.Hash][]byte{crypto.SHA256: sha256Of(contents)}
	return [][]string{{hex.EncodeToString(sha256Of(contents))}}
}

// insert adds an event before or behind another.
func (l *tampered) insert(kind SubjectKind, behind int, s SubjectKind, pcr int, typ EventType, data, measured []byte) [][]string {
	i := l.find(kind, "")
	if i < 0 {
		return nil
	}
	digest := pcrbank.Sum(crypto.SHA256, measured)
	l.Events = slices.Insert(l.Events, i+behind, Event{PCR: pcr, Type: typ, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: digest}, Subject: Subject{Kind: s}})
	return [][]string{{hex.EncodeToString(digest)}}
}

// line adds a command line that the stub measured, before those that were added earlier or behind
// them.
func (l *tampered) line(text string, last bool) [][]string {
	at := SubjectLoadOptions
	if i := slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == 12 }); i >= 0 && !last {
		at = l.Events[i].Subject.Kind
	}
	return l.insert(at, 0, SubjectCommandLine, 12, EventIPL, utf16z(text), utf16z(text))
}

// addon adds an add-on, behind the last section of the UKI.
func (l *tampered) addon(name string) [][]string {
	data, _ := imageLoadEvent(&Application{Path: `\loader\addons\` + name + `.addon.efi`, Size: 1})
	i := slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == 12 || e.PCR == 9 })
	if i < 0 {
		return nil
	}
	for j, e := range l.Events {
		if e.PCR == PCRKernel {
			i = j + 1
		}
	}
	l.Events = slices.Insert(l.Events, i, Event{PCR: 4, Type: EventEFIBootServicesApplication, Data: data,
		Digests: map[crypto.Hash][]byte{crypto.SHA256: sha256Of(name)}, Subject: Subject{Kind: SubjectAddon}})
	return [][]string{{hex.EncodeToString(sha256Of(name))}}
}

func (l *tampered) tagged(tag Tag, text, contents string, s SubjectKind) [][]string {
	return l.insert(SubjectInitrd, 0, s, 12, EventTag, taggedData(tag, utf16z(text)), []byte(contents))
}

// section changes a section of the UKI, and so the UKI.
func (l *tampered) section(name string) [][]string {
	roots := l.set(SubjectSection, name, "another "+name)
	if roots == nil || l.set(SubjectUKI, "", "UKI with another "+name) == nil {
		return nil
	}
	return [][]string{append(roots[0], hex.EncodeToString(sha256Of("UKI with another "+name)))}
}

// tamperings are single changes of the boot.
func tamperings(boot *Log) []tampering {
	all := []tampering{
		{"another serial number", func(l *tampered) [][]string {
			return l.set(SubjectSMBIOS, TagSMBIOSType1.String(), "serial")
		}},
		{"an injected command line of the loader", func(l *tampered) [][]string {
			l.set(SubjectLoadOptions, "", "with loader's")
			return l.insert(SubjectUKI, 1, SubjectPassed, 12, EventIPL, utf16z("init=/bin/sh"), utf16z("init=/bin/sh"))
		}},
		{"an injected command line that looks like a profile", func(l *tampered) [][]string {
			return l.insert(SubjectUKI, 1, SubjectPassed, 12, EventIPL, utf16z("@1 init=/bin/sh"), utf16z("@1 init=/bin/sh"))
		}},
		{"an injected command line of the stub", func(l *tampered) [][]string {
			l.set(SubjectLoadOptions, "", "with stub's")
			return l.line("systemd.debug_shell", true)
		}},
		{"an injected command line of the stub, before the others", func(l *tampered) [][]string {
			return l.line("systemd.debug_shell=1", false)
		}},
		{"an add-on with a command line", func(l *tampered) [][]string {
			l.set(SubjectLoadOptions, "", "with add-on's")
			l.line("lab.addon", true)
			return l.addon("line")
		}},
		{"an add-on with a device tree", func(l *tampered) [][]string {
			l.tagged(TagDeviceTree, "tree.addon.efi", "device tree", SubjectAddonDeviceTree)
			return l.addon("tree")
		}},
		{"an add-on with an initrd", func(l *tampered) [][]string {
			l.tagged(TagInitrdAddon, "initrd.addon.efi", "initrd of an add-on", SubjectAddonInitrd)
			l.set(SubjectInitrd, "", "with add-on's")
			return l.addon("initrd")
		}},
		{"another initrd in the UKI", func(l *tampered) [][]string {
			l.set(SubjectInitrd, "", "with another .initrd")
			return l.section(".initrd")
		}},
		{"another kernel in the UKI", func(l *tampered) [][]string { return l.section(".linux") }},
		{"another os-release in the UKI", func(l *tampered) [][]string {
			l.set(SubjectInitrd, "", "with another .osrel")
			return l.section(".osrel")
		}},
		{"another command line in the UKI", func(l *tampered) [][]string {
			l.set(SubjectLoadOptions, "", "with another .cmdline")
			return l.section(".cmdline")
		}},
		{"a section once more", func(l *tampered) [][]string {
			at := l.find(SubjectSectionName, ".initrd")
			if at < 0 || l.find(SubjectLoadOptions, "") < 0 {
				return nil
			}
			name := l.Events[at].clone()
			i := l.find(SubjectLoadOptions, "")
			l.Events = slices.Insert(l.Events, i, name)
			return l.insert(SubjectLoadOptions, 0, SubjectSection, 11, EventIPL, name.Data, []byte("initrd once more"))
		}},
		{"another UKI", func(l *tampered) [][]string { return l.set(SubjectUKI, "", "UKI") }},
		{"other initrds", func(l *tampered) [][]string { return l.set(SubjectInitrd, "", "initrds") }},
		{"another kernel command line", func(l *tampered) [][]string { return l.set(SubjectLoadOptions, "", "options") }},
		{"credentials", func(l *tampered) [][]string {
			l.set(SubjectInitrd, "", "with credentials")
			return l.insert(SubjectLoadOptions, 0, SubjectCompanion, 12, EventIPL, utf16z("Credentials initrd"), []byte("credentials"))
		}},
		{"profile 1", func(l *tampered) [][]string {
			l.set(SubjectInitrd, "", "with profile")
			l.insert(SubjectUKI, 1, SubjectPassed, 12, EventIPL, utf16z("@1"), utf16z("@1"))
			l.set(SubjectSection, ".cmdline", "of the profile")
			i := l.find(SubjectUKI, "")
			if i < 0 {
				return nil
			}
			return l.insert(SubjectSectionName, 0, SubjectProfile, 12, EventTag, taggedData(TagProfile, utf16z("1")), utf16z("1"))
		}},
		{"no UKI", func(l *tampered) [][]string {
			if l.find(SubjectUKI, "") < 0 {
				return nil
			}
			digest := hexOf(boot.Events[(&tampered{boot}).find(SubjectUKI, "")].Digests[crypto.SHA256])
			l.Events = slices.DeleteFunc(l.Events, func(e Event) bool {
				return e.Subject.Kind == SubjectUKI || e.Subject.Kind.isSection() || e.Subject.Kind == SubjectLoadOptions || e.Subject.Kind == SubjectInitrd
			})
			return [][]string{{digest}}
		}},
		{"another loader", func(l *tampered) [][]string { return l.set(SubjectLoader, "", "loader") }},
		{"another loader.conf", func(l *tampered) [][]string { return l.set(SubjectLoaderConf, "", "timeout 5") }},
		{"another partition table", func(l *tampered) [][]string { return l.set(SubjectGPT, "", "table") }},
		{"another db", func(l *tampered) [][]string { return l.set(SubjectVariable, "db", "db") }},
		{"another authority", func(l *tampered) [][]string { return l.set(SubjectAuthority, "", "authority") }},
		{"an authority more", func(l *tampered) [][]string {
			data := variableData(imageSecurityDatabase, "db", make([]byte, 48))
			return l.insert(SubjectAuthority, 1, SubjectAuthority, 7, EventEFIVariableAuthority, data, data)
		}},
		{"Secure Boot off", func(l *tampered) [][]string {
			i, j := l.find(SubjectVariable, "SecureBoot"), l.find(SubjectAuthority, "")
			if i < 0 {
				return nil
			}
			data := variableData(globalVariable, "SecureBoot", []byte{0})
			e := l.Events[i].clone()
			e.Data, e.Digests = data, map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}
			l.Events[i] = e
			if j >= 0 {
				l.Events = slices.Delete(l.Events, j, j+1)
			}
			return [][]string{{hexOf(e.Digests[crypto.SHA256])}}
		}},
	}
	for pcr := range PCRCount {
		all = append(all, tampering{fmt.Sprintf("an event more in PCR %d", pcr), func(l *tampered) [][]string {
			data := fmt.Appendf(nil, "event in PCR %d", pcr)
			return l.insert(SubjectExitBoot, 0, SubjectUnknown, pcr, EventIPL, data, append(data, "contents"...))
		}})
	}
	same := func(e Event) func(Event) bool {
		return func(o Event) bool {
			return o.PCR == e.PCR && o.Type == e.Type && o.sameDigests(&e) && bytes.Equal(o.Data, e.Data)
		}
	}
	for i, e := range boot.Events {
		if !e.extends() {
			continue
		}
		all = append(all, tampering{fmt.Sprintf("event %d is missing", i), func(l *tampered) [][]string {
			j := slices.IndexFunc(l.Events, same(e))
			if j < 0 {
				return nil
			}
			l.Events = slices.Delete(l.Events, j, j+1)
			return [][]string{{hexOf(e.Digests[crypto.SHA256])}}
		}})
		next := slices.IndexFunc(boot.Events[i+1:], func(o Event) bool { return o.PCR == e.PCR && !o.sameDigests(&e) })
		if next < 0 || slices.IndexFunc(boot.Events, same(e)) < i || slices.IndexFunc(boot.Events, same(boot.Events[i+1+next])) <= i {
			continue
		}
		other := boot.Events[i+1+next]
		all = append(all, tampering{fmt.Sprintf("event %d is moved", i), func(l *tampered) [][]string {
			j, k := slices.IndexFunc(l.Events, same(e)), slices.IndexFunc(l.Events, same(other))
			if j < 0 || k < 0 || j > k {
				return nil
			}
			l.Events[j], l.Events[k] = l.Events[k], l.Events[j]
			return [][]string{{hexOf(e.Digests[crypto.SHA256]), hexOf(other.Digests[crypto.SHA256])}}
		}})
	}
	return all
}

func (e *Event) clone() Event {
	return Event{PCR: e.PCR, Type: e.Type, Digests: e.Digests, Data: e.Data, Subject: e.Subject}
}

// inseparable are changes of the one event, that a change of the other kind changes too: no log
// tells the two apart.
var inseparable = map[string][]string{
	"another UKI":   {"another initrd in the UKI", "another kernel in the UKI", "another os-release in the UKI", "another command line in the UKI"},
	"other initrds": {"another initrd in the UKI", "another os-release in the UKI", "credentials", "an add-on with an initrd"},
	"another kernel command line": {"an injected command line of the loader", "an injected command line that looks like a profile", "an injected command line of the stub",
		"an injected command line of the stub, before the others", "an add-on with a command line", "another command line in the UKI", "profile 1"},
}

// Of any two changes neither hides the other.
func TestCausesOfPairs(t *testing.T) {
	boot := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	all := tamperings(boot)
	change := func(l *Log, x tampering) [][]string { return x.apply(&tampered{l}) }
	causesOf := func(l *Log) (map[string]bool, []Difference) {
		got := &Log{Events: slices.Clone(l.Events)}
		for i := range got.Events {
			got.Events[i].Subject = Subject{} // it is found from the log
		}
		ds := Diff(boot, got)
		digests := map[string]bool{}
		for _, d := range Causes(ds) {
			for _, e := range []*Event{d.Want, d.Got} {
				if e != nil {
					digests[hexOf(e.Digests[crypto.SHA256])] = true
				}
			}
		}
		return digests, ds
	}
	copied := func() *Log {
		return &Log{Events: slices.Clone(boot.Events)}
	}
	pairs := 0
	for _, a := range all {
		l := copied()
		roots := change(l, a)
		require.NotNil(t, roots, a.name)
		causes, ds := causesOf(l)
		require.NotEmpty(t, ds, a.name)
		requireRoots(t, a.name, roots, causes, ds)
		for _, b := range all {
			if a.name == b.name || slices.Contains(inseparable[a.name], b.name) {
				continue
			}
			l := copied()
			rootsA := change(l, a)
			rootsB := change(l, b)
			if rootsB == nil {
				continue // what it changes is gone
			}
			pairs++
			if strings.HasSuffix(a.name, "is moved") && strings.HasSuffix(b.name, "is moved") {
				// both together may be one other move
				rootsA = [][]string{append(slices.Clone(rootsA[0]), rootsB[0]...)}
				rootsB = rootsA
			}
			causes, ds := causesOf(l)
			name := a.name + ", " + b.name
			if samePCRs(l, boot) { // two moves that undo each other
				require.Contains(t, name, "moved")
				require.Empty(t, ds, name)
				continue
			}
			require.NotEmpty(t, ds, name)
			if !slices.Contains(inseparable[b.name], a.name) {
				requireRoots(t, name, rootsB, causes, ds)
			}
			if slices.ContainsFunc(rootsA[0], func(d string) bool { return causes[d] }) {
				continue
			}
			alone := copied()
			change(alone, b)
			if overwritten(l, rootsA, boot) || samePCRs(l, alone) {
				continue
			}
			requireRoots(t, name, rootsA, causes, ds)
		}
	}
	t.Logf("%d changes, %d pairs", len(all), pairs)
	require.Greater(t, pairs, 10_000)
}

// The parts of a cause are in the order in which the sections were measured.
func TestPartsAreInOrder(t *testing.T) {
	boot := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	got := &Log{Events: slices.Clone(boot.Events)}
	var want []string
	for i := range got.Events {
		if e := &got.Events[i]; e.Subject.Kind == SubjectSection || e.Subject.Kind == SubjectUKI {
			if e.Subject.Kind == SubjectSection {
				want = append(want, e.Subject.Name)
			}
			e.Digests = map[crypto.Hash][]byte{crypto.SHA256: sha256Of("other " + e.Subject.Name)}
		}
	}
	require.Len(t, want, 7)
	for range 20 {
		causes := Causes(Diff(boot, got))
		var parts []string
		for _, p := range causes[0].Parts {
			parts = append(parts, p.Subject.Name)
		}
		require.Equal(t, want, parts)
		require.Contains(t, causes[0].Text(), ": "+strings.Join(want, ", ")+" differ")
	}
}

// Where no UKI was expected, one that is there explains what it holds, and no other change hides
// behind it.
func TestCausesOfANewUKI(t *testing.T) {
	boot := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	all := tamperings(boot)
	want := &Log{Events: slices.Clone(boot.Events)}
	uki := all[slices.IndexFunc(all, func(x tampering) bool { return x.name == "no UKI" })].apply(&tampered{want})
	for i := range want.Events {
		want.Events[i].Subject = Subject{}
	}
	require.Equal(t, "PCR 4: the UKI \\EFI\\Linux\\bootlab_2+2-1.efi was not expected (f95be491ee6ea2eb…)\n", lines(Causes(Diff(want, boot))))
	require.Equal(t, "PCR 4: the UKI \\EFI\\Linux\\bootlab_2+2-1.efi is missing\n", lines(Causes(Diff(boot, want))))
	held := 0
	for _, x := range all {
		got := &Log{Events: slices.Clone(boot.Events)}
		roots := x.apply(&tampered{got})
		for i := range got.Events {
			got.Events[i].Subject = Subject{}
		}
		ds := Diff(want, got)
		causes := map[string]bool{}
		for _, d := range Causes(ds) {
			for _, e := range []*Event{d.Want, d.Got} {
				if e != nil {
					causes[hexOf(e.Digests[crypto.SHA256])] = true
				}
			}
		}
		if x.name == "no UKI" {
			require.Empty(t, ds)
			continue
		}
		// What was changed is in the UKI, or of what the kernel gets of it: there is nothing that
		// it could be compared with.
		if slices.ContainsFunc(roots[0], func(d string) bool {
			return slices.ContainsFunc(got.Events, func(e Event) bool {
				return hexOf(e.Digests[crypto.SHA256]) == d && (e.PCR == 11 || e.PCR == 9 && e.Type == EventTag)
			}) || d == uki[0][0] || !slices.ContainsFunc(want.Events, func(e Event) bool { return hexOf(e.Digests[crypto.SHA256]) == d }) && countDigest(got, d) == 0
		}) {
			held++
			continue
		}
		requireRoots(t, x.name, roots, causes, ds)
	}
	require.Less(t, held, len(all)*2/3)
}

func countDigest(l *Log, digest string) (n int) {
	for i := range l.Events {
		if hexOf(l.Events[i].Digests[crypto.SHA256]) == digest {
			n++
		}
	}
	return n
}

// overwritten reports whether the second change undid or replaced the first.
func overwritten(l *Log, roots [][]string, boot *Log) bool {
	return slices.ContainsFunc(roots[0], func(d string) bool { return countDigest(l, d) == 0 && countDigest(boot, d) == 0 })
}

// samePCRs reports whether two logs have the same events in each PCR.
func samePCRs(a, b *Log) bool {
	for pcr := range PCRCount {
		if !slices.EqualFunc(a.of(pcr), b.of(pcr), func(x, y *Event) bool { return x.sameDigests(y) }) {
			return false
		}
	}
	return true
}

func requireRoots(t *testing.T, name string, roots [][]string, causes map[string]bool, ds []Difference) {
	t.Helper()
	for _, root := range roots {
		require.True(t, slices.ContainsFunc(root, func(d string) bool { return causes[d] }), "%s\nno cause has %v\nof\n%s\ncauses\n%s", name, root, lines(ds), lines(Causes(ds)))
	}
}

// What leads to what, and what does not although it is near it.
func TestCausesRelations(t *testing.T) {
	event := func(pcr int, typ EventType, data []byte) *Event {
		return &Event{PCR: pcr, Type: typ, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}}
	}
	diff := func(kind SubjectKind, name string, want, got *Event) Difference {
		return Difference{Subject: Subject{Kind: kind, Name: name}, Want: want, Got: got}
	}
	line := func(text string) *Event { return event(12, EventIPL, utf16z(text)) }
	profile := func(n string) *Event { return event(12, EventTag, taggedData(TagProfile, utf16z(n))) }
	secureBoot := func(want, got byte) Difference {
		d := diff(SubjectVariable, "SecureBoot", event(7, EventEFIVariableDriverConfig, variableData(globalVariable, "SecureBoot", []byte{want})),
			event(7, EventEFIVariableDriverConfig, variableData(globalVariable, "SecureBoot", []byte{got})))
		d.Subject.Vendor = globalVariable
		return d
	}
	variable := func(name string, vendor osmith.GUID, want, got []byte) Difference {
		d := diff(SubjectVariable, name, event(7, EventEFIVariableDriverConfig, variableData(vendor, name, want)), event(7, EventEFIVariableDriverConfig, variableData(vendor, name, got)))
		d.Subject.Vendor = vendor
		return d
	}
	gone := secureBoot(1, 0)
	gone.Got = nil
	authority := func(name string, vendor osmith.GUID, want, got *Event) Difference {
		d := diff(SubjectAuthority, name, want, got)
		d.Subject.Vendor = vendor
		return d
	}
	x, y := event(4, EventIPL, []byte("x")), event(4, EventIPL, []byte("y"))
	addon := func(name string) *Event {
		data, _ := imageLoadEvent(&Application{Path: `\loader\addons\` + name + `.addon.efi`})
		return event(4, EventEFIBootServicesApplication, data)
	}
	addonA, addonB := addon("A"), addon("b")
	other := func(e *Event) *Event { // with other contents
		o := e.clone()
		o.Digests = map[crypto.Hash][]byte{crypto.SHA256: sha256Of("other " + string(e.Data))}
		return &o
	}
	oneUKI := func(want, got *Event) Difference {
		d := diff(SubjectUKI, "", want, got)
		d.noUKI, d.ukiIsGot = true, want == nil
		return d
	}
	partA, partB := event(12, EventTag, taggedData(TagDeviceTree, utf16z("a.addon.efi"))), event(12, EventTag, taggedData(TagDeviceTree, utf16z("b.addon.efi")))
	type11, type1 := TagSMBIOSType11.String(), TagSMBIOSType1.String()
	addonLine, stubLine := SubjectAddonCommandLine, SubjectCommandLine
	repeated := diff(SubjectSection, ".initrd", nil, x)
	repeatedName := diff(SubjectSectionName, ".initrd", nil, y)
	repeated.repeated, repeatedName.repeated = true, true
	for _, c := range []struct {
		name   string
		ds     []Difference
		causes string // indices
	}{
		{"nothing", []Difference{}, ""},
		{"an add-on's line", []Difference{diff(SubjectAddon, "", nil, x), diff(addonLine, "a", nil, line("a"))}, "0"},
		{"a line that is missing for an add-on that is there", []Difference{diff(SubjectAddon, "", nil, x), diff(addonLine, "a", line("a"), nil)}, "0 1"},
		{"words that are missing for an add-on that is there", []Difference{diff(SubjectAddon, "", nil, x), diff(addonLine, "a", line("a b"), line("b c"))}, "0 1"},
		{"words more", []Difference{diff(SubjectAddon, "", nil, x), diff(addonLine, "a", line("a b"), line("a c b"))}, "0"},
		{"words less", []Difference{diff(SubjectAddon, "", x, nil), diff(addonLine, "a", line("a c b"), line("a b"))}, "0"},
		{"words more for an add-on that is missing", []Difference{diff(SubjectAddon, "", x, nil), diff(addonLine, "a", line("a b"), line("a c b"))}, "0 1"},
		{"another add-on, other words", []Difference{diff(SubjectAddon, "", x, y), diff(addonLine, "a", line("a"), line("b"))}, "0"},
		{"another add-on, and a line that none had", []Difference{diff(SubjectAddon, "", x, y), diff(addonLine, "a", nil, line("a"))}, "0 1"},
		{"another command line in the UKI, and none for the kernel", []Difference{diff(SubjectSection, ".cmdline", x, y), diff(SubjectLoadOptions, "", x, nil)}, "0 1"},
		{"a line of the stub", []Difference{diff(SubjectAddon, "", nil, x), diff(stubLine, "a", nil, line("a"))}, "0 1"},
		{"two lines of add-ons", []Difference{diff(SubjectAddon, "", nil, x), diff(SubjectAddon, "", nil, y), diff(addonLine, "a", nil, line("a")), diff(addonLine, "b", nil, line("b"))}, "0 1 2 3"},
		{"a line and a device tree of one add-on", []Difference{diff(SubjectAddon, "", nil, addonA), diff(addonLine, "a", nil, line("a")), diff(SubjectAddonDeviceTree, "", nil, partA)}, "0 1"},
		{"of two", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddon, "", nil, addonB), diff(addonLine, "a", nil, line("a")), diff(SubjectAddonDeviceTree, "", nil, partA)}, "0 1"},
		{"a device tree that is missing", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddonDeviceTree, "", partA, nil)}, "0 1"},
		{"another device tree", []Difference{diff(SubjectAddon, "", addonA, other(addonA)), diff(SubjectAddonDeviceTree, "", partA, other(partA))}, "0"},
		{"another device tree, of an add-on that another is in place of", []Difference{diff(SubjectAddon, "", addonA, addonB), diff(SubjectAddonDeviceTree, "", partA, partB)}, "0"},
		{"another device tree, of another add-on", []Difference{diff(SubjectAddon, "", addonA, addonB), diff(SubjectAddonDeviceTree, "", partA, other(partA))}, "0 1"},
		{"a device tree of another add-on", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddonDeviceTree, "", nil, partB)}, "0 1"},
		{"another device tree, of an add-on that was another", []Difference{diff(SubjectAddon, "", addonB, addonA), diff(SubjectAddonDeviceTree, "", partA, other(partA))}, "0 1"},
		{"a device tree of another add-on, and a line", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddonDeviceTree, "", nil, partB), diff(addonLine, "a", nil, line("a"))}, "0 1 2"},
		{"a device tree without a name", []Difference{diff(SubjectAddon, "", nil, x), diff(SubjectAddonDeviceTree, "", nil, x)}, "0 1"},
		{"two device trees", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddonDeviceTree, "", nil, partA), diff(SubjectAddonDeviceTree, "", nil, event(12, EventTag, taggedData(TagDeviceTree, utf16z("a.addon.efi"))))}, "0 1 2"},
		{"two device trees of two", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddon, "", nil, addonB), diff(SubjectAddonDeviceTree, "", nil, partA), diff(SubjectAddonDeviceTree, "", nil, partB)}, "0 1"},
		{"microcode", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddonMicrocode, "", nil, partA), diff(SubjectInitrd, "", x, y)}, "0"},
		{"an initrd", []Difference{diff(SubjectAddon, "", nil, addonA), diff(SubjectAddonInitrd, "", nil, partA), diff(SubjectInitrd, "", x, y)}, "0"},
		{"an add-on without an initrd", []Difference{diff(SubjectAddon, "", nil, x), diff(SubjectInitrd, "", x, y)}, "0 1"},
		{"an add-on without a line", []Difference{diff(SubjectAddon, "", nil, x), diff(SubjectLoadOptions, "", x, y)}, "0 1"},

		{"a string of SMBIOS", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(stubLine, "a", nil, line("a")), diff(SubjectLoadOptions, "", x, y)}, "0"},
		{"another serial number", []Difference{diff(SubjectSMBIOS, type1, x, y), diff(stubLine, "a", nil, line("a")), diff(SubjectLoadOptions, "", x, y)}, "0 1"},
		{"another serial number and another line", []Difference{diff(SubjectSMBIOS, type1, x, y), diff(stubLine, "a", line("a"), line("b"))}, "0 1"},
		{"a serial number more", []Difference{diff(SubjectSMBIOS, type1, nil, x), diff(stubLine, "a", nil, line("a"))}, "0 1"},
		{"a string of SMBIOS is missing", []Difference{diff(SubjectSMBIOS, type11, x, nil), diff(stubLine, "a", nil, line("a"))}, "0 1"},
		{"two lines for one string", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(stubLine, "a", nil, line("a")), diff(stubLine, "b", nil, line("b"))}, "0 1 2"},
		{"a line that looks like an add-on's", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(addonLine, "a", nil, line("a"))}, "0"},
		{"a string and an add-on", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(SubjectAddon, "", nil, y), diff(addonLine, "a", nil, line("a")), diff(stubLine, "b", nil, line("b"))}, "0 1"},
		{"a string, an add-on and a line more", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(SubjectAddon, "", nil, y), diff(addonLine, "a", nil, line("a")), diff(stubLine, "b", nil, line("b")),
			diff(stubLine, "c", nil, line("c"))}, "0 1 2 3 4"},
		{"a line of the loader", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(SubjectPassed, "a", nil, line("a"))}, "0 1"},
		{"tables", []Difference{diff(SubjectSMBIOS, type11, nil, x), diff(SubjectTables, "", x, y)}, "0 1"},

		{"a profile", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectPassed, "@1", nil, line("@1")), diff(SubjectSection, ".cmdline", x, y)}, "0"},
		{"a profile that the loader did not choose", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectPassed, "@2", nil, line("@2"))}, "0 1"},
		{"a profile and more words", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectPassed, "@1 a", nil, line("@1 a"))}, "0 1"},
		{"a profile and the same words", []Difference{diff(SubjectProfile, "1", profile("1"), profile("2")), diff(SubjectPassed, "@1 a", line("@1 a"), line("@2 a"))}, "0"},
		{"a profile from another number", []Difference{diff(SubjectProfile, "1", profile("1"), profile("2")), diff(SubjectPassed, "@3", line("@3"), line("@2"))}, "0 1"},
		{"no number", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectPassed, "@1x", nil, line("@1x"))}, "0 1"},
		{"a number without a profile", []Difference{diff(SubjectPassed, "@1", nil, line("@1"))}, "0"},
		{"two lines of the loader", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectPassed, "@1", nil, line("@1")), diff(SubjectPassed, "@1", nil, line("@1"))}, "0 1 2"},
		{"two profiles", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectProfile, "2", nil, profile("2")), diff(SubjectSection, ".cmdline", x, y)}, "0 1 2"},
		{"a section twice", []Difference{diff(SubjectProfile, "1", nil, profile("1")), repeated}, "0 1"},
		{"a section twice, with its name", []Difference{diff(SubjectProfile, "1", nil, profile("1")), repeatedName, repeated, diff(SubjectUKI, "", x, y)}, "0 1 2 3"},
		{"a UKI, and a section twice, with its name", []Difference{repeatedName, repeated, diff(SubjectUKI, "", x, y), diff(SubjectInitrd, "", x, y)}, "0 1 2 3"},
		{"a UKI and a name that is another", []Difference{diff(SubjectSectionName, ".dtb", x, y), diff(SubjectUKI, "", x, y)}, "0 1"},
		{"an unknown section with its name", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectSectionName, ".evil", nil, x), diff(SubjectSection, ".evil", nil, y)}, "0 1 2"},
		{"an unknown section", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectSection, ".evil", nil, x)}, "0 1"},
		{"a profile and another UKI", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectUKI, "", x, y), diff(SubjectSection, ".cmdline", x, y)}, "0 1"},
		{"a number is no command line", []Difference{diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectPassed, "@1", nil, line("@1")), diff(SubjectLoadOptions, "", x, y)}, "0 2"},

		{"a UKI", []Difference{diff(SubjectSection, ".linux", x, y), diff(SubjectUKI, "", x, y)}, "1"},
		{"a UKI with a section more", []Difference{diff(SubjectSectionName, ".dtb", nil, x), diff(SubjectSection, ".dtb", nil, y), diff(SubjectUKI, "", x, y)}, "2"},
		{"a UKI with a section less", []Difference{diff(SubjectSectionName, ".dtb", x, nil), diff(SubjectSection, ".dtb", y, nil), diff(SubjectUKI, "", x, y)}, "2"},
		{"a UKI and a section that moved", []Difference{diff(SubjectSectionName, ".dtb", x, x), diff(SubjectSection, ".dtb", y, y), diff(SubjectUKI, "", x, y)}, "0 1 2"},
		{"a UKI that moved", []Difference{diff(SubjectSection, ".linux", x, y), diff(SubjectUKI, "", x, x)}, "0 1"},
		{"a UKI and its command line", []Difference{diff(SubjectUKI, "", x, y), diff(SubjectLoadOptions, "", x, y), diff(SubjectSection, ".cmdline", x, y), diff(SubjectInitrd, "", x, y)}, "0 3"},
		{"moved events explain nothing", []Difference{diff(SubjectSection, ".cmdline", x, x), diff(SubjectLoadOptions, "", x, x)}, "0 1"},
		{"a command line that moved, with another .cmdline", []Difference{diff(SubjectSection, ".cmdline", x, y), diff(SubjectLoadOptions, "", x, x)}, "0 1"},
		{"no UKI", []Difference{oneUKI(x, nil), diff(SubjectSectionName, ".linux", x, nil), diff(SubjectSection, ".linux", y, nil), diff(SubjectLoadOptions, "", x, nil), diff(SubjectInitrd, "", x, nil),
			diff(SubjectAddon, "", addonA, nil), diff(addonLine, "a", line("a"), nil), diff(SubjectPassed, "b", line("b"), nil), diff(SubjectCompanion, "junk", x, nil), diff(SubjectProfile, "1", profile("1"), nil),
			diff(stubLine, "a", line("a"), nil), diff(SubjectAddonDeviceTree, "", partA, nil), diff(SubjectAddonMicrocode, "", partA, nil), diff(SubjectAddonInitrd, "", partA, nil), diff(SubjectKernel, "", x, nil)}, "0"},
		{"a UKI where none was", []Difference{oneUKI(nil, x), diff(SubjectSectionName, ".linux", nil, x), diff(SubjectSection, ".linux", nil, y), diff(SubjectLoadOptions, "", nil, x)}, "0"},
		{"a UKI where none was, and what others brought", []Difference{oneUKI(nil, x), diff(SubjectSection, ".linux", nil, y), diff(SubjectAddon, "", nil, addonA), diff(stubLine, "a", nil, line("a")),
			diff(SubjectPassed, "b", nil, line("b")), diff(SubjectCompanion, "junk", nil, x), diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectAddonDeviceTree, "", nil, partB),
			diff(SubjectKernel, "", nil, x)}, "0 2 3 4 5 6 7 8"},
		{"a UKI where none was, with an add-on", []Difference{oneUKI(nil, x), diff(SubjectAddon, "", nil, addonA), diff(addonLine, "a", nil, line("a"))}, "0 1"},
		{"no UKI, and what does not follow", []Difference{oneUKI(x, nil), diff(SubjectLoader, "", x, nil), diff(SubjectSMBIOS, type1, x, nil), diff(SubjectLoaderConf, "", x, nil), diff(SubjectPhase, "ready", x, nil),
			diff(SubjectUnknown, "", x, nil), diff(SubjectExitBoot, "", x, nil)}, "0 1 2 3 4 5 6"},
		{"no UKI, and events that were not expected", []Difference{oneUKI(x, nil), diff(SubjectSection, ".linux", y, nil), diff(stubLine, "a", nil, line("a")), diff(SubjectInitrd, "", nil, x)}, "0 2 3"},
		{"no UKI, and another kernel", []Difference{oneUKI(x, nil), diff(SubjectSectionName, ".cmdline", x, nil), diff(SubjectSection, ".cmdline", y, nil), diff(SubjectLoadOptions, "", x, y), diff(SubjectInitrd, "", y, x)}, "0 3 4"},
		{"a UKI where none was, and what is missing", []Difference{oneUKI(nil, x), diff(SubjectSection, ".linux", nil, y), diff(SubjectInitrd, "", x, nil)}, "0 2"},
		{"no UKI in both, and one that is missing", []Difference{diff(SubjectUKI, "", x, nil), diff(SubjectSectionName, ".linux", x, nil), diff(SubjectSection, ".linux", y, nil)}, "0 1 2"},
		{"two where there was none", []Difference{oneUKI(nil, x), oneUKI(nil, y), diff(SubjectSection, ".linux", nil, y)}, "0 1 2"},
		{"a UKI and contents without a name", []Difference{diff(SubjectSection, ".dtb", nil, y), diff(SubjectUKI, "", x, y)}, "0 1"},
		{"a UKI and a name without contents", []Difference{diff(SubjectSectionName, ".dtb", nil, y), diff(SubjectUKI, "", x, y)}, "0 1"},
		{"a UKI and a name for contents that are gone", []Difference{diff(SubjectSectionName, ".dtb", nil, y), diff(SubjectSection, ".dtb", y, nil), diff(SubjectUKI, "", x, y)}, "0 1 2"},
		{"a UKI and contents before their name", []Difference{diff(SubjectSection, ".dtb", nil, y), diff(SubjectSectionName, ".dtb", nil, x), diff(SubjectUKI, "", x, y)}, "0 1 2"},
		{"a UKI that is missing", []Difference{diff(SubjectSection, ".linux", x, y), diff(SubjectUKI, "", x, nil)}, "0 1"},
		{"two UKIs", []Difference{diff(SubjectSection, ".linux", x, y), diff(SubjectUKI, "", x, y), diff(SubjectUKI, "", y, x)}, "0 1 2"},
		{"a UKI and a section that is measured again", []Difference{repeated, diff(SubjectUKI, "", x, y)}, "0 1"},
		{"a loader", []Difference{diff(SubjectSection, ".linux", x, y), diff(SubjectLoader, "", x, y)}, "0 1"},
		{"an initrd and its section", []Difference{diff(SubjectSection, ".initrd", x, y), diff(SubjectInitrd, "", x, y)}, "0"},
		{"an initrd and the kernel", []Difference{diff(SubjectSection, ".linux", x, y), diff(SubjectInitrd, "", x, y)}, "0 1"},
		{"an initrd and a section once more", []Difference{repeated, diff(SubjectInitrd, "", x, y)}, "0 1"},
		{"two initrds", []Difference{diff(SubjectSection, ".initrd", x, y), diff(SubjectInitrd, "", x, nil), diff(SubjectInitrd, "", nil, y)}, "0 1 2"},
		{"an initrd that is missing", []Difference{diff(SubjectSection, ".initrd", nil, x), diff(SubjectInitrd, "", x, nil)}, "0 1"},
		{"credentials", []Difference{diff(SubjectCompanion, "Global credentials initrd", nil, x), diff(SubjectInitrd, "", x, y)}, "0"},
		{"extensions", []Difference{diff(SubjectCompanion, "System extension initrd", nil, x), diff(SubjectInitrd, "", x, y)}, "0"},
		{"something else", []Difference{diff(SubjectCompanion, "junk", nil, x), diff(SubjectInitrd, "", x, y)}, "0 1"},
		{"a command line and its section", []Difference{diff(SubjectSection, ".cmdline", x, y), diff(SubjectLoadOptions, "", x, y)}, "0"},
		{"a command line and another section", []Difference{diff(SubjectSection, ".initrd", x, y), diff(SubjectLoadOptions, "", x, y)}, "0 1"},
		{"a command line of the loader", []Difference{diff(SubjectPassed, "a", nil, line("a")), diff(SubjectLoadOptions, "", x, y)}, "0"},
		{"a command line of the loader that is no number", []Difference{diff(SubjectPassed, "@", nil, line("@")), diff(SubjectLoadOptions, "", x, y)}, "0"},
		{"nor this", []Difference{diff(SubjectPassed, "@x", nil, line("@x")), diff(SubjectLoadOptions, "", x, y)}, "0"},
		{"two command lines", []Difference{diff(SubjectPassed, "a", nil, line("a")), diff(SubjectLoadOptions, "", x, nil), diff(SubjectLoadOptions, "", nil, x)}, "0 1 2"},

		{"two kernels with other command lines", []Difference{diff(SubjectSection, ".cmdline", x, y), diff(SubjectLoadOptions, "", x, y), diff(SubjectLoadOptions, "", y, x)}, "0 1 2"},
		{"two kernels with other initrds", []Difference{diff(SubjectSection, ".initrd", x, y), diff(SubjectInitrd, "", x, y), diff(SubjectInitrd, "", y, x)}, "0 1 2"},

		{"Secure Boot off", []Difference{secureBoot(1, 0), authority("db", imageSecurityDatabase, x, nil)}, "0"},
		{"Secure Boot on", []Difference{secureBoot(0, 1), authority("db", imageSecurityDatabase, nil, x), authority("db", imageSecurityDatabase, nil, y)}, "0"},
		{"Secure Boot off, an authority more", []Difference{secureBoot(1, 0), authority("db", imageSecurityDatabase, nil, x)}, "0 1"},
		{"Secure Boot on, an authority less", []Difference{secureBoot(0, 1), authority("db", imageSecurityDatabase, x, nil)}, "0 1"},
		{"Secure Boot on, another authority", []Difference{secureBoot(0, 1), authority("db", imageSecurityDatabase, x, y)}, "0 1"},
		{"Secure Boot on, shim's", []Difference{secureBoot(0, 1), authority("Shim", imageSecurityDatabase, nil, x), authority("db", globalVariable, nil, y)}, "0 1 2"},
		{"no such value", []Difference{secureBoot(0, 2), authority("db", imageSecurityDatabase, nil, x)}, "0 1"},
		{"an absent value", []Difference{variable("SecureBoot", globalVariable, []byte{1}, nil), authority("db", imageSecurityDatabase, x, nil)}, "0 1"},
		{"another variable", []Difference{variable("SetupMode", globalVariable, []byte{1}, []byte{0}), authority("db", imageSecurityDatabase, x, nil)}, "0 1"},
		{"another vendor", []Difference{variable("SecureBoot", imageSecurityDatabase, []byte{1}, []byte{0}), authority("db", imageSecurityDatabase, x, nil)}, "0 1"},
		{"a variable that is gone", []Difference{gone, authority("db", imageSecurityDatabase, x, nil)}, "0 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, d := range Causes(c.ds) {
				for i, o := range c.ds {
					if d.Subject == o.Subject && d.Want == o.Want && d.Got == o.Got {
						got = append(got, fmt.Sprint(i))
						break
					}
				}
			}
			assert.Equal(t, c.causes, strings.Join(got, " "))
		})
	}
	// Sections are parts of a UKI that explains them, and not of one beside which another profile
	// does, or that another program stands in place of.
	for name, c := range map[string]struct {
		ds    []Difference
		parts int
	}{
		"a UKI":                       {[]Difference{diff(SubjectUKI, "", x, y), diff(SubjectSection, ".linux", x, y), diff(SubjectSection, ".initrd", x, y)}, 2},
		"a profile and another UKI":   {[]Difference{diff(SubjectUKI, "", x, y), diff(SubjectProfile, "1", nil, profile("1")), diff(SubjectSection, ".linux", x, y)}, 0},
		"a program in place of a UKI": {[]Difference{{Subject: Subject{Kind: SubjectUKI}, Want: x, Got: y, noUKI: true}, diff(SubjectSectionName, ".linux", x, nil), diff(SubjectSection, ".linux", y, nil)}, 0},
	} {
		assert.Len(t, Causes(c.ds)[0].Parts, c.parts, name)
	}
}
