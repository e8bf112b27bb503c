package tpm

import (
	"bytes"
	"crypto"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// parsed is a log of testdata.
func parsed(t testing.TB, path ...string) *Log {
	t.Helper()
	l, err := ParseLog(read(t, append([]string{"testdata"}, path...)...))
	require.NoError(t, err)
	return l
}

// Boots to which events were added, in PCRs that the boot which is expected does not extend.
func TestDiffOfPCRsWithoutExpectedEvents(t *testing.T) {
	for _, c := range []struct {
		boot, tampered string
		want           []string
	}{
		{"a-sb-sdboot-262", "extra-pcr12.bin", []string{"PCR 12: command line 'systemd.debug_shell=1 init=/bin/sh' was not expected (696e44b9e595fc49…)"}},
		{"a-sb-sdboot-262", "extra-pcr13-14-8.bin", []string{`PCR 8: not expected: EV_IPL 'grub_cmd: insmod evil' (4446011788b41b62…)`,
			`PCR 13: not expected: companion files 'System extension initrd' (38a720a7e5a3d91d…)`, `PCR 14: not expected: MokList (keys of the machine's owner that shim lets programs in by) (05c5285bcb33fe1d…)`}},
		{"b-setupmode-262", "b-extra-pcr12.bin", []string{"PCR 12: command line 'systemd.debug_shell=1' was not expected (f292a51fed818a7a…)"}},
	} {
		t.Run(c.tampered, func(t *testing.T) {
			want, got := parsed(t, "boot", c.boot, "binary_bios_measurements"), parsed(t, "tampered", c.tampered)
			ds := Diff(want, got)
			assert.Equal(t, strings.Join(c.want, "\n")+"\n", lines(ds))
			assert.Equal(t, ds, Causes(ds))
		})
	}
}

// Firmware without a variable SecureBoot measures an empty one.
func TestDiffWithoutSecureBoot(t *testing.T) {
	with, without := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements"), parsed(t, "tampered/no-secureboot-variable.bin")
	assert.Contains(t, lines(Diff(with, without)), "PCR 7: SecureBoot is absent, expected 1\n")
	assert.Contains(t, lines(Diff(without, with)), "PCR 7: SecureBoot is 1, expected absent\n")
}

// Bytes of one value are no log, of however many events they could be one.
func TestParseLogOfPadding(t *testing.T) {
	for _, c := range []struct {
		data []byte
		want string
	}{
		{make([]byte, 5000), "tpm: event log: event 0: header at 0x0: no events: all 5000 bytes are 0x00"},
		{bytes.Repeat([]byte{0xff}, 100), "tpm: event log: event 0: header at 0x0: no events: all 100 bytes are 0xff"},
	} {
		_, err := ParseLog(c.data)
		require.EqualError(t, err, c.want)
	}
}

// What two logs are compared in is what both claim.
func TestCompareCoverage(t *testing.T) {
	vector := bootVectors(t)[0]
	machine := parsed(t, "boot", vector.name, "binary_bios_measurements")
	u, err := ParseUserspaceLog(read(t, "testdata/userspace/tpm2-measure.log"))
	require.NoError(t, err)
	predicted := func(change func(*Boot)) *Log {
		b := wholeBoot(t, vector, machine)
		if change != nil {
			change(&b)
		}
		l, err := Predict(b)
		require.NoError(t, err)
		return l
	}
	whole, phases := predicted(nil), predicted(func(b *Boot) { b.Phases, b.Userspace = []string{PhaseEnterInitrd}, PhasesAlone() })
	unknown := predicted(func(b *Boot) { b.Phases = []string{PhaseEnterInitrd} })
	noInitrds := predicted(func(b *Boot) { b.Phases, b.Handover = []string{PhaseEnterInitrd}, nil })
	noKernel := predicted(func(b *Boot) { b.Handover = nil })
	with := func(l *Log, pcr int) *Log {
		out := *l
		data := []byte("injected")
		at := len(out.Events) - out.userspace
		out.Events = slices.Insert(slices.Clone(out.Events), at, Event{PCR: pcr, Type: EventIPL, Data: data, Digests: digestsOf(data)})
		return &out
	}
	all := func(without ...int) []int {
		var out []int
		for n := range PCRCount {
			if !slices.Contains(without, n) {
				out = append(out, n)
			}
		}
		return out
	}
	upper := []int{16, 17, 18, 19, 20, 21, 22, 23}
	userspace := func(not []Uncompared, want, got int) (n int) {
		for _, u := range not {
			if u.Userspace {
				assert.Contains(t, []string{"its log is not given", unknown.notClaimed(u.PCR)}, u.Reason)
				n += u.Want*want + u.Got*got
			}
		}
		return n
	}
	for _, c := range []struct {
		name        string
		want, got   *Log
		compared    []int
		differences int
		not         string // the first part that was not compared
		later       [2]int // events of userspace that were not compared
	}{
		{"two machines", machine, machine, all(10), 0, "PCR 10: the kernel's IMA", [2]int{}},
		{"an event in PCR 10 of firmware", machine, with(machine, 10), all(), 1, "", [2]int{}},
		{"one missing there", with(machine, 10), machine, all(), 1, "", [2]int{}},
		{"predicted", whole, machine, all(append(upper, 10)...), 0, "PCR 10: not predicted: the kernel's IMA", [2]int{}},
		{"predicted, an event more in a PCR that is zero", whole, with(machine, 14), all(append(upper, 10)...), 1, "PCR 10: not predicted: the kernel's IMA", [2]int{}},
		{"predicted, an event more in one that is not", whole, with(machine, 10), all(append(upper, 10)...), 0,
			"PCR 10: not predicted: the kernel's IMA (events in the expected log: 0, in the boot's: 1)", [2]int{}},
		{"an event more in PCR 16", whole, with(machine, 16), all(append(upper, 10)...), 0, "PCR 10: not predicted: the kernel's IMA", [2]int{}},
		{"not predicted", noKernel, machine, all(append(upper, 9, 10)...), 0,
			"PCR 9: not predicted: initrds as handed over, which hold a secret of the machine from systemd 261 on (events in the expected log: 0, in the boot's: 2)", [2]int{}},
		{"not predicted of the boot", machine, noKernel, all(append(upper, 9, 10)...), 0,
			"PCR 9: not predicted: initrds as handed over, which hold a secret of the machine from systemd 261 on (events in the expected log: 2, in the boot's: 0)", [2]int{}},
		{"phases that a firmware's log does not tell of", phases, machine, all(append(upper, 10)...), 0, "PCR 10: not predicted: the kernel's IMA", [2]int{1, 0}},
		{"a machine's phases without those of the other", machine, machine.WithUserspace(u), all(10), 0, "PCR 0 of userspace: its log is not given (events in the expected log: 0, in the boot's: 1)", [2]int{0, 23}},
		{"phases, and nothing known of userspace", unknown, machine, all(append(upper, 10)...), 0, "PCR 0 of userspace: " + unknown.notClaimed(0), [2]int{1, 0}},
		{"phases, and nothing known of userspace, and an event more", unknown, with(machine, 14), all(append(upper, 10)...), 1, "PCR 0 of userspace: " + unknown.notClaimed(0), [2]int{1, 0}},
		{"phases, and nothing known of userspace, whose log there is", unknown, machine.WithUserspace(u), all(append(upper, 10)...), 3, "PCR 0 of userspace: " + unknown.notClaimed(0) +
			" (events in the expected log: 0, in the boot's: 1)", [2]int{0, 19}},
		{"nothing known of userspace, and not of initrds", noInitrds, machine, all(append(upper, 9, 10)...), 0, "PCR 0 of userspace: " + unknown.notClaimed(0), [2]int{1, 0}},
		{"phases and their log", phases, machine.WithUserspace(u), all(append(upper, 10)...), 22, "PCR 10: not predicted: the kernel's IMA", [2]int{}},
		{"no phases, but a log of them", whole, machine.WithUserspace(u), all(append(upper, 10)...), 23, "PCR 10: not predicted: the kernel's IMA", [2]int{}},
		{"a prediction made by hand", &Log{Events: whole.Events, Coverage: whole.Coverage}, machine.WithUserspace(u), all(append(upper, 10)...), 23,
			"PCR 10: not predicted: the kernel's IMA", [2]int{}},
		{"two logs of phases", machine.WithUserspace(u), machine.WithUserspace(u), all(10), 0, "PCR 10: the kernel's IMA", [2]int{}},
		{"a phase that the firmware measured", machine, with(machine, PCRKernel), all(10), 1, "PCR 10: the kernel's IMA", [2]int{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Compare(c.want, c.got)
			require.NoError(t, err)
			assert.Equal(t, c.compared, got.PCRs)
			assert.Len(t, got.Differences, c.differences, lines(got.Differences))
			assert.Equal(t, Diff(c.want, c.got), got.Differences)
			assert.Equal(t, Causes(got.Differences), got.Causes())
			if c.not == "" {
				assert.Empty(t, got.NotCompared)
			} else {
				require.NotEmpty(t, got.NotCompared)
				assert.Equal(t, c.not, got.NotCompared[0].String())
			}
			assert.Equal(t, c.later, [2]int{userspace(got.NotCompared, 1, 0), userspace(got.NotCompared, 0, 1)})
		})
	}
	got, err := Compare(whole, with(machine, 16))
	require.NoError(t, err)
	assert.Equal(t, "PCR 16: not predicted (events in the expected log: 0, in the boot's: 1)", got.NotCompared[len(got.NotCompared)-1].String())

	// A prediction of one of several ways is none, either.
	oneOf := predicted(func(b *Boot) { b.Firmware, b.ExitBoot = nil, ExitBootUnknown })
	got, err = Compare(oneOf, machine)
	require.NoError(t, err)
	assert.NotContains(t, got.PCRs, 5)
	i := slices.IndexFunc(got.NotCompared, func(u Uncompared) bool { return u.PCR == 5 })
	assert.Equal(t, "one of several: holds for firmware that measures as edk2 does, where ExitBootServices may fail the first time", got.NotCompared[i].Reason)
}

func TestCompareWithoutCommonBank(t *testing.T) {
	log := func(h crypto.Hash) *Log {
		return &Log{Events: []Event{{PCR: 4, Type: EventIPL, Digests: map[crypto.Hash][]byte{h: pcrbank.Sum(h, nil)}}}}
	}
	_, err := Compare(log(crypto.SHA1), log(crypto.SHA256))
	require.ErrorIs(t, err, ErrBank)
	require.EqualError(t, err, "tpm: comparing event logs: no common bank: the expected log has sha1, the boot's has sha256: "+ErrBank.Error())
	for _, c := range [][2]*Log{{log(crypto.SHA1), log(crypto.SHA1)}, {log(crypto.SHA1), {}}, {{}, log(crypto.SHA1)}} {
		_, err := Compare(c[0], c[1])
		require.NoError(t, err)
	}
}

// A predicted log is the same after it was written and read.
func TestPredictionRoundTrip(t *testing.T) {
	boots := []Boot{everything(t)}
	for _, v := range bootVectors(t) {
		boots = append(boots, v.boot)
	}
	unknown := boots[1]
	unknown.Phases = []string{PhaseEnterInitrd}
	boots = append(boots, unknown)
	for _, b := range boots {
		predicted, err := Predict(b)
		require.NoError(t, err)
		raw, err := predicted.MarshalPrediction()
		require.NoError(t, err)
		back, err := ParsePrediction(raw)
		require.NoError(t, err)
		predicted.Events, back.Events = withoutContents(predicted.Events), withoutContents(back.Events)
		require.Equal(t, predicted.Events, back.Events)
		require.Equal(t, predicted.Coverage, back.Coverage)
		require.Equal(t, predicted.userspace, back.userspace)
		again, err := back.MarshalPrediction()
		require.NoError(t, err)
		require.Equal(t, raw, again)
		for _, v := range bootVectors(t) {
			machine, err := ParseLog(v.log)
			require.NoError(t, err)
			want, err := Compare(predicted, machine)
			require.NoError(t, err)
			got, err := Compare(back, machine)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		// To other programs it is a log that replays to the same values.
		foreign, err := ParseLog(raw)
		require.NoError(t, err)
		require.Nil(t, foreign.Coverage, "a log's own word is none when the log is judged")
		require.Len(t, foreign.Events, len(predicted.Events)+1)
		want, err := predicted.Replay()
		require.NoError(t, err)
		got, err := foreign.Replay()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// A prediction that was written once can be read for ever, and says the same.
func TestPredictionOfEarlier(t *testing.T) {
	raw := read(t, "testdata", "compat", "v0", "prediction.bin")
	back, err := ParsePrediction(raw)
	require.NoError(t, err)
	again, err := back.MarshalPrediction()
	require.NoError(t, err)
	require.Equal(t, string(raw), string(again))
	predicted, err := Predict(bootVectors(t)[0].boot)
	require.NoError(t, err)
	require.Equal(t, predicted.Events, back.Events)
	for i, c := range predicted.Coverage {
		require.Equal(t, []any{c.PCR, c.Prediction, c.Evidence}, []any{back.Coverage[i].PCR, back.Coverage[i].Prediction, back.Coverage[i].Evidence})
	}
}

func TestParseExpected(t *testing.T) {
	raw := read(t, "testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	machine, err := ParseExpected(raw)
	require.NoError(t, err)
	require.Equal(t, parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements"), machine)
	predicted, err := ParseExpected(read(t, "testdata/compat/v0/prediction.bin"))
	require.NoError(t, err)
	require.NotNil(t, predicted.Coverage)
	_, err = ParseExpected(raw[:100])
	require.Error(t, err)
	_, err = ParseExpected(nil)
	require.Error(t, err)
}

func TestPredictionErrors(t *testing.T) {
	machine := parsed(t, "boot/a-sb-sdboot-262/binary_bios_measurements")
	_, err := machine.MarshalPrediction()
	require.ErrorIs(t, err, ErrNoCoverage)
	raw, err := machine.MarshalBinary()
	require.NoError(t, err)
	_, err = ParsePrediction(raw)
	require.ErrorIs(t, err, ErrNoCoverage)
	_, err = ParsePrediction(nil)
	require.Error(t, err)

	pcr := func(pcr int, prediction, evidence string) coverageOfPCR {
		return coverageOfPCR{PCR: pcr, Prediction: prediction, Evidence: evidence, Note: "note"}
	}
	good, err := json.Marshal(coverageJSON{PCRs: []coverageOfPCR{pcr(4, "exact", "booted")}})
	require.NoError(t, err)
	for _, c := range []struct{ name, doc, want string }{
		{"good", string(good), ""},
		{"no JSON", "x", "coverage"},
		{"another key", `{"userspace":0,"pcrs":[],"more":1}`, "more"},
		{"a key less", `{"pcrs":[]}`, "userspace"},
		{"userspace", `{"userspace":1000,"pcrs":[]}`, "1000 events of userspace, in a log of 53 events"},
		{"negative", `{"userspace":-1,"pcrs":[]}`, "-1 events of userspace"},
		{"PCR", `{"userspace":0,"pcrs":[{"pcr":24,"prediction":"exact","evidence":"booted","note":""}]}`, "PCR 24: want 0 to 23"},
		{"PCR below", `{"userspace":0,"pcrs":[{"pcr":-1,"prediction":"exact","evidence":"booted","note":""}]}`, "PCR -1: want 0 to 23"},
		{"twice", `{"userspace":0,"pcrs":[{"pcr":4,"prediction":"not predicted","evidence":"booted","note":""},{"pcr":4,"prediction":"exact","evidence":"booted","note":""}]}`,
			"PCR 4 is listed twice"},
		{"prediction", `{"userspace":0,"pcrs":[{"pcr":4,"prediction":"perhaps","evidence":"booted","note":""}]}`, `prediction "perhaps"`},
		{"evidence", `{"userspace":0,"pcrs":[{"pcr":4,"prediction":"exact","evidence":"heard","note":""}]}`, `evidence "heard"`},
		{"before userspace", `{"userspace":0,"pcrs":[{"pcr":4,"prediction":"not predicted","evidence":"none","note":"","beforeUserspace":"perhaps"}]}`, `PCR 4: beforeUserspace "perhaps": want`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Event{Type: EventNoAction, Data: append(slices.Clone(coverageSignature), c.doc...), Digests: map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}}
			log := Log{Events: slices.Insert(slices.Clone(machine.Events), 1, e)}
			raw, err := log.MarshalBinary()
			require.NoError(t, err)
			_, err = ParsePrediction(raw)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotErrorIs(t, err, ErrNoCoverage)
		})
	}
	bad := Log{Events: machine.Events, Coverage: []Coverage{{PCR: 24}}}
	_, err = bad.MarshalPrediction()
	require.ErrorContains(t, err, "PCR 24")
	// Another event that extends nothing, or one that extends a PCR, is no coverage.
	locality := Event{Type: EventNoAction, Data: append(slices.Clone(localitySignature), 3), Digests: map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}}
	raw, err = (&Log{Events: slices.Insert(slices.Clone(machine.Events), 1, locality)}).MarshalBinary()
	require.NoError(t, err)
	_, err = ParsePrediction(raw)
	require.ErrorIs(t, err, ErrNoCoverage)
	e := Event{Type: EventIPL, Data: append(slices.Clone(coverageSignature), good...), Digests: map[crypto.Hash][]byte{crypto.SHA256: make([]byte, 32)}}
	raw, err = (&Log{Events: slices.Insert(slices.Clone(machine.Events), 1, e)}).MarshalBinary()
	require.NoError(t, err)
	_, err = ParsePrediction(raw)
	require.ErrorIs(t, err, ErrNoCoverage)
}

// withoutContents are events without what only a prediction or its caller knows of them.
func withoutContents(events []Event) []Event {
	out := slices.Clone(events)
	for i := range out {
		out[i].contents = nil
	}
	return out
}
