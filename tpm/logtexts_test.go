package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sm3"
)

// What is said of the logs of other machines, line by line, is in files beside them.
func TestLogTexts(t *testing.T) {
	files, err := filepath.Glob("testdata/machines/*.bin")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	files = append(files, "testdata/tdx/ccel.bin", "testdata/boot/a-sb-sdboot-262/binary_bios_measurements", "testdata/boot/f-profile1-262/binary_bios_measurements",
		"testdata/chains/s4-mok-sdboot.bin", "testdata/chains/s3-shim-grub.bin", "testdata/chains/u30-2025.01-uki-direct.bin", "testdata/eventlogs/rhel8-uefi.bin")
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			raw := read(t, file)
			log, err := ParseLog(raw)
			require.NoError(t, err)
			again, err := log.MarshalBinary()
			require.NoError(t, err)
			require.True(t, bytes.Equal(raw, again), "written back")
			banks, err := log.Replay()
			require.NoError(t, err)
			require.NotEmpty(t, banks)
			require.Empty(t, Diff(log, log))
			text := log.String()
			for _, f := range log.Findings {
				text += f.String() + "\n"
			}
			name := strings.TrimSuffix(filepath.Base(file), ".bin")
			if name == "binary_bios_measurements" {
				name = filepath.Base(filepath.Dir(file))
			}
			golden := filepath.Join("testdata/texts", name+".txt")
			if os.Getenv("OSMITH_UPDATE") == "1" {
				require.NoError(t, os.WriteFile(golden, []byte(text), 0o644))
			}
			require.Equal(t, string(read(t, golden)), text)
			// Nothing is escaped twice, and no byte of the log comes out as it is.
			require.NotContains(t, text, `\\`)
			require.NotContains(t, text, `\"`)
			require.NotContains(t, text, `\u005c`)
		})
	}
}

// Windows' events are what Windows measures, not errors of the firmware.
func TestWindows(t *testing.T) {
	log := parsed(t, "machines/p511.bin")
	require.Equal(t, []string{
		"event 43 at 0x512f: it has no digest of sha1, which the header lists; likewise 15 more, up to event 58",
		"event 58 at 0xf975: EV_NO_ACTION with a sha256 digest that is not zero; it extends nothing",
	}, []string{log.Findings[0].String(), log.Findings[1].String()})
	require.Len(t, log.Findings, 2)
	require.Equal(t, []crypto.Hash{crypto.SHA256}, log.Banks())
	separators := 0
	for _, e := range log.Events {
		require.NotContains(t, []SubjectKind{SubjectUKI, SubjectLoader, SubjectSection}, e.Subject.Kind)
		if e.Type == EventSeparator {
			p, err := e.Payload()
			require.NoError(t, err)
			require.False(t, p.(Separator).Error(), "PCR %d", e.PCR)
			separators++
		}
	}
	require.Equal(t, 11, separators)
	assert.True(t, Separator("WBCM").Error())
	assert.True(t, Separator("WBCL\x00").Error())

	// A machine that was to boot a UKI and boots Windows instead.
	ds := Causes(Diff(parsed(t, "boot/c-direct-uki-262/binary_bios_measurements"), log))
	text := lines(ds)
	assert.Contains(t, text, `PCR 4: program \EFI\Microsoft\Boot\bootmgfw.efi (9a53b62e6012dea3…) was started in place of the UKI \EFI\BOOT\BOOTX64.EFI (`)
	assert.NotContains(t, text, "UKI section")
	assert.NotContains(t, text, "the UKI \\EFI\\Microsoft")
	assert.NotContains(t, text, "the boot loader \\EFI\\Microsoft")
	assert.Contains(t, lines(Causes(Diff(parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements"), log))),
		`PCR 4: program \EFI\Microsoft\Boot\bootmgfw.efi (9a53b62e6012dea3…) was started in place of the boot loader \EFI\BOOT\BOOTX64.EFI (5da56c77af91c2fd…)`)
	assert.Contains(t, text, "PCR 1: not expected: firmware setting LenovoConfig-2a4dc6b7-41f5-45dd-b46f-2dd334c1cf65 = 245 bytes (")
	back := lines(Causes(Diff(log, parsed(t, "boot/c-direct-uki-262/binary_bios_measurements"))))
	assert.Contains(t, back, `PCR 4: the UKI \EFI\BOOT\BOOTX64.EFI (`)
	assert.Contains(t, back, `) was started in place of program \EFI\Microsoft\Boot\bootmgfw.efi (9a53b62e6012dea3…)`)
	assert.NotContains(t, back, "UKI section")
}

// What Windows' containers hold, and that nothing in them is trusted to end.
func TestWindowsContainers(t *testing.T) {
	container := func(tag Tag, parts ...[]byte) []byte { return taggedData(tag, bytes.Join(parts, nil)) }
	nested := []byte{}
	for range 10 {
		nested = container(TagWindowsModule, nested)
	}
	var many [][]byte
	for i := range 20 {
		many = append(many, container(windowsFilePath, utf16z(fmt.Sprintf(`\Windows\%d.sys`, i))), container(windowsIssuer, utf16z(fmt.Sprintf("CA\n%d", i%3))))
	}
	for _, c := range []struct {
		data []byte
		want string
	}{
		{container(TagWindowsTrustBoundary, container(0x00040001, []byte{0}), container(0x00050003, []byte{1})), "Windows: trust boundary: boot debugging off, test signing on"},
		{container(TagWindowsTrustBoundary, container(0x00040001, []byte{0, 0})), "Windows: trust boundary: 10 bytes, 01000400020000000000"},
		{container(TagWindowsTrustBoundary, container(TagWindowsAuthority, []byte{1})), "Windows: trust boundary: 1 key of authorities"},
		{container(TagWindowsTrustBoundary, container(TagWindowsAuthority), container(TagWindowsAuthority)), "Windows: trust boundary: 2 keys of authorities"},
		{container(TagWindowsModule, container(TagWindowsModule, many...)),
			`Windows: module: modules 0.sys, 1.sys, 2.sys, 3.sys, 4.sys, 5.sys, 6.sys, 7.sys, 12 more; signed by 'CA\n0', 'CA\n1', 'CA\n2'`},
		{container(TagWindowsTrustBoundary, logBytes(nil).u32(0x40001, 0xffffffff)), "Windows: trust boundary: 8 bytes, 01000400ffffffff"},
		{nested, "Windows: module: 72 bytes, 03000140400000000300014038000000…"},
		{container(TagWindowsTrustBoundary), "Windows: trust boundary: 0 bytes, "},
		{container(0xc0b3bd23, utf16z("smbios:type11")), "SMBIOS type 11"},
		{container(0xc0b3bd23, utf16z("x")), "SMBIOS type 11: x"},
	} {
		e := Event{PCR: 12, Type: EventTag, Data: c.data}
		assert.Equal(t, c.want, e.Describe())
	}
}

// Two boots of Windows differ in settings and modules.
func TestWindowsDifferences(t *testing.T) {
	event := func(testSigning byte, module string) Event {
		data := taggedData(TagWindowsTrustBoundary, bytes.Join([][]byte{taggedData(0x00050003, []byte{testSigning}), taggedData(0x00020002, []byte(module)), taggedData(windowsFilePath, utf16z(`\Windows\`+module))}, nil))
		return hashEvent(13, EventTag, data, data[8:])
	}
	for _, c := range []struct {
		got  Event
		want string
	}{
		{event(1, "b\n.sys"), `PCR 13: Windows: trust boundary: test signing on not expected; test signing off missing; modules b\n.sys not expected; modules a.sys missing`},
		{event(0, "b.sys"), "PCR 13: Windows: trust boundary: modules b.sys not expected; modules a.sys missing"},
		{hashEvent(13, EventTag, taggedData(TagWindowsTrustBoundary, nil), nil), "PCR 13: Windows: trust boundary: test signing off missing; modules a.sys missing"},
		{hashEvent(13, EventTag, event(0, "a.sys").Data, []byte("x")), "PCR 13: Windows: trust boundary differs (2d711642b726b044…, expected "},
	} {
		ds := Diff(logOf(t, event(0, "a.sys")), logOf(t, c.got))
		require.Len(t, ds, 1)
		assert.True(t, strings.HasPrefix(ds[0].String(), c.want), ds[0].String())
	}
}

// A log of RTMRs says so, replays as such, and stands for no PCR.
func TestRTMRs(t *testing.T) {
	raw := read(t, "testdata/tdx/ccel.bin")
	log, err := ParseLog(raw)
	require.NoError(t, err)
	require.Equal(t, RegistersCC, log.Registers)
	require.Equal(t, "event 17 at 0x6c5: EV_EVENT_TAG without a tag, whose data are the text 'LOADED_IMAGE::LoadOptions'", log.Findings[0].String())
	require.Len(t, log.Findings, 1)
	assert.Equal(t, SubjectLoadOptions, log.Events[17].Subject.Kind)
	assert.Equal(t, SubjectVariable, log.Events[3].Subject.Kind)
	assert.Equal(t, SubjectProgram, log.Events[12].Subject.Kind)
	assert.Equal(t, SubjectExitBoot, log.Events[18].Subject.Kind)
	assert.True(t, log.Events[3].Attested())

	// go-eventlog replays it to the same values.
	banks, err := log.Replay()
	require.NoError(t, err)
	theirs, err := tcg.ParseEventLog(raw, tcg.ParseOpts{})
	require.NoError(t, err)
	var mrs []register.MR
	for n := 1; n <= 4; n++ {
		mrs = append(mrs, register.RTMR{Index: n - 1, Digest: banks[crypto.SHA384].PCR(n)})
	}
	_, err = theirs.Verify(mrs)
	require.NoError(t, err)
	mrs[1] = register.RTMR{Index: 1, Digest: make([]byte, 48)}
	_, err = theirs.Verify(mrs)
	require.Error(t, err, "the oracle looks at the values")

	// It is not a log of PCRs.
	_, err = log.Values(crypto.SHA384)
	require.ErrorIs(t, err, ErrRegisters)
	require.EqualError(t, err, "tpm: PCR values of a log of RTMRs: a log of other registers")
	require.ErrorIs(t, log.Verify(crypto.SHA384, map[int][]byte{1: banks[crypto.SHA384].PCR(1)}), ErrRegisters)
	pcrs := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	_, err = Compare(pcrs, log)
	require.EqualError(t, err, "tpm: comparing event logs: the expected log is of PCRs, the boot's of RTMRs: a log of other registers")
	_, err = Predict(Boot{Variables: bootVectors(t)[0].boot.Variables, UKI: bootVectors(t)[0].boot.UKI, Sections: bootVectors(t)[0].boot.Sections, Stub: "262", Firmware: log})
	require.Error(t, err, "and has no bank of that prediction")
	_, err = readBaseline(log, log.Banks())
	require.ErrorIs(t, err, ErrRegisters)
	_, err = log.Reliances()
	require.ErrorIs(t, err, ErrRegisters)
	_, err = log.CEL()
	require.ErrorIs(t, err, ErrRegisters)
	require.ErrorIs(t, log.VerifyQuote(&Quote{Selections: []PCRSelection{{Bank: crypto.SHA384, PCRs: []int{1}}}, PCRDigest: make([]byte, 32)}), ErrRegisters)
	mixed := *log
	mixed.Events = append(mixed.Events[:len(mixed.Events):len(mixed.Events)], Event{PCR: 1, Type: EventAction, Digests: log.Events[1].Digests})
	_, err = mixed.Replay()
	require.ErrorIs(t, err, ErrRegisters)
	require.NotEmpty(t, Diff(log, &mixed))

	// Differences are in RTMRs, and all of them are compared.
	changed, err := ParseLog(raw)
	require.NoError(t, err)
	changed.Events[4].Digests = map[crypto.Hash][]byte{crypto.SHA384: make([]byte, 48)}
	changed.Events = append(changed.Events[:12:12], changed.Events[13:]...)
	c, err := Compare(log, changed)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3, 4}, c.PCRs)
	require.Empty(t, c.NotCompared)
	require.Equal(t, "RTMR 0: PK has the expected contents, and not the expected digest (0000000000000000…, expected 6f2e3cbc14f9def8…)\nRTMR 1: missing: program kernel (13580064 bytes)\n", lines(c.Differences))
	b, err := c.Differences[0].MarshalJSON()
	require.NoError(t, err)
	require.Contains(t, string(b), `"pcr":1,"register":"RTMR 0"`)
}

func TestRegisterNames(t *testing.T) {
	assert.True(t, strings.HasPrefix((&Event{PCR: -1, Type: EventNoAction}).String(), "  -  EV_NO_ACTION"))
	assert.True(t, strings.HasPrefix((&Event{PCR: -1, Type: EventAction}).String(), " -1  EV_ACTION"))
	assert.True(t, strings.HasPrefix((&Event{PCR: 4, Type: EventAction, cc: true}).String(), "RTMR 3  EV_ACTION"))
	for n, want := range map[int]string{0: "MRTD", 1: "RTMR 0", 4: "RTMR 3", 5: "measurement register 5", -1: "measurement register -1"} {
		assert.Equal(t, want, RegistersCC.Name(n))
	}
	assert.Equal(t, "PCR 0", RegistersPCR.Name(0))
	// UEFI 2.10, section 38.4.1.
	for pcr, number := range map[int]int{0: 0, 1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 1, 8: 3, 11: 3, 15: 3} {
		for n := range registerCount {
			assert.Equal(t, n == number, (&Event{PCR: n, cc: true}).in(pcr), "PCR %d in register %d", pcr, n)
		}
		assert.True(t, (&Event{PCR: pcr}).in(pcr))
	}
	// A header for register 1 is no sign where the events are for PCRs.
	odd := header(0xb, 32)
	odd[0] = 1
	for name, c := range map[string]struct {
		in   logBytes
		want Registers
	}{
		"register 2": {odd.event(2, 5, 'x'), RegistersCC}, "register 4": {odd.event(4, 5, 'x'), RegistersCC}, "no events": {odd, RegistersPCR},
		"PCR 0": {odd.event(2, 5, 'x').event(0, 5, 'x'), RegistersPCR}, "PCR 7": {odd.event(2, 5, 'x').event(7, 5, 'x'), RegistersPCR},
		"nothing that extends": {odd.event(2, 3, 'x'), RegistersPCR},
	} {
		log, err := ParseLog(c.in)
		require.NoError(t, err)
		assert.Equal(t, c.want, log.Registers, name)
		assert.Equal(t, c.want == RegistersPCR, len(log.Findings) > 0 && log.Findings[0].Text == "the header is for PCR 1", name)
	}
	log, err := ParseLog(odd.event(2, 5, 'x'))
	require.NoError(t, err)
	events, _, err := ParseFinalEvents(logBytes{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}.event(3, 5, 'x'), log)
	require.NoError(t, err)
	_, err = log.WithFinalEvents(events).Replay()
	require.NoError(t, err)
}

// A bank of SM3 is one, although no crypto.Hash is.
func TestSM3(t *testing.T) {
	event := func(b logBytes, pcr uint32, data string) logBytes {
		d := sm3.Sum([]byte(data))
		return b.u32(pcr, 0x80000007, 1).u16(AlgorithmSM3).bytes(d[:]...).u32(uint32(len(data))).bytes([]byte(data)...)
	}
	raw := event(event(header(AlgorithmSM3, 32), 4, "one"), 4, "two")
	log, err := ParseLog(raw)
	require.NoError(t, err)
	require.Empty(t, log.Findings)
	require.Empty(t, log.Banks())
	assert.Equal(t, "TCG event log with sm3_256", log.Events[0].Describe())
	one, two := sm3.Sum([]byte("one")), sm3.Sum([]byte("two"))
	assert.Equal(t, one[:], log.Events[1].Digest(AlgorithmSM3))
	assert.Nil(t, log.Events[1].Digest(0xb))
	assert.True(t, log.Events[1].Attested())
	assert.Contains(t, log.String(), fmt.Sprintf("%x…", one[:8]))
	bank, err := log.ReplaySM3()
	require.NoError(t, err)
	first := sm3.Sum(make([]byte, 32), one[:])
	want := sm3.Sum(first[:], two[:])
	assert.Equal(t, want[:], bank.PCR(4))
	assert.Equal(t, make([]byte, 32), bank.PCR(0))
	assert.Equal(t, bytes.Repeat([]byte{0xff}, 32), bank.PCR(17))
	assert.Equal(t, "sm3_256", bank.Name())
	assert.Zero(t, bank.Hash())
	require.NoError(t, bank.Measure(0, []byte("one")))
	assert.Equal(t, first[:], bank.PCR(0))
	require.ErrorContains(t, bank.Extend(0, make([]byte, 20)), "a digest of 20 bytes, want 32 for sm3_256")
	assert.Len(t, bank.BootAggregate(), 32)
	again, err := log.MarshalBinary()
	require.NoError(t, err)
	assert.Equal(t, []byte(raw), again)
	_, err = log.Replay(crypto.SHA256)
	require.ErrorIs(t, err, ErrBank)
	_, err = parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements").ReplaySM3()
	require.ErrorIs(t, err, ErrBank)

	// Locality and dynamic launch are those of every bank.
	log, err = ParseLog(event(event(header(AlgorithmSM3, 32).u32(0, 3, 0, 17).bytes([]byte("StartupLocality\x00\x03")...), 0, "one"), 17, "one"))
	require.NoError(t, err)
	bank, err = log.ReplaySM3()
	require.NoError(t, err)
	third := make([]byte, 32)
	third[31] = 3
	want = sm3.Sum(third, one[:])
	assert.Equal(t, want[:], bank.PCR(0))
	assert.Equal(t, first[:], bank.PCR(17))

	// A wrong one is found, and differs.
	bad := bytes.Clone(raw)
	bad[len(bad)-1]++
	log, err = ParseLog(bad)
	require.NoError(t, err)
	require.Len(t, log.Findings, 1)
	assert.False(t, log.Events[2].Attested())
	other, err := ParseLog(event(event(header(AlgorithmSM3, 32), 4, "one"), 4, "three"))
	require.NoError(t, err)
	same, err := ParseLog(raw)
	require.NoError(t, err)
	c, err := Compare(same, other)
	require.NoError(t, err)
	require.Len(t, c.Differences, 1)
	c, err = Compare(same, log)
	require.NoError(t, err)
	require.Empty(t, c.Differences, "of its data no digest is compared")
	_, err = Compare(same, parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.EqualError(t, err, "tpm: comparing event logs: no common bank: the expected log has sm3_256, the boot's has sha256: "+ErrBank.Error())
	require.ErrorIs(t, err, ErrBank)

	// Beside another bank both count.
	both := func(text string) *Log {
		d, m := pcrbank.Sum(crypto.SHA256, []byte("one")), sm3.Sum([]byte(text))
		l, err := ParseLog(header(0xb, 32, AlgorithmSM3, 32).u32(4, 0x80000007, 2).u16(0xb).bytes(d...).u16(AlgorithmSM3).bytes(m[:]...).u32(3).bytes([]byte("one")...))
		require.NoError(t, err)
		return l
	}
	assert.True(t, both("one").Events[1].Attested())
	assert.False(t, both("two").Events[1].Attested())
	assert.NotEmpty(t, Diff(both("one"), both("two")))
	assert.Empty(t, Diff(both("one"), both("one")))
	assert.Equal(t, []crypto.Hash{crypto.SHA256}, both("one").Banks())
}

// Logs whose events have no digests at all have no bank in common with any.
func TestNoCommonBank(t *testing.T) {
	none, err := ParseLog(header(0xb, 32).u32(4, 5, 0, 1).bytes('x'))
	require.NoError(t, err)
	some, err := ParseLog(header(0xb, 32).event(4, 5, 'x'))
	require.NoError(t, err)
	empty, err := ParseLog(header(0xb, 32))
	require.NoError(t, err)
	sha384, err := ParseLog(header(0xc, 48).u32(4, 5, 1).u16(0xc).bytes(make([]byte, 48)...).u32(0))
	require.NoError(t, err)
	for _, c := range [][2]*Log{{none, some}, {some, none}, {none, none}, {sha384, some}} {
		_, err := Compare(c[0], c[1])
		require.ErrorIs(t, err, ErrBank)
		require.NotEmpty(t, Diff(c[0], c[1]))
	}
	for _, c := range [][2]*Log{{some, some}, {empty, some}, {some, empty}, {empty, sha384}} {
		_, err := Compare(c[0], c[1])
		require.NoError(t, err)
	}
}
