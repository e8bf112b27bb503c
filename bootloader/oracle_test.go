package bootloader

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// judged are the files of a file system for the oracle, in the order of [fs.ReadDir].
func judged(fsys fstest.MapFS) (files oracle.BootFiles) {
	files = oracle.BootFiles{}
	dirs := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(fsys)) {
		var up []string
		for dir := path.Dir(name); !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
			up = append(up, dir)
		}
		for _, dir := range slices.Backward(up) {
			files = append(files, oracle.BootFile{Path: dir, Dir: true})
		}
		files = append(files, oracle.NewBootFile(name, string(fsys[name].Data)))
	}
	return files
}

var loader262 = string(petest.Loader("262"))

// randomESP has entries that agree in much, so that each rule decides somewhere.
func randomESP(r *rand.Rand, counters ...string) fstest.MapFS {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	version := func() string { return pick("1", "2", "10", "1.1", "2~rc", "2^a", "1-1", "a", "2.0", "02", "1_1") }
	esp := fstest.MapFS{"k": text("k"), "d/x": text("x"), "EFI/BOOT/BOOTX64.EFI": text(loader262)}
	for range r.IntN(7) {
		sections := []string{".linux", "kernel", ".osrel", pick("NAME=x\n", "PRETTY_NAME='a b'\n") + pick("ID=os\n", "ID=os\n", "IMAGE_ID=ab\n", "") +
			pick("IMAGE_VERSION=", "VERSION_ID=", "X=") + version() + "\n", ".cmdline", "quiet"}
		if r.IntN(5) == 0 {
			sections = append(sections, ".profile", "ID=main\n", ".profile", "ID="+pick("debug", "Alt")+"\n")
		}
		if r.IntN(8) == 0 {
			sections = sections[:2]
		}
		esp["EFI/Linux/"+pick("os", "os", "OS", "b", ".h", "auto-b")+"_"+version()+pick(counters...)+pick(".efi", ".efi", ".EFI")] = ukiFile(sections...)
	}
	for range r.IntN(7) {
		var lines []string
		for _, line := range []string{"sort-key " + pick("os", "ab", "\"\""), "machine-id " + pick("1", "2"), "version " + version(), "architecture " + pick("x64", "X64", "x64", "aa64"), "options " + pick("a", "b")} {
			if r.IntN(2) == 0 {
				lines = append(lines, line)
			}
		}
		lines = append(lines, pick("linux /k", "linux K", "efi /k", "uki /k", "linux /missing", "linux /k/", "linux /k\nefi /k", "title x", "linux /d/../k", "linux /x/../k", "linux /../k", "efi \\k/.", "linux /d", "uki /k\nuki /missing"))
		esp["loader/entries/"+pick("os", "b", "C")+"-"+version()+pick(counters...)+".conf"] = text(strings.Join(lines, pick("\n", "\r\n")) + "\n")
	}
	return esp
}

// The menu, the choice and the rename of this package are those of the oracle, which shares no code
// with it and agrees with systemd-boot itself. Each machine is switched on until nothing changes
// any more.
func TestMenuAsTheOracleJudges(t *testing.T) {
	r, long := testtools.Seed(t)
	n := 1500
	if long {
		n = 20000
	}
	if testing.Short() {
		n = 500
	}
	starts := 0
	for i := range n {
		pick := func(words ...string) string { return words[r.IntN(len(words))] }
		pattern := func() string {
			return pick("", "", "", "os*", "*.conf", "b_*", "os_[12]*", "OS_*", "*-1.conf", "*[0-9]*", `os\_1*`, "@saved", "nothing", "[]a-]*")
		}
		release := []int{257, 262}[i%2]
		counters := []string{"", "", "+3", "+1-1", "+0-2", "+0", "+2-1", "+02-1", "+", "+1x"}
		esp := randomESP(r, counters...)
		var xbootldr fstest.MapFS
		if i%8 < 2 {
			xbootldr = randomESP(r, counters...)
		}
		if r.IntN(2) == 0 {
			esp["loader/loader.conf"] = text("# x\n" + pick("default ", "preferred ", "timeout ") + pattern() + "\npreferred " + pattern() + "\n")
		}
		v := Variables{EntryOneShot: pattern(), EntryPreferred: pattern(), EntryDefault: pattern(), EntryLastBooted: pattern()}
		for boot := range 5 {
			starts++
			machine := oracle.Machine{Version: release, ESP: judged(esp), Variables: oracle.LoaderVariables{OneShot: v.EntryOneShot, Preferred: v.EntryPreferred,
				Default: v.EntryDefault, LastBooted: v.EntryLastBooted}}
			o := MenuOptions{Self: "EFI/BOOT/BOOTX64.EFI", LoaderVersion: osmith.Version(fmt.Sprint(release))}
			if xbootldr != nil {
				machine.XBOOTLDR, o.XBOOTLDR = judged(xbootldr), xbootldr
			}
			choice := machine.Boot()
			m := readMenu(t, esp, o)
			about := fmt.Sprintf("tree %d of %d, start %d: %v, %+v\n%s\n%s", i, release, boot, choice, v, names(esp), names(xbootldr))
			var want, got []string
			for _, e := range choice.Menu {
				want = append(want, fmt.Sprint(e.ID, " ", e.Path, " ", e.XBOOTLDR, " ", e.Profile))
			}
			for _, e := range m.Entries {
				got = append(got, fmt.Sprint(e.ID, " ", e.Path, " ", e.XBOOTLDR, " ", e.Profile))
			}
			require.Equal(t, want, got, about)
			e, reason := m.Default(v)
			require.Equal(t, choice.Entry == nil, e == nil, about)
			if e == nil {
				break
			}
			require.Equal(t, choice.Entry.ID, e.ID, about)
			require.Equal(t, choice.Entry.Path, e.Path, about)
			require.Equal(t, reasons[choice.Reason], reason, about)
			from, to := e.Boot()
			fsys := esp
			if e.XBOOTLDR {
				fsys = xbootldr
			}
			switch {
			case choice.To == "" && from != to && taken(fsys, from, to):
				// there is a file of that name
				require.NotEqual(t, from, to, about)
				to = from
			case choice.To == "":
				require.Equal(t, from, to, about)
			default:
				require.Equal(t, choice.From, from, about)
				require.Equal(t, choice.To, to, about)
			}
			v.EntryOneShot = ""
			if from == to {
				continue
			}
			f := fsys[from]
			delete(fsys, from)
			fsys[to] = f
		}
	}
	require.Greater(t, starts, n)
}

var reasons = map[oracle.BootReason]Reason{
	oracle.BootReasonOneShot: ReasonOneShot, oracle.BootReasonPreferred: ReasonPreferred, oracle.BootReasonConfigPreferred: ReasonConfigPreferred,
	oracle.BootReasonDefault: ReasonDefault, oracle.BootReasonConfigDefault: ReasonConfigDefault, oracle.BootReasonFirst: ReasonOrder,
}

// taken is whether a file cannot be renamed, as there is another one of the new name.
func taken(fsys fstest.MapFS, from, to string) bool {
	for name := range fsys {
		if name != from && equalFold(name, to) {
			return true
		}
	}
	return false
}

func names(fsys fstest.MapFS) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fsys)) {
		fmt.Fprintf(&b, "%s ", name)
		if strings.HasSuffix(name, ".conf") {
			fmt.Fprintf(&b, "%q ", fsys[name].Data)
		}
	}
	return b.String()
}

// The oracle's menu is also bootctl's, where that has the loader's rules. It lists entries that
// start nothing, or whose kernel is not there or for another machine, leaves out names with
// characters that the loader takes, does not fold the case of ids, and compares the counters of two
// files of one entry in the other direction: these trees have none of that.
func TestOracleAsBootctl(t *testing.T) {
	root := testtools.Forky(t)
	r := rand.New(rand.NewPCG(3, 4))
	const trees = 60
	dir := t.TempDir()
	var all []fstest.MapFS
	script := onFakeESP
	for i := range trees {
		esp := randomESP(r, "", "", "+0-2")
		for name, f := range esp {
			content := string(f.Data)
			switch {
			case strings.ContainsAny(name, "^~"), strings.HasSuffix(name, ".EFI") && strings.Contains(name, "Linux"):
				// it leaves such names out
			case strings.Contains(name, "OS_"), strings.Contains(name, "C-"):
			case strings.Contains(content, "missing"), strings.Contains(content, "/k/"), strings.Contains(content, "/../"), strings.Contains(content, "/."), strings.Contains(content, "linux /d"), strings.Contains(content, "aa64"), strings.Contains(content, "title x"), strings.Contains(content, "efi /k") && strings.Contains(content, "linux"):
			default:
				continue
			}
			delete(esp, name)
		}
		all = append(all, esp)
		writeESP(t, filepath.Join(dir, fmt.Sprint(i)), esp)
		script += fmt.Sprintf("umount /efi; mount --bind %d/esp /efi; echo; bootctl --esp-path=/efi list --json=short\n", i)
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "esp"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "vars"), 0o755))
	out := root.Output(t, dir, "/bin/sh", "-c", script)
	dec := json.NewDecoder(strings.NewReader(out))
	entries := 0
	for i, esp := range all {
		var theirs []struct {
			ID   string `json:"id"`
			Path string `json:"path"`
		}
		require.NoError(t, dec.Decode(&theirs), out)
		var want, got []string
		for _, e := range theirs {
			if !strings.HasPrefix(e.ID, "auto-") {
				want = append(want, strings.TrimSuffix(e.ID, "@main"))
			}
		}
		choice := oracle.Machine{ESP: judged(esp)}.Boot()
		for _, e := range choice.Menu {
			got = append(got, e.ID)
		}
		entries += len(got)
		require.Equal(t, want, got, "tree %d: %s", i, names(esp))
	}
	require.Greater(t, entries, trees)
}

// The two comparisons of versions share no code.
func TestVersionsAsTheOracleCompares(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const alphabet = "001299aabZ~^-._é"
	letters := []rune(alphabet)
	word := func() string {
		b := make([]rune, r.IntN(8))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	equal := 0
	for range 50000 {
		a, b := word(), word()
		want := oracle.CompareVersions(a, b)
		require.Equal(t, cmp.Compare(want, 0), CompareVersions(a, b), "%q %q", a, b)
		if want == 0 {
			equal++
		}
	}
	require.Greater(t, equal, 100)
}
