package oracle

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// A labFile is a file of a loader's case. Content that begins with "PE " is an EFI program that
// says what started it, with sections: "PE .osrel=ID=os;.cmdline=quiet". A path with a slash at its
// end is a directory.
type labFile struct{ path, content string }

// A labCase is a machine that is started several times with its file systems and the variables of
// the boot loader.
type labCase struct {
	name          string
	esp, xbootldr []labFile
	vars          map[string]string
	boots         int // 1 if it is 0
}

// A labBoot is what one start came to, as the program that the loader started saw it.
type labBoot struct {
	File       string   // path of the program, "" if none was started
	Options    string   `json:",omitempty"`
	Selected   string   `json:",omitempty"` // LoaderEntrySelected
	CountPath  string   `json:",omitempty"` // LoaderBootCountPath
	Entries    []string `json:",omitempty"` // LoaderEntries without those that begin with auto-
	OneShot    string   `json:",omitempty"` // LoaderEntryOneShot as it is left
	LastBooted string   `json:",omitempty"`
	Ended      string   `json:",omitempty"` // how it ended if no program was started
}

func labProgram(t testing.TB, name string, sections ...petest.Section) []byte {
	code, err := os.ReadFile("testdata/bootprobe/" + name + ".bin")
	require.NoError(t, err)
	return petest.Image{SizeOfHeaders: 1024, Sections: append([]petest.Section{{Name: ".text", Content: code, Code: true}}, sections...)}.Bytes()
}

// bytes is the content of the file.
func (f labFile) bytes(t testing.TB) []byte {
	spec, ok := strings.CutPrefix(f.content, "PE ")
	if !ok {
		return []byte(f.content)
	}
	cut := -1
	if at := strings.LastIndex(spec, ";cut="); at >= 0 {
		n, err := strconv.Atoi(spec[at+5:])
		require.NoError(t, err)
		spec, cut = spec[:at], n
	}
	var sections []petest.Section
	for part := range strings.SplitSeq(spec, ";") {
		if name, content, ok := strings.Cut(part, "="); ok {
			sections = append(sections, petest.Section{Name: name, Content: []byte(content)})
		}
	}
	b := labProgram(t, "probe", sections...)
	if cut >= 0 {
		b = b[:cut]
	}
	return b
}

func utf16z(s string) (b []byte) {
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// config is the file \lab of a case.
func (c labCase) config(number int) labFile {
	b := []byte{byte(max(c.boots, 1)), byte(number), byte(number >> 8)}
	for name, value := range c.vars {
		v := utf16z(value)
		b = binary.LittleEndian.AppendUint16(append(b, utf16z(name)...), uint16(len(v)))
		b = append(b, v...)
	}
	return labFile{"lab", string(b)}
}

const labVolume = 9 << 20

// volume makes a FAT file system with mkfs.fat and mtools.
func labFAT(t testing.TB, dir string, files []labFile) []byte {
	volume := filepath.Join(dir, "volume")
	require.NoError(t, os.WriteFile(volume, nil, 0o600))
	require.NoError(t, os.Truncate(volume, labVolume))
	testtools.Run(t, "mkfs.fat", "-F", "16", "-s", "1", volume)
	made := map[string]bool{"": true}
	for _, f := range files {
		at := ""
		for part := range strings.SplitSeq(path.Dir(f.path), "/") {
			if part == "." {
				break
			}
			if at = path.Join(at, part); !made[strings.ToLower(at)] {
				testtools.Run(t, "mmd", "-i", volume, "::"+at)
				made[strings.ToLower(at)] = true
			}
		}
		if strings.HasSuffix(f.path, "/") {
			continue
		}
		content := filepath.Join(dir, "content")
		require.NoError(t, os.WriteFile(content, f.bytes(t), 0o600))
		testtools.Run(t, "mcopy", "-i", volume, content, "::"+f.path)
	}
	b, err := os.ReadFile(volume)
	require.NoError(t, err)
	return b
}

const (
	typeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeXBOOTLDR = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
)

// labDisk makes a disk with these file systems.
func labDisk(t testing.TB, name string, volumes [][]byte, types []string) {
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(2<<20+int64(len(volumes))*labVolume))
	script := "label: gpt\n"
	for i, v := range volumes {
		at := int64(1<<20 + i*labVolume)
		script += fmt.Sprintf("start=%d, size=%d, type=%s\n", at/512, labVolume/512, types[i])
		_, err := f.WriteAt(v, at)
		require.NoError(t, err)
	}
	cmd := exec.Command("sfdisk", "-q", name)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

var labLine = regexp.MustCompile(`PROBE file=(.*?) options=(.*?) LoaderEntrySelected=(.*?) LoaderBootCountPath=(.*?) LoaderEntries=(.*?) LoaderEntryOneShot=(.*?) LoaderEntryLastBooted=(.*?) LoaderInfo=(.*?) END`)

func labText(s string) string {
	if s == "none" {
		return ""
	}
	return strings.TrimSuffix(s, "|")
}

// runLab starts the loader with all cases in one virtual machine after the other: where a case does
// not come back, the machine is ended and the others go on in the next.
func runLab(t testing.TB, loader string, cases []labCase) (boots [][]labBoot) {
	dir := t.TempDir()
	loaderContent, err := os.ReadFile(loader)
	require.NoError(t, err)
	own := labFAT(t, dir, []labFile{{"EFI/BOOT/BOOTX64.EFI", string(labProgram(t, "lab"))}})
	boots = make([][]labBoot, len(cases))
	type made struct{ esp, x []byte }
	volumes := make([]made, len(cases))
	for i, c := range cases {
		volumes[i].esp = labFAT(t, dir, append([]labFile{{"EFI/BOOT/BOOTX64.EFI", string(loaderContent)}, c.config(i)}, c.esp...))
		if c.xbootldr != nil {
			volumes[i].x = labFAT(t, dir, c.xbootldr)
		}
	}
	for next := 0; next < len(cases); {
		disks := []string{}
		add := func(v [][]byte, types []string) {
			name := filepath.Join(dir, fmt.Sprint("disk", len(disks)))
			labDisk(t, name, v, types)
			disks = append(disks, name)
		}
		v, types := [][]byte{own}, []string{typeESP}
		end := next
		for extra := 0; end < len(cases) && len(v) < 60 && extra < 12; end++ {
			if volumes[end].x == nil {
				v, types = append(v, volumes[end].esp), append(types, typeESP)
			} else {
				extra++
			}
		}
		add(v, types)
		for _, m := range volumes[next:end] {
			if m.x != nil {
				add([][]byte{m.esp, m.x}, []string{typeESP, typeXBOOTLDR})
			}
		}
		stuck, done := labMachine(t, dir, disks, boots)
		for i := next; i < end; i++ {
			if i != stuck && len(boots[i]) < max(cases[i].boots, 1) {
				require.False(t, done, "case %d was started %d times only", i, len(boots[i]))
				boots[i] = nil
			}
		}
		t.Logf("cases %d to %d: done %t, stuck at %d", next, end-1, done, stuck)
		if done {
			next = end
			continue
		}
		require.GreaterOrEqual(t, stuck, 0, "nothing was started")
		// What is left goes on without the case that is stuck.
		var rest []int
		for i := next; i < end; i++ {
			if i != stuck && boots[i] == nil {
				rest = append(rest, i)
			}
		}
		if len(rest) > 0 {
			sub := make([]labCase, len(rest))
			for k, i := range rest {
				sub[k] = cases[i]
			}
			for k, b := range runLab(t, loader, sub) {
				boots[rest[k]] = b
			}
		}
		next = end
	}
	return boots
}

// labMachine is one virtual machine. It returns the last case that was started, and whether all
// came to their end.
func labMachine(t testing.TB, dir string, disks []string, boots [][]labBoot) (last int, done bool) {
	vars := filepath.Join(dir, "vars")
	b, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(vars, b, 0o600))
	args := []string{"-machine", "q35", "-accel", "tcg", "-cpu", "max,la57=off,-cx16", "-m", "1536", "-nodefaults", "-display", "none",
		"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,file=" + vars,
		"-serial", "stdio", "-monitor", "none", "-no-reboot"}
	for i, d := range disks {
		args = append(args, "-drive", fmt.Sprintf("if=none,format=raw,id=d%d,file=%s", i, d), "-device", fmt.Sprintf("virtio-blk-pci,drive=d%d,bootindex=%d", i, i+1))
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	const patience = 25 * time.Second
	killed := false
	timer := time.AfterFunc(4*patience, func() {
		killed = true
		_ = cmd.Process.Kill()
	})
	defer timer.Stop()
	last = -1
	var said strings.Builder
	for in := bufio.NewScanner(out); in.Scan(); {
		line := in.Text()
		switch number, isCase := strings.CutPrefix(strings.TrimSpace(line), "CASE "); {
		case isCase:
			if last, err = strconv.Atoi(number); err != nil {
				require.NoError(t, err)
			}
			said.Reset()
			boots[last] = append(boots[last], labBoot{Ended: "hangs"})
			timer.Reset(patience)
			continue
		case strings.TrimSpace(line) == "DONE":
			done = true
			goto end
		case last < 0:
			continue
		}
		boot := &boots[last][len(boots[last])-1]
		if m := labLine.FindStringSubmatch(line); m != nil {
			for i := range m {
				m[i] = labText(m[i])
			}
			*boot = labBoot{File: m[1], Options: m[2], Selected: m[3], CountPath: m[4], OneShot: m[6], LastBooted: m[7]}
			for id := range strings.SplitSeq(m[5], "|") {
				if id != "" && !strings.HasPrefix(id, "auto-") {
					boot.Entries = append(boot.Entries, id)
				}
			}
		} else if s := strings.TrimSpace(line); s == "RETURNED" || s == "NO LOADER" {
			boot.Ended = s
		} else if s != "" {
			said.WriteString(s + "\n")
			t.Logf("case %d: %q", last, s)
		}
	}
	// The machine came to its end by itself, or had to be ended.
	if last >= 0 && !killed {
		boots[last][len(boots[last])-1].Ended = "starts again"
	}
end:
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return last, done
}

// TestRecordLoaders starts the boot loaders of systemd 257 and 262 with the cases that have no
// answer, if OSMITH_UPDATE is 1, and writes down what they did.
func TestRecordLoaders(t *testing.T) {
	if os.Getenv("OSMITH_UPDATE") != "1" {
		t.Skip("testdata/loaderanswers.json is made with OSMITH_UPDATE=1, in some ten minutes")
	}
	cases := loaderCases()
	require.Len(t, labNames(cases), len(cases))
	answers := map[string]map[string][]labBoot{}
	if b, err := os.ReadFile("testdata/loaderanswers.json"); err == nil {
		require.NoError(t, json.Unmarshal(b, &answers))
	}
	for version, root := range map[string]testtools.Root{"257": testtools.Trixie(t), "262": testtools.Forky(t)} {
		var left []labCase // cases that have no answer
		for _, c := range cases {
			if answers[c.name][version] == nil {
				left = append(left, c)
			}
		}
		for i, boots := range runLab(t, root.Part(t, "loader"), left) {
			if answers[left[i].name] == nil {
				answers[left[i].name] = map[string][]labBoot{}
			}
			answers[left[i].name][version] = boots
		}
		b, err := json.MarshalIndent(answers, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("testdata/loaderanswers.json", append(b, '\n'), 0o644))
	}
}
