package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// Every line that has no effect, and every file that is not there, is a finding.
func TestType1Findings(t *testing.T) {
	files := fstest.MapFS{"k": text("k"), "i1": text("i"), "dir/i2": text("i"), "d.dtb": text("d"), "with space": text("i"), "u.efi": text("u"), "x.cred": text("c")}
	for name, c := range map[string]struct {
		entry   string
		version osmith.Version
		want    []string // findings
		damage  string
		initrd  string
		gone    bool // the entry is left out
	}{
		"nothing wrong":          {entry: "title T\nversion 1\nlinux /k\ninitrd /i1\ninitrd \\dir\\i2\noptions a\noptions b\ndevicetree /d.dtb\n", initrd: "i1 dir/i2"},
		"no such initrd":         {entry: "linux /k\ninitrd /i1\ninitrd /gone", want: []string{"line 3: initrd /gone: not on the file system of the entry: file does not exist"}, damage: "line 3: initrd /gone", initrd: "i1 gone"},
		"two on one line":        {entry: "linux /k\ninitrd /i1 /dir/i2", want: []string{"line 2: initrd /i1 /dir/i2: not on the file system of the entry: systemd-boot reads the whole line as one path, so write one line per file: file does not exist"}, damage: "line 2: initrd", initrd: "i1 /dir/i2"},
		"two that are not there": {entry: "linux /k\ninitrd /gone /other", want: []string{"line 2: initrd /gone /other: not on the file system of the entry: file does not exist"}, damage: "line 2: initrd", initrd: "gone /other"},
		"two with a tab":         {entry: "linux /k\ninitrd /i1\t/dir/i2", want: []string{"line 2: initrd /i1\t/dir/i2: not on the file system of the entry: systemd-boot reads the whole line as one path, so write one line per file: file does not exist"}, damage: "line 2: initrd", initrd: "i1\t/dir/i2"},
		"a name with a space":    {entry: "linux /k\ninitrd /with space", initrd: "with space"},
		"a directory":            {entry: "linux /k\ninitrd /dir", want: []string{"line 2: initrd /dir: not on the file system of the entry: is a directory, want a file"}, damage: "line 2: initrd /dir", initrd: "dir"},
		"kernel is a directory":  {entry: "linux /dir", want: []string{"line 1: linux /dir: not on the file system of the entry: is a directory, want a file"}, damage: "line 1: linux /dir"},
		"no such kernel":         {entry: "linux /gone\n", want: []string{"the file to start is missing: line 1: linux /gone: not on the file system of the entry: file does not exist"}, gone: true},
		"no such uki":            {entry: "uki /gone\n", want: []string{"the file to start is missing: line 1: uki /gone: not on the file system of the entry: file does not exist"}, gone: true},
		"no such efi":            {entry: "efi /gone\n", want: []string{"the file to start is missing: line 1: efi /gone: not on the file system of the entry: file does not exist"}, gone: true},
		"no such devicetree":     {entry: "linux /k\ndevicetree /gone", want: []string{"line 2: devicetree /gone: not on the file system of the entry: file does not exist"}, damage: "line 2: devicetree"},
		"devicetree twice":       {entry: "linux /k\ndevicetree /gone\ndevicetree /d.dtb", want: []string{"line 2: devicetree /gone: ignored by systemd-boot: line 3 counts in its place"}},
		"overlays":               {entry: "linux /k\ndevicetree-overlay /a /b", want: []string{"line 2: devicetree-overlay /a /b: ignored by systemd-boot: unknown key"}},
		"initrd beside efi":      {entry: "efi /k\ninitrd /i1", want: []string{"line 2: initrd /i1: ignored by systemd-boot: only beside linux"}, initrd: "i1"},
		"initrd beside uki":      {entry: "initrd /gone\nuki /u.efi", want: []string{"line 1: initrd /gone: ignored by systemd-boot: only beside linux"}, initrd: "gone"},
		"extra":                  {entry: "uki /u.efi\nextra /x.cred\nextra /gone.cred", want: []string{"line 3: extra /gone.cred: not on the file system of the entry: file does not exist"}},
		"extra beside linux":     {entry: "linux /k\nextra /x.cred", want: []string{"line 2: extra /x.cred: ignored by systemd-boot: only beside uki"}},
		"extra in 260":           {entry: "uki /u.efi\nextra /x.cred", version: "260", want: []string{"line 2: extra /x.cred: ignored by systemd-boot: 260 does not know the key, 261 and later do"}},
		"uki in 257":             {entry: "uki /u.efi\n", version: "257.13", want: []string{"line 1: uki /u.efi: ignored by systemd-boot: 257 does not know the key, 258 and later do", "no linux, uki, uki-url or efi line"}, gone: true},
		"profile in 258":         {entry: "uki /u.efi\nprofile 1\n", version: "258", want: []string{"line 2: profile 1: ignored by systemd-boot: 258 does not know the key, 259 and later do"}},
		"profile":                {entry: "uki /u.efi\nprofile one\nprofile +1\nprofile 4294967296\nprofile 2\n", want: []string{"line 2: profile one: ignored by systemd-boot: want a number", "line 3: profile +1: ignored by systemd-boot: want a number", "line 4: profile 4294967296: ignored by systemd-boot: want a number"}},
		"keys twice":             {entry: "title a\ntitle b\nversion 1\nversion 2\nsort-key a\nsort-key b\nmachine-id 1\nmachine-id 2\nlinux /gone\nlinux /k\n", want: []string{"line 1: title a: ignored by systemd-boot: line 2 counts in its place", "line 3: version 1: ignored by systemd-boot: line 4 counts in its place", "line 5: sort-key a: ignored by systemd-boot: line 6 counts in its place", "line 7: machine-id 1: ignored by systemd-boot: line 8 counts in its place", "line 9: linux /gone: ignored by systemd-boot: line 10 counts in its place"}},
		"two kinds":              {entry: "linux /k\nefi /u.efi\n", want: []string{"line 2: efi conflicts with another kind of entry in this file"}, gone: true},
		"two kinds in 257":       {entry: "linux /gone\nefi /k\n", version: "257.13", want: []string{"line 1: linux /gone: ignored by systemd-boot: line 2 counts in its place"}},
		"options alone":          {entry: "options quiet\n", want: []string{"no linux, uki, uki-url or efi line"}, gone: true},
		"unknown":                {entry: "linux /k\nOptions x\ngrub_users a\n# comment\n", want: []string{"line 2: Options x: ignored by systemd-boot: unknown key", "line 3: grub_users a: ignored by systemd-boot: unknown key"}},
		"no value":               {entry: "linux /k\r\noptions\r\n\r\n#x\r\nsort-key\x00initrd", want: []string{"line 2: options: ignored by systemd-boot: there is no value", "line 5: sort-key: ignored by systemd-boot: there is no value"}},
		"not UTF-8":              {entry: "linux /k\n\xff\n\xff x\n", want: []string{"line 2: \uFFFD: ignored by systemd-boot: there is no value", "line 3: x: ignored by systemd-boot: unknown key"}},
		"url":                    {entry: "uki-url http://a/b.efi\nextra /x.cred\ndevicetree /gone\n", want: []string{"line 3: devicetree /gone: ignored by systemd-boot: not beside uki-url", "line 2: extra /x.cred: ignored by systemd-boot: only beside uki"}},
		"up from the root":       {entry: "linux /../k", want: []string{"the file to start is missing: line 1: linux /../k: not on the file system of the entry: file does not exist"}, gone: true},
		"up from nowhere":        {entry: "linux /nothing/../k", want: []string{"the file to start is missing: line 1: linux /nothing/../k: not on the file system of the entry: file does not exist"}, gone: true},
		"up and down":            {entry: "linux /dir/../K\ninitrd /dir/./..//i1", initrd: "i1"},
		"below a file":           {entry: "linux /k/k", want: []string{"the file to start is missing: line 1: linux /k/k: not on the file system of the entry: file does not exist"}, gone: true},
		"slash behind a file":    {entry: "linux /k/", want: []string{"the file to start is missing: line 1: linux /k/: not on the file system of the entry: file does not exist"}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			files["loader/entries/e.conf"] = text(c.entry)
			m := readMenu(t, files, MenuOptions{LoaderVersion: c.version})
			var got []string
			for _, f := range m.Findings {
				require.Equal(t, "loader/entries/e.conf", f.Path)
				got = append(got, f.Err.Error())
				if e, ok := errors.AsType[*EntryError](f.Err); ok {
					require.Equal(t, strings.Contains(e.Error(), "file does not exist"), errors.Is(e, fs.ErrNotExist))
					require.NotEqual(t, errors.Is(e, ErrNotRead), errors.Is(e, ErrNotThere))
				}
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.gone, len(m.Entries) == 0)
			if c.gone {
				return
			}
			require.Equal(t, c.damage == "", m.Entries[0].Damage == "")
			require.True(t, strings.HasPrefix(m.Entries[0].Damage, c.damage), m.Entries[0].Damage)
			require.Equal(t, c.initrd, strings.Join(m.Entries[0].Initrd, " "))
		})
	}
}

// An entry's files are on the entry's own file system, and what cannot be read is an error.
func TestType1Files(t *testing.T) {
	x := fstest.MapFS{"loader/entries/x.conf": text("linux /k\ninitrd /i\n"), "k": text("k")}
	m := readMenu(t, fstest.MapFS{"i": text("i")}, MenuOptions{XBOOTLDR: x})
	require.Len(t, m.Findings, 1)
	require.True(t, m.Findings[0].XBOOTLDR)
	require.ErrorIs(t, m.Findings[0].Err, ErrNotThere)
	for _, key := range []string{"linux", "initrd"} {
		_, err := ReadMenu(partlyBroken{fstest.MapFS{"loader/entries/x.conf": text("linux /k\n" + key + " /bad\n"), "k": text("k"), "bad": text("")}}, MenuOptions{})
		require.ErrorIs(t, err, errBroken, key)
	}
}

// partlyBroken cannot open one of its files.
type partlyBroken struct{ fstest.MapFS }

func (b partlyBroken) Open(name string) (fs.File, error) {
	if name == "bad" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errBroken}
	}
	return b.MapFS.Open(name)
}

// Stat implements [fs.StatFS].
func (b partlyBroken) Stat(name string) (fs.FileInfo, error) {
	if name == "bad" {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: errBroken}
	}
	return b.MapFS.Stat(name)
}

// Whatever a Type #1 entry says, it is read to its end: each finding about a line names one that is
// there, and an entry that is listed starts something.
func FuzzType1(f *testing.F) {
	f.Add("linux /k\ninitrd /i /j\noptions a\r\ndevicetree ../x\nprofile 3", 0)
	f.Add("linux /k\n\xff\xff\x80\n\xff x", 10)
	f.Add("efi \\d\\..\\k\nextra x\nsort-key\nuki-url :a", 10)
	f.Add("uki /d/./k\narchitecture x64\nmachine-id \"", 7)
	f.Fuzz(func(t *testing.T, conf string, release int) {
		rows := Releases()
		row := rows[uint(release)%uint(len(rows))]
		m, err := ReadMenu(fstest.MapFS{"loader/entries/a.conf": text(conf), "k": text("k"), "d/i": text("i")}, MenuOptions{LoaderVersion: row.Version()})
		if err != nil {
			t.Fatal(err)
		}
		rowCount := strings.Count(conf, "\n") + strings.Count(conf, "\r") + 1
		for _, found := range m.Findings {
			if e, ok := errors.AsType[*EntryError](found.Err); ok && (e.Line < 1 || e.Line > rowCount || !strings.HasPrefix(e.Error(), fmt.Sprintf("line %d: ", e.Line))) {
				t.Fatalf("%+v", e)
			}
		}
		for _, e := range m.Entries {
			if e.Loader == "" && e.Type != EntryType1URL || e.Type == 0 || e.Type == EntryType2 {
				t.Fatalf("%+v", e)
			}
		}
	})
}
