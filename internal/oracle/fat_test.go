package oracle

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// linuxFiles are the answers of a volume as fatAnswer.Linux has them.
func linuxFiles(v *Volume, err error) map[string]string {
	if err != nil {
		return map[string]string{"!": ""}
	}
	all := map[string]string{}
	for _, f := range v.Files {
		path := strings.TrimRight(f.Path, ".")
		for all[path] != "" {
			path += "."
		}
		switch {
		case f.Err != "":
			all[path] = "!"
		case f.Dir:
			all[path] = ""
		default:
			all[path] = fmt.Sprintf("%x", f.SHA256)
		}
	}
	return all
}

func TestFATAsLinuxReadsIt(t *testing.T) {
	answers := fatAnswers(t)
	require.Len(t, answers, len(fatVolumes()))
	for _, c := range fatVolumes() {
		d := c.make()
		v, err := ReadFAT(d, d.Size(), FATOptions{})
		want := answers[c.name].Linux
		if _, refused := want["!"]; refused {
			want = map[string]string{"!": ""}
		}
		require.Equal(t, want, linuxFiles(v, err), "%s: %v", c.name, err)
	}
}

func TestFATAsEDK2ReadsIt(t *testing.T) {
	n := 0
	for _, c := range fatVolumes() {
		want := fatAnswers(t)[c.name].EDK2
		if want == nil { // not shown to it
			continue
		}
		n++
		d := c.make()
		v, err := ReadFAT(d, d.Size(), FATOptions{Reader: FATReaderEDK2})
		got := map[string]int64{}
		if err == nil {
			for _, f := range v.Files {
				if got[f.Path] = f.Size; f.Dir {
					got[f.Path] = -1
				}
			}
		}
		require.Equal(t, want, got, "%s: %v", c.name, err)
	}
	require.Equal(t, 70, n)
}

// fsckLines are what fsck.fat says, and the kind of problem that it says so of.
var fsckLines = []struct {
	text string
	kind ProblemKind
}{
	{"FATs differ", ProblemFATsDiffer},
	{"Dirty bit is set", ProblemDirty},
	{"Reclaimed ", ProblemLostClusters},
	{"share clusters", ProblemShared},
	{"Circular cluster chain", ProblemLoop},
	{"Start does point to containing directory", ProblemLoop},
	{"Start does point to root directory", ProblemStart},
	{"Start cluster beyond limit", ProblemStart},
	{"Bad start cluster", ProblemStart},
	{"Contains a free cluster", ProblemChain},
	{"Contains a bad cluster", ProblemChain},
	{"File size is ", ProblemSize},
	{" out of range (", ProblemFATEntry},
	{"Directory has non-zero size", ProblemDirectory},
	{"entry in the first slot", ProblemDots},
	{"entry in the second slot", ProblemDots},
	{"entry in this slot", ProblemDots},
	{"Bad short file name", ProblemName},
	{"Duplicate directory entry", ProblemDuplicate},
	{"Unfinished long file name", ProblemLongName},
	{"Wrong checksum for long file name", ProblemLongName},
	{"Orphaned long file name part", ProblemLongName},
	{"A new long file name starts within an old one", ProblemLongName},
	{"Long filename fragment", ProblemLongName},
	{"Unexpected long filename sequence number", ProblemLongName},
	{"Checksum in long filename part wrong", ProblemLongName},
	{"field in VFAT long filename slot is not 0", ProblemLongName},
	{"Free cluster summary wrong", ProblemFSInfo},
	{"FSINFO sector has bad magic", ProblemFSInfo},
	{"There are differences between boot sector and its backup", ProblemBackupBoot},
	{"Label in boot sector is ", ProblemLabel},
	{"Volume label ", ProblemLabel},
	{"There is no label in boot sector", ProblemLabel},
}

// fsckKinds are the kinds of problems that fsck.fat found. ok is false if it gave up, which it does
// without telling all.
func fsckKinds(text string) (kinds map[ProblemKind]bool, ok bool) {
	kinds = map[ProblemKind]bool{}
	ok = true
	for line := range strings.Lines(text) {
		for _, l := range fsckLines {
			if strings.Contains(line, l.text) {
				kinds[l.kind] = true
			}
		}
		for _, gaveUp := range []string{"Internal error", "Giving up", "rc ", "root dir starts with a bad cluster", "Bad FAT32 root directory", "Has a large number of bad entries"} {
			if strings.Contains(line, gaveUp) {
				ok = false
			}
		}
	}
	return kinds, ok
}

// kindsOf are the kinds of problems of a volume that fsck.fat speaks of.
func kindsOf(v *Volume) map[ProblemKind]bool {
	kinds := map[ProblemKind]bool{}
	for _, p := range v.Problems {
		if p.Kind < ProblemBehindEnd && p.Kind != ProblemFATHead {
			kinds[p.Kind] = true
		}
	}
	return kinds
}

// checkAgainstFsck says in what the oracle and fsck.fat do not agree, or nothing.
func checkAgainstFsck(d *faultio.Disk, text string) string {
	second := strings.Contains(text, "using second FAT")
	v, err := ReadFAT(d, d.Size(), FATOptions{Second: second, NoContent: true})
	if err != nil {
		if text == "" {
			return err.Error()
		}
		return ""
	}
	want, whole := fsckKinds(text)
	got := kindsOf(v)
	if !whole {
		if len(v.Problems) == 0 {
			return "fsck.fat gave up, the oracle found nothing"
		}
		return ""
	}
	if !maps.Equal(want, got) {
		return fmt.Sprintf("fsck.fat %v, oracle %v", slices.Sorted(maps.Keys(want)), v.Problems)
	}
	return ""
}

func TestFATAsFsckChecksIt(t *testing.T) {
	for _, c := range fatVolumes() {
		d := c.make()
		text := fatAnswers(t)[c.name].Fsck
		require.Empty(t, checkAgainstFsck(d, text), "%s\n%s", c.name, text)
	}
}

// damage changes a volume in one to four places.
func damage(rng *rand.Rand, f *fatImage) {
	// The directories are in the first clusters of the volumes, of which 16 are in use.
	dirs := []int64{f.root}
	for at := f.root; f.bytes(at, 1)[0] != 0; at += 32 {
		if f.bytes(at+11, 1)[0] == 0x10 {
			dirs = append(dirs, f.at(f.start(at)))
		}
	}
	for range 1 + rng.IntN(4) {
		dir := dirs[rng.IntN(len(dirs))]
		entry := dir + 32*rng.Int64N(8)
		n := 2 + uint32(rng.IntN(16))
		switch rng.IntN(12) {
		case 0, 1:
			v := []uint32{0, f.end, f.end - 8, uint32(2 + rng.IntN(18)), uint32(2 + rng.IntN(18)), 1, f.end >> 1}[rng.IntN(7)]
			f.set(n, v)
		case 2:
			f.setIn(rng.IntN(f.fats), n, uint32(rng.IntN(20)))
		case 3:
			put(f.d, entry+rng.Int64N(32), []byte{byte(rng.Uint32())})
		case 4:
			put(f.d, entry, []byte{0xe5})
		case 5:
			put(f.d, entry, []byte{0})
		case 6:
			put(f.d, entry, f.bytes(dir+32*rng.Int64N(8), 32))
		case 7:
			put(f.d, entry+26, []byte{byte(rng.IntN(20)), 0})
		case 8:
			f.put32(entry+28, uint32(rng.IntN(20000)))
		case 9:
			put(f.d, entry+11, []byte{[]byte{0x10, 0x20, 0x08, 0x0f, 0, 0x30}[rng.IntN(6)]})
		case 10:
			put(f.d, f.fatStart+rng.Int64N(40), []byte{byte(rng.Uint32())})
		case 11:
			f.file(units(fmt.Sprintf("Added file number %d.conf", rng.IntN(3))), fmt.Sprintf("ADDED~%d CON", 1+rng.IntN(3)), n+20, "content\n")
		}
	}
}

// TestFATAgreesWithFsck compares what the oracle and fsck.fat find in volumes that were damaged at
// random.
func TestFATAgreesWithFsck(t *testing.T) {
	testtools.Require(t, "fsck.fat")
	seed := *fuzzSeed
	if seed == 0 {
		seed = 1
	}
	t.Logf("seed %d, volumes %d", seed, *fuzzVolumes)
	name := filepath.Join(t.TempDir(), "volume")
	clean, gaveUp := 0, 0
	for i := range *fuzzVolumes {
		d := volumeNamed([]string{"f00-fat16", "f01-fat32", "f02-fat12"}[i%3])
		damage(rand.New(rand.NewPCG(seed, uint64(i))), openImage(d))
		text := fsck(t, name, d)
		if text == "" {
			clean++
		}
		if _, whole := fsckKinds(text); !whole {
			gaveUp++
		}
		if why := checkAgainstFsck(d, text); why != "" {
			t.Errorf("volume %d: %.600s\n%.900s", i, why, text)
		}
	}
	t.Logf("%d without a problem, of %d fsck.fat did not tell all", clean, gaveUp)
}

var (
	fuzzSeed    = flag.Uint64("oracle.seed", 0, "seed of the volumes that are damaged at random, 0 for the same ones each time")
	fuzzVolumes = flag.Int("oracle.volumes", 150, "how many volumes are damaged at random")
)

// fsck returns what fsck.fat -n says, without its first and last line.
func fsck(t *testing.T, name string, d *faultio.Disk) string {
	t.Helper()
	require.NoError(t, os.RemoveAll(name))
	require.NoError(t, d.Save(name))
	// Its exit code is 1 where it would change something: the text says more.
	out, err := testtools.Try(t, "fsck.fat", "-n", name)
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line != "Leaving filesystem unchanged." && !strings.HasPrefix(line, "fsck.fat 4") && !strings.HasPrefix(line, name+": ") {
			lines = append(lines, line)
		}
	}
	if err != nil && len(lines) == 0 {
		lines = append(lines, "rc "+err.Error())
	}
	return strings.Join(lines, "\n")
}
