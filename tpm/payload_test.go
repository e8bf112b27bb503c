package tpm

import (
	"crypto"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// What the events of a real boot say.
// Only what a TPM extended is attested.
func TestAttestedByATPM(t *testing.T) {
	for _, c := range []struct {
		pcr  int
		typ  EventType
		want bool
	}{
		{0, EventIPL, true}, {23, EventIPL, true}, {24, EventIPL, false}, {77, EventIPL, false}, {-1, EventIPL, false}, {-1, EventEFIAction, false},
		{0, EventNoAction, false}, {4, EventNoAction, false}, {-1, EventNoAction, false}, {4, EventEFIAction, true},
	} {
		data := []byte("text")
		e := Event{PCR: c.pcr, Type: c.typ, Data: data, Digests: digestsOf(data)}
		assert.Equal(t, c.want, e.Attested(), "%v in PCR %d", c.typ, c.pcr)
	}
}

func TestPayloads(t *testing.T) {
	log, err := ParseLog(bootVectors(t)[0].log)
	require.NoError(t, err)
	payload := func(i int) Payload {
		p, err := log.Events[i].Payload()
		require.NoError(t, err)
		return p
	}
	id := payload(0).(SpecID)
	assert.Equal(t, []Algorithm{{0x000b, 32}}, id.Algorithms)
	assert.EqualValues(t, 2, id.Major)
	assert.Equal(t, Text("2026.08+ds-2"), payload(1))
	assert.Equal(t, FirmwareBlob{Base: 0x830000, Length: 0xd0000}, payload(2))
	v := payload(4).(Variable)
	assert.Equal(t, Variable{globalVariable, "SecureBoot", []byte{1}}, v)
	entries, ok := signatureEntries(payload(8).(Variable).Data)
	require.True(t, ok)
	assert.Len(t, entries, 1)
	tables := payload(26).(HandoffTables)
	require.Len(t, tables.Tables, 1)
	assert.Equal(t, "tables SMBIOS", tables.String())
	gpt := payload(28).(GPT)
	require.Len(t, gpt.Partitions, 5)
	assert.Equal(t, "esp", gpt.Partitions[0].Name)
	assert.EqualValues(t, 2048, gpt.Partitions[0].FirstLBA)
	assert.Equal(t, "b0071ab0-0000-4000-8000-0000000000e5", gpt.Partitions[0].ID.String())
	image := payload(32).(ImageLoad)
	assert.Equal(t, `PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,b0071ab0-0000-4000-8000-0000000000e5,0x800,0x3c000)/\EFI\Linux\bootlab_2+2-1.efi`, image.Path.String())
	assert.EqualValues(t, 19987872, image.Size)
	assert.Equal(t, TagLoaderConf, payload(31).(Tagged).Tag)
	assert.Equal(t, "command line of the kernel", payload(47).String())
}

// Every event of all real logs has a payload of its type.
func TestPayloadsOfForeignLogs(t *testing.T) {
	logs := foreignLogs(t)
	for _, v := range bootVectors(t) {
		logs[v.name] = v.log
	}
	for name, raw := range logs {
		log, err := ParseLog(raw)
		require.NoError(t, err)
		attested := 0
		for i := range log.Events {
			e := &log.Events[i]
			p, err := e.Payload()
			require.NoError(t, err, "%s: event %d: %v", name, i, e.Type)
			assert.NotEmpty(t, p.String())
			if e.Attested() {
				attested++
			}
		}
		assert.Greater(t, attested, 10, name)
	}
}

func TestPayloadForms(t *testing.T) {
	le := binary.LittleEndian
	guid := osmith.MustParseGUID("eb9d2d31-2d88-11d3-9a16-0090273fc14d")
	tables := le.AppendUint64(efi.AppendGUID(le.AppendUint64(nil, 1), guid), 0x7000)
	blob := le.AppendUint64(le.AppendUint64(nil, 0x100), 0x20)
	path := []byte{4, 4, 10, 0, '\\', 0, 'a', 0, 0, 0, 0x7f, 0xff, 4, 0}
	spdm1 := append([]byte("SPDM Device Sec\x00"), 1, 0, 30, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 9)
	spdm2 := append([]byte("SPDM Device Sec2"), 2, 0, 1, 0)
	spdm2 = le.AppendUint32(spdm2, uint32(52+len(path)+1))
	spdm2 = append(le.AppendUint32(spdm2, 2), make([]byte, 16)...)
	spdm2 = append(append(le.AppendUint64(spdm2, uint64(len(path))), path...), 7)
	for _, c := range []struct {
		name string
		typ  EventType
		data []byte
		want string // of the payload, or of the error
	}{
		{"blob", EventEFIPlatformFirmwareBlob, blob, "firmware volume of 32 bytes at 0x100"},
		{"blob short", EventEFIPlatformFirmwareBlob, blob[:9], "firmware blob at 0x0: 9 bytes, want 16"},
		{"blob2", EventEFIPlatformFirmwareBlob2, append([]byte("\x03FV\x00"), blob...), "firmware volume of 32 bytes at 0x100 (FV)"},
		{"blob2 empty", EventEFIPlatformFirmwareBlob2, nil, "description at 0x0"},
		{"blob2 cut", EventEFIPlatformFirmwareBlob2, []byte{9, 'x'}, "description at 0x0"},
		{"tables", EventEFIHandoffTables, tables, "tables SMBIOS"},
		{"tables2", EventEFIHandoffTables2, append([]byte("\x01T"), tables...), "T: tables SMBIOS"},
		{"tables count", EventEFIHandoffTables, le.AppendUint64(nil, 1<<60), "1152921504606846976 tables, 0 bytes left"},
		{"tables2 short", EventEFIHandoffTables2, []byte{0, 1}, "handoff tables at 0x1: 1 bytes"},
		{"SPDM 1", EventEFISPDMFirmwareBlob, spdm1, "SPDM device of type 1 at : 2 bytes"},
		{"SPDM 2", EventEFISPDMFirmwareConfig, spdm2, `SPDM device of type 2 at \a: 1 bytes`},
		{"SPDM length", EventEFISPDMFirmwareConfig, append(spdm1[:len(spdm1):len(spdm1)], 1), "at 0x12: 30 bytes, the event has 31"},
		{"SPDM nonsense", EventEFISPDMFirmwareBlob, []byte("x"), "1 bytes without the signature of one"},
		{"image short", EventEFIBootServicesDriver, []byte("x"), "image load event at 0x1: 1 bytes"},
		{"image path", EventEFIBootServicesDriver, le.AppendUint64(make([]byte, 24), 1), "device path at 0x18: 1 bytes, 0 left"},
		{"variable name", EventEFIVariableBoot2, le.AppendUint64(le.AppendUint64(make([]byte, 16), 1<<63), 0), "variable name at 0x10"},
		{"variable data", EventEFIVariableBoot2, le.AppendUint64(make([]byte, 24), 1), "variable contents at 0x18"},
		{"GPT", EventEFIGPT, []byte("EFI PART"), "partition table at 0x0: 8 bytes"},
		{"tag", EventTag, make([]byte, 9), "tagged event at 0x4: 0 bytes, 1 left"},
		{"locality", EventNoAction, []byte("StartupLocality\x00"), "startup locality at 0x10: 0 bytes, want 1"},
		{"vendor", EventNoAction, []byte("SP800-155 Event\x00abc"), "SP800-155 Event: 3 bytes, 616263"},
		{"H-CRTM", EventEFIHCRTM, []byte("HCRTM"), "HCRTM"},
		{"no text", EventPostCode, []byte{1, 2, 3}, "3 bytes, 010203"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Event{Type: c.typ, Data: c.data}
			p, err := e.Payload()
			if err != nil {
				assert.ErrorContains(t, err, c.want)
				var format *osmith.FormatError
				assert.ErrorAs(t, err, &format)
				assert.Nil(t, p)
				return
			}
			assert.Equal(t, c.want, p.String())
		})
	}
}

func TestDevicePaths(t *testing.T) {
	le := binary.LittleEndian
	node := func(kind, sub byte, data ...byte) []byte {
		return append(le.AppendUint16([]byte{kind, sub}, uint16(4+len(data))), data...)
	}
	guid := efi.AppendGUID(nil, osmith.MustParseGUID("00112233-4455-6677-8899-aabbccddeeff"))
	z := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		want string
		path []byte
	}{
		{"", nil},
		{"Pci(0x1f,0x2)", node(1, 1, 2, 0x1f)},
		{"MemoryMapped(0x0,0x0,0x0)", node(1, 3, z(20)...)},
		{"VenHw(00112233-4455-6677-8899-aabbccddeeff,01)", node(1, 4, append(guid, 1)...)},
		{"Ctrl(0x0)", node(1, 5, z(4)...)},
		{"PciRoot(0x0)", node(2, 1, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0)[:12]},
		{"Acpi(PNP0102,0x1)", node(2, 1, 0xd0, 0x41, 2, 1, 1, 0, 0, 0)},
		{"AcpiAdr(0x0)", node(2, 3, z(4)...)},
		{"AcpiEx(0x00000000,0x00000000,0x0)", node(2, 2, z(12)...)},
		{"Ata(Primary,Slave,0x0)", node(3, 1, 0, 1, 0, 0)},
		{"Scsi(0x0,0x1)", node(3, 2, 0, 0, 1, 0)},
		{"Fibre(0x0,0x0)", node(3, 3, z(20)...)},
		{"USB(0x3,0x0)", node(3, 5, 3, 0)},
		{"MAC(525400000001,0x1)", node(3, 11, append([]byte{0x52, 0x54, 0, 0, 0, 1}, append(z(26), 1)...)...)},
		{"IPv4(10.0.0.1)", node(3, 12, append(z(4), 10, 0, 0, 1)...)},
		{"IPv6(00000000000000000000000000000000)", node(3, 13, z(40)...)},
		{"UsbClass(0x0,0x0,0x0,0x0,0x0)", node(3, 15, z(7)...)},
		{"Unit(0x2)", node(3, 17, 2)},
		{"Sata(0x1,0xffff,0x0)", node(3, 18, 1, 0, 0xff, 0xff, 0, 0)},
		{"Vlan(7)", node(3, 20, 7, 0)},
		{"NVMe(0x1,07-06-05-04-03-02-01-00)", node(3, 23, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7)},
		{"Uri(http://x/)", node(3, 24, []byte("http://x/")...)},
		{"UFS(0x0,0x1)", node(3, 25, 0, 1)},
		{"SD(0x1)", node(3, 26, 1)},
		{"eMMC(0x1)", node(3, 29, 1)},
		{"VenMsg(00112233-4455-6677-8899-aabbccddeeff)", node(3, 10, guid...)},
		{"Path(3,99,01)", node(3, 99, 1)},
		{"HD(0,MBR,0x00000000,0x0,0x0)", node(4, 1, append(z(37), 1)...)},
		{"HD(0,0,0,0x0,0x0)", node(4, 1, z(38)...)},
		{"CDROM(0x0,0x0,0x0)", node(4, 2, z(20)...)},
		{"VenMedia(00112233-4455-6677-8899-aabbccddeeff)", node(4, 3, guid...)},
		{"Fv(00112233-4455-6677-8899-aabbccddeeff)/FvFile(00112233-4455-6677-8899-aabbccddeeff)", append(node(4, 7, guid...), node(4, 6, guid...)...)},
		{"Offset(0x0,0x0)", node(4, 8, z(20)...)},
		{"RamDisk(0x0,0x0,0,00000000-0000-0000-0000-000000000000)", node(4, 9, z(34)...)},
		{"BBS(0x2,disk)", node(5, 1, 2, 0, 0, 0, 'd', 'i', 's', 'k', 0)},
		{"Path(9,9,)", node(9, 9)},
		{"Path(1,1,01)", node(1, 1, 1)}, // too short for what it says to be
		{"Unit(0x1)/…", append(node(3, 17, 1), 1, 1, 3, 0)},
		{"Unit(0x1)/,/Unit(0x2)", append(append(node(3, 17, 1), node(0x7f, 1)...), append(node(3, 17, 2), node(0x7f, 0xff)...)...)},
		{`\u0000\u0007`, node(4, 4, 7, 0)},
	} {
		if strings.HasPrefix(c.want, `\u`) {
			assert.Equal(t, `\u0007`, DevicePath(c.path).String())
			continue
		}
		assert.Equal(t, c.want, DevicePath(c.path).String())
	}
}

// GRUB hashes what stands behind the colon.
func TestAttestedGrub(t *testing.T) {
	data := []byte("grub_cmd: linux /vmlinuz\x00")
	e := Event{PCR: 8, Type: EventIPL, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("linux /vmlinuz"))}}
	assert.True(t, e.Attested())
	e.Data = []byte("grub_cmd: linux /other\x00")
	assert.False(t, e.Attested())
}
