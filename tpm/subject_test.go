package tpm

import (
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// everything is a boot that measures every kind of subject there is.
func everything(t *testing.T) Boot {
	t.Helper()
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[1].log)
	require.NoError(t, err)
	b := wholeBoot(t, vectors[3], firmware)
	digests := b.UKI.Digests
	b.Addons = []Application{{Path: `\loader\addons\x.addon.efi`, Digests: digests, Authority: b.UKI.Authority}}
	b.handOver(
		cmdlineEvent(osmith.HandoverPassedCmdline, "debug"), cmdlineEvent(osmith.HandoverAddonCmdline, "lab.addon"),
		cmdlineEvent(osmith.HandoverSMBIOSCmdline, "lab.smbios"), taggedEvent(osmith.HandoverAddonDeviceTree, TagDeviceTree, "DTB", digests),
		archiveEvent(12, "Credentials initrd", digests), archiveEvent(13, "System extension initrd", digests),
		taggedEvent(osmith.HandoverAddonMicrocode, TagMicrocode, "Microcode", digests), taggedEvent(osmith.HandoverAddonInitrd, TagInitrdAddon, "Initrd", digests),
	)
	b.Userspace = &Userspace{Separator: MeasuredYes, NVPCRs: []string{"nvpcr-init:x:0x1d10200:00"}, NVSeparator: MeasuredYes,
		Identity: []Word{{Text: "machine-id:0"}, {Text: FileSystem{Path: "/", Type: "erofs"}.Word()}, {Text: "cryptsetup:x", Digests: digests}}}
	b.Phases = []string{PhaseEnterInitrd}
	return b
}

// What a prediction means is what a log of such a boot is read as: of the events themselves,
// nothing else.
func TestSubjectsOfPredictedAndParsed(t *testing.T) {
	seen := map[SubjectKind]bool{}
	old := bootVectors(t)[0].boot
	old.Stub, old.Variables = "252", &osmith.FirmwareVariables{SecureBoot: []byte{0}}
	old.Sections = slices.DeleteFunc(slices.Clone(old.Sections), func(m osmith.Measurement) bool { return m.Section == ".profile" })
	old.Kernel = &Application{Path: `\EFI\Linux\kernel`, Digests: old.UKI.Digests}
	shim := bootVectors(t)[0].boot
	shim.Chain = []Program{&Shim{Application: shim.UKI, Variables: osmith.ShimVariables{MokList: []byte{1}, MokListX: []byte{1}, SbatLevel: []byte("sbat"), MokSBState: []byte{0},
		MokListTrusted: []byte{1}, MokPolicy: []byte{1}}}}
	for _, b := range []Boot{everything(t), old, shim} {
		predicted, err := Predict(b)
		require.NoError(t, err)
		raw, err := predicted.MarshalBinary()
		require.NoError(t, err)
		parsed, err := ParseLog(raw)
		require.NoError(t, err)
		require.Len(t, parsed.Events, len(predicted.Events))
		for i := range predicted.Events {
			want, got := predicted.Events[i], parsed.Events[i]
			assert.Equal(t, want.Subject, got.Subject, "event %d: %v", i, want.Subject)
			seen[want.Subject.Kind] = true
		}
		// Nothing depends on the subjects being noted.
		for i := range parsed.Events {
			parsed.Events[i].Subject = Subject{}
		}
		for i, s := range parsed.subjects() {
			assert.Equal(t, predicted.Events[i].Subject, s)
		}
	}
	for kind := range subjectNames {
		if !slices.Contains([]SubjectKind{SubjectProgram, SubjectTables, SubjectDriver, SubjectSetting}, kind) {
			assert.True(t, seen[kind], "no event about %v", kind)
		}
	}
	assert.Equal(t, "unknown", SubjectUnknown.String())
	assert.Equal(t, "UKI section .cmdline", Subject{Kind: SubjectSection, Name: ".cmdline"}.String())
	assert.Equal(t, `variable`, strings.Fields(Subject{Kind: SubjectVariable, Name: "db", Vendor: imageSecurityDatabase}.String())[2])
	assert.Contains(t, Subject{Kind: SubjectVariable, Name: "x\n", Vendor: osmith.GUID{1}}.String(), `x\n-01000000-`)
}

// Logs of real boots are read without a subject that is not known.
func TestSubjectsOfRealBoots(t *testing.T) {
	for _, v := range bootVectors(t) {
		log, err := ParseLog(v.log)
		require.NoError(t, err)
		for i, e := range log.Events {
			assert.NotEqual(t, SubjectUnknown, e.Subject.Kind, "%s: event %d: %v %s", v.name, i, e.Type, e.Describe())
			assert.NotEqual(t, SubjectProgram, e.Subject.Kind)
		}
	}
	for name, raw := range foreignLogs(t) {
		log, err := ParseLog(raw)
		require.NoError(t, err)
		unknown := 0
		for _, e := range log.Events {
			if e.Subject.Kind == SubjectUnknown {
				unknown++
				assert.Equal(t, EventIPL, e.Type, "%s: %v %s", name, e.Type, e.Describe()) // GRUB's
			}
		}
		t.Log(name, unknown, "of", len(log.Events))
	}
}

// A command line is one whatever it says, and whichever program passes it: in the log, in
// differences, in their causes, in the components of systemd-pcrlock.
func TestCommandLinesThatLookLikeOtherThings(t *testing.T) {
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[1].log)
	require.NoError(t, err)
	plain := wholeBoot(t, vectors[0], firmware)
	credentials := archiveEvent(12, "Credentials initrd", plain.UKI.Digests)
	expected, err := Predict(plain)
	require.NoError(t, err)
	for _, text := range []string{
		"quiet initrd", "Credentials initrd", ".linux", ".cmdline (name)", "os-separator", "nvpcr-init:x", "enter-initrd", "SecureBoot = 1", "profile 1",
		"@1", "separator", "loader.conf", "Linux initrd", "machine-id:0", "initrd add-on: x", "SMBIOS type 11: x", "Exit Boot Services Invocation",
	} {
		for _, kind := range []SubjectKind{SubjectPassed, SubjectCommandLine, SubjectAddonCommandLine} {
			t.Run(fmt.Sprintf("%s %v", text, kind), func(t *testing.T) {
				b := plain
				b.handOver()
				component, name := lockAddons, "command line"
				switch kind {
				case SubjectPassed:
					b.Handover.Passed, component = text, lockUKI
				case SubjectCommandLine:
					b.handOver(cmdlineEvent(osmith.HandoverPassedCmdline, text), credentials)
				case SubjectAddonCommandLine:
					name = "command line add-on"
					b.Addons = []Application{{Path: `\x.addon.efi`, Digests: b.UKI.Digests}}
					b.handOver(cmdlineEvent(osmith.HandoverAddonCmdline, text), credentials)
				}
				predicted, err := Predict(b)
				require.NoError(t, err)
				raw, err := predicted.MarshalBinary()
				require.NoError(t, err)
				parsed, err := ParseLog(raw)
				require.NoError(t, err)
				for _, log := range []*Log{predicted, parsed} {
					i := slices.IndexFunc(log.Events, func(e Event) bool { return e.PCR == 12 && e.Type == EventIPL })
					require.GreaterOrEqual(t, i, 0)
					assert.Equal(t, Subject{Kind: kind, Name: text}, log.Events[i].Subject)
					assert.Equal(t, text, log.Events[i].Describe())
					ds := Diff(expected, log)
					line := fmt.Sprintf("PCR 12: %s '%s' was not expected", name, text)
					assert.Contains(t, lines(ds), line)
					causes := lines(Causes(ds))
					if kind == SubjectAddonCommandLine {
						assert.NotContains(t, causes, line, "it follows from the add-on")
						assert.Contains(t, causes, `add-on \x.addon.efi was not expected`)
					} else {
						assert.Contains(t, causes, line)
					}
					if kind != SubjectPassed {
						assert.Contains(t, causes, `companion files 'Credentials initrd'`)
					}
				}
				components, err := Alternatives{predicted}.Components()
				require.NoError(t, err)
				for _, c := range components {
					for _, r := range c.Variants[0].Records {
						if r.PCR == 12 && string(r.Digests[crypto.SHA256]) == string(pcrbank.Sum(crypto.SHA256, utf16z(text))) {
							assert.Equal(t, component, c.ID)
						}
						if r.PCR == 12 && string(r.Digests[crypto.SHA256]) == string(credentials.Digests[crypto.SHA256]) {
							assert.Equal(t, lockCompanions, c.ID)
						}
					}
				}
			})
		}
	}
}

// A section whose contents are its own name is a section, and a phase may be called like one.
func TestSectionsThatLookLikeOtherThings(t *testing.T) {
	for _, contents := range []string{".cmdline", ".cmdline\x00", "enter-initrd"} {
		b := bootVectors(t)[0].boot
		b.Sections = slices.Clone(b.Sections)
		require.Equal(t, ".cmdline", b.Sections[2].Section)
		b.Sections[2].Digests = digestsOf([]byte(contents))
		b.Phases = []string{".cmdline", "enter-initrd"}
		predicted, err := Predict(b)
		require.NoError(t, err)
		raw, err := predicted.MarshalBinary()
		require.NoError(t, err)
		parsed, err := ParseLog(raw)
		require.NoError(t, err)
		assert.Equal(t, predicted.Events, parsed.Events)
		var got []string
		for _, e := range parsed.of(PCRKernel) {
			if e.Subject.Name == ".cmdline" || e.Subject.Kind == SubjectPhase {
				got = append(got, e.Subject.String()+": "+e.Describe())
			}
		}
		assert.Equal(t, []string{"name of UKI section .cmdline: .cmdline (name)", "UKI section .cmdline: .cmdline", "phase .cmdline: .cmdline",
			"phase enter-initrd: enter-initrd"}, got)
	}
}

// The parts of programs in a boot are told by the order of the log, and not at all when the log
// does not get to the stub.
func TestSubjectsOfPrograms(t *testing.T) {
	log, err := ParseLog(bootVectors(t)[0].log)
	require.NoError(t, err)
	programs := func(l *Log) (out []SubjectKind) {
		for i, s := range l.subjects() {
			if l.Events[i].Type == EventEFIBootServicesApplication {
				out = append(out, s.Kind)
			}
		}
		return out
	}
	assert.Equal(t, []SubjectKind{SubjectLoader, SubjectUKI}, programs(log))
	var cut Log
	for _, e := range log.Events {
		e.Subject = Subject{}
		if e.PCR != PCRKernel {
			cut.Events = append(cut.Events, e)
		}
	}
	assert.Equal(t, []SubjectKind{SubjectProgram, SubjectProgram}, programs(&cut))
	assert.Contains(t, lines(Diff(&Log{}, &cut)), `PCR 4: not expected: program \EFI\BOOT\BOOTX64.EFI`)
}
