package tpm

import (
	"crypto"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// What is not said of userspace is not claimed, once something of it is measured; each statement
// gives back the PCRs that it is about.
func TestUserspaceClaims(t *testing.T) {
	vector := bootVectors(t)[0]
	machine := parsed(t, "boot", vector.name, "binary_bios_measurements")
	whole := wholeBoot(t, vector, machine)
	separated := []int{0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14}
	all := append([]int{8, 9, 11, 15}, separated...)
	initrd, up := []string{PhaseEnterInitrd}, []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	key := Word{Text: "cryptsetup:root:u"}
	keyed := Word{Text: key.Text, Digests: digestsOf([]byte("hmac"))}
	for _, c := range []struct {
		name   string
		stub   osmith.Version
		phases []string
		u      *Userspace
		want   []int // beside 8 and 11
	}{
		{"the kernel starts", "262", nil, nil, all},
		{"a description that says nothing, no phase", "262", nil, &Userspace{}, nil},
		{"no description", "262", initrd, nil, nil},
		{"no description, all phases", "262", up, nil, nil},
		{"a stub that may be older than the initrd", "257", up, nil, nil},
		{"zero value", "262", up, &Userspace{}, nil},
		{"phases alone", "262", up, PhasesAlone(), all},
		{"separator", "262", up, &Userspace{Separator: MeasuredYes}, separated},
		{"no separator", "262", up, &Userspace{Separator: MeasuredNo}, separated},
		{"separator, no phase", "262", nil, &Userspace{Separator: MeasuredYes}, separated},
		{"NvPCRs without the separator", "262", up, &Userspace{NVPCRs: []string{}, NVSeparator: MeasuredYes}, nil},
		{"no NvPCRs, without their separator", "262", up, &Userspace{Separator: MeasuredYes, NVPCRs: []string{}}, separated},
		{"separator of NvPCRs, but not which", "262", up, &Userspace{Separator: MeasuredYes, NVSeparator: MeasuredYes}, separated},
		{"separator of NvPCRs alone", "262", nil, &Userspace{NVSeparator: MeasuredYes}, nil},
		{"NvPCRs alone", "262", nil, &Userspace{NVPCRs: []string{"nvpcr-init:x:0x1:00"}}, nil},
		{"PCR 9", "262", up, &Userspace{Separator: MeasuredYes, NVPCRs: []string{}, NVSeparator: MeasuredNo}, append([]int{9}, separated...)},
		{"identity", "262", up, &Userspace{Identity: []Word{{Text: "machine-id:0"}}}, []int{15}},
		{"identity alone", "262", nil, &Userspace{Identity: []Word{{Text: "machine-id:0"}}}, []int{15}},
		{"no identity", "262", up, &Userspace{Identity: []Word{}}, []int{15}},
		{"volume key", "262", up, &Userspace{Identity: []Word{keyed}}, []int{15}},
		{"volume key without digest", "262", up, &Userspace{Identity: []Word{{Text: "machine-id:0"}, key}}, nil},
		{"systemd 252", "262", up, &Userspace{Systemd: "252.39-1~deb12u1"}, all},
		{"systemd 253", "262", up, &Userspace{Systemd: "253"}, append([]int{9}, separated...)},
		{"systemd 258", "262", up, &Userspace{Systemd: "258"}, append([]int{9}, separated...)},
		{"systemd 259", "262", up, &Userspace{Systemd: "259"}, separated},
		{"systemd 260 with its NvPCRs", "262", up, &Userspace{Systemd: "260", NVPCRs: []string{"nvpcr-init:x:0x1:00"}}, append([]int{9}, separated...)},
		{"systemd 261", "262", up, &Userspace{Systemd: "261"}, nil},
		{"systemd 261 with its words", "262", up, &Userspace{Systemd: "261", Separator: MeasuredYes, NVPCRs: []string{"nvpcr-init:x:0x1:00"}}, append([]int{9}, separated...)},
		{"systemd 262", "262", up, &Userspace{Systemd: "262", Separator: MeasuredYes, NVPCRs: []string{"nvpcr-init:x:0x1:00"}}, separated},
		{"systemd 257 in the image of a stub of its own", "257", up, &Userspace{Systemd: "257", Identity: []Word{{Text: "machine-id:0"}}}, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := whole
			b.Stub, b.Phases, b.Userspace = c.stub, c.phases, c.u
			before := b.Userspace
			log, err := Predict(b)
			require.NoError(t, err)
			var got []int
			for _, k := range log.Coverage {
				if k.Prediction.known() && k.PCR != 8 && k.PCR != 11 {
					got = append(got, k.PCR)
				}
				if !k.Prediction.known() && k.PCR != PCRIMA {
					assert.Contains(t, k.Note, "want ", "the remedy")
				}
			}
			want := append([]int{}, c.want...)
			for i := 0; i < len(want); i++ {
				if want[i] == 8 || want[i] == 11 {
					want = append(want[:i], want[i+1:]...)
					i--
				}
			}
			assert.ElementsMatch(t, want, got)
			assert.Same(t, before, b.Userspace)
			assert.True(t, log.Coverage[8].Prediction.known())
			assert.Equal(t, c.u != nil && c.u.Separator == MeasuredYes, strings.Contains(log.Coverage[12].Note, "user data of a cloud"), log.Coverage[12].Note)
			assert.True(t, log.Coverage[11].Prediction.known())
		})
	}
}

func TestUserspaceErrors(t *testing.T) {
	earlier := mkosiUserspace(t, "b1")
	change := func(f func(*UserspaceLog)) *UserspaceLog {
		u := &UserspaceLog{Records: append([]Record(nil), earlier.Records...)}
		f(u)
		return u
	}
	up := []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	for _, c := range []struct {
		name   string
		phases []string
		u      Userspace
		want   string
	}{
		{"version", up, Userspace{Systemd: "x"}, `userspace: systemd version "x": want a version that begins with a release number, as 258 or 258.1`},
		{"old separator", up, Userspace{Systemd: "260", Separator: MeasuredYes}, `systemd 260 does not measure "os-separator": systemd does since 261`},
		{"old NvPCRs", up, Userspace{Systemd: "258", NVPCRs: []string{"nvpcr-init:x:0x1:00"}}, "systemd 258 does not measure NvPCRs: systemd does since 259"},
		{"old separator of NvPCRs", up, Userspace{Systemd: "261", NVSeparator: MeasuredYes}, `systemd 261 does not measure "nvpcr-separator": systemd does since 262`},
		{"old identity", up, Userspace{Systemd: "252", Identity: []Word{{Text: "x"}}}, "systemd 252 does not measure words for PCR 15: systemd does since 253"},
		{"enum", up, Userspace{Separator: 3}, "userspace: unknown value 3 of Measured"},
		{"enum below", up, Userspace{NVSeparator: -1}, "userspace: unknown value -1 of Measured"},
		{"NvPCR", up, Userspace{NVPCRs: []string{"x"}}, "want nvpcr-init:NAME:INDEX:NAME of the index"},
		{"short digest", up, Userspace{Identity: []Word{{Text: "x", Digests: map[crypto.Hash][]byte{crypto.SHA256: {1}}}}}, `PCR 15: "x": a digest of 1 bytes, want 32 for sha256`},
		{"no PCR bank for which all programs and sections have digests: not", up, Userspace{Identity: []Word{{Text: "x", Digests: map[crypto.Hash][]byte{crypto.MD5: {1}}}}}, `PCR 15: "x": `},
		{"NvPCR's word", up, Userspace{NVWords: map[string][]Word{"verity": {{}}}}, "NvPCR verity: an empty word"},
		{"another bank's", up, Userspace{Identity: []Word{{Text: "cryptsetup:x", Digests: map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20)}}}},
			`"cryptsetup:x" of userspace: a digest of 0 bytes, want 32 for sha256`},
		{"log and words", up, Userspace{Earlier: earlier, Identity: []Word{}}, "userspace: both the log of an earlier boot and words are given: want one of them"},
		{"log and separator", up, Userspace{Earlier: earlier, Separator: MeasuredNo}, "want one of them"},
		{"log and NvPCRs", up, Userspace{Earlier: earlier, NVPCRs: []string{}}, "want one of them"},
		{"log and their separator", up, Userspace{Earlier: earlier, NVSeparator: MeasuredNo}, "want one of them"},
		{"log and version", up, Userspace{Earlier: earlier, Systemd: "262"}, "want one of them"},
		{"other phases", []string{PhaseEnterInitrd, PhaseReady}, Userspace{Earlier: earlier}, `the earlier log has the phases "enter-initrd:leave-initrd:sysinit:ready", want those of the boot, "enter-initrd:ready"`},
		{"more phases", append(up[:4:4], PhaseShutdown), Userspace{Earlier: earlier}, `want those of the boot, "enter-initrd:leave-initrd:sysinit:ready:shutdown"`},
		{"two boots", up, Userspace{Earlier: change(func(u *UserspaceLog) { u.Records[5].BootID = "other" })}, "record 5 of the earlier log is of boot other"},
		{"no digest", up, Userspace{Earlier: change(func(u *UserspaceLog) { u.Records[5].Digests = nil })}, "record 5 of the earlier log has no digest of a known bank"},
		{"wrong digest", up, Userspace{Earlier: change(func(u *UserspaceLog) { u.Records[5].Digests = map[crypto.Hash][]byte{crypto.SHA256: {1}} })},
			"record 5 of the earlier log has a digest of 1 bytes for sha256"},
		{"no such PCR", up, Userspace{Earlier: change(func(u *UserspaceLog) { u.Records[5].PCR = 24 })}, "record 5 of the earlier log is of PCR 24"},
		{"cut", up, Userspace{Earlier: change(func(u *UserspaceLog) { u.Findings = []Finding{{-1, 0, "the last record is cut"}} })}, "userspace: the earlier log ends with a truncated record: want a moment before that record"},
		{"bank that the log has not", up, Userspace{Earlier: change(func(u *UserspaceLog) {
			u.Records[19].Digests = map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20)}
		})}, `"cryptsetup:root:980ca3f9-933c-4ce7-8032-ba95ef3636b2" of userspace: a digest of 0 bytes, want 32 for sha256`},
		{"no digest of PCR 0", up, Userspace{Earlier: change(func(u *UserspaceLog) { u.Records[1].Digests = nil })}, "record 1 of the earlier log has no digest of a known bank"},
		{"bank that a record of PCR 0 has not", up, Userspace{Earlier: change(func(u *UserspaceLog) {
			u.Records[1].Digests = map[crypto.Hash][]byte{crypto.SHA1: make([]byte, 20)}
		})}, `"os-separator" of userspace: a digest of 0 bytes, want 32 for sha256`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mkosiBoot(t, "b1", "b2")
			b.Banks = []crypto.Hash{crypto.SHA256}
			b.Phases, b.Userspace = c.phases, &c.u
			_, err := Predict(b)
			require.ErrorContains(t, err, c.want)
		})
	}
	// What was found about a record is not about the end of the log. A record that is cut comes
	// after the moment.
	for _, f := range []Finding{{Event: 0}, {Event: 3}} {
		b := mkosiBoot(t, "b1", "b2")
		b.Phases, b.Userspace = up, &Userspace{Earlier: change(func(u *UserspaceLog) { u.Findings = []Finding{f} })}
		_, err := Predict(b)
		require.NoError(t, err)
	}
	b := mkosiBoot(t, "b1", "b2")
	b.Phases, b.Userspace = up[:2], &Userspace{Earlier: change(func(u *UserspaceLog) { u.Findings = []Finding{{-1, 0, "the last record is cut"}} })}
	_, err := Predict(b)
	require.NoError(t, err)
	found := []Finding{{0, 0, "a"}, {17, 0, "b"}, {18, 0, "c"}, {-1, 0, "d"}}
	cut, err := (&UserspaceLog{Records: earlier.Records, Findings: found}).Until("nvpcr-separator")
	require.NoError(t, err)
	require.Len(t, cut.Records, 18)
	require.Equal(t, found[:2], cut.Findings)
	_, err = earlier.Until("x")
	require.EqualError(t, err, `tpm: userspace log: no record of the word "x"`)
}

// A word has the digest of its text in every bank, or those that were given; a keyed one is never
// hashed.
func TestWordDigests(t *testing.T) {
	sum := func(h crypto.Hash, s string) []byte { return pcrbank.Sum(h, []byte(s)) }
	banks := []crypto.Hash{crypto.SHA1, crypto.SHA256}
	both := map[crypto.Hash][]byte{crypto.SHA1: sum(crypto.SHA1, "x"), crypto.SHA256: sum(crypto.SHA256, "x")}
	assert.Equal(t, both, Word{Text: "x"}.in(banks))
	assert.Equal(t, both, Word{Text: "x", Digests: map[crypto.Hash][]byte{crypto.SHA256: sum(crypto.SHA256, "x")}}.in(banks), "that of the other bank follows")
	other := map[crypto.Hash][]byte{crypto.SHA256: sum(crypto.SHA256, "y")}
	assert.Equal(t, other, Word{Text: "x", Digests: other}.in(banks), "no other bank's follows from a digest that is not the text's")
	assert.Empty(t, Word{Text: "cryptsetup:x"}.in(banks))
	own := map[crypto.Hash][]byte{crypto.SHA256: sum(crypto.SHA256, "cryptsetup:x")}
	assert.Equal(t, own, Word{Text: "cryptsetup:x", Digests: own}.in(banks))
}

// Banks that nothing was said about are those that the digests of userspace have, too.
func TestUserspaceBanks(t *testing.T) {
	b := Boot{
		Variables: &osmith.FirmwareVariables{SecureBoot: []byte{0}}, Stub: "262",
		UKI: Application{Digests: allDigests("uki")}, Sections: []osmith.Measurement{{Section: ".linux", Size: 1, Digests: allDigests("linux")}},
		Phases: []string{PhaseEnterInitrd}, Userspace: &Userspace{Identity: []Word{{Text: "cryptsetup:x", Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("hmac"))}}}},
	}
	log, err := Predict(b)
	require.NoError(t, err)
	require.Equal(t, []crypto.Hash{crypto.SHA256}, log.Banks())
	assert.Equal(t, pcrbank.Sum(crypto.SHA256, []byte("hmac")), log.of(15)[0].Digests[crypto.SHA256])
	b.Userspace.Identity = []Word{{Text: "machine-id:0"}}
	log, err = Predict(b)
	require.NoError(t, err)
	assert.Len(t, log.Banks(), len(Banks()))
}

func allDigests(s string) map[crypto.Hash][]byte {
	out := map[crypto.Hash][]byte{}
	for _, h := range Banks() {
		out[h] = pcrbank.Sum(h, []byte(s))
	}
	return out
}

// At which moments of an earlier log it is not known what comes before and what behind them.
func TestMomentDoubts(t *testing.T) {
	r := func(pcr int, word string) Record { return Record{PCR: pcr, Word: word} }
	enter, leave, sysinit, ready := r(11, PhaseEnterInitrd), r(11, PhaseLeaveInitrd), r(11, PhaseSysinit), r(11, PhaseReady)
	var separators []Record
	for _, n := range separatorPCRs {
		separators = append(separators, r(n, wordSeparator))
	}
	nv, nvEnd, id, root, key := r(9, "nvpcr-init:x:0x1:00"), r(9, wordNVSeparator), r(15, "machine-id:0"), r(15, FileSystem{Path: "/"}.Word()), r(15, "cryptsetup:x:u")
	list := func(parts ...any) (out []Record) {
		for _, p := range parts {
			switch p := p.(type) {
			case Record:
				out = append(out, p)
			case []Record:
				out = append(out, p...)
			}
		}
		return out
	}
	for _, c := range []struct {
		name           string
		records, later []Record
		want           []int
	}{
		{"the kernel starts", nil, list(separators, enter), nil},
		{"enter-initrd, the last that is known", list(enter), nil, separatorPCRs},
		{"enter-initrd behind all separators", list(separators, enter), list(leave), separatorPCRs},
		{"enter-initrd before all separators", list(enter), list(separators, leave), separatorPCRs},
		{"enter-initrd of an initrd without separators", list(enter), list(leave), nil},
		{"the same with NvPCRs", list(enter), list(nv, leave), []int{9}},
		{"the same with their separator alone", list(enter), list(nvEnd, leave), []int{9}},
		{"the same with something else in PCR 9", list(enter), list(r(9, "x"), leave), nil},
		{"the same with such a word in another PCR", list(enter), list(r(12, "nvpcr-init:x:0x1:00"), leave), nil},
		{"NvPCRs before enter-initrd", list(nv, enter), list(leave), []int{9}},
		{"behind the separators", list(enter, separators), nil, nil},
		{"separators, and not yet enter-initrd", separators, nil, nil},
		{"amid the separators", list(enter, separators[:2]), nil, separatorPCRs},
		{"amid the separators, cut by phases", list(separators[:2], enter, leave), list(separators[2:]), separatorPCRs},
		{"separators behind the moment", list(enter, leave), separators, separatorPCRs},
		{"the word in PCR 11 is a phase", list(enter, r(11, wordSeparator)), nil, nil},
		{"leave-initrd", list(enter, separators, nv, nvEnd, key, leave), list(id, sysinit), nil},
		{"sysinit", list(enter, leave, id, sysinit), list(ready), nil},
		{"sysinit, and a volume later", list(enter, leave, id, sysinit), list(key, ready), []int{15}},
		{"sysinit behind a file system", list(enter, leave, id, root, sysinit), list(ready), []int{15}},
		{"ready behind a file system, with more to come", list(enter, leave, id, root, sysinit, ready), list(r(11, PhaseShutdown)), []int{15}},
		{"ready behind a file system, the last that is known", list(enter, leave, id, root, sysinit, ready), nil, nil},
		{"a file system behind ready", list(enter, leave, id, sysinit, ready, root), nil, nil},
		{"leave-initrd before a volume of the system", list(enter, leave), list(key), nil},
	} {
		d := doubts{}
		measuredRecords{c.records, c.later}.doubts(d)
		var got []int
		for n := range PCRCount {
			if why, ok := d[n]; ok {
				got = append(got, n)
				assert.Contains(t, why, "want a moment behind")
			}
		}
		assert.Equal(t, c.want, got, c.name)
	}
}

// What the note of a PCR says of userspace.
func TestUserspaceNotes(t *testing.T) {
	const zero = "zero until userspace measures the machine ID and file systems"
	notes := func(u *Userspace) (four, fifteen string) {
		b := mkosiBoot(t, "b1", "b2")
		b.Phases, b.Userspace = []string{PhaseEnterInitrd, PhaseLeaveInitrd}, u
		log, err := Predict(b)
		require.NoError(t, err)
		return log.Coverage[4].Note, log.Coverage[15].Note
	}
	before, fifteen := notes(PhasesAlone())
	assert.Equal(t, zero, fifteen)
	u := PhasesAlone()
	u.Identity = []Word{{Text: "machine-id:0"}}
	four, fifteen := notes(u)
	assert.Equal(t, before, four)
	assert.Equal(t, "the words given", fifteen)
	four, fifteen = notes(&Userspace{Earlier: mkosiUserspace(t, "b2")})
	assert.Equal(t, before+"; userspace as in its earlier log", four)
	assert.Equal(t, "userspace as in its earlier log", fifteen)
	u.Identity = []Word{{Text: "cryptsetup:x"}}
	_, fifteen = notes(u)
	assert.Contains(t, fifteen, `the digest of "cryptsetup:x" is made with the volume key`)
}
