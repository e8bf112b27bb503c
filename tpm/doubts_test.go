package tpm

import (
	"crypto"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// planned is a boot of a loader and a UKI, on a machine of which an earlier boot is known, with
// that boot's own Secure Boot variables.
func planned(t *testing.T, firmware *Log) Boot {
	t.Helper()
	digests := func(s string) map[crypto.Hash][]byte {
		out := map[crypto.Hash][]byte{}
		for _, h := range Banks() {
			out[h] = pcrbank.Sum(h, []byte(s))
		}
		return out
	}
	b := Boot{
		Firmware: firmware, Stub: "262", Banks: []crypto.Hash{crypto.SHA256}, Chain: []Program{&SystemdBoot{Application: Application{Digests: digests("loader")}}}, UKI: Application{Digests: digests("uki")},
		Variables: &osmith.FirmwareVariables{}, Sections: []osmith.Measurement{{Section: ".linux", Size: 1, Digests: digests("k")}},
		Handover: &osmith.Handover{Initrd: digests("initrd"), LoadOptions: loadOptions("console=ttyS0")}, GPT: &PartitionTable{Header: read(t, "testdata/boot/a-sb-sdboot-262/gpt-header.bin"), Entries: read(t, "testdata/boot/a-sb-sdboot-262/gpt-entries.bin")},
		BootVariables: []BootVariable{{"BootOrder", []byte{0, 0}}, {"Boot0000", []byte("option")}},
	}
	for i, s := range firmware.subjects() {
		_, name, data, ok := splitVariable(firmware.Events[i].Data)
		if !ok || s.Kind != SubjectVariable {
			continue
		}
		switch name {
		case "SecureBoot":
			b.Variables.SecureBoot = data
		case "PK":
			b.Variables.PK = data
		case "KEK":
			b.Variables.KEK = data
		case "db":
			b.Variables.DB = data
		case "dbx":
			b.Variables.DBX = data
		}
	}
	if len(b.Variables.SecureBoot) != 1 {
		b.Variables.SecureBoot = []byte{0}
	}
	if b.Variables.SecureBoot[0] == 1 {
		entries, ok := signatureEntries(b.Variables.DB)
		require.True(t, ok)
		b.authorize([]byte(entries[0].data))
	}
	return b
}

func unclaimed(l *Log) (pcrs []int) {
	for _, c := range l.Coverage {
		if c.Prediction == PredictionNone && c.PCR != PCRIMA {
			pcrs = append(pcrs, c.PCR)
		}
	}
	return pcrs
}

// What the boot of another chain of programs, or of other firmware, tells is not claimed for a boot
// loader and a UKI under edk2.
func TestDoubtsOfChains(t *testing.T) {
	for name, want := range map[string][]int{
		"s1-shim-sdboot":                    {4, 7, 14},
		"s2-shim-uki":                       {4, 7, 14},
		"s4-mok-sdboot":                     {4, 7, 14},
		"s5-shim-sdboot-type1":              {4, 7, 14},
		"s3-shim-grub":                      {1, 4, 7, 8, 9, 14},
		"a2-arm64-osmith":                   nil,
		"u12-2026.10rc2-preseed-secureboot": nil,
		"u2-2025.01-second-boot":            nil,
		"u30-2025.01-uki-direct":            nil,
		"no-secureboot-variable":            {7},
	} {
		firmware, err := ParseLog(read(t, filepath.Join("testdata/chains", name+".bin")))
		require.NoError(t, err, name)
		log, err := Predict(planned(t, firmware))
		require.NoError(t, err, name)
		assert.Equal(t, want, unclaimed(log), "%s: %v", name, log.Coverage)
		values, err := log.Values(crypto.SHA256)
		require.NoError(t, err)
		for _, n := range want {
			assert.NotContains(t, values, n, name)
		}
	}
	files, err := os.ReadDir("testdata/chains")
	require.NoError(t, err)
	require.Len(t, files, 10)
}

// Shim's variables are a sign of shim.
func TestDoubtsOfVariables(t *testing.T) {
	for name, set := range map[string]func(v *osmith.FirmwareVariables){
		"SbatLevel":        func(v *osmith.FirmwareVariables) { v.SbatLevel = []byte("sbat,1\n") },
		"MokList":          func(v *osmith.FirmwareVariables) { v.MokList = []byte{1} },
		"MokListX":         func(v *osmith.FirmwareVariables) { v.MokListX = []byte{1} },
		"MokListRT":        func(v *osmith.FirmwareVariables) { v.MokListRT = []byte{1} },
		"MokListXRT":       func(v *osmith.FirmwareVariables) { v.MokListXRT = []byte{1} },
		"MokSBState":       func(v *osmith.FirmwareVariables) { v.MokSBState = []byte{1} },
		"MokDBState":       func(v *osmith.FirmwareVariables) { v.MokDBState = []byte{1} },
		"MokPolicy":        func(v *osmith.FirmwareVariables) { v.MokPolicy = []byte{1} },
		"MokListTrustedRT": func(v *osmith.FirmwareVariables) { v.MokListTrustedRT = []byte{1} },
	} {
		b := bootVectors(t)[0].boot
		log, err := Predict(b)
		require.NoError(t, err)
		before := unclaimed(log)
		v := *b.Variables
		set(&v)
		b.Variables = &v
		log, err = Predict(b)
		require.NoError(t, err)
		assert.Equal(t, slices.Sorted(slices.Values(append(before, 4, 7, 14))), unclaimed(log), name)
		assert.Contains(t, log.Coverage[7].Note, "variable "+name)
		b.NoShim = true
		log, err = Predict(b)
		require.NoError(t, err)
		assert.Equal(t, before, unclaimed(log), "%s, which a shim of earlier has left", name)
	}
}

// Firmware that goes another way than edk2 is followed in the order of the earlier boot. Where its
// log has events that are not understood, the PCR is not claimed: the events of a real boot, in
// another order, with others between, or measured in another way.
func TestDoubtsOfFirmware(t *testing.T) {
	raw := read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	at := func(l *Log, pcr int, match func(e Event) bool) int {
		i := slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == pcr && match(e) })
		require.GreaterOrEqual(t, i, 0)
		return i
	}
	kind := func(k SubjectKind) func(Event) bool { return func(e Event) bool { return e.Subject.Kind == k } }
	swap := func(pcr int, a, b func(Event) bool) func(l *Log) {
		return func(l *Log) {
			i, j := at(l, pcr, a), at(l, pcr, b)
			l.Events[i], l.Events[j] = l.Events[j], l.Events[i]
		}
	}
	variable := func(name string) func(Event) bool { return func(e Event) bool { return e.Subject.Name == name } }
	other := map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}
	for name, c := range map[string]struct {
		change func(l *Log)
		want   []int
	}{
		"as it was":                      {func(*Log) {}, nil},
		"GPT before the separator":       {swap(5, kind(SubjectGPT), kind(SubjectSeparator)), nil},
		"loader before the separator":    {swap(4, kind(SubjectLoader), kind(SubjectSeparator)), nil},
		"authority before the separator": {swap(7, kind(SubjectAuthority), kind(SubjectSeparator)), nil},
		"dbx before db":                  {swap(7, variable("dbx"), variable("db")), nil},
		"no authority":                   {func(l *Log) { i := at(l, 7, kind(SubjectAuthority)); l.Events = slices.Delete(l.Events, i, i+1) }, nil},
		"a variable more at the end": {func(l *Log) {
			l.Events = append(l.Events, Event{PCR: 7, Type: EventEFIVariableDriverConfig, Digests: other})
		}, []int{7}},
		// and it stays as it is
		"a variable hashed otherwise": {func(l *Log) { l.Events[at(l, 7, variable("KEK"))].Digests = other }, nil},
		"another hashed otherwise":    {func(l *Log) { l.Events[at(l, 7, variable("dbx"))].Digests = other }, []int{7}},
		"dbx, of its contents": {func(l *Log) {
			e := &l.Events[at(l, 7, variable("dbx"))]
			_, _, data, _ := splitVariable(e.Data)
			e.Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}
		}, nil},
		"a boot variable hashed otherwise": {func(l *Log) { l.Events[at(l, 1, variable("BootOrder"))].Digests = other }, []int{1}},
		"a third program": {func(l *Log) {
			i := at(l, 4, kind(SubjectLoader))
			l.Events = slices.Insert(l.Events, i, l.Events[i])
		}, []int{4, 7}},
		"PCR 8":  {func(l *Log) { l.Events = append(l.Events, Event{PCR: 8, Type: EventIPL, Digests: other}) }, []int{4, 7, 8, 9, 14}},
		"PCR 14": {func(l *Log) { l.Events = append(l.Events, Event{PCR: 14, Type: EventIPL, Digests: other}) }, []int{4, 7, 14}},
		"an authority of shim": {func(l *Log) {
			e := Event{PCR: 7, Type: EventEFIVariableAuthority, Data: variableData(efi.ShimLock, "MokListRT", []byte("entry")), Digests: other}
			l.Events = append(l.Events, e)
		}, []int{4, 7, 14}},
		"the authority of shim itself": {func(l *Log) {
			e := Event{PCR: 7, Type: EventEFIVariableAuthority, Data: variableData(imageSecurityDatabase, "Shim", []byte("entry")), Digests: other}
			l.Events = append(l.Events, e)
		}, []int{4, 7, 14}},
		"a file in PCR 9": {func(l *Log) {
			l.Events = append(l.Events, Event{PCR: 9, Type: EventIPL, Data: []byte("/vmlinuz"), Digests: other})
		}, []int{4, 7, 8, 9, 14}},
	} {
		firmware, err := ParseLog(raw)
		require.NoError(t, err)
		c.change(firmware)
		b := planned(t, firmware)
		v := *b.Variables
		v.DBX = append(slices.Clone(v.DBX), v.DBX...)
		b.Variables = &v
		log, err := Predict(b)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, unclaimed(log), "%s: %v", name, log.Coverage)
		if c.want != nil {
			continue
		}
		for _, n := range []int{1, 4, 5, 7} {
			assert.Equal(t, order(firmware, n), order(log, n), "%s: PCR %d", name, n)
		}
		like := firmware.Events[at(firmware, 7, variable("dbx"))]
		got := log.Events[at(log, 7, variable("dbx"))]
		assert.Equal(t, hashedAs(&like, like.Data), hashedAs(&got, got.Data), name)
		assert.Equal(t, !hashedAs(&like, like.Data), hashedAs(&got, v.DBX), name)
	}
}

// order is what is measured into a PCR, one thing of a kind.
func order(l *Log, pcr int) (out []SubjectKind) {
	for i, s := range l.subjects() {
		if e := &l.Events[i]; e.PCR == pcr && e.extends() && (len(out) == 0 || out[len(out)-1] != s.Kind) && s.Kind != SubjectLoaderConf {
			out = append(out, s.Kind)
		}
	}
	return out
}

// Where authorities were measured before the separator alone, as those of option ROMs are, it is
// not known where another one would be.
func TestDoubtsOfAuthorities(t *testing.T) {
	firmware, err := ParseLog(read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.NoError(t, err)
	another := func(b Boot) Boot {
		v := *b.Variables
		entry := append(slices.Clone(v.DB[28:44]), "another certificate"...)
		list := append(slices.Clone(v.DB[:16]), 28+byte(len(entry)), 0, 0, 0, 0, 0, 0, 0, byte(len(entry)), 0, 0, 0)
		v.DB = append(append(slices.Clone(v.DB), list...), entry...)
		b.Variables = &v
		b.authorize(entry)
		return b
	}
	log, err := Predict(another(planned(t, firmware)))
	require.NoError(t, err)
	require.Empty(t, unclaimed(log))
	find := func(k SubjectKind) int {
		return slices.IndexFunc(firmware.Events, func(e Event) bool { return e.PCR == 7 && e.Subject.Kind == k })
	}
	i, j := find(SubjectAuthority), find(SubjectSeparator)
	firmware.Events[i], firmware.Events[j] = firmware.Events[j], firmware.Events[i]
	log, err = Predict(planned(t, firmware))
	require.NoError(t, err)
	require.Empty(t, unclaimed(log), "the same one is not measured again")
	log, err = Predict(another(planned(t, firmware)))
	require.NoError(t, err)
	require.Equal(t, []int{7}, unclaimed(log))
}

// Firmware that goes another way than edk2 may measure nothing of what lets programs start, which a
// boot without Secure Boot does not tell.
func TestDoubtsOfSecureBootTurnedOn(t *testing.T) {
	secure := bootVectors(t)[0].boot
	for name, want := range map[string][]int{"boot/b-setupmode-262/binary_bios_measurements": nil, "chains/u2-2025.01-second-boot.bin": {7}} {
		firmware, err := ParseLog(read(t, filepath.Join("testdata", name)))
		require.NoError(t, err)
		b := planned(t, firmware)
		require.Equal(t, []byte{0}, b.Variables.SecureBoot)
		b.Variables = secure.Variables
		for _, a := range b.applications() {
			a.Authority = secure.UKI.Authority
		}
		log, err := Predict(b)
		require.NoError(t, err)
		require.Equal(t, want, unclaimed(log), name)
	}
}

// Events made by hand say what they are about, whatever their data are: no panic.
func TestDoubtsOfEventsMadeByHand(t *testing.T) {
	firmware, err := ParseLog(read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.NoError(t, err)
	b := planned(t, firmware)
	i := slices.IndexFunc(firmware.Events, func(e Event) bool { return e.PCR == 7 && e.Subject.Name == "db" })
	firmware.Events[i].Data = variableData(imageSecurityDatabase, "another", []byte("data"))
	log, err := Predict(b)
	require.NoError(t, err)
	require.Equal(t, []int{7}, unclaimed(log))
}

// Strings in SMBIOS may add to the command line: where an earlier boot measured some, and what they
// are now is not said, PCR 12 is not zero for sure.
func TestDoubtsOfSMBIOSStrings(t *testing.T) {
	firmware, err := ParseLog(read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.NoError(t, err)
	b := planned(t, firmware)
	b.Handover = nil
	log, err := Predict(b)
	require.NoError(t, err)
	require.Equal(t, PredictionExact, log.Coverage[12].Prediction, "this machine has none")
	i := slices.IndexFunc(firmware.Events, func(e Event) bool { return e.Subject.Kind == SubjectSMBIOS })
	require.GreaterOrEqual(t, i, 0)
	strings := firmware.Events[i]
	strings.Subject.Name = TagSMBIOSType11.String()
	firmware.Events = slices.Insert(firmware.Events, i+1, strings)
	log, err = Predict(b)
	require.NoError(t, err)
	require.Equal(t, PredictionNone, log.Coverage[12].Prediction)
	require.Contains(t, log.Coverage[12].Note, "type 11")
}
