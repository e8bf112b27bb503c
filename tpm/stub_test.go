package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// The rows of the table, as they differ.
func TestStubVersions(t *testing.T) {
	rows := StubVersions()
	require.Len(t, rows, 11)
	booted := []int{}
	for i, r := range rows {
		assert.Equal(t, 252+i, r.Release)
		if r.Evidence == EvidenceBooted {
			booted = append(booted, r.Release)
		}
		assert.Equal(t, r.Release < 257, r.InnerKernel)
		facts := sdstub.Releases()[i]
		assert.Equal(t, r.Release, facts.Number)
		assert.Equal(t, r.Release >= 255, facts.LoaderConf)
		assert.Equal(t, r.Release >= 261, facts.SMBIOS && facts.Console && facts.BootSecret)
		assert.Equal(t, r.Release >= 254, r.Addons != EvidenceNone && facts.SMBIOSExtra)
		assert.Equal(t, r.Release >= 257, r.Profiles != EvidenceNone)
	}
	assert.Equal(t, []int{252, 254, 257, 262}, booted)
	rows[0].Release = 1
	assert.Equal(t, 252, StubVersions()[0].Release, "a copy")
}

// A stub before 257 has the firmware load the kernel: with Secure Boot off that is one more
// program.
func TestPredictInnerKernel(t *testing.T) {
	b := bootVectors(t)[1].boot
	require.Equal(t, byte(0), b.Variables.SecureBoot[0])
	b.Stub = "254"
	log, err := Predict(b)
	require.NoError(t, err)
	assert.Equal(t, PredictionNone, log.Coverage[4].Prediction)
	assert.Contains(t, log.Coverage[4].Note, "stub 254 has the firmware load and measure the kernel, whose digest is not given")
	digest := map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("kernel"))}
	b.Kernel = &Application{Digests: digest}
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, PredictionExact, log.Coverage[4].Prediction)
	assert.Equal(t, EvidenceBooted, log.Coverage[4].Evidence)
	es := log.of(4)
	assert.Equal(t, digest[crypto.SHA256], es[len(es)-1].Digests[crypto.SHA256])
	b.Stub = "257"
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Len(t, log.of(4), len(es)-1)
	b.Kernel.Digests = nil
	_, err = Predict(b)
	assert.ErrorIs(t, err, ErrBank)
}

// What the loader measures goes by its own release, not by the stub's.
func TestPredictLoaderVersion(t *testing.T) {
	b := wholeBoot(t, bootVectors(t)[0], nil)
	require.EqualValues(t, "262", b.Stub)
	count := func(stub, loader osmith.Version) (conf, smbios int) {
		t.Helper()
		b.Stub, b.loader().Version = stub, loader
		log, err := Predict(b)
		require.NoError(t, err)
		for _, e := range log.Events {
			payload, err := e.Payload()
			require.NoError(t, err)
			tag, ok := payload.(Tagged)
			switch {
			case !ok:
			case tag.Tag == TagLoaderConf:
				conf++
			case tag.Tag == TagSMBIOSType1:
				smbios++
			}
		}
		return conf, smbios
	}
	for _, c := range []struct {
		stub, loader osmith.Version
		conf, smbios int
	}{
		{"262", "", 1, 1}, {"262", "262.1-1", 1, 1}, {"262", "254", 0, 1}, {"254", "262", 1, 1}, {"254", "", 0, 0}, {"257", "254", 0, 0}, {"254", "257", 1, 0},
	} {
		conf, smbios := count(c.stub, c.loader)
		assert.Equal(t, []int{c.conf, c.smbios}, []int{conf, smbios}, "%+v", c)
	}
	b.loader().Version = "999"
	_, err := Predict(b)
	var unknown *StubVersionError
	require.ErrorAs(t, err, &unknown)
	b.AssumeStub = 262
	_, err = Predict(b)
	require.NoError(t, err)
}

// Stub 252 passes by two sections that it does not know.
func TestPredictOldSections(t *testing.T) {
	b := bootVectors(t)[0].boot
	for stub, sections := range map[osmith.Version]int{"252": 5, "253": 5, "254": 7, "262": 7} {
		b.Stub = stub
		log, err := Predict(b)
		require.NoError(t, err)
		assert.Len(t, log.of(PCRKernel), 2*sections, stub)
	}
	b.Stub = "253"
	b.Addons = []Application{b.UKI}
	_, err := Predict(b)
	assert.ErrorContains(t, err, "stub 253 does not support add-ons: stubs do since 254")
}

func TestPredictInputErrors(t *testing.T) {
	vectors := bootVectors(t)
	firmware, err := ParseLog(vectors[1].log)
	require.NoError(t, err)
	good := wholeBoot(t, vectors[0], firmware)
	for _, c := range []struct {
		name   string
		change func(*Boot)
		want   string
	}{
		{"boot variable", func(b *Boot) { b.BootVariables = []BootVariable{{"Boot1", nil}} }, `boot variable "Boot1": want BootOrder or Boot####`},
		{"companion", func(b *Boot) { b.handOver(archiveEvent(11, "x", b.UKI.Digests)) }, `the stub measures "x" into PCR 11: want 12 or 13`},
		{"kind", func(b *Boot) { b.handOver(cmdlineEvent(0, "x")) }, `the stub measures "x", which is of an unknown kind: HandoverKind(0)`},
		{"NUL", func(b *Boot) { b.Handover.Passed = "a\x00b" }, "holds a NUL"},
		{"load options", func(b *Boot) { b.Handover.LoadOptions = []byte("text") }, "load options of 4 bytes: want UTF-16 with a NUL at the end"},
		{"NvPCR", func(b *Boot) { b.Userspace = &Userspace{NVPCRs: []string{"x"}} }, "want nvpcr-init:"},
		{"empty word", func(b *Boot) { b.Userspace = &Userspace{Identity: []Word{{}}} }, "PCR 15: an empty word"},
		{"GPT header", func(b *Boot) { b.GPT = &PartitionTable{} }, "GPT header of 0 bytes"},
		{"GPT entries", func(b *Boot) { b.GPT = &PartitionTable{b.GPT.Header, make([]byte, 100)} }, "GPT entries: 100 bytes given"},
		{"SMBIOS", func(b *Boot) { b.SMBIOS = []byte{1, 2, 3} }, "SMBIOS table at 0x0: no structure in 3 bytes"},
		{"SMBIOS strings", func(b *Boot) { b.SMBIOS = []byte{1, 4, 0, 0, 'x'} }, "SMBIOS strings of type 1 at 0x4: no end"},
		{"firmware of no boot", func(b *Boot) { b.Firmware = &Log{Events: firmware.Events[:5]} }, "no separator in PCR 4: no boot was tried"},
		{"firmware bank", func(b *Boot) { b.Firmware = &Log{} }, "no PCR bank for which all programs and sections have digests: not"},
		{"initrd digest", func(b *Boot) {
			b.Handover.Initrd = map[crypto.Hash][]byte{crypto.SHA256: {1}}
			b.Banks = []crypto.Hash{crypto.SHA256}
		}, "initrds: a digest of 1 bytes"},
		{"add-on digest", func(b *Boot) {
			b.Addons = []Application{{Path: "x"}}
			b.Banks = []crypto.Hash{crypto.SHA256}
		}, "x: an Authenticode digest of 0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := good
			b.handOver()
			c.change(&b)
			log, err := Predict(b)
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, log)
		})
	}
}

// What the stub hands over, and where it measures that.
func TestPredictParameterOrder(t *testing.T) {
	b := bootVectors(t)[0].boot
	d := func(s string) map[crypto.Hash][]byte {
		return map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(s))}
	}
	b.Addons = []Application{{Path: "a", Digests: d("a")}, {Path: "b", Digests: d("b")}}
	b.SMBIOS = withOEMString([]byte{127, 4, 0, 0, 0, 0}, "io.systemd.stub.kernel-cmdline-extra=extra")
	log, err := Predict(b)
	require.NoError(t, err)
	assert.Equal(t, PredictionNone, log.Coverage[12].Prediction)
	assert.Contains(t, log.Coverage[12].Note, "what the add-ons bring is not given")
	b.Addons = nil
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Contains(t, log.Coverage[12].Note, "what SMBIOS adds to the command line is not given")
	assert.Equal(t, PredictionExact, log.Coverage[13].Prediction)

	b.Addons = []Application{{Path: "a", Digests: d("a")}, {Path: "b", Digests: d("b")}}
	b.Sections = append(b.Sections[:len(b.Sections):len(b.Sections)], measure(".profile", "x")...)
	b.Handover = &osmith.Handover{Passed: "@1 debug", LoadOptions: loadOptions("kernel"), Initrd: d("initrds"), Events: []osmith.HandoverEvent{
		profileEvent("1"), cmdlineEvent(osmith.HandoverPassedCmdline, "debug"), cmdlineEvent(osmith.HandoverAddonCmdline, "x y z"),
		taggedEvent(osmith.HandoverAddonDeviceTree, TagDeviceTree, "a", d("dt")), archiveEvent(13, "System extension initrd", d("z")),
		taggedEvent(osmith.HandoverAddonMicrocode, TagMicrocode, "b", d("u")), taggedEvent(osmith.HandoverAddonInitrd, TagInitrdAddon, "a", d("i")),
	}}
	log, err = Predict(b)
	require.NoError(t, err)
	var got []string
	for _, e := range log.Events {
		if (e.PCR == 4 && e.Type == EventEFIBootServicesApplication) || e.PCR == 12 || e.PCR == 11 && len(got) > 0 && got[len(got)-1] != "11" {
			got = append(got, map[bool]string{true: "11", false: e.Describe()}[e.PCR == 11])
		}
	}
	assert.Equal(t, []string{
		`\EFI\BOOT\BOOTX64.EFI (163744 bytes)`, `\EFI\Linux\uki-2.efi (19987872 bytes)`, "@1 debug", "profile: 1", "11", "debug", `\a`, `\b`, "x y z",
		"device tree add-on: a", "microcode add-on: b", "initrd add-on: a",
	}, got)
	require.Len(t, log.of(13), 1)
	assert.Equal(t, []string{hexOf(pcrbank.Sum(crypto.SHA256, loadOptions("kernel"))), hexOf(d("initrds")[crypto.SHA256])}, hexes(log, 9))
	assert.Equal(t, EvidenceSource, log.Coverage[12].Evidence, "of a passed command line")
	assert.Equal(t, EvidenceBooted, log.Coverage[13].Evidence)
	assert.Equal(t, PredictionExact, log.Coverage[9].Prediction)

	// Without a loader it is the stub alone that measures what it is passed.
	b.Chain = nil
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, "profile: 1", log.of(12)[0].Describe())

	b.Handover.Unknown = "something is missing"
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Empty(t, log.of(9))
	assert.Equal(t, "PCR 9: not predicted: something is missing", log.Coverage[9].String())
}

func TestUserspaceWords(t *testing.T) {
	// What systemd 262 measured: testdata/userspace.
	u, err := ParseUserspaceLog(read(t, "testdata/userspace/tpm2-measure.log"))
	require.NoError(t, err)
	id, err := MachineIDWord("0123456789abcdef0123456789abcdef")
	require.NoError(t, err)
	fs := FileSystem{Path: "/sysroot", Type: "erofs", UUID: "00000000-0000-0000-0000-000000000002"}
	b := bootVectors(t)[0].boot
	b.Phases = []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	b.Userspace = &Userspace{Separator: MeasuredYes, NVSeparator: MeasuredYes, Identity: []Word{{Text: id}, {Text: fs.Word()}}}
	for _, r := range u.Records {
		if r.EventType == "nvpcr-init" {
			b.Userspace.NVPCRs = append(b.Userspace.NVPCRs, r.Word)
		}
	}
	log, err := Predict(b)
	require.NoError(t, err)
	for pcr := range 16 {
		var want, got []string
		for _, e := range u.Events() {
			if e.PCR == pcr {
				want = append(want, hexOf(e.Digests[crypto.SHA256]))
			}
		}
		got = hexes(log, pcr)
		require.GreaterOrEqual(t, len(got), len(want))
		assert.Equal(t, want, append([]string(nil), got[len(got)-len(want):]...), "PCR %d", pcr)
	}
	_, err = MachineIDWord("01234567-89ab-cdef-0123-456789abcdef")
	assert.Error(t, err)
	assert.Equal(t, `file-system:/a\x3ab::::::`, FileSystem{Path: "/a:b"}.Word())
}
