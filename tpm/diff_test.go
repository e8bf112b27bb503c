package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// of lists the events that extend a PCR.
func (l *Log) of(pcr int) []*Event {
	var es []*Event
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == pcr && e.extends() {
			es = append(es, e)
		}
	}
	return es
}

func isImage(t EventType) bool {
	return t == EventEFIBootServicesApplication || t == EventEFIBootServicesDriver || t == EventEFIRuntimeServicesDriver
}

// lines are differences as text.
func lines(ds []Difference) string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

// One thing is changed in what is expected of a real boot; the difference names that thing and
// nothing else.
func TestDiffNamesTheChange(t *testing.T) {
	vectors := bootVectors(t)
	a := vectors[0]
	require.Equal(t, "a-sb-sdboot-262", a.name)
	actual, err := ParseLog(a.log)
	require.NoError(t, err)
	digest := func(s string) map[crypto.Hash][]byte {
		return map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(s))}
	}
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   []string
	}{
		{"nothing", func(*Boot) {}, nil},
		{"UKI", func(b *Boot) { b.UKI.Digests = digest("other") },
			[]string{`PCR 4: the UKI \EFI\Linux\bootlab_2+2-1.efi differs (Authenticode f95be491ee6ea2eb…, expected \EFI\Linux\uki-2.efi with d9298a10d1b07358…)`}},
		{"command line", func(b *Boot) { b.Sections[2].Digests = digest("quiet") },
			[]string{"PCR 11: UKI section .cmdline differs (be7b713342a0c9aa…, expected 008f0747f4e27c84…)"}},
		{"a section less", func(b *Boot) { b.Sections = append(b.Sections[:4:4], b.Sections[5:]...) },
			[]string{"PCR 11: not expected: UKI section .uname (name) (da7a6d941caa9d28…)", "PCR 11: not expected: UKI section .uname (4370d3c38f689586…)"}},
		{"a phase more, of which the firmware's log cannot tell", func(b *Boot) { b.Phases = []string{PhaseEnterInitrd} }, nil},
		{"dbx", func(b *Boot) { b.Variables.DBX = b.Variables.DBX[:28] }, []string{"PCR 7: dbx grew by 48 bytes to 76"}},
		{"dbx larger", func(b *Boot) { b.Variables.DBX = append(bytes.Clone(b.Variables.DBX), 1) }, []string{"PCR 7: dbx shrank by 1 bytes to 76"}},
		{"KEK", func(b *Boot) { b.Variables.KEK = make([]byte, len(b.Variables.KEK)) }, []string{"PCR 7: KEK has other contents of the same size, 829 bytes"}},
		{"no loader", func(b *Boot) { b.Chain = nil }, []string{`PCR 4: the boot loader \EFI\BOOT\BOOTX64.EFI was not expected (5da56c77af91c2fd…)`}},
		{"Secure Boot off", func(b *Boot) { b.Variables.SecureBoot = []byte{0} },
			[]string{"PCR 7: SecureBoot is 1, expected 0", "PCR 7: a program was let in by certificate 'bootlab db' of db, which was not expected (9cdcd80c34fdf599…)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := a.boot
			variables := *b.Variables
			b.Variables = &variables
			b.Sections = append([]osmith.Measurement(nil), b.Sections...)
			c.change(&b)
			expected, err := Predict(b)
			require.NoError(t, err)
			got := Diff(expected, actual)
			assert.Equal(t, strings.Join(c.want, "\n"), strings.TrimSuffix(lines(got), "\n"))
		})
	}
}

// The boot of profile 1 seen by who expected profile 0.
func TestDiffProfile(t *testing.T) {
	v := bootVectors(t)[3]
	require.Equal(t, "f-profile1-262", v.name)
	actual, err := ParseLog(v.log)
	require.NoError(t, err)
	expected, err := ParseLog(bootVectors(t)[0].log)
	require.NoError(t, err)
	ds := Diff(expected, actual)
	assert.Equal(t, "PCR 4: the UKI \\EFI\\Linux\\bootlab_2.efi differs (Authenticode 4d3a783f757f3fae…, expected f95be491ee6ea2eb…)\n"+
		"PCR 5: loader.conf differs (d2a4761fe6142611…, expected d5806e53425536a7…)\n"+
		"PCR 12: profile 1 is booted, expected the default one (60864aae26451939…)\n", lines(Causes(ds)))
	got := lines(ds)
	assert.Contains(t, got, "PCR 12: command line '@1' was not expected (6fe1a7eea0028054…)\n")
	assert.Contains(t, got, "PCR 12: profile 1 is booted, expected the default one (60864aae26451939…)\n")
	assert.Contains(t, got, "PCR 11: not expected: UKI section .profile (")
	assert.Contains(t, got, "PCR 11: UKI section .cmdline differs (")
	assert.Contains(t, got, "PCR 5: loader.conf differs (d2a4761fe6142611…, expected d5806e53425536a7…)")
	assert.NotContains(t, got, "PCR 7:")
}

// Large logs are compared in bounded memory.
func TestDiffLarge(t *testing.T) {
	many := func(n int, salt byte) *Log {
		l := &Log{}
		for i := range n {
			data := []byte{byte(i), byte(i >> 8), salt}
			if i == 0 || i == n-1 {
				data = []byte{byte(i)}
			}
			l.Events = append(l.Events, Event{PCR: 8, Type: EventIPL, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}})
		}
		return l
	}
	got := Diff(many(6000, 1), many(6000, 2))
	require.Len(t, got, 5998)
	assert.Equal(t, "changed", got[0].Kind())
	got = Diff(many(6000, 1), many(5000, 1))
	assert.Equal(t, "missing", got[len(got)-1].Kind())
	got = Diff(&Log{}, many(3, 1))
	require.Len(t, got, 3)
	assert.Equal(t, "extra", got[0].Kind())
	assert.Empty(t, Diff(many(6000, 1), many(6000, 1)))
}

// One input of a whole boot is changed; what is named is that input, and nothing that follows from
// it.
func TestCausesNameTheInput(t *testing.T) {
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[2].log)
	require.NoError(t, err)
	digest := func(s string) map[crypto.Hash][]byte {
		return map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(s))}
	}
	addon := Application{Path: `\loader\addons\x.addon.efi`, Size: 1, Digests: digest("addon")}
	// Firmware that measures SMBIOS tables by itself would take PCR 1 out of the claim as they
	// change.
	firmware.Events = slices.DeleteFunc(firmware.Events, func(e Event) bool { return e.Subject.Kind == SubjectTables })
	base := wholeBoot(t, vectors[0], firmware)
	addon.Authority = base.UKI.Authority
	base.Addons = []Application{addon}
	addonLine := cmdlineEvent(osmith.HandoverAddonCmdline, "lab.addon=x")
	base.handOver(addonLine, archiveEvent(12, "Credentials initrd", digest("credentials"))).LoadOptions = loadOptions("quiet lab.addon=x")
	expected, err := Predict(base)
	require.NoError(t, err)
	list := func(n int) []byte {
		hash := func(i int) []byte { return append(make([]byte, 16), pcrbank.Sum(crypto.SHA256, []byte{byte(i)})...) }
		b := unhex(t, "2616c4c14c509240aca941f936934328")
		b = binary.LittleEndian.AppendUint32(b, uint32(28+48*n))
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, 0), 48)
		for i := range n {
			b = append(b, hash(i)...)
		}
		return b
	}
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   []string
	}{
		{"nothing", func(*Boot) {}, nil},
		{"another build of the UKI", func(b *Boot) {
			b.UKI.Digests, b.Sections[3].Digests, b.Handover.Initrd = digest("uki"), digest("initrd"), digest("initrds")
		}, []string{`PCR 4: the UKI \EFI\Linux\uki-2.efi differs (Authenticode 80fb8ca44e023de8…, expected f95be491ee6ea2eb…): .initrd differs`}},
		{"only the stub of the UKI", func(b *Boot) { b.UKI.Digests = digest("uki") },
			[]string{`PCR 4: the UKI \EFI\Linux\uki-2.efi differs (Authenticode `}},
		{"command line", func(b *Boot) {
			b.Handover.LoadOptions = loadOptions("quiet console=tty0 lab.addon=x")
			b.Sections[2].Digests, b.UKI.Digests = digest("quiet console=tty0"), digest("uki")
		}, []string{`PCR 4: the UKI \EFI\Linux\uki-2.efi differs (Authenticode 80fb8ca44e023de8…, expected f95be491ee6ea2eb…): .cmdline differs`}},
		{"no add-on", func(b *Boot) {
			b.Addons, b.Handover.Events, b.Handover.LoadOptions = nil, b.Handover.Events[1:], loadOptions("quiet")
		}, []string{`PCR 4: add-on \loader\addons\x.addon.efi is missing`}},
		{"credentials", func(b *Boot) { b.Handover.Events[1].Digests, b.Handover.Initrd = digest("other"), digest("initrds") },
			[]string{`PCR 12: companion files 'Credentials initrd' differs (`}},
		{"the machine's secret", func(b *Boot) { b.Handover.Initrd = digest("secret") }, []string{"PCR 9: the initrds that the kernel got differ, or the secret in them does ("}},
		{"loader.conf", func(b *Boot) { b.loader().Conf = []byte("timeout 5\n") }, []string{"PCR 5: loader.conf: 'timeout 0' missing, 'timeout 5' not expected"}},
		{"loader", func(b *Boot) { b.loader().Digests = digest("loader") }, []string{`PCR 4: the boot loader \EFI\BOOT\BOOTX64.EFI differs (Authenticode `}},
		{"dbx", func(b *Boot) { b.Variables.DBX = append(bytes.Clone(b.Variables.DBX), list(3)...) }, []string{"PCR 7: dbx has 3 hashes 6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d, 4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a, dbc1b4c900ffe48d575b5da5c638040125f65db0fe3e24494b76ea986457d986 that were not expected"}},
		{"dbx less", func(b *Boot) { b.Variables.DBX = list(5) }, []string{"PCR 7: dbx has 5 hashes 6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d, 4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a, dbc1b4c900ffe48d575b5da5c638040125f65db0fe3e24494b76ea986457d986, 2 more that were not expected, and lacks hash e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},
		{"db", func(b *Boot) { b.Variables.DB = append(bytes.Clone(b.Variables.DB), b.Variables.KEK...) }, []string{"PCR 7: db has certificate 'bootlab KEK' that was not expected"}},
		{"boot order", func(b *Boot) {
			b.BootVariables = slices.Clone(b.BootVariables)
			b.BootVariables[0].Data = []byte{0, 0, 2, 0, 1, 0}
		}, []string{"PCR 1: BootOrder is 0000,0002,0001, expected 0002,0000,0001"}},
		{"a boot entry", func(b *Boot) {
			b.BootVariables = slices.Clone(b.BootVariables)
			b.BootVariables[1].Data = b.BootVariables[2].Data
		}, []string{"PCR 1: Boot0002 is 'BootManagerMenuApp' Fv("}},
		{"a boot entry more", func(b *Boot) {
			b.BootVariables = append(slices.Clone(b.BootVariables), BootVariable{"Boot0007", b.BootVariables[2].Data})
		}, []string{"PCR 1: not expected: boot variable Boot0007 = 'BootManagerMenuApp' Fv(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(eec25bdc-67f2-4d95-b1d5-f81b2039d11d) ("}},
		{"a partition", func(b *Boot) {
			table := bytes.Clone(b.GPT.Entries)
			table[128+40]++
			b.GPT = &PartitionTable{b.GPT.Header, table}
		}, []string{"PCR 5: the partition table differs: partition 'bootlab_2' 888e819b-71d1-6f93-9d27-c2b116f42a8e has LBAs 247808 to 280320, expected 247808 to 280575"}},
		{"Secure Boot off", func(b *Boot) { b.Variables.SecureBoot = []byte{0} }, []string{"PCR 7: SecureBoot is 0, expected 1"}},
		{"SMBIOS string", func(b *Boot) {
			b.SMBIOS = withOEMString(b.SMBIOS, "io.systemd.stub.kernel-cmdline-extra=x")
			b.handOver(cmdlineEvent(osmith.HandoverSMBIOSCmdline, "x")).LoadOptions = loadOptions("quiet lab.addon=x x")
		},
			[]string{`PCR 1: not expected: SMBIOS type 11 (`}},
		{"passed", func(b *Boot) { b.Handover.Passed = "debug" }, []string{`PCR 12: command line 'debug' was not expected (`}},
		{"retry", func(b *Boot) { b.ExitBoot = ExitBootOnce }, []string{"PCR 5: missing: EV_EFI_ACTION 'Exit Boot Services", "PCR 5: missing: EV_EFI_ACTION 'Exit Boot Services"}},
		{"phase", func(b *Boot) { b.Phases = []string{PhaseEnterInitrd} }, []string{`PCR 11: not expected: EV_IPL 'enter-initrd' (`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := base
			variables := *b.Variables
			b.Variables = &variables
			b.Sections = slices.Clone(b.Sections)
			b.handOver()
			c.change(&b)
			actual, err := Predict(b)
			require.NoError(t, err)
			all := Diff(expected, actual)
			got := Causes(all)
			require.Len(t, got, len(c.want), lines(all))
			for i, want := range c.want {
				assert.True(t, strings.HasPrefix(got[i].String(), want), "%s\nwant %s", got[i], want)
				raw, err := json.Marshal(got[i])
				require.NoError(t, err)
				var back struct {
					PCR              int
					Kind, Text       string
					Expected, Actual *struct{ Type, Description string }
				}
				require.NoError(t, json.Unmarshal(raw, &back))
				assert.Equal(t, got[i].PCR, back.PCR)
				assert.Equal(t, got[i].Text(), back.Text)
				assert.Equal(t, back.Kind != "extra", back.Expected != nil)
				assert.Equal(t, back.Kind != "missing", back.Actual != nil)
			}
		})
	}
}

// All differences that a change makes, as text.
func TestDiffTexts(t *testing.T) {
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[2].log)
	require.NoError(t, err)
	digest := func(s string) map[crypto.Hash][]byte {
		return map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(s))}
	}
	addon := func(name string) Application {
		return Application{Path: `\loader\addons\` + name + `.addon.efi`, Digests: digest(name)}
	}
	handOver := func(b *Boot, addons string) {
		b.Handover = &osmith.Handover{Initrd: b.Handover.Initrd, LoadOptions: loadOptions("quiet " + addons)}
		if addons != "" {
			b.handOver(cmdlineEvent(osmith.HandoverAddonCmdline, addons))
		}
	}
	base := wholeBoot(t, vectors[0], firmware)
	base.Addons = []Application{addon("a"), addon("b")}
	handOver(&base, "lab.a lab.b")
	expected, err := Predict(base)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   []string
	}{
		{"one add-on less", func(b *Boot) { b.Addons = b.Addons[:1]; handOver(b, "lab.a") }, []string{
			`PCR 4: add-on \loader\addons\b.addon.efi is missing`, "PCR 9: the kernel's command line: 'lab.b' is missing", "PCR 12: command line add-on: 'lab.b' is missing",
		}},
		{"no add-on", func(b *Boot) { b.Addons = nil; handOver(b, "") }, []string{
			`PCR 4: add-on \loader\addons\a.addon.efi is missing`, `PCR 4: add-on \loader\addons\b.addon.efi is missing`, "PCR 9: ",
			"PCR 12: command line add-on 'lab.a lab.b' is missing",
		}},
		{"another order", func(b *Boot) { b.Addons = []Application{b.Addons[1], b.Addons[0]}; handOver(b, "lab.b lab.a") }, []string{
			`PCR 4: program \loader\addons\a.addon.efi was measured later than expected: event 6 of PCR 4, expected as event 5`, "PCR 9: ", "PCR 12: command line add-on has its words in another order: 'lab.b lab.a' where 'lab.a lab.b' was expected",
		}},
		{"another text", func(b *Boot) { handOver(b, "lab.a lab.c") }, []string{
			"PCR 9: ", "PCR 12: command line add-on: 'lab.b' is missing, 'lab.c' was not expected",
		}},
		{"partitions", func(b *Boot) {
			table := bytes.Clone(b.GPT.Entries)
			copy(table[128:], make([]byte, 128))
			table[2*128+16] ^= 1
			table[48] ^= 4
			b.GPT = &PartitionTable{append(bytes.Clone(b.GPT.Header[:56]), append(make([]byte, 16), b.GPT.Header[72:]...)...), table}
		}, []string{"PCR 5: the partition table differs: of disk 00000000-0000-0000-0000-000000000000, expected "}},
		{"only the table's header", func(b *Boot) {
			header := bytes.Clone(b.GPT.Header)
			header[16] ^= 1
			b.GPT = &PartitionTable{header, b.GPT.Entries}
		}, []string{"PCR 5: the partition table differs: its header differs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := base
			c.change(&b)
			actual, err := Predict(b)
			require.NoError(t, err)
			got := Diff(expected, actual)
			require.Len(t, got, len(c.want), lines(got))
			for i, want := range c.want {
				assert.True(t, strings.HasPrefix(got[i].String(), want), "%s\nwant %s", got[i], want)
			}
		})
	}
}

// Firmware that measures boot variables whole, in either type of event, is expected to do so again.
func TestBootVariableStyles(t *testing.T) {
	vectors := bootVectors(t)
	for _, typ := range []EventType{EventEFIVariableBoot, EventEFIVariableBoot2} {
		firmware, err := ParseLog(vectors[2].log)
		require.NoError(t, err)
		for i := range firmware.Events {
			if e := &firmware.Events[i]; e.Type == EventEFIVariableBoot {
				e.Type, e.Digests = typ, map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, e.Data)}
			}
		}
		b := wholeBoot(t, vectors[0], firmware)
		log, err := Predict(b)
		require.NoError(t, err)
		seen := 0
		for _, e := range log.of(1) {
			if e.Type == typ {
				assert.True(t, hashedAs(e, e.Data))
				seen++
			}
		}
		assert.Equal(t, len(b.BootVariables), seen)
		b.BootVariables = nil
		again, err := Predict(b)
		require.NoError(t, err)
		assert.Equal(t, log.of(1), again.of(1), "the machine's own are the same")
	}
}

// withOEMString adds a structure of type 11 as QEMU does, before the end of a table.
func withOEMString(table []byte, s string) []byte {
	end := bytes.LastIndex(table, []byte{127, 4})
	out := append(bytes.Clone(table[:end]), 11, 5, 0x00, 0x0e, 1)
	return append(append(append(out, s...), 0, 0), table[end:]...)
}

// Boots of which there are only values, not logs: the same machine with add-ons, archives beside
// the UKI, a string in SMBIOS, and without console= on the command line. The digests were read from
// those boots' logs.
func TestPredictVariants(t *testing.T) {
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[0].log)
	require.NoError(t, err)
	digest := func(s string) map[crypto.Hash][]byte { return map[crypto.Hash][]byte{crypto.SHA256: unhex(t, s)} }
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   map[int]string // start of a PCR
	}{
		{"add-ons", func(b *Boot) {
			b.Addons = []Application{
				{Digests: digest("224788ffed6c8a4344f4e80c1120d9a66e2d346e9f56d68d7adaa735b0162beb")},
				{Digests: digest("b487b1f711ca1f91f646c50595a1a50c6c8a42eca3fbc70d552643613f130ace")},
			}
			b.handOver(cmdlineEvent(osmith.HandoverAddonCmdline, "lab.addon=global lab.addon=local"))
		}, map[int]string{4: "94d01876ae4ed1eb", 5: "260c409866d40c35", 11: "be2b60665db80f8d", 12: "3ee409b51507a564"}},
		{"archives", func(b *Boot) {
			b.handOver(
				archiveEvent(12, "Credentials initrd", digest("52571349b198c90b84bf8b476ef074d0886c1606e7749dc7c2de6440b48fd769")),
				archiveEvent(12, "Global credentials initrd", digest("f88ef5a15df3845ff2f67c41819665a100cfae8feb07ee76c5cb70ee2ca3056f")),
				archiveEvent(13, "System extension initrd", digest("7f828356afeea7981e0e68b3a21cffaad35b67f795b2768f2429be724780caa9")),
				archiveEvent(12, "Configuration extension initrd", digest("6320e912da5a3ac4eee45d52f2ae5b327936501952bbe84944d7cc0c7c0056ba")),
			)
		}, map[int]string{4: "349201d4eb4ba746", 12: "932b8c0dcf30b201", 13: "7b7b7087c2feba7c"}},
		{"SMBIOS", func(b *Boot) {
			b.SMBIOS = withOEMString(b.SMBIOS, "io.systemd.stub.kernel-cmdline-extra=lab.smbios")
			b.handOver(cmdlineEvent(osmith.HandoverSMBIOSCmdline, "lab.smbios"))
		}, map[int]string{12: "b29a279f773cba3f"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := wholeBoot(t, vectors[0], firmware)
			c.change(&b)
			log, err := Predict(b)
			require.NoError(t, err)
			values, err := log.Values(crypto.SHA256)
			require.NoError(t, err)
			for n, want := range c.want {
				assert.Equal(t, want, hexOf(values[n])[:16], "PCR %d", n)
			}
		})
	}
	// The structure of type 11, and what the kernel hashed after the stub had added the console of
	// the firmware.
	b := wholeBoot(t, vectors[0], firmware)
	b.SMBIOS = withOEMString(b.SMBIOS, "io.systemd.stub.kernel-cmdline-extra=lab.smbios")
	cmdline := strings.Replace(efi.DecodeUTF16(b.Handover.LoadOptions), "console=ttyS0,115200 ", "", 1)
	cmdline = strings.TrimRight(cmdline, "\x00")
	b.Sections = slices.Clone(b.Sections)
	b.Sections[2].Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(cmdline))}
	b.Handover.LoadOptions = loadOptions(cmdline + " console=uart,io,0x3f8")
	log, err := Predict(b)
	require.NoError(t, err)
	assert.Contains(t, hexes(log, 1), "9003439038665fe02dd8d2768ae86bdfd05dfe17661cd116df1a3023cc1906ca")
	b.SMBIOS = vectors[0].boot.SMBIOS
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Contains(t, hexes(log, 9), "15104467d5ffcd5f42bed199a7e895794e500302557754fc21350621dacfe09f")
	assert.Equal(t, "86f7454f3fc90436", hexOf(mustValues(t, log)[11])[:16])
	b.Handover.Unknown = "the stub adds console=, which is not given"
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, PredictionNone, log.Coverage[9].Prediction)
	assert.Contains(t, log.Coverage[9].Note, "console=")
}

func hexes(l *Log, pcr int) []string {
	var out []string
	for _, e := range l.of(pcr) {
		out = append(out, hexOf(e.Digests[crypto.SHA256]))
	}
	return out
}

func mustValues(t *testing.T, l *Log) map[int][]byte {
	t.Helper()
	values, err := l.Values(crypto.SHA256)
	require.NoError(t, err)
	return values
}
