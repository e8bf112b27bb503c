package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// A UKI is planned for other people's machines: what their firmware did before is expected again, in all banks.
func TestPredictOnForeignFirmware(t *testing.T) {
	predicted := 0
	for name, raw := range foreignLogs(t) {
		firmware, err := ParseLog(raw)
		require.NoError(t, err)
		b := Boot{Firmware: firmware, Stub: "262", Banks: firmware.Banks()}
		digests := func(s string) map[crypto.Hash][]byte {
			out := map[crypto.Hash][]byte{}
			for _, h := range Banks() {
				out[h] = pcrbank.Sum(h, []byte(s))
			}
			return out
		}
		b.UKI.Digests = digests("uki")
		b.Variables = new(osmith.FirmwareVariables)
		b.Sections = []osmith.Measurement{{Section: ".linux", Size: 1, Digests: digests("k")}}
		b.Handover = &osmith.Handover{Initrd: digests("initrd"), LoadOptions: loadOptions("console=ttyS0")}
		found := false
		for _, e := range firmware.of(7) {
			v, err := readVariable(e.Data)
			if err != nil || e.Type != EventEFIVariableDriverConfig {
				continue
			}
			switch v.Name {
			case "SecureBoot":
				b.Variables.SecureBoot, found = v.Data, true
			case "PK":
				b.Variables.PK = v.Data
			case "KEK":
				b.Variables.KEK = v.Data
			case "db":
				b.Variables.DB = v.Data
			case "dbx":
				b.Variables.DBX = v.Data
			}
		}
		if !found || len(b.Variables.SecureBoot) != 1 {
			continue // firmware without Secure Boot, or one that measures it as absent
		}
		if b.Variables.SecureBoot[0] == 1 {
			entries, ok := signatureEntries(b.Variables.DB)
			require.True(t, ok)
			b.Authorities = [][]byte{[]byte(entries[0].data)}
		}
		log, err := Predict(b)
		require.NoError(t, err, name)
		predicted++
		for _, h := range firmware.Banks() {
			want, err := firmware.Replay(h)
			require.NoError(t, err)
			got, err := log.Values(h)
			require.NoError(t, err)
			for _, pcr := range []int{0, 2, 3, 6} {
				assert.Equal(t, want[h].PCR(pcr), got[pcr], "%s: PCR %d", name, pcr)
			}
			assert.Equal(t, len(firmware.of(4)) > 0, got[4] != nil)
		}
		raw, err := log.MarshalBinary()
		require.NoError(t, err)
		again, err := ParseLog(raw)
		require.NoError(t, err)
		assert.Len(t, again.Events, len(log.Events))
		t.Log(name, log.Coverage[1], log.Coverage[5], log.Coverage[7])
	}
	require.GreaterOrEqual(t, predicted, 3)
}

// FuzzPredict: what a machine says of itself is no reason to panic: its log, its SMBIOS table, its partition table.
func FuzzPredict(f *testing.F) {
	const dir = "testdata/boot/a-sb-sdboot-262/"
	f.Add(read(f, dir+"binary_bios_measurements"), read(f, dir+"DMI"), read(f, dir+"gpt-header.bin"), read(f, dir+"gpt-entries.bin"))
	for _, raw := range foreignLogs(f) {
		f.Add(raw, []byte{11, 5, 0, 0, 1, 'x', 0, 0}, []byte{}, []byte{})
	}
	digests := map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20), crypto.SHA256: make([]byte, 32), crypto.SHA384: make([]byte, 48), crypto.SHA512: make([]byte, 64)}
	f.Fuzz(func(t *testing.T, raw, smbios, header, entries []byte) {
		b := Boot{Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}}, UKI: Application{Digests: digests}, Sections: []osmith.Measurement{{Section: ".linux", Size: 1, Digests: digests}},
			Handover: &osmith.Handover{Initrd: digests}, SMBIOS: smbios, Stub: "262"}
		if len(header) > 0 {
			b.GPT = &PartitionTable{header, entries}
		}
		b.Firmware, _ = ParseLog(raw) // nil if it is none
		log, err := Predict(b)
		require.Equal(t, err != nil, log == nil)
		if log == nil {
			return
		}
		if _, err := log.MarshalBinary(); err != nil { // of an event for a bank that the header lacks
			require.ErrorIs(t, err, ErrBank)
		}
		_, err = Alternatives{log}.Components()
		require.NoError(t, err)
		if b.Firmware != nil {
			Causes(Diff(b.Firmware, log))
			_ = lines(Diff(log, b.Firmware))
		}
	})
}
