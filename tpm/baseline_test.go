package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// partsOf describes a boot by what the data of its events tell, and by the digests of its programs:
// the inputs that a log has. What follows from no data, such as shim's lists, is left out.
func partsOf(t *testing.T, l *Log) Boot {
	t.Helper()
	base, err := readBaseline(l, l.Banks())
	require.NoError(t, err)
	// 257 measures no SMBIOS structures, as no earlier one
	b := Boot{Banks: l.Banks(), Variables: base.variables(), Stub: "257"}
	if len(base.smbios) > 0 {
		b.Stub = "262"
	}
	tables := 0
	for _, e := range base.firmware {
		switch {
		case isBootVariable(e):
			_, name, data, ok := splitVariable(e.Data)
			require.True(t, ok)
			b.BootVariables = append(b.BootVariables, BootVariable{name, data})
		case isGPT(e):
			tables++
			b.GPT = &PartitionTable{Header: e.Data[:92], Entries: e.Data[100:]}
		}
	}
	if tables > 1 {
		b.GPT = nil
	}
	authorities := slices.DeleteFunc(slices.Clone(base.authorities), func(e Event) bool {
		return e.Subject.Vendor == efi.ShimLock && (e.Subject.Name == "SbatLevel" || e.Subject.Name == "MokSBState")
	})
	for i, e := range base.programs {
		a := Application{Path: e.Subject.Name, Digests: e.Digests}
		if n := len(authorities); n > 0 {
			a.Authority = authorities[min(i, n-1)].Data
		}
		switch {
		case i == 0 && slices.ContainsFunc(base.authorities, func(e Event) bool { return e.Subject.Vendor == efi.ShimLock || e.Subject.Name == "Shim" }):
			// a shim of old measures no SbatLevel
			s := &Shim{Application: a, Variables: osmith.ShimVariables{MokSBState: []byte{}, MokPolicy: []byte{}}}
			for _, e := range base.authorities {
				if e.Subject.Name == "SbatLevel" {
					_, _, s.Variables.SbatLevel, _ = splitVariable(e.Data)
				}
			}
			b.Chain = append(b.Chain, s)
		case i == len(base.programs)-1:
			b.UKI = a
		case i == len(base.programs)-2 && len(base.loaderConf) > 0:
			b.Chain = append(b.Chain, &SystemdBoot{Application: a, Conf: confOf(t, base.loaderConf[0])})
		default:
			b.Chain = append(b.Chain, &OtherProgram{a, []int{}})
		}
	}
	zero := map[crypto.Hash][]byte{}
	for _, h := range b.Banks {
		zero[h] = make([]byte, h.Size())
	}
	if b.UKI.Digests == nil {
		b.UKI.Digests = zero
	}
	b.Sections = []osmith.Measurement{{Section: ".linux", Size: 1, Digests: zero}}
	b.Firmware = l
	return b
}

// confOf is the loader.conf of a recorded boot.
func confOf(t *testing.T, e Event) []byte {
	t.Helper()
	files, err := filepath.Glob("testdata/boot/*/loader.conf")
	require.NoError(t, err)
	for _, f := range files {
		if content := read(t, f); hashedAs(&e, content) {
			return content
		}
	}
	require.Fail(t, "no such loader.conf")
	return nil
}

// allLogs are logs of boots, our own and those of unknown machines.
func allLogs(t *testing.T) map[string]*Log {
	t.Helper()
	out := map[string]*Log{}
	for _, pattern := range []string{"testdata/boot/*/binary_bios_measurements", "testdata/boot-shim/*/binary_bios_measurements", "testdata/chains/*.bin", "testdata/eventlogs/*.bin", "testdata/machines/*.bin"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, f := range files {
			raw, err := os.ReadFile(f)
			require.NoError(t, err)
			if l, err := ParseLog(raw); err == nil {
				out[f] = l
			}
		}
	}
	return out
}

// Of each log's own parts its own values follow, in all banks, for all PCRs that are claimed; and
// one part that is changed changes the PCR that it is measured into, and no other, or the PCR is
// not claimed. A log that was only copied would not change.
func TestPartsOfLogs(t *testing.T) {
	claimed, changed := map[int]int{}, map[string]int{}
	for name, l := range allLogs(t) {
		if _, err := readBaseline(l, l.Banks()); err != nil {
			t.Log(name, err)
			continue
		}
		own := partsOf(t, l)
		log, err := Predict(own)
		require.NoError(t, err, name)
		before := values(t, log)
		for _, h := range l.Banks() {
			all, err := l.Replay(h)
			require.NoError(t, err)
			want := map[int][]byte{}
			for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7} {
				if before[h][n] != nil {
					want[n] = all[h].PCR(n)
					claimed[n]++
				}
			}
			for n, v := range want {
				require.Equal(t, v, before[h][n], "%s: %s PCR %d: %v", name, BankName(h), n, log.Coverage[n])
			}
		}
		for what, c := range partChanges(t, own) {
			b := own
			variables := *own.Variables
			b.Variables = &variables
			b.Chain = slices.Clone(own.Chain)
			pcr := c(&b)
			if pcr < 0 {
				continue
			}
			log, err := Predict(b)
			require.NoError(t, err, "%s: %s", name, what)
			after := values(t, log)
			for h, vs := range before {
				for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7} {
					switch {
					case after[h][n] == nil:
						// one whose part in the earlier boot is not known has another in its place
						program := pcr == 4 && n == 7
						require.True(t, vs[n] == nil || n == pcr || program, "%s: %s: PCR %d is not claimed: %v", name, what, n, log.Coverage[n])
					case n == pcr:
						require.NotEqual(t, vs[n], after[h][n], "%s: %s: PCR %d", name, what, n)
						changed[what]++
					case vs[n] != nil:
						require.Equal(t, vs[n], after[h][n], "%s: %s: PCR %d", name, what, n)
					}
				}
			}
		}
	}
	for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7} {
		require.Greater(t, claimed[n], 5, "PCR %d", n)
	}
	for what := range partChanges(t, Boot{Variables: &osmith.FirmwareVariables{}}) {
		require.Greater(t, changed[what], 3, what)
	}
	t.Log(claimed, changed)
}

// values are those of the PCRs that are claimed, by bank.
func values(t *testing.T, l *Log) map[crypto.Hash]map[int][]byte {
	t.Helper()
	out := map[crypto.Hash]map[int][]byte{}
	for _, h := range l.Banks() {
		v, err := l.Values(h)
		require.NoError(t, err)
		out[h] = v
	}
	return out
}

// partChanges are changes of one input. Each returns the PCR that it is measured into, -1 if the
// boot has no such input.
func partChanges(t *testing.T, own Boot) map[string]func(b *Boot) int {
	t.Helper()
	variable := func(of func(v *osmith.FirmwareVariables) *[]byte) func(b *Boot) int {
		return func(b *Boot) int {
			v := of(b.Variables)
			*v = append(bytes.Clone(*v), *v...)
			if len(*v) == 0 {
				*v = []byte{1, 2, 3}
			}
			return 7
		}
	}
	boot := func(data []byte) func(b *Boot) int {
		return func(b *Boot) int {
			if b.BootVariables == nil {
				return -1
			}
			b.BootVariables = slices.Clone(b.BootVariables)
			b.BootVariables[len(b.BootVariables)-1].Data = data
			for _, e := range own.Firmware.of(5) {
				if e.Subject.Kind == SubjectBootVariable {
					return 5
				}
			}
			return 1
		}
	}
	return map[string]func(b *Boot) int{
		"PK":            variable(func(v *osmith.FirmwareVariables) *[]byte { return &v.PK }),
		"KEK":           variable(func(v *osmith.FirmwareVariables) *[]byte { return &v.KEK }),
		"db":            variable(func(v *osmith.FirmwareVariables) *[]byte { return &v.DB }),
		"dbx":           variable(func(v *osmith.FirmwareVariables) *[]byte { return &v.DBX }),
		"boot variable": boot([]byte("another")),
		"Secure Boot": func(b *Boot) int {
			if len(b.Variables.SecureBoot) != 1 {
				return -1
			}
			b.Variables.SecureBoot = []byte{1 - b.Variables.SecureBoot[0]}
			return 7
		},
		"GPT": func(b *Boot) int {
			if b.GPT == nil {
				return -1
			}
			header := bytes.Clone(b.GPT.Header)
			header[72]++ // where the entries begin
			b.GPT = &PartitionTable{header, b.GPT.Entries}
			return 5
		},
		"UKI": func(b *Boot) int {
			b.UKI.Digests = otherDigests(b.Banks)
			return 4
		},
		"first program": func(b *Boot) int {
			if len(b.Chain) == 0 {
				return -1
			}
			switch first := b.Chain[0].(type) {
			case *OtherProgram:
				other := *first
				other.Digests, b.Chain[0] = otherDigests(b.Banks), &other
			case *SystemdBoot:
				other := *first
				other.Digests, b.Chain[0] = otherDigests(b.Banks), &other
			case *Shim:
				other := *first
				other.Digests, b.Chain[0] = otherDigests(b.Banks), &other
			}
			return 4
		},
	}
}

func otherDigests(banks []crypto.Hash) map[crypto.Hash][]byte {
	out := map[crypto.Hash][]byte{}
	for _, h := range banks {
		out[h] = bytes.Repeat([]byte{0x55}, h.Size())
	}
	return out
}

// The boots of U-Boot are predicted after each other: the log of one has the order in which this
// firmware measures, the other has its own image.
func TestPredictUBoot(t *testing.T) {
	names := []string{"u2-2025.01-second-boot", "u30-2025.01-uki-direct", "u12-2026.10rc2-preseed-secureboot"}
	logs := map[string]*Log{}
	for _, name := range names {
		l, err := ParseLog(read(t, "testdata/chains/"+name+".bin"))
		require.NoError(t, err)
		logs[name] = l
	}
	for _, name := range names {
		for _, earlier := range names {
			what := fmt.Sprintf("%s after %s", name, earlier)
			b := partsOf(t, logs[name])
			b.Firmware = logs[earlier]
			log, err := Predict(b)
			require.NoError(t, err)
			want, err := logs[name].Replay()
			require.NoError(t, err)
			got, err := log.Values(crypto.SHA256)
			require.NoError(t, err)
			compared := []int{4, 5, 7}
			if (name == names[2]) == (earlier == names[2]) { // of one build of the firmware
				compared = append(compared, 0, 1, 2, 3, 6)
				require.NotNil(t, got[5], what)
			}
			for _, n := range compared {
				if got[n] != nil {
					require.Equal(t, want[crypto.SHA256].PCR(n), got[n], "%s: PCR %d", what, n)
				}
			}
			require.NotNil(t, got[4], what)
			if onAfterOff := name == names[2] && earlier != name; onAfterOff {
				require.Nil(t, got[7], what) // with Secure Boot on such firmware may measure more
			} else if name != names[2] && earlier == names[2] {
				require.Nil(t, got[7], what) // its mode variables may have changed
			} else {
				require.NotNil(t, got[7], what)
			}
		}
	}
}

// What an earlier boot contradicts is not predicted, and the reason is said.
func TestContradictions(t *testing.T) {
	firmware, err := ParseLog(read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.NoError(t, err)
	without := func(match func(e Event) bool) *Log {
		l := *firmware
		l.Events = slices.DeleteFunc(slices.Clone(l.Events), match)
		return &l
	}
	raw := firmware
	for name, c := range map[string]struct {
		change func(b *Boot)
		pcrs   []int
		why    string
	}{
		"as it was":                       {func(*Boot) {}, nil, ""},
		"boot variables, never before":    {func(b *Boot) { b.Firmware = without(isBootVariable) }, []int{1, 5}, "measured none"},
		"a partition table, never before": {func(b *Boot) { b.Firmware = without(isGPT) }, []int{5}, "measured none that it could be another version of"},
		"of another disk, beside one": {func(b *Boot) {
			i := slices.IndexFunc(raw.Events, isGPT)
			other := raw.Events[i]
			other.Data = bytes.Clone(other.Data)
			other.Data[56]++
			another := other
			another.Data = bytes.Clone(other.Data)
			another.Data[56]++
			l := *raw
			l.Events = slices.Concat(raw.Events[:i:i], []Event{other, another}, raw.Events[i+1:])
			b.Firmware = &l
		}, []int{5}, "measured none that it could be another version of"},
		"no SecureBoot":           {func(b *Boot) { b.Variables.SecureBoot = []byte{} }, []int{7}, "does not get one, nor loses it"},
		"SecureBoot is not known": {func(b *Boot) { b.Variables.SecureBoot = nil }, []int{7}, "is not given"},
		"dbr":                     {func(b *Boot) { b.Variables.DBR = []byte{} }, []int{7}, "dbr"},
		"other SMBIOS tables": {func(b *Boot) {
			b.SMBIOS = bytes.Replace(read(t, "testdata/boot/a-sb-sdboot-262/DMI"), []byte("QEMU"), []byte("qemu"), 1)
		}, []int{1}, "those that are given are not those of the earlier boot"},
		"its own SMBIOS tables": {func(b *Boot) { b.SMBIOS = read(t, "testdata/boot/a-sb-sdboot-262/DMI") }, nil, ""},
		"no variables":          {func(b *Boot) { b.Variables = nil }, nil, ""},
	} {
		b := planned(t, firmware)
		c.change(&b)
		log, err := Predict(b)
		require.NoError(t, err)
		require.Equal(t, c.pcrs, unclaimed(log), "%s: %v", name, log.Coverage)
		for _, n := range c.pcrs {
			require.Contains(t, log.Coverage[n].Note, c.why, name)
		}
	}
	// Variables that are not given are those of the earlier boot, and Secure Boot that was on then
	// is on.
	b := planned(t, firmware)
	want, err := Predict(b)
	require.NoError(t, err)
	b.Variables = nil
	got, err := Predict(b)
	require.NoError(t, err)
	require.Equal(t, want.of(7), got.of(7))
	require.Contains(t, got.Coverage[7].Note, "with the variables that it had then")
	b.UKI.Authority = nil
	got, err = Predict(b)
	require.NoError(t, err)
	require.Equal(t, PredictionNone, got.Coverage[7].Prediction, "what lets it start is not given")
	b.Firmware = nil
	got, err = Predict(b)
	require.NoError(t, err)
	require.Equal(t, "the firmware's variables are not given", got.Coverage[7].Note)
	b.Variables = &osmith.FirmwareVariables{}
	got, err = Predict(b)
	require.NoError(t, err)
	require.Equal(t, "whether Secure Boot is on is not given", got.Coverage[7].Note)
	b.Variables.SecureBoot = []byte{}
	got, err = Predict(b)
	require.NoError(t, err)
	require.Equal(t, PredictionExact, got.Coverage[7].Prediction)
	require.Equal(t, variableData(globalVariable, "SecureBoot", nil), got.of(7)[0].Data)
}

// Firmware of which one thing is other than on edk2 may also measure otherwise what lets programs
// start.
func TestSecureBootTurnedOnElsewhere(t *testing.T) {
	secure := bootVectors(t)[0].boot
	raw := read(t, "testdata/boot/b-setupmode-262/binary_bios_measurements")
	at := func(l *Log, pcr int, k SubjectKind, name string) int {
		return slices.IndexFunc(l.Events, func(e Event) bool {
			return e.PCR == pcr && e.Subject.Kind == k && (name == "" || e.Subject.Name == name)
		})
	}
	for name, c := range map[string]struct {
		change func(l *Log)
		want   []int
	}{
		"edk2": {func(*Log) {}, nil},
		"the loader before the separator": {func(l *Log) {
			i, j := at(l, 4, SubjectLoader, ""), at(l, 4, SubjectSeparator, "")
			l.Events[i], l.Events[j] = l.Events[j], l.Events[i]
		}, []int{7}},
		"no dbx": {func(l *Log) {
			i := at(l, 7, SubjectVariable, "dbx")
			l.Events = slices.Delete(l.Events, i, i+1)
		}, []int{7}},
		"dbx before db": {func(l *Log) {
			i, j := at(l, 7, SubjectVariable, "dbx"), at(l, 7, SubjectVariable, "db")
			l.Events[i], l.Events[j] = l.Events[j], l.Events[i]
		}, []int{7}},
		"another variable": {func(l *Log) {
			i := at(l, 7, SubjectSeparator, "")
			data := variableData(globalVariable, "Other", []byte{1})
			e := Event{PCR: 7, Type: EventEFIVariableDriverConfig, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}, Subject: Subject{SubjectVariable, "Other", globalVariable}}
			l.Events = slices.Insert(l.Events, i, e)
		}, []int{7}},
		"an action behind the separator of PCR 4": {func(l *Log) {
			i := at(l, 4, SubjectSeparator, "")
			e := Event{PCR: 4, Type: EventEFIAction, Data: []byte("x"), Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("x"))}, Subject: Subject{Kind: SubjectAction, Name: "x"}}
			l.Events = slices.Insert(l.Events, i+1, e)
		}, []int{7}},
	} {
		firmware, err := ParseLog(raw)
		require.NoError(t, err)
		c.change(firmware)
		b := planned(t, firmware)
		b.Variables = secure.Variables
		for _, a := range b.applications() {
			a.Authority = secure.UKI.Authority
		}
		log, err := Predict(b)
		require.NoError(t, err)
		require.Equal(t, c.want, unclaimed(log), "%s: %v", name, log.Coverage)
	}
}

// A dbt is measured behind dbx if it exists, which an earlier boot without one does not contradict
// on edk2, and does tell on other firmware.
func TestDBTAfterAnEarlierBoot(t *testing.T) {
	names := func(l *Log) (out []string) {
		for _, e := range l.of(7) {
			if e.Subject.Kind == SubjectVariable {
				out = append(out, e.Subject.Name)
			}
		}
		return out
	}
	parsed := func(name string) *Log {
		l, err := ParseLog(read(t, "testdata/"+name))
		require.NoError(t, err)
		return l
	}
	const edk2, uboot = "boot/a-sb-sdboot-262/binary_bios_measurements", "chains/u12-2026.10rc2-preseed-secureboot.bin"
	withDBT := func(l *Log, contents []byte) *Log {
		i := slices.IndexFunc(l.Events, func(e Event) bool { return e.PCR == 7 && e.Subject.Name == "dbx" })
		data := variableData(imageSecurityDatabase, "dbt", contents)
		e := Event{PCR: 7, Type: EventEFIVariableDriverConfig, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)}, Subject: Subject{SubjectVariable, "dbt", imageSecurityDatabase}}
		l.Events = slices.Insert(l.Events, i+1, e)
		return l
	}
	five := []string{"SecureBoot", "PK", "KEK", "db", "dbx"}
	for what, c := range map[string]struct {
		firmware *Log
		dbt      []byte
		names    []string
		contents string
		claimed  bool
	}{
		"a new one on edk2":                     {parsed(edk2), []byte("new"), append(five[:5:5], "dbt"), "new", true},
		"a new one on U-Boot":                   {parsed(uboot), []byte("new"), append(five[:5:5], "dbt", "DeployedMode", "AuditMode"), "new", false},
		"none":                                  {parsed(edk2), nil, five, "", true},
		"one that is gone":                      {withDBT(parsed(edk2), []byte("old")), nil, five, "", true},
		"another":                               {withDBT(parsed(edk2), []byte("old")), []byte("new"), append(five[:5:5], "dbt"), "new", true},
		"none, which is measured as it was not": {withDBT(parsed(edk2), nil), nil, append(five[:5:5], "dbt"), "", true},
	} {
		b := planned(t, c.firmware)
		v := *b.Variables
		v.DBT = c.dbt
		b.Variables = &v
		log, err := Predict(b)
		require.NoError(t, err)
		require.Equal(t, c.names, names(log), what)
		require.Equal(t, c.claimed, log.Coverage[7].Prediction.known(), "%s: %v", what, log.Coverage[7])
		for _, e := range log.of(7) {
			if e.Subject.Name == "dbt" {
				require.Equal(t, variableData(imageSecurityDatabase, "dbt", []byte(c.contents)), e.Data, what)
				require.True(t, hashedAs(e, e.Data), what)
			}
		}
	}
}
