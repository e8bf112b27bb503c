package bootloader

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
)

// ukiFile is as much of a UKI as a boot loader looks at: pairs of section names and contents.
func ukiFile(sections ...string) *fstest.MapFile {
	im := petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}}}
	for i := 0; i < len(sections); i += 2 {
		im.Sections = append(im.Sections, petest.Section{Name: sections[i], Content: []byte(sections[i+1])})
	}
	return &fstest.MapFile{Data: im.Bytes()}
}

func release(version string) *fstest.MapFile {
	return ukiFile(".linux", "kernel", ".osrel", "ID=os\nIMAGE_VERSION="+version+"\nPRETTY_NAME=\"OS "+version+"\"\n", ".cmdline", " ro\tquiet\n")
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func readMenu(t testing.TB, esp fs.FS, o MenuOptions) *Menu {
	t.Helper()
	m, err := ReadMenu(esp, o)
	require.NoError(t, err)
	return m
}

func ids(m *Menu) (list []string) {
	for _, e := range m.Entries {
		list = append(list, e.ID)
	}
	return list
}

func paths(m *Menu) (list []string) {
	for _, e := range m.Entries {
		list = append(list, e.Path)
	}
	return list
}

func TestMenuOrder(t *testing.T) {
	sortKey := func(key, machine, version string) *fstest.MapFile {
		s := "linux /k\nversion " + version + "\n"
		if key != "" {
			s += "sort-key " + key + "\n"
		}
		if machine != "" {
			s += "machine-id " + machine + "\n"
		}
		return text(s)
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  []string
	}{
		"newest first": {fstest.MapFS{"EFI/Linux/os_9.efi": release("9"), "EFI/Linux/os_10.efi": release("10"), "EFI/Linux/os_10~rc1.efi": release("10~rc1")},
			[]string{"EFI/Linux/os_10.efi", "EFI/Linux/os_10~rc1.efi", "EFI/Linux/os_9.efi"}},
		"counted newer first": {fstest.MapFS{"EFI/Linux/os_1.efi": release("1"), "EFI/Linux/os_2+3.efi": release("2")},
			[]string{"EFI/Linux/os_2+3.efi", "EFI/Linux/os_1.efi"}},
		"bad last": {fstest.MapFS{"EFI/Linux/os_1.efi": release("1"), "EFI/Linux/os_2+0-3.efi": release("2"), "EFI/Linux/os_0.efi": release("0")},
			[]string{"EFI/Linux/os_1.efi", "EFI/Linux/os_0.efi", "EFI/Linux/os_2+0-3.efi"}},
		"all bad": {fstest.MapFS{"EFI/Linux/os_1+0-1.efi": release("1"), "EFI/Linux/os_2+0-3.efi": release("2")},
			[]string{"EFI/Linux/os_2+0-3.efi", "EFI/Linux/os_1+0-1.efi"}},
		"sort keys": {fstest.MapFS{"k": text(""), "loader/entries/a.conf": sortKey("z", "", "1"), "loader/entries/b.conf": sortKey("", "", "9"),
			"loader/entries/c.conf": sortKey("a", "2", "1"), "loader/entries/d.conf": sortKey("a", "1", "1"), "loader/entries/e.conf": sortKey("a", "", "1"),
			"loader/entries/f.conf": sortKey("a", "1", "2"), "loader/entries/g.conf": sortKey("", "", "1")},
			[]string{"loader/entries/e.conf", "loader/entries/f.conf", "loader/entries/d.conf", "loader/entries/c.conf", "loader/entries/a.conf", "loader/entries/g.conf", "loader/entries/b.conf"}},
		"same id, more tries first": {fstest.MapFS{"EFI/Linux/os+1-2.efi": release("1"), "EFI/Linux/os+2-1.efi": release("1"), "EFI/Linux/os+2-0.efi": release("1")},
			[]string{"EFI/Linux/os+2-0.efi", "EFI/Linux/os+2-1.efi", "EFI/Linux/os+1-2.efi"}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, paths(readMenu(t, c.files, MenuOptions{})))
		})
	}
}

func TestEntryFields(t *testing.T) {
	m := readMenu(t, fstest.MapFS{
		"EFI/Linux/OS_2+3-1.EFI": release("2"),
		"LOADER/Entries/Old.conf": text("# comment\ntitle \"Old system\"\nversion  1.0\nlinux \\Vmlinuz\ninitrd /a\ninitrd \\b/../c\noptions root=/dev/sda1\n" +
			"options quiet\narchitecture X64\nsort-key old\nmachine-id 42\nunknown x\nnothing\n"),
		"vmlinuz": text("k"), "A": text("i"), "c": text("i"), "b/x": text(""),
		"LOADER/loader.conf": text("timeout 3\n"),
	}, MenuOptions{})
	require.Len(t, m.Entries, 2)
	require.Len(t, m.Findings, 2)
	assert.ErrorContains(t, m.Findings[0].Err, "line 13: nothing: ignored by systemd-boot: there is no value")
	assert.ErrorContains(t, m.Findings[1].Err, "line 12: unknown x: ignored by systemd-boot: unknown key")
	assert.Equal(t, "3", m.Config.Timeout)
	old, ok := m.Entry("old.conf")
	require.True(t, ok)
	assert.Equal(t, Entry{ID: "old.conf", Path: "LOADER/Entries/Old.conf", Type: EntryType1Linux, Title: "Old system", Version: "1.0", SortKey: "old", MachineID: "42",
		Loader: "vmlinuz", Initrd: []string{"A", "c"}, Files: []string{"vmlinuz", "A", "c"}, Options: "root=/dev/sda1 quiet", rules: rules262, hasSortKey: true, suffix: ".conf"}, *old)
	os, ok := m.Entry("OS_2.efi") // the loader does not fold the case of counted UKIs
	require.True(t, ok)
	assert.Equal(t, Entry{ID: "OS_2.efi", Path: "EFI/Linux/OS_2+3-1.EFI", Type: EntryType2, Title: "OS 2", Version: "2", SortKey: "os", Loader: "EFI/Linux/OS_2+3-1.EFI",
		Options: "ro quiet", Counted: true, Counter: Counter{3, 1, 1, 1}, rules: rules262, hasSortKey: true, stem: "OS_2", suffix: ".efi"}, *os)
}

func TestProfilesAndTitles(t *testing.T) {
	m := readMenu(t, fstest.MapFS{"EFI/Linux/os+2.efi": ukiFile(
		".osrel", "IMAGE_ID=img\nID=os\nVERSION=3\n", ".cmdline", "base", ".profile", "ID=main\n",
		".profile", "ID=debug\n", ".cmdline", "debug", ".profile", "TITLE=Factory reset\n", ".profile", "x\n")}, MenuOptions{})
	assert.Equal(t, []string{"os.efi", "os.efi@debug", "os.efi@2", "os.efi@3"}, ids(m))
	var titles, options []string
	for _, e := range m.Entries {
		titles = append(titles, e.Title)
		options = append(options, e.Options)
		from, to := e.Boot()
		assert.Equal(t, "EFI/Linux/os+2.efi EFI/Linux/os+1-1.efi", from+" "+to)
	}
	assert.Equal(t, []string{"img", "img (debug)", "img (Factory reset)", "img (Profile #4)"}, titles)
	assert.Equal(t, []string{"base", "debug", "base", "base"}, options)
	e, reason := m.Default(Variables{EntryDefault: "os.efi@DEBUG"})
	assert.Equal(t, "os.efi@debug", e.ID)
	assert.Equal(t, ReasonDefault, reason)
}

func TestFindings(t *testing.T) {
	cut := release("3")
	cut.Data = cut.Data[:len(cut.Data)-600]
	arm := release("4")
	arm.Data = bytes.Clone(arm.Data)
	arm.Data[64+4], arm.Data[64+5] = 0x64, 0xaa
	m := readMenu(t, fstest.MapFS{
		"EFI/Linux/text.efi":         text("text"),
		"EFI/Linux/cut.efi":          cut,
		"EFI/Linux/arm.efi":          arm,
		"EFI/Linux/noname.efi":       ukiFile(".osrel", "X=y\n"),
		"EFI/Linux/noosrel.efi":      ukiFile(".linux", "x"),
		"EFI/Linux/twin.efi":         release("1"),
		"EFI/Linux/twin+3.efi":       release("1"),
		"EFI/Linux/auto-x.efi":       release("1"),
		"EFI/Linux/.hidden.efi":      release("1"),
		"EFI/Linux/dir.efi/x":        text(""),
		"loader/entries/empty.conf":  text("title x\n"),
		"loader/entries/both.conf":   text("linux /k\nefi /k\n"),
		"loader/entries/gone.conf":   text("linux /gone\n"),
		"loader/entries/under.conf":  text("linux /k/under/a/file\n"),
		"loader/entries/other.conf":  text("linux /k\narchitecture aa64\n"),
		"loader/entries/net.conf":    text("uki-url :x.efi\n"),
		"loader/entries/self.conf":   text("efi \\EFI\\systemd\\systemd-bootx64.efi\n"),
		"loader/entries/auto-a.conf": text("linux /k\n"),
		"k":                          text(""),
	}, MenuOptions{Self: "/EFI/systemd/systemd-bootx64.efi"})
	assert.ElementsMatch(t, []string{"cut.efi", "twin.efi", "twin.efi"}, ids(m))
	found := make(map[string]error)
	for _, f := range m.Findings {
		found[strings.TrimPrefix(strings.TrimPrefix(f.Path, "EFI/Linux/"), "loader/entries/")] = f.Err
	}
	assert.Len(t, found, 13)
	assert.ErrorIs(t, found["twin.efi"], ErrTwinExists)
	assert.ErrorContains(t, found["cut.efi"], "the file at")
	assert.ErrorIs(t, found["arm.efi"], errNotForHere)
	assert.ErrorIs(t, found["gone.conf"], fs.ErrNotExist)
	assert.ErrorIs(t, found["under.conf"], fs.ErrNotExist)
	cutEntry, _ := m.Entry("cut.efi")
	assert.NotEmpty(t, cutEntry.Damage)
	arm64 := readMenu(t, fstest.MapFS{"EFI/Linux/arm.efi": arm}, MenuOptions{Architecture: "aa64"})
	assert.Equal(t, []string{"arm.efi"}, ids(arm64))
}

func TestXBOOTLDR(t *testing.T) {
	m := readMenu(t, fstest.MapFS{"EFI/Linux/a.efi": release("1")}, MenuOptions{XBOOTLDR: fstest.MapFS{"EFI/Linux/b.efi": release("2"), "loader/loader.conf": text("timeout 9")}})
	assert.Equal(t, []string{"b.efi", "a.efi"}, ids(m))
	assert.True(t, m.Entries[0].XBOOTLDR)
	assert.Empty(t, m.Config.Timeout)
}

func TestUnreadable(t *testing.T) {
	m, err := ReadMenu(brokenFS{}, MenuOptions{})
	assert.Nil(t, m)
	assert.ErrorIs(t, err, errBroken)
	m, err = ReadMenu(fstest.MapFS{}, MenuOptions{})
	require.NoError(t, err)
	e, reason := m.Default(Variables{})
	assert.Nil(t, e)
	assert.Equal(t, ReasonNothing, reason)
}

var errBroken = errors.New("broken")

type brokenFS struct{}

func (brokenFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errBroken}
}

// fuzzRelease is one of the releases, by the length of an input.
func fuzzRelease(b []byte) osmith.Version { return Releases()[len(b)%len(Releases())].Version() }

func FuzzReadMenu(f *testing.F) {
	f.Add(release("1").Data, []byte("title x\nlinux /k\n"), []byte("timeout 3\ndefault os*\n"), "os*")
	f.Add(ukiFile(".osrel", "ID=a\n", ".profile", "ID=b", ".profile", "").Data[:1200], []byte("uki /k\nprofile 3"), []byte("preferred @saved"), "[a-z]*")
	f.Fuzz(func(t *testing.T, uki, conf, config []byte, pattern string) {
		m, err := ReadMenu(fstest.MapFS{
			"EFI/Linux/os+3.efi": {Data: uki}, "EFI/Linux/os.efi": {Data: uki}, "loader/entries/a.conf": {Data: conf}, "loader/entries/b+1.conf": {Data: conf},
			"loader/loader.conf": {Data: config}, "k": {},
		}, MenuOptions{LoaderVersion: fuzzRelease(config)})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range m.Entries {
			if from, to := e.Boot(); from != to && !e.Counted {
				t.Fatal(from, to)
			}
		}
		e, reason := m.Default(Variables{EntryOneShot: pattern, EntryDefault: pattern, EntryPreferred: pattern})
		if (e == nil) != (reason == ReasonNothing) {
			t.Fatal(e, reason)
		}
	})
}

// failing is a file system on which one file cannot be read.
type failing struct {
	fs.FS
	name string
}

func (f failing) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("a bad sector")}
	}
	return f.FS.Open(name)
}

// A file that cannot be read is an error, or with KeepGoing a finding beside what can be.
func TestMenuPastUnreadableFiles(t *testing.T) {
	esp := fstest.MapFS{
		"loader/entries/a.conf": {Data: []byte("title A\nlinux /linux\n")},
		"loader/entries/b.conf": {Data: []byte("title B\nlinux /linux\n")},
		"linux":                 {Data: []byte("kernel")},
	}
	_, err := ReadMenu(failing{esp, "loader/entries/b.conf"}, MenuOptions{})
	require.ErrorContains(t, err, "a bad sector")
	menu, err := ReadMenu(failing{esp, "loader/entries/b.conf"}, MenuOptions{KeepGoing: true})
	require.NoError(t, err)
	require.Len(t, menu.Entries, 1)
	require.Equal(t, []string{"linux"}, menu.Entries[0].Files)
	require.Len(t, menu.Findings, 1)
	require.Equal(t, "loader/entries/b.conf", menu.Findings[0].Path)
	require.ErrorIs(t, menu.Findings[0].Err, ErrUnreadable)
	_, err = ReadMenu(failing{fstest.MapFS{"loader/loader.conf": {}}, "loader/loader.conf"}, MenuOptions{KeepGoing: true})
	require.ErrorContains(t, err, "a bad sector", "by what it goes is not known")
}
