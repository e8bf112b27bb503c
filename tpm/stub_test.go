package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The rows of the table, as they differ.
func TestStubVersions(t *testing.T) {
	rows := StubVersions()
	require.Len(t, rows, 11)
	booted := []int{}
	for i, r := range rows {
		assert.Equal(t, 252+i, r.Version)
		if r.Evidence == EvidenceBooted {
			booted = append(booted, r.Version)
		}
		assert.Equal(t, r.Version < 257, r.InnerKernel)
		assert.Equal(t, r.Version >= 255, r.LoaderConf)
		assert.Equal(t, r.Version >= 261, r.SMBIOS && r.Console && r.BootSecret)
		assert.Equal(t, r.Version >= 254, r.Addons != EvidenceNone && r.SMBIOSExtra)
		assert.Equal(t, r.Version >= 257, r.Profiles != EvidenceNone)
	}
	assert.Equal(t, []int{252, 254, 257, 262}, booted)
	rows[0].Version = 1
	assert.Equal(t, 252, StubVersions()[0].Version, "a copy")
}

// A stub before 257 has the firmware load the kernel: with Secure Boot off that is one more program.
func TestPredictInnerKernel(t *testing.T) {
	b := bootVectors(t)[1].boot
	require.Equal(t, byte(0), b.SecureBoot.SecureBoot[0])
	b.Stub = 254
	log, err := Predict(b)
	require.NoError(t, err)
	assert.Equal(t, NotPredicted, log.Coverage[4].State)
	assert.Contains(t, log.Coverage[4].Note, "stub 254 has the firmware load and measure the kernel, whose digest is not given")
	digest := map[crypto.Hash][]byte{crypto.SHA256: sum(crypto.SHA256, []byte("kernel"))}
	b.Kernel = &Application{Digests: digest}
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, Exact, log.Coverage[4].State)
	assert.Equal(t, EvidenceBooted, log.Coverage[4].Evidence)
	es := log.of(4)
	assert.Equal(t, digest[crypto.SHA256], es[len(es)-1].Digests[crypto.SHA256])
	b.Stub = 257
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
	require.Equal(t, 262, b.Stub)
	count := func(stub, loader int) (conf, smbios int) {
		t.Helper()
		b.Stub, b.LoaderVersion, b.Initrd, b.Console = stub, loader, nil, ""
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
	for _, c := range []struct{ stub, loader, conf, smbios int }{
		{262, 0, 1, 1}, {262, 262, 1, 1}, {262, 254, 0, 1}, {254, 262, 1, 1}, {254, 0, 0, 0}, {257, 254, 0, 0}, {254, 257, 1, 0},
	} {
		conf, smbios := count(c.stub, c.loader)
		assert.Equal(t, c, struct{ stub, loader, conf, smbios int }{c.stub, c.loader, conf, smbios})
	}
	b.LoaderVersion = 999
	_, err := Predict(b)
	var unknown *StubVersionError
	require.ErrorAs(t, err, &unknown)
	b.StubAs = 262
	_, err = Predict(b)
	require.NoError(t, err)
}

// Stub 252 passes by two sections that it does not know.
func TestPredictOldSections(t *testing.T) {
	b := bootVectors(t)[0].boot
	for stub, sections := range map[int]int{252: 5, 253: 5, 254: 7, 262: 7} {
		b.Stub = stub
		log, err := Predict(b)
		require.NoError(t, err)
		assert.Len(t, log.of(PCRKernel), 2*sections, stub)
	}
	b.Stub = 253
	b.Addons = []Addon{{Application: b.UKI}}
	_, err := Predict(b)
	assert.ErrorContains(t, err, "stub 253 has no add-ons: 254 was the first")
	b.Stub = 256
	b.Addons[0].Initrd = b.UKI.Digests
	_, err = Predict(b)
	assert.ErrorContains(t, err, "stub 256 takes no initrd or microcode from")
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
		{"another command line", func(b *Boot) { b.CommandLine = []byte("quiet") }, "the command line of 5 bytes is not the one in .cmdline: sha256 008f0747"},
		{"no .cmdline", func(b *Boot) { b.Sections = append(b.Sections[:2:2], b.Sections[3:]...) }, "hold no .cmdline section"},
		{"boot variable", func(b *Boot) { b.BootVariables = []BootVariable{{"Boot1", nil}} }, `boot variable "Boot1": want BootOrder or Boot####`},
		{"companion", func(b *Boot) { b.Companions = []Companion{{PCR: 11, Description: "x"}} }, `companion "x" in PCR 11: want PCR 12 or 13`},
		{"NUL", func(b *Boot) { b.Passed = "a\x00b" }, "holds a NUL"},
		{"console", func(b *Boot) { b.Console = "ttyS0" }, `console "ttyS0": want "console=…"`},
		{"NvPCR", func(b *Boot) { b.Userspace = &Userspace{NVPCRs: []string{"x"}} }, "want nvpcr-init:"},
		{"empty word", func(b *Boot) { b.Userspace = &Userspace{IdentityWords: []string{""}} }, "an empty word for PCR 15"},
		{"GPT header", func(b *Boot) { b.GPT = &PartitionTable{} }, "GPT header of 0 bytes"},
		{"GPT entries", func(b *Boot) { b.GPT = &PartitionTable{b.GPT.Header, make([]byte, 100)} }, "GPT entries: 100 bytes given"},
		{"SMBIOS", func(b *Boot) { b.SMBIOS = []byte{1, 2, 3} }, "SMBIOS table at 0x0: no structure in 3 bytes"},
		{"SMBIOS strings", func(b *Boot) { b.SMBIOS = []byte{1, 4, 0, 0, 'x'} }, "SMBIOS strings of type 1 at 0x4: no end"},
		{"firmware of no boot", func(b *Boot) { b.Firmware = &Log{Events: firmware.Events[:5]} }, "no separator in PCR 4: no boot was tried"},
		{"firmware bank", func(b *Boot) { b.Firmware = &Log{} }, "no bank that"},
		{"initrd digest", func(b *Boot) {
			b.Initrd = map[crypto.Hash][]byte{crypto.SHA256: {1}}
			b.Banks = []crypto.Hash{crypto.SHA256}
		}, "initrds: a digest of 1 bytes"},
		{"add-on digest", func(b *Boot) {
			b.Addons = []Addon{{Application: Application{Path: "x"}, DeviceTree: map[crypto.Hash][]byte{}}}
			b.Banks = []crypto.Hash{crypto.SHA256}
		}, "x: an Authenticode digest of 0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := good
			c.change(&b)
			log, err := Predict(b)
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, log)
		})
	}
}

// Everything that add-ons and companions can bring, in the stub's order.
func TestPredictParameterOrder(t *testing.T) {
	b := bootVectors(t)[0].boot
	d := func(s string) map[crypto.Hash][]byte {
		return map[crypto.Hash][]byte{crypto.SHA256: sum(crypto.SHA256, []byte(s))}
	}
	b.Addons = []Addon{
		{Application: Application{Path: "a", Digests: d("a")}, CommandLine: " x\ty\n", DeviceTree: d("dt1"), Microcode: d("u1"), Initrd: d("i1")},
		{Application: Application{Path: "b", Digests: d("b")}, CommandLine: "z", DeviceTree: d("dt2"), Microcode: d("u2"), Initrd: d("i2")},
	}
	b.Companions = []Companion{{12, "Credentials initrd", d("c")}, {13, "System extension initrd", d("s")}}
	b.SMBIOS = withOEMString([]byte{127, 4, 0, 0, 0, 0}, "io.systemd.stub.kernel-cmdline-extra=extra")
	b.Passed = "not taken: there is a .cmdline, and Secure Boot is on"
	b.Loader = nil
	log, err := Predict(b)
	require.NoError(t, err)
	var got []string
	for _, e := range log.of(12) {
		got = append(got, e.Describe())
	}
	assert.Equal(t, []string{
		"x y z", "extra", "device tree add-on: Device tree addon", "device tree add-on: Device tree addon", "Credentials initrd",
		"microcode add-on: Microcode addon", "microcode add-on: Microcode addon", "initrd add-on: Initrd addon", "initrd add-on: Initrd addon",
	}, got)
	es := log.of(12)
	assert.Equal(t, d("u2")[crypto.SHA256], es[5].Digests[crypto.SHA256], "microcode in reverse")
	assert.Equal(t, d("i1")[crypto.SHA256], es[7].Digests[crypto.SHA256])
	require.Len(t, log.of(13), 1)
	assert.Equal(t, EvidenceSource, log.Coverage[12].Evidence)

	b.SecureBoot.SecureBoot, b.Passed = []byte{0}, " debug "
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, "debug", log.of(12)[0].Describe())
	b.Confidential = true
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, "x y z", log.of(12)[1].Describe())
	assert.NotEqual(t, "extra", log.of(12)[2].Describe(), "nothing from SMBIOS in a confidential VM")
	b.Stub, b.Addons[0].Microcode, b.Addons[0].Initrd, b.Addons[1].Microcode, b.Addons[1].Initrd = 256, nil, nil, nil, nil
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, NotPredicted, log.Coverage[12].State)
	assert.Contains(t, log.Coverage[12].Note, "give a Handover")

	// The same from somebody who knows.
	b.Handover = &Handover{Events: []StubEvent{{12, 0, "x", d("x")}, {12, TagDeviceTree, "y", d("y")}, {13, 0, "z", d("z")}}, LoadOptions: utf16z("kernel")}
	b.Initrd = d("initrds")
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Equal(t, []string{hexOf(d("x")[crypto.SHA256]), hexOf(d("y")[crypto.SHA256])}, hexes(log, 12))
	assert.Equal(t, []string{hexOf(d("z")[crypto.SHA256])}, hexes(log, 13))
	assert.Equal(t, []string{hexOf(sum(crypto.SHA256, utf16z("kernel"))), hexOf(d("initrds")[crypto.SHA256])}, hexes(log, 9))
	assert.Equal(t, Exact, log.Coverage[12].State)
	assert.Equal(t, Exact, log.Coverage[9].State)
	b.Handover.Events[0].PCR = 11
	_, err = Predict(b)
	assert.ErrorContains(t, err, `the stub measures "x" into PCR 11`)
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
	b.Userspace = &Userspace{Separator: true, NVSeparator: true, IdentityWords: []string{id, fs.Word()}}
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
