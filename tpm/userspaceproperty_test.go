package tpm

import (
	"bytes"
	"crypto"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// A task is what one of systemd's services measures, and the tasks that come before it.
type task struct {
	name    string
	records []Record
	after   []string
}

// machineTasks is a machine as systemd's units order it (units of 262): what an initrd and a system
// of some release measure.
func machineTasks(rng *rand.Rand) []task {
	word := func(pcr int, text string) Record {
		return Record{PCR: pcr, Word: text, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte(text))}, BootID: "b"}
	}
	keyed := func(volume string) Record {
		r := word(15, "cryptsetup:"+volume+":u")
		r.Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("hmac of "+volume))}
		return r
	}
	some := func() bool { return rng.IntN(3) > 0 }
	out := []task{{"enter", []Record{word(11, PhaseEnterInitrd)}, nil}}
	initrd := []string{"enter"}
	add := func(name string, records []Record, after ...string) {
		out = append(out, task{name, records, slices.Clone(after)})
	}
	if some() {
		var separators []Record
		for _, n := range separatorPCRs {
			separators = append(separators, word(n, wordSeparator))
		}
		add("separator", separators)
		initrd = append(initrd, "separator")
	}
	if some() {
		add("nvpcrs", []Record{word(9, "nvpcr-init:verity:0x1d10202:00"), word(9, "nvpcr-init:login:0x1d10203:00")}, initrd...)
		initrd = append(initrd, "nvpcrs")
		if some() {
			add("nvseparator", []Record{word(9, wordNVSeparator)}, initrd...)
			initrd = append(initrd, "nvseparator")
		}
	}
	if some() {
		add("root", []Record{keyed("root")}, initrd...)
		initrd = append(initrd, "root")
	}
	add("leave", []Record{word(11, PhaseLeaveInitrd)}, initrd...)
	sysinit := []string{"leave"}
	if some() {
		add("id", []Record{word(15, "machine-id:0")}, "leave")
		sysinit = append(sysinit, "id")
		if some() {
			add("file system", []Record{word(15, FileSystem{Path: "/", Type: "ext4"}.Word())}, "id")
		}
		if some() {
			add("home", []Record{keyed("home")}, "id")
			sysinit = append(sysinit, "home")
		}
	}
	add("sysinit", []Record{word(11, PhaseSysinit)}, sysinit...)
	add("ready", []Record{word(11, PhaseReady)}, "sysinit")
	return out
}

// run is a boot of the machine: its tasks in an order that their units allow, record by record.
// Those of PCR 15 come in the order of like, which a boot does again, unless that is nil.
func run(rng *rand.Rand, tasks []task, like []Record) *UserspaceLog {
	u := &UserspaceLog{}
	left := slices.Clone(tasks)
	for i := range left {
		left[i].records = slices.Clone(left[i].records)
	}
	var identity []string
	for _, r := range like {
		if r.PCR == 15 {
			identity = append(identity, r.Word)
		}
	}
	for len(left) > 0 {
		i := rng.IntN(len(left))
		waits := slices.ContainsFunc(left, func(o task) bool { return slices.Contains(left[i].after, o.name) })
		r := left[i].records[0]
		if waits || r.PCR == 15 && len(identity) > 0 && identity[0] != r.Word {
			continue
		}
		if r.PCR == 15 && len(identity) > 0 {
			identity = identity[1:]
		}
		u.Records = append(u.Records, r)
		if left[i].records = left[i].records[1:]; len(left[i].records) == 0 {
			left = slices.Delete(left, i, i+1)
		}
	}
	return u
}

// Whatever a machine measures, and in whatever order its units allow: what is claimed of a moment
// by the log of another boot, or by words of which some are left out, is so.
func TestClaimsOfUserspace(t *testing.T) {
	vector := bootVectors(t)[0]
	base := wholeBoot(t, vector, parsed(t, "boot", vector.name, "binary_bios_measurements"))
	start, err := Predict(base)
	require.NoError(t, err)
	claims, withheld := 0, 0
	check := func(seed uint64, what string, b Boot, want map[int][]byte) {
		t.Helper()
		log, err := Predict(b)
		require.NoError(t, err)
		values, err := log.Values(crypto.SHA256)
		require.NoError(t, err)
		for n, v := range values {
			if !bytes.Equal(want[n], v) {
				require.Fail(t, "a wrong claim", "seed %d: %s: phases %q: PCR %d: %v", seed, what, b.Phases, n, log.Coverage[n])
			}
			claims++
		}
		withheld += 15 - len(values)
	}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tasks := machineTasks(rng)
		earlier := run(rng, tasks, nil)
		now := run(rng, tasks, earlier.Records)
		values, err := start.Values(crypto.SHA256)
		require.NoError(t, err)
		for i, r := range now.Records {
			values[r.PCR] = pcrbank.Sum(crypto.SHA256, values[r.PCR], r.Digests[crypto.SHA256])
			so := &UserspaceLog{Records: now.Records[:i+1]}
			b := base
			b.Phases = so.Phases()
			// With all of its phases a log counts as a whole: the moment is its end.
			if whole := slices.Contains(b.Phases, PhaseReady); whole && i == len(now.Records)-1 || !whole && r.PCR == PCRKernel {
				b.Userspace = &Userspace{Earlier: earlier}
				check(seed, "the log of another boot", b, values)
			}
			b.Userspace = &Userspace{Earlier: so}
			check(seed, "its own log", b, values)
			b.Userspace = nil
			if len(b.Phases) > 0 {
				check(seed, "nothing known", b, values)
			}
			b.Userspace = forgetful(rng, so)
			check(seed, "words", b, values)
		}
	}
	require.Greater(t, claims, 10000)
	require.Greater(t, withheld, 10000)
}

// forgetful describes by words what a log has, and leaves out some parts.
func forgetful(rng *rand.Rand, u *UserspaceLog) *Userspace {
	out := PhasesAlone()
	separators := 0
	for _, r := range u.Records {
		switch {
		case r.PCR == 9 && r.Word == wordNVSeparator:
			out.NVSeparator = MeasuredYes
		case r.Word == wordSeparator:
			separators++
		case r.PCR == 9:
			out.NVPCRs = append(out.NVPCRs, r.Word)
		case r.PCR == 15:
			out.Identity = append(out.Identity, r.word())
		}
	}
	switch separators {
	case 0:
	case len(separatorPCRs):
		out.Separator = MeasuredYes
	default:
		out.Separator = MeasuredUnknown
	}
	if rng.IntN(2) == 0 {
		out.Separator = MeasuredUnknown
	}
	if rng.IntN(2) == 0 {
		out.NVPCRs = nil
	}
	if rng.IntN(2) == 0 {
		out.NVSeparator = MeasuredUnknown
	}
	switch rng.IntN(3) {
	case 0:
		out.Identity = nil
	case 1:
		for i, w := range out.Identity {
			if w.keyed() {
				out.Identity[i].Digests = nil
			}
		}
	}
	return out
}
