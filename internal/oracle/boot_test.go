package oracle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition/fat"
)

// bootFiles are files as [Volume.BootFiles] would have them.
func bootFiles(t testing.TB, files []labFile) (list BootFiles) {
	list = BootFiles{}
	for _, f := range files {
		parts := strings.Split(f.path, "/")
		at := ""
		for _, part := range parts[:len(parts)-1] {
			d, ok := list.find(at + part)
			if !ok {
				d = BootFile{Path: at + part, Dir: true}
				list = append(list, d)
			}
			at = d.Path + "/"
		}
		if name := parts[len(parts)-1]; name != "" {
			list = append(list, NewBootFile(at+name, string(f.bytes(t))))
		}
	}
	return list
}

// machine is the machine of a case.
func (c labCase) machine(t testing.TB, version int) Machine {
	m := Machine{ESP: bootFiles(t, append([]labFile{{"EFI/BOOT/BOOTX64.EFI", string(petest.Loader(strconv.Itoa(version)))}}, c.esp...))}
	if c.xbootldr != nil {
		m.XBOOTLDR = bootFiles(t, c.xbootldr)
	}
	for name, value := range c.vars {
		switch name {
		case "LoaderEntryOneShot":
			m.Variables.OneShot = value
		case "LoaderEntryPreferred":
			m.Variables.Preferred = value
		case "LoaderEntryDefault":
			m.Variables.Default = value
		case "LoaderEntryLastBooted":
			m.Variables.LastBooted = value
		}
	}
	return m
}

// asLab is a choice as the program that was started sees it.
func asLab(c Choice) (b labBoot) {
	for _, e := range c.Menu {
		b.Entries = append(b.Entries, e.ID)
	}
	if c.Outcome != OutcomeStarted {
		b.Ended = c.Outcome.String()
		return b
	}
	b.File = c.Image
	b.Selected = c.Entry.ID
	if c.To != "" {
		b.CountPath = `\` + strings.ReplaceAll(c.To, "/", `\`)
	}
	b.OneShot, b.LastBooted = c.Next.Variables.OneShot, c.Next.Variables.LastBooted
	return b
}

// find is the path of a program as the file system has it.
func (m Machine) find(e *BootEntry, file string) (string, bool) {
	fs := m.ESP
	if e != nil && e.XBOOTLDR {
		fs = m.XBOOTLDR
	}
	f, ok := fs.find(strings.ReplaceAll(file, `\`, "/"))
	return f.Path, ok
}

// The loaders of systemd 257 and 262 were started with all cases: testdata/README.md.
func TestBootAsSystemdBoot(t *testing.T) {
	text, err := os.ReadFile("testdata/loaderanswers.json")
	require.NoError(t, err)
	var answers map[string]map[string][]labBoot
	require.NoError(t, json.Unmarshal(text, &answers))
	cases := loaderCases()
	require.Equal(t, len(cases), len(answers))
	for _, c := range cases {
		for _, version := range []int{257, 262} {
			want := answers[c.name][strconv.Itoa(version)]
			t.Run(c.name+" "+strconv.Itoa(version), func(t *testing.T) {
				require.NotZero(t, len(want), "no answer")
				if want[len(want)-1].Ended != "starts again" {
					require.Equal(t, max(c.boots, 1), len(want))
				}
				m := c.machine(t, version)
				for i, w := range want {
					choice := m.Boot()
					got := asLab(choice)
					if choice.Entry != nil && w.File != "" {
						want := "" // what the program is given, which names the profile of a UKI
						switch e := choice.Entry; {
						case e.Kind == EntryUKI && e.Profile > 0:
							want = fmt.Sprintf("@%d", e.Profile)
						case e.Kind != EntryUKI:
							want = strings.ReplaceAll(strings.ReplaceAll(e.Options, "\u00e9", "{00e9}"), "\U0001f600", "")
						}
						require.Equal(t, want, w.Options, "start %d: %v", i, choice)
					}
					w.Options = ""
					if f, ok := choice.Next.find(choice.Entry, w.File); ok {
						w.File = f
					}
					if w.File == "" {
						require.NotEqual(t, OutcomeStarted, choice.Outcome, "start %d: %v, want %s", i, choice, w.Ended)
						if choice.Outcome == OutcomeFailed {
							require.Equal(t, w.Ended == "starts again", choice.Restarts, "start %d: %v, want %s", i, choice, w.Ended)
						}
					} else {
						require.Equal(t, w, got, "start %d: %v", i, choice)
					}
					m = choice.Next
				}
			})
		}
	}
}

// Every row of evidence names cases that there are.
func TestLoaderEvidence(t *testing.T) {
	names := labNames(loaderCases())
	for _, e := range LoaderEvidence() {
		found := 0
		for part := range strings.SplitSeq(e.Source, "; ") {
			for name := range strings.SplitSeq(part, ", ") {
				prefix, many := strings.CutSuffix(name, "*")
				if slices.ContainsFunc(names, func(n string) bool { return n == name || many && strings.HasPrefix(n, prefix) }) || name == "all cases" {
					found++
				}
			}
		}
		require.NotZero(t, found, "%s: %s", e.Rule, e.Source)
	}
}

// bootCase is a machine with systemd-boot 262 and these UKIs.
func bootCase(t testing.TB, names ...string) Machine {
	return labCase{esp: ukis(names...)}.machine(t, 262)
}

// started are the programs that were started one after the other, or how it ended.
func started(chain []Choice) (list []string) {
	for _, c := range chain {
		if c.Outcome == OutcomeStarted {
			list = append(list, c.Image)
		} else {
			list = append(list, c.Outcome.String())
		}
	}
	return list
}

func TestChain(t *testing.T) {
	m := bootCase(t, "os_1.efi", "os_2+3.efi")
	chain := m.Chain(10)
	require.Equal(t, []string{"EFI/Linux/os_2+2-1.efi", "EFI/Linux/os_2+1-2.efi", "EFI/Linux/os_2+0-3.efi", "EFI/Linux/os_1.efi"}, started(chain))
	require.Equal(t, "started EFI/Linux/os_2+2-1.efi (first in the menu)", chain[0].String())
	require.Equal(t, []string{"EFI/Linux/os_2+2-1.efi"}, started(m.Chain(1)))

	m.Variables.OneShot = "os_1.efi"
	require.Equal(t, []string{"EFI/Linux/os_1.efi", "EFI/Linux/os_2+2-1.efi", "EFI/Linux/os_2+1-2.efi", "EFI/Linux/os_2+0-3.efi", "EFI/Linux/os_1.efi"}, started(m.Chain(10)))
	require.Equal(t, "os_1.efi", m.Variables.OneShot, "the machine itself does not change")

	// Firmware that cannot rename never falls back.
	m = bootCase(t, "os_1.efi", "os_2+3.efi")
	m.NoRename = true
	chain = m.Chain(10)
	require.Equal(t, []string{"EFI/Linux/os_2+3.efi"}, started(chain))
	require.Contains(t, chain[0].Err, "the firmware cannot")

	// A program that firmware refuses is tried as often as it has tries.
	m = bootCase(t, "os_1.efi", "os_2+2.efi")
	m.Refuses = func(path string) error {
		if strings.Contains(path, "os_2") {
			return errors.New("nobody trusts it")
		}
		return nil
	}
	chain = m.Chain(10)
	require.Equal(t, []string{"cannot be loaded", "cannot be loaded", "EFI/Linux/os_1.efi"}, started(chain))
	require.Equal(t, "nobody trusts it", chain[0].Err)
	require.True(t, chain[0].Restarts)
	m.Version = 257
	require.False(t, m.Boot().Restarts)
}

// What firmware starts before there is a choice.
func TestBootWithoutLoader(t *testing.T) {
	loader := string(petest.Loader("262"))
	file := func(path, content string) Machine {
		return Machine{ESP: bootFiles(t, []labFile{{path, content}})}
	}
	for name, c := range map[string]struct {
		m    Machine
		want Outcome
		err  string
	}{
		"no loader":            {Machine{}, OutcomeNothing, "there is no EFI/BOOT/BOOTX64.EFI"},
		"another architecture": {file("EFI/BOOT/BOOTAA64.EFI", loader), OutcomeNothing, "there is no EFI/BOOT/BOOTX64.EFI"},
		"no program":           {file("EFI/BOOT/BOOTX64.EFI", "x"), OutcomeNothing, "beyond the end"},
		"a directory":          {file("EFI/BOOT/BOOTX64.EFI/x", "x"), OutcomeNothing, "there is no EFI/BOOT/BOOTX64.EFI"},
		"cut off":              {file("EFI/BOOT/BOOTX64.EFI", loader[:len(loader)-600]), OutcomeNothing, "ends at"},
		"for another machine":  {Machine{Architecture: "aa64", ESP: bootFiles(t, []labFile{{"EFI/BOOT/BOOTAA64.EFI", loader}})}, OutcomeNothing, "machine type 0x8664, want 0xaa64"},
		"a UKI":                {file("efi/boot/bootx64.efi", labOS("1")), OutcomeDirect, ""},
		"nothing to start":     {file("EFI/BOOT/BOOTX64.EFI", loader), OutcomeMenu, "there is no entry"},
	} {
		got := c.m.Boot()
		require.Equal(t, c.want, got.Outcome, name)
		require.Contains(t, got.Err, c.err, name)
	}
	m := bootCase(t, "os_1.efi")
	m.Refuses = func(path string) error { return errors.New("refused") }
	require.Equal(t, "no boot loader: EFI/BOOT/BOOTX64.EFI: refused", m.Boot().String())
}

// A volume is read as its driver reads it, in parts that lie anywhere in its clusters.
func TestBootOfVolume(t *testing.T) {
	disk := faultio.NewDisk(4 << 20)
	require.NoError(t, fat.Build(disk, []osmith.ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Content: bytes.NewReader(petest.Loader("262"))},
		{Path: "EFI/Linux/os_1+2.efi", Content: bytes.NewReader(labFile{"", labOS("1") + ";.initrd=" + strings.Repeat("y", 9000)}.bytes(t))},
	}, fat.BuildOptions{Size: disk.Size(), VolumeID: 1}))
	v, err := ReadFAT(disk, disk.Size(), FATOptions{Reader: FATReaderEDK2})
	require.NoError(t, err)
	c := Boot(v, nil, LoaderVariables{})
	require.Equal(t, "started EFI/Linux/os_1+1-1.efi (first in the menu)", c.String())
	require.Equal(t, 262, c.Version)
	require.Equal(t, "1", c.Entry.Version)
	got, err := c.Next.ESP.ReadFile(c.Image)
	require.NoError(t, err)
	want, err := v.ReadFile("EFI/Linux/os_1+2.efi")
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	_, err = c.Next.ESP.ReadFile("EFI/Linux/os_1+2.efi")
	require.Error(t, err)
	require.Equal(t, c.String(), Boot(v, v, LoaderVariables{}).String())
}

// No content of files makes the judge panic, or see what is not there.
func FuzzBoot(f *testing.F) {
	f.Add([]byte("linux /k\noptions x"), []byte("default a*"), []byte("MZ"), "a+3-1", "*[a-]")
	uki := labFile{"", labOS("1") + ";.profile=ID=a\n;.profile=ID=b\n"}.bytes(f)
	f.Add([]byte("efi /u"), []byte("timeout menu-force"), uki, "OS_1+2", `\a`)
	f.Fuzz(func(t *testing.T, conf, config, uki []byte, name, pattern string) {
		if strings.ContainsAny(name, "/\x00") {
			return
		}
		m := Machine{ESP: bootFiles(t, []labFile{{"EFI/BOOT/BOOTX64.EFI", "PE .sdmagic=#### LoaderInfo: systemd-boot 262 ####"}, {"k", "x"}, {"u", string(uki)},
			{"loader/loader.conf", string(config)}, {"loader/entries/" + name + ".conf", string(conf)}, {"EFI/Linux/" + name + ".efi", string(uki)}}),
			Variables: LoaderVariables{Default: pattern}}
		for _, c := range m.Chain(5) {
			if c.Outcome != OutcomeStarted {
				continue
			}
			if c.Entry == nil || c.Reason == BootReasonNone || c.Version != 262 {
				t.Fatalf("%v", c)
			}
			if _, ok := c.Next.ESP.find(c.Image); !ok && c.Entry.Kind != EntryConfUKIURL {
				t.Fatalf("%v: the program is not there", c)
			}
		}
	})
}
