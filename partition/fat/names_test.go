package fat

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/oracle"
)

func units(s string) []uint16 { return utf16.Encode([]rune(s)) }

// addFile adds a file of one cluster to a directory.
func (e *editor) addFile(dir string, long []uint16, short string, cluster uint32, content string) {
	e.t.Helper()
	e.add(dir, named(long, short, attrArchive, cluster, uint32(len(content))))
	e.set(cluster, endOfChain)
	e.WriteAt([]byte(content), e.g.clusterOff(cluster))
}

// Names that differ by case, or by letters that some tables fold, are those of different files: the
// exact one is meant, and where none is exact a change is refused.
func TestNamesThatDifferByCase(t *testing.T) {
	base := build(t, smallESP(), BuildOptions{Size: 24 << 20})
	e := edit(t, base)
	top := e.g.clusters - 100
	e.addFile(".", units("Config Upper.efi"), "CONFIG~1EFI", top, "AAA\n")
	e.addFile(".", units("config upper.efi"), "CONFIG~2EFI", top+1, "bbb\n")
	e.addFile(".", units("\u017fys.efi"), "YS~1    EFI", top+2, "long-s\n")
	e.addFile(".", nil, "SYS     EFI", top+3, "plain\n")
	e.addFile(".", units("Foo Bar.txt"), "FOOBAR~1TXT", top+4, "alias\n")
	e.addFile(".", units("foobar~1.txt"), "FOOBAR~2TXT", top+5, "name\n")
	before := look(t, base).Contents()
	requireWhole(t, base)
	for _, c := range []struct{ name, content, removes string }{
		{"Config Upper.efi", "AAA\n", "Config Upper.efi"},
		{"config upper.efi", "bbb\n", "config upper.efi"},
		{"CONFIG UPPER.EFI", "AAA\n", ""}, // the first one, as drivers do; a change is refused
		{"config~2.EFI", "bbb\n", "config upper.efi"},
		{"\u017fys.efi", "long-s\n", "\u017fys.efi"},
		{"\u017fYS.EFI", "long-s\n", "\u017fys.efi"},
		{"sys.efi", "plain\n", "SYS.EFI"},
		{"SYS.EFI", "plain\n", "SYS.EFI"},
		{"ys~1.efi", "long-s\n", "\u017fys.efi"},
		// the exact name of one before the alias of another
		{"foobar~1.txt", "name\n", "foobar~1.txt"},
		{"FOOBAR~1.TXT", "name\n", ""},
		{"foo bar.TXT", "alias\n", "Foo Bar.txt"},
	} {
		d := base.Clone()
		f, err := Open(d)
		require.NoError(t, err)
		b, err := f.ReadFile(c.name)
		require.NoError(t, err, c.name)
		require.Equal(t, c.content, string(b), c.name)
		if c.removes == "" {
			for _, err := range []error{f.Remove(c.name), f.Rename(c.name, "x"), f.ReplaceFile(c.name, strings.NewReader("x"))} {
				require.ErrorIs(t, err, ErrAmbiguous, c.name)
			}
			requireContents(t, before, d, nil)
			continue
		}
		require.ErrorIs(t, f.WriteFile(c.name, strings.NewReader("x")), fs.ErrExist)
		require.NoError(t, f.Rename(c.name, "another name.bin"))
		requireContents(t, before, d, []string{c.removes}, "another name.bin")
		d = base.Clone()
		f, err = Open(d)
		require.NoError(t, err)
		require.NoError(t, f.Remove(c.name))
		requireContents(t, before, d, []string{c.removes})
		requireWhole(t, d)
	}
	d := base.Clone()
	f, err := Open(d)
	require.NoError(t, err)
	require.ErrorIs(t, f.Rename("config upper.efi", "CONFIG UPPER.efi"), fs.ErrExist, "it would be the other one's name, too")
	require.ErrorIs(t, f.WriteFile("cOnfig upper.efi", strings.NewReader("x")), fs.ErrExist)
	require.NoError(t, f.WriteFile("\u017fys2.efi", strings.NewReader("s")))
	require.NoError(t, f.WriteFile("sys2.efi", strings.NewReader("plain")))
	requireContents(t, before, d, nil, "\u017fys2.efi", "sys2.efi")
}

// The directories of a path are found by the same rule, and a name that a damaged directory has
// twice belongs to no file.
func TestAmbiguousDirectories(t *testing.T) {
	d := build(t, smallESP(), BuildOptions{Size: 24 << 20})
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, f.MkdirAll("Some Directory"))
	require.NoError(t, f.MkdirAll("another directory"))
	e := edit(t, d)
	_, at, _ := e.entry("another directory") // becomes "some directory"
	e.WriteAt(named(units("some directory"), "ANOTHE~1   ", attrDirectory, 0, 0)[:64], at)
	require.NoError(t, f.WriteFile("some directory/a", strings.NewReader("1")))
	require.NoError(t, f.WriteFile("Some Directory/a", strings.NewReader("2")))
	require.ErrorIs(t, f.WriteFile("SOME DIRECTORY/b", strings.NewReader("3")), ErrAmbiguous)
	require.ErrorIs(t, f.MkdirAll("SOME DIRECTORY/b"), ErrAmbiguous)
	require.ErrorIs(t, f.Remove("SOME DIRECTORY/a"), ErrAmbiguous)
	require.ErrorIs(t, f.Rename("SOME DIRECTORY/a", "SOME DIRECTORY/b"), ErrAmbiguous)
	b, err := f.ReadFile("some directory/A")
	require.NoError(t, err)
	require.Equal(t, "1", string(b))
	requireWhole(t, d)

	e.addFile(".", nil, "TWICE   TXT", e.g.clusters-3, "first")
	e.addFile(".", nil, "TWICE   TXT", e.g.clusters-2, "second")
	f, err = Open(d)
	require.NoError(t, err)
	require.ErrorIs(t, f.Remove("TWICE.TXT"), ErrAmbiguous)
	b, err = f.ReadFile("TWICE.TXT")
	require.NoError(t, err)
	require.Equal(t, "first", string(b))
}

func TestSameName(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"a", "A", true}, {"EFI/Linux", "efi/LINUX", true}, {"a", "b", false}, {"a", "ab", false}, {"@", "`", false},
		{"[", "{", false}, {"Ä", "ä", false}, {"\u017f", "s", false}, {"\u212a", "k", false}, {"ẞ", "ß", false}, {"größe", "GRößE", true},
	} {
		require.Equal(t, c.want, SameName(c.a, c.b), "%q %q", c.a, c.b)
		require.Equal(t, c.want, fold(c.a) == fold(c.b), "%q %q", c.a, c.b)
	}
}

// oddNames are sets in order and with the right checksum: the long name is that of the short entry
// whatever it says.
var oddNames = []struct {
	name   string
	set    []byte
	listed string // "": the 8.3 alias
}{
	{"U+FFFD", named(units("Report \ufffd 2024.txt"), "REPORT~1TXT", attrArchive, 0, 0), "Report \ufffd 2024.txt"},
	{"high surrogate", named([]uint16{'R', 0xd83d, '.', 't'}, "R~1     T  ", attrArchive, 0, 0), ""},
	{"high surrogate at the end", named([]uint16{'R', 0xd83d}, "R~1     T  ", attrArchive, 0, 0), ""},
	{"low surrogate", named([]uint16{'R', 0xdc00, 'x', '.', 't'}, "R~1     T  ", attrArchive, 0, 0), ""},
	{"wrong order", named([]uint16{0xdc00, 0xd83d}, "R~1     T  ", attrArchive, 0, 0), ""},
	{"pair", named(units("emoji \U0001f600 ok.txt"), "EMOJI~1 TXT", attrArchive, 0, 0), "emoji \U0001f600 ok.txt"},
	{"slash", named(units("a/b"), "A_B~1   TXT", attrArchive, 0, 0), ""},
	{"empty", named([]uint16{0, 'x'}, "EMPTY~1 TXT", attrArchive, 0, 0), ""},
	{"dot", named(units("."), "DOT~1   TXT", attrArchive, 0, 0), ""},
	{"dots", named(units(".."), "DOT~1   TXT", attrArchive, 0, 0), ""},
	{"trailing dot", named(units("trail."), "TRAIL~1    ", attrArchive, 0, 0), "trail."},
	{"control", named(units("a\x01b"), "A_B~1   TXT", attrArchive, 0, 0), "a\x01b"},
	{"right to left", named(units("a\u202eb.txt"), "AB~1    TXT", attrArchive, 0, 0), "a\u202eb.txt"},
	{"13 units", named(units("exactly 13 un"), "EXACTL~1   ", attrArchive, 0, 0), "exactly 13 un"},
	{"255 units", named(units(strings.Repeat("x", 255)), "XXXXXX~1   ", attrArchive, 0, 0), strings.Repeat("x", 255)},
	{"260 units", named(units(strings.Repeat("x", 260)), "XXXXXX~1   ", attrArchive, 0, 0), ""},
	{"LDIR_Type", poke(named(units("type one.txt"), "TYPEON~1TXT", attrArchive, 0, 0), 12, 1), "type one.txt"},
	{"LDIR_FstClusLO", poke(named(units("cluster.text"), "CLUSTE~1TXT", attrArchive, 0, 0), 26, 5), "cluster.text"},
}

func poke(b []byte, at int, v byte) []byte { b[at] = v; return b }

// Repair does not touch a long name that has its short entry, and no change of another name does;
// its file is read, replaced, renamed and removed by the name that it is listed with.
func TestOddLongNames(t *testing.T) {
	for _, c := range oddNames {
		d := build(t, smallESP(), BuildOptions{Size: 24 << 20})
		e := edit(t, d)
		set := bytes.Clone(c.set)
		setCluster(set[len(set)-entrySize:], e.g.clusters-7, 5)
		e.set(e.g.clusters-7, endOfChain)
		e.WriteAt([]byte("hello"), e.g.clusterOff(e.g.clusters-7))
		e.add("loader/entries", set)
		there := func() bool {
			cluster, _, _ := e.entry("loader/entries")
			b := make([]byte, 8*e.g.clusterSize)
			e.ReadAt(b, e.g.clusterOff(cluster))
			return bytes.Contains(b, set)
		}
		require.True(t, there())
		before := look(t, d).Contents()
		base := d.Clone()

		f, err := Open(d)
		require.NoError(t, err)
		list, err := f.ReadDir("loader/entries")
		require.NoError(t, err)
		require.Len(t, list, 1)
		info, err := list[0].Info()
		require.NoError(t, err)
		a := info.Sys().(Attributes)
		require.Equal(t, c.listed == "", a.ByAlias, c.name)
		require.Equal(t, map[bool]string{true: a.ShortName, false: c.listed}[c.listed == ""], list[0].Name(), c.name)
		path := "loader/entries/" + list[0].Name()
		b, err := f.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
		_, err = f.ReadFile("loader/entries/" + strings.ToLower(a.ShortName))
		require.NoError(t, err, "by its alias")

		done, err := f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{}, done, c.name)
		require.True(t, there(), c.name)
		for i := range 6 { // others come, change and go in the same sector
			require.NoError(t, f.WriteFile(fmt.Sprintf("loader/entries/number %d.conf", i), strings.NewReader("x")))
		}
		require.NoError(t, f.Remove("loader/entries/number 0.conf"))
		require.NoError(t, f.Rename("loader/entries/number 1.conf", "loader/entries/a longer name than that of before.conf"))
		require.NoError(t, f.Rename("loader/entries/number 2.conf", "loader/entries/n2"))
		require.True(t, there(), c.name)
		for _, name := range []string{"number 3.conf", "number 4.conf", "number 5.conf", "n2", "a longer name than that of before.conf"} {
			require.NoError(t, f.Remove("loader/entries/"+name))
		}
		require.True(t, there(), c.name)
		requireContents(t, before, d, nil)
		bad := []oracle.ProblemKind{}
		if strings.HasPrefix(c.name, "LDIR") {
			bad = append(bad, oracle.ProblemLongName)
		}
		requireWhole(t, d, bad...)

		require.NoError(t, f.ReplaceFile(path, strings.NewReader("other")))
		b, err = f.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "other", string(b))
		require.Equal(t, len(before), len(look(t, d).Contents()))
		require.NoError(t, f.Rename(path, "loader/entries/plain.conf"))
		requireWhole(t, d)
		requireGone := func(d *editor) {
			cluster, _, _ := d.entry("loader/entries")
			b := make([]byte, d.g.clusterSize)
			d.ReadAt(b, d.g.clusterOff(cluster))
			require.False(t, bytes.Contains(b, set[:entrySize]), "no piece of the long name stays")
		}
		requireGone(e)

		f, err = Open(base)
		require.NoError(t, err)
		require.NoError(t, f.Remove(path))
		requireGone(edit(t, base))
		requireWhole(t, base)
	}
}

// What is no set is removed by Repair, and the short entry beside it is left alone.
func TestOrphanedLongEntries(t *testing.T) {
	whole := named(units("a name of three parts, it is.txt"), "ANAMEO~1TXT", attrArchive, 0, 0)
	piece := func(i ...int) (b []byte) {
		for _, i := range i {
			b = append(b, whole[i*entrySize:(i+1)*entrySize]...)
		}
		return b
	}
	deleted := append([]byte{entryDeleted}, make([]byte, entrySize-1)...)
	other := named(nil, "OTHER   TXT", attrArchive, 0, 0)
	for _, c := range []struct {
		name  string
		b     []byte
		n     int
		files []string
	}{
		{"no short entry", piece(0, 1, 2), 3, nil},
		{"the checksum of another", append(piece(0, 1, 2), other...), 3, []string{"OTHER.TXT"}},
		{"the first piece is missing", piece(1, 2, 3), 2, []string{"ANAMEO~1.TXT"}},
		{"one in the middle is missing", piece(0, 2, 3), 2, []string{"ANAMEO~1.TXT"}},
		{"the last piece is missing", piece(0, 1, 3), 2, []string{"ANAMEO~1.TXT"}},
		{"a deleted entry inside", append(append(piece(0, 1), deleted...), piece(2, 3)...), 3, []string{"ANAMEO~1.TXT"}},
		{"a deleted entry before the short one", append(append(piece(0, 1, 2), deleted...), piece(3)...), 3, []string{"ANAMEO~1.TXT"}},
		{"a name in a name", append(piece(0), whole...), 1, []string{"a name of three parts, it is.txt"}},
		{"order 0", append(poke(piece(0), 0, lastLong), other...), 1, []string{"OTHER.TXT"}},
		{"order 21", append(poke(piece(0), 0, lastLong|21), other...), 1, []string{"OTHER.TXT"}},
		{"of a volume label that is not its own", append(piece(0, 1, 2), named(nil, "LABEL      ", attrVolume, 0, 0)...), 3, nil},
		{"of a volume label", named(units("long label"), "LABEL      ", attrVolume, 0, 0), 0, nil},
	} {
		d := build(t, smallESP(), BuildOptions{Size: 24 << 20})
		before := look(t, d).Contents()
		edit(t, d).add("loader/entries", c.b)
		f, err := Open(d)
		require.NoError(t, err)
		found, err := f.Check()
		require.NoError(t, err)
		require.Equal(t, c.n > 0, len(found.Problems) == 1, "%s: %v", c.name, found)
		done, err := f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{LongEntries: c.n}, done, c.name)
		var came []string
		for _, name := range c.files {
			came = append(came, "loader/entries/"+name)
		}
		requireContents(t, before, d, nil, came...)
		requireWhole(t, d, oracle.ProblemLabel)
		done, err = f.Repair()
		require.NoError(t, err)
		require.Equal(t, Repaired{}, done, c.name)
	}
}
