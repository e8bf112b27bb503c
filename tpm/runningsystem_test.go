package tpm

import (
	"crypto"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// mkosiBoot describes a boot of testdata/mkosi by what was there before it: the files of the
// machine, and the log of the firmware of the other boot. The image is not in testdata; its digests
// are those that the other boot measured, and what depends on this boot's secrets (initrds with the
// boot secret, credential on the ESP) is from its own log.
func mkosiBoot(t testing.TB, name, other string) Boot {
	t.Helper()
	dir := "testdata/mkosi/" + name
	before, err := ParseLog(read(t, "testdata/mkosi", other, "binary_bios_measurements"))
	require.NoError(t, err)
	own, err := ParseLog(read(t, dir, "binary_bios_measurements"))
	require.NoError(t, err)
	variable := func(v string) []byte {
		found, err := filepath.Glob(filepath.Join(dir, "efivars", v+"-*"))
		require.NoError(t, err)
		require.Len(t, found, 1)
		return read(t, found[0])[4:]
	}
	b := Boot{
		Firmware:  before,
		Variables: &osmith.FirmwareVariables{SecureBoot: variable("SecureBoot"), PK: variable("PK"), KEK: variable("KEK"), DB: variable("db"), DBX: variable("dbx")},
		SMBIOS:    read(t, dir, "DMI"),
		GPT:       tableOf(t, string(read(t, dir, "table.sfdisk"))),
		ExitBoot:  ExitBootRetried,
		Stub:      "262",
		Handover:  &osmith.Handover{LoadOptions: append(efi.AppendUTF16(nil, strings.TrimSpace(string(read(t, dir, "cmdline")))), 0, 0)},
	}
	for _, v := range []string{"BootOrder", "Boot0002", "Boot0000", "Boot0001"} {
		b.BootVariables = append(b.BootVariables, BootVariable{v, variable(v)})
	}
	for _, e := range before.of(4) {
		a := Application{Path: e.Subject.Name, Digests: e.Digests}
		switch e.Subject.Kind {
		case SubjectLoader:
			b.Chain = []Program{&SystemdBoot{Application: a, Conf: read(t, "testdata/mkosi/loader.conf")}}
		case SubjectUKI:
			b.UKI = a
		}
	}
	b.authorize(b.Variables.DB[28:]) // behind the header of the one list
	lines := strings.Fields(string(read(t, "testdata/mkosi/pcr11-to-enter-initrd.txt")))
	for i, section := range []string{".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"} {
		b.Sections = append(b.Sections, osmith.Measurement{Section: section, Size: 1, Digests: map[crypto.Hash][]byte{crypto.SHA256: unhex(t, lines[2*i+1])}})
	}
	for _, e := range own.Events {
		switch e.Subject.Kind {
		case SubjectInitrd:
			b.Handover.Initrd = e.Digests
		case SubjectCompanion:
			b.Handover.Events = append(b.Handover.Events, archiveEvent(e.PCR, e.Subject.Name, e.Digests))
		}
	}
	return b
}

var tableLine = regexp.MustCompile(`start= *(\d+), size= *(\d+), type=([-0-9A-F]+), uuid=([-0-9A-F]+), name="([^"]*)"(?:, attrs="GUID:(\d+)")?`)

// tableOf is the partition table that a dump of sfdisk describes, as on disk.
func tableOf(t testing.TB, dump string) *PartitionTable {
	t.Helper()
	guid := func(s string) []byte {
		g, err := osmith.ParseGUID(s)
		require.NoError(t, err)
		return efi.AppendGUID(nil, g)
	}
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return n
	}
	field := func(name string) string { return regexp.MustCompile(name + `: (\S+)`).FindStringSubmatch(dump)[1] }
	le := binary.LittleEndian
	entries := make([]byte, 128*128)
	for i, m := range tableLine.FindAllStringSubmatch(dump, -1) {
		e := append(guid(m[3]), guid(m[4])...)
		e = le.AppendUint64(e, number(m[1]))
		e = le.AppendUint64(e, number(m[1])+number(m[2])-1)
		attributes := uint64(0)
		if m[6] != "" {
			attributes = 1 << number(m[6])
		}
		e = le.AppendUint64(e, attributes)
		for _, u := range utf16.Encode([]rune(m[5])) {
			e = le.AppendUint16(e, u)
		}
		copy(entries[i*128:], e)
	}
	h := append([]byte("EFI PART"), 0, 0, 1, 0, 92, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	last := number(field("last-lba"))
	for _, n := range []uint64{1, last + 33, number(field("first-lba")), last} {
		h = le.AppendUint64(h, n)
	}
	h = append(h, guid(field("label-id"))...)
	h = le.AppendUint64(h, 2)
	h = le.AppendUint32(h, 128)
	h = le.AppendUint32(h, 128)
	h = le.AppendUint32(h, crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return &PartitionTable{h, entries}
}

// recorded are the values of the TPM's PCRs at a moment of a boot.
func recorded(t testing.TB, boot, moment string) map[int][]byte {
	t.Helper()
	var banks map[string]map[int]string
	require.NoError(t, json.Unmarshal(read(t, "testdata/mkosi", boot, moment), &banks))
	out := map[int][]byte{}
	for n, v := range banks["sha256"] {
		out[n] = unhex(t, v)
	}
	require.Len(t, out, PCRCount)
	return out
}

func mkosiUserspace(t testing.TB, boot string) *UserspaceLog {
	t.Helper()
	u, err := ParseUserspaceLog(read(t, "testdata/mkosi", boot, "tpm2-measure.log"))
	require.NoError(t, err)
	require.Empty(t, u.Findings)
	return u
}

// requireClaims checks every claim of a prediction against recorded values, and says which PCRs it
// claims.
func requireClaims(t testing.TB, b Boot, want map[int][]byte, what string) []int {
	t.Helper()
	log, err := Predict(b)
	require.NoError(t, err, what)
	values, err := log.Values(crypto.SHA256)
	require.NoError(t, err)
	var claimed []int
	for n := range 16 {
		if v, ok := values[n]; ok {
			claimed = append(claimed, n)
			assert.Equal(t, hexOf(want[n]), hexOf(v), "%s: PCR %d: %v", what, n, log.Coverage[n])
		}
	}
	return claimed
}

// The recorded moments of two boots of a machine that unlocks its disk with the TPM, from what was
// there before each: what the TPM had is what was predicted.
func TestRunningSystem(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}
	kernel := []int{8, 11} // what userspace does not touch but for phases
	ready := []string{PhaseEnterInitrd, PhaseLeaveInitrd, PhaseSysinit, PhaseReady}
	for _, c := range []struct{ boot, other string }{{"b1", "b2"}, {"b2", "b1"}} {
		earlier := mkosiUserspace(t, c.other)
		for _, m := range []struct {
			recorded string
			phases   int
		}{{"pcrs-initrd.json", 0}, {"pcrs-leave.json", 2}, {"pcrs-ready.json", 4}, {"pcrs.json", 4}} {
			what := c.boot + " " + m.recorded
			want := recorded(t, c.boot, m.recorded)
			b := mkosiBoot(t, c.boot, c.other)
			b.Phases = ready[:m.phases]
			if m.phases > 0 {
				assert.Equal(t, kernel, requireClaims(t, b, want, what+", nothing known of userspace"), what)
			} else {
				assert.Equal(t, all, requireClaims(t, b, want, what+", nothing known of userspace"), what)
			}
			b.Userspace = &Userspace{Earlier: earlier}
			assert.Equal(t, all, requireClaims(t, b, want, what), what)
			for _, c := range requireCoverage(t, b) {
				again := m.phases > 0 && (c.PCR == 15 || slices.Contains(separatorPCRs, c.PCR))
				assert.Equal(t, again, strings.Contains(c.Note, "userspace as in its earlier log"), "%s: %v", what, c)
				if again {
					assert.Equal(t, PredictionBaseline, c.Prediction)
				}
			}

			// By words: those of the log, with the digest of the volume key.
			b.Userspace = wordsOf(t, earlier, b.Phases)
			assert.Equal(t, all, requireClaims(t, b, want, what+" by words"), what)
			if m.phases > 0 {
				for i := range b.Userspace.Identity {
					b.Userspace.Identity[i].Digests = nil
				}
				assert.Equal(t, all[:len(all)-1], requireClaims(t, b, want, what+" without the volume key's digest"), what)
			}
		}
	}
}

func requireCoverage(t testing.TB, b Boot) []Coverage {
	t.Helper()
	log, err := Predict(b)
	require.NoError(t, err)
	return log.Coverage
}

// wordsOf describes by words what a log says up to some phases.
func wordsOf(t testing.TB, u *UserspaceLog, phases []string) *Userspace {
	t.Helper()
	out := PhasesAlone()
	if len(phases) == 0 {
		return out
	}
	m, err := u.upTo(phases)
	require.NoError(t, err)
	for _, r := range m.records {
		switch {
		case r.Word == "os-separator":
			out.Separator = MeasuredYes
		case r.EventType == "nvpcr-init":
			out.NVPCRs = append(out.NVPCRs, r.Word)
		case r.Word == "nvpcr-separator":
			out.NVSeparator = MeasuredYes
		case r.PCR == 15 && r.EventType == "volume-key":
			out.Identity = append(out.Identity, r.word())
		case r.PCR == 15:
			out.Identity = append(out.Identity, Word{Text: r.Word})
		}
	}
	return out
}

// At every record of a boot's log, what is claimed of that moment by the log of the other boot is
// what the TPM had then: the recorded values before userspace, extended by the records so far. The
// moment is named by the word that was measured last.
func TestEveryMoment(t *testing.T) {
	moments, claims := 0, 0
	for _, c := range []struct{ boot, other string }{{"b1", "b2"}, {"b2", "b1"}} {
		own, earlier := mkosiUserspace(t, c.boot), mkosiUserspace(t, c.other)
		values := recorded(t, c.boot, "pcrs-initrd.json")
		for i, r := range own.Records {
			if r.PCR >= 0 {
				values[r.PCR] = pcrbank.Sum(crypto.SHA256, values[r.PCR], r.Digests[crypto.SHA256])
			}
			if i+1 < len(own.Records) && own.Records[i+1].Word == r.Word {
				continue // the same word goes on into another PCR
			}
			what := c.boot + " after " + r.Word
			b := mkosiBoot(t, c.boot, c.other)
			cut, err := earlier.Until(r.Word)
			require.NoError(t, err, what)
			b.Phases = (&UserspaceLog{Records: own.Records[:i+1]}).Phases()
			b.Userspace = &Userspace{Earlier: cut}
			moments++
			if r.Word == "os-separator" && c.boot == "b2" && i < 12 {
				// two of twelve PCRs have the word, and the boot goes on to enter-initrd: there is
				// no such moment in the other's log
				continue
			}
			claimed := requireClaims(t, b, values, what)
			claims += len(claimed)
			if r.Word != "enter-initrd" {
				assert.Len(t, claimed, 15, what)
			}

			// The whole log, cut by the phases: right as long as nothing else was measured since.
			if r.PCR == PCRKernel {
				b.Userspace = &Userspace{Earlier: earlier}
				claims += len(requireClaims(t, b, values, what+", by phases"))
			}
		}
	}
	assert.Equal(t, 15+16, moments)
	assert.Greater(t, claims, 400)
	for _, moment := range []string{"leave", "ready"} {
		assert.NotEmpty(t, recorded(t, "b1", "pcrs-"+moment+".json"))
	}
	// What was copied at that moment is the log up to it.
	for _, name := range []string{"b1", "b2"} {
		left, err := ParseUserspaceLog(read(t, "testdata/mkosi", name, "userspace-leave"))
		require.NoError(t, err)
		cut, err := mkosiUserspace(t, name).Until(PhaseLeaveInitrd)
		require.NoError(t, err)
		assert.Equal(t, left.Records, cut.Records)
	}
}

// Words of the moment enter-initrd are measured in no fixed order with os-separator, as the two
// boots show.
func TestEnterInitrdIsNoMomentOfItsOwn(t *testing.T) {
	position := func(boot string) int {
		for i, r := range mkosiUserspace(t, boot).Records {
			if r.Word == PhaseEnterInitrd {
				return i
			}
		}
		return -1
	}
	assert.Equal(t, 0, position("b1"))
	assert.Equal(t, 2, position("b2"))
	for _, boot := range []string{"b1", "b2"} {
		b := mkosiBoot(t, boot, boot)
		b.Phases = []string{PhaseEnterInitrd}
		b.Userspace = &Userspace{Earlier: mkosiUserspace(t, boot)}
		for range 2 {
			log, err := Predict(b)
			require.NoError(t, err)
			for n := range 16 {
				want := n == 8 || n == 11 || n == 15
				assert.Equal(t, want, log.Coverage[n].Prediction.known(), "PCR %d", n)
			}
			assert.Contains(t, log.Coverage[4].Note, "in no fixed order: want a moment behind both, such as nvpcr-separator")
			cut, err := b.Userspace.Earlier.Until(PhaseEnterInitrd)
			require.NoError(t, err)
			b.Userspace = &Userspace{Earlier: cut}
		}
	}
}

// A prediction of such a boot takes 8 MiB at most, of which it needs a fraction.
func TestPredictMemory(t *testing.T) {
	b := mkosiBoot(t, "b2", "b1")
	b.Userspace = &Userspace{Earlier: mkosiUserspace(t, "b1")}
	b.Phases = b.Userspace.Earlier.Phases()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Predict(b)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
}
