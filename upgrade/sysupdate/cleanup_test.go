package sysupdate_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

const database = "var/lib/systemd/sysupdate"

// record adds one to the database.
func (r *root) record(component, text string) {
	r.t.Helper()
	dir := "installdb"
	if component != "" {
		dir += "." + component
	}
	if name := r.path(path.Join(database, dir, sysupdate.RecordName(text))); !exists(name) {
		r.link(text, path.Join(database, dir, sysupdate.RecordName(text)))
	}
}

func exists(name string) bool { _, err := os.Lstat(name); return err == nil }

// paths are those of all files and directories.
func (r *root) paths() (list []string) {
	r.t.Helper()
	require.NoError(r.t, filepath.WalkDir(r.dir, func(name string, _ fs.DirEntry, err error) error {
		list = append(list, strings.TrimPrefix(name, r.dir))
		return err
	}))
	return list
}

// places are those of a machine whose ESP is mounted at /efi.
func (r *root) places() sysupdate.Places {
	return sysupdate.Places{Root: r.fs(), ESP: os.DirFS(r.path("efi")), ESPMount: "/efi"}
}

// orphans is what this package says of a component, on a machine without an extended boot loader
// partition.
func (r *root) orphans(component string) *sysupdate.Cleanup {
	r.t.Helper()
	d, err := sysupdate.ReadDefinitions(r.fs(), sysupdate.DefinitionOptions{Component: component, Specifiers: specifiers})
	require.NoError(r.t, err)
	records, _, err := sysupdate.ReadRecords(os.DirFS(r.path(database)), component)
	require.NoError(r.t, err)
	p := r.places()
	p.Disk = diskWith(r.t, part{slotType(2, 0), "_empty"})
	c, err := sysupdate.FindOrphans(d, records, p)
	require.NoError(r.t, err)
	return c
}

// What systemd-sysupdate cleanup removes is what was said before, for random files, records and
// definitions.
func TestCleanupAgainstSysupdate(t *testing.T) {
	rnd, long := testtools.Seed(t)
	n := 30
	if long {
		n = 200
	}
	removed, kept := 0, 0
	for range n {
		r := newRoot(t)
		component := pick(rnd, "", "", "extra")
		names := []string{"acme_%s.efi", "acme_%s+3-0.efi", "acme_%s.efi.extra.d/x.addon.efi", "acme_%s+3-0.efi.extra.d/y.addon.efi", ".sysupdate.pending.acme_%s.efi", ".#acme_%s.efi", "acme_%s.efi.osmith-staged", "other_%s.efi", "ACME_%s.efi",
			"acme_%s/acme_%s.efi"}
		for range 8 {
			r.write("efi/EFI/Linux/"+strings.ReplaceAll(pick(rnd, names...), "%s", pick(rnd, versions...)), "x")
		}
		r.write("efi/EFI/osmith/failed", "x")
		r.write("efi/loader/loader.conf", "x")
		r.write("ext/ext_1", "x")
		r.link("ext_1", "ext/ext_2")
		patterns := []string{"acme_@v.efi", "acme_@v+@l-@d.efi", "acme_@v.efi.extra.d/x.addon.efi", "acme_@v", "@v", "acme_@v/acme_1.efi", "acme", "*@v", "ACME_@v.efi", "@v.efi"}
		for range 1 + rnd.IntN(4) {
			r.record(pick(rnd, component, component, component, "", "other"), pick(rnd, "/efi/EFI/Linux", "/efi/EFI/Linux", "/efi/EFI/Linux", "/efi/EFI", "/ext", "/nowhere", "efi/EFI/Linux", "/efi/./EFI/Linux", "/efi/../efi/EFI/Linux")+"/./"+pick(rnd, patterns...))
		}
		if rnd.IntN(4) == 0 {
			r.link("/efi/EFI/Linux/./acme_@v.efi", database+"/installdb/abc")
			r.record(component, "/efi/EFI/Linux/acme_@v.efi")
			r.write(database+"/installdb/README", "x")
		}
		dir := "usr/lib/sysupdate.d/"
		if component != "" {
			dir = "usr/lib/sysupdate." + component + ".d/"
		}
		if rnd.IntN(4) > 0 {
			r.write(dir+"10-ext.transfer", definition("", "", "Path=/ext\nMatchPattern=ext_@v\n"))
			target := pick(rnd, "Path=/EFI/Linux\nPathRelativeTo=esp\n", "Path=/efi/EFI/Linux\n", "Path=/EFI\nPathRelativeTo=boot\n")
			r.write(dir+"20-uki.transfer", definition(pick(rnd, "", "", "Features=off\n"), "", target+"MatchPattern=\nMatchPattern="+pick(rnd, patterns[0], patterns[1], patterns[2], "Linux/acme_@v.efi")+"\n"))
		}
		c := r.orphans(component)
		require.Empty(t, c.Unknown)
		before := r.paths()
		state := r.script(`find efi ext etc var -printf '%p %l\n'; tail -n 30 usr/lib/sysupdate*/*; true`)
		args := []string{"cleanup"}
		if component != "" {
			args = append(args, "-C", component)
		}
		out, err := r.try(args...)
		require.NoError(t, err)
		after := r.paths()
		var gone []string
		for _, name := range before {
			if !slices.Contains(after, name) && !strings.HasPrefix(name, "/var/") {
				gone = append(gone, name)
			} else {
				kept++
			}
		}
		removed += len(gone)
		for _, name := range gone {
			under := slices.ContainsFunc(c.Orphans, func(o sysupdate.Orphan) bool {
				// What a directory holds goes with it, and a directory that is empty then goes with
				// the last file.
				return o.Path == name || strings.HasPrefix(name, o.Path+"/") || strings.HasPrefix(o.Path, name+"/")
			})
			require.True(t, under, "%s was removed:\n%s\n%s", name, out, state)
		}
		for _, o := range c.Orphans {
			require.Contains(t, gone, o.Path, "%s\n%s", out, state)
		}
	}
	t.Logf("%d removed, %d kept", removed, kept)
	require.Greater(t, removed, n/2)
}

// database with a good record, and what is thrown away.
func TestReadRecords(t *testing.T) {
	link := func(text string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(text), Mode: fs.ModeSymlink | 0o777}
	}
	good := "/efi/EFI/Linux/./acme_@v.efi"
	// as systemd 262 calls it
	require.Equal(t, "f23c8a5ea16734059b4b2b184fded62a152eaaf65c0ce9bacb254160f2263f3c", sysupdate.RecordName(good))
	db := fstest.MapFS{"installdb.a.b/" + sysupdate.RecordName(good): link(good), "installdb/README": {Data: []byte("x")}, "installdb.": {Mode: fs.ModeDir}, "other": {Mode: fs.ModeDir}}
	for _, text := range []string{good, "/efi/EFI/Linux/acme_@v.efi", "efi/./a_@v", "/efi/../a/./a_@v", "/a/./b/./c_@v", "//a/./c_@v"} {
		db["installdb/"+sysupdate.RecordName(text)] = link(text)
	}
	db["installdb/abc"] = link(good)
	records, findings, err := sysupdate.ReadRecords(db, "")
	require.NoError(t, err)
	require.ElementsMatch(t, []sysupdate.Record{{Name: sysupdate.RecordName(good), Dir: "/efi/EFI/Linux", Pattern: "acme_@v.efi"}, {Name: sysupdate.RecordName("/a/./b/./c_@v"), Dir: "/a", Pattern: "b/./c_@v"}}, records)
	require.Len(t, findings, 5)
	for _, f := range findings {
		var e *osmith.FormatError
		require.ErrorAs(t, f, &e)
	}
	names, err := sysupdate.RecordComponents(db)
	require.NoError(t, err)
	require.Equal(t, []string{"", "a.b"}, names)
	records, findings, err = sysupdate.ReadRecords(db, "a.b")
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Empty(t, findings)
	records, _, err = sysupdate.ReadRecords(fstest.MapFS{}, "")
	require.NoError(t, err)
	require.Empty(t, records)
	_, _, err = sysupdate.ReadRecords(db, "../x")
	require.ErrorContains(t, err, "sysupdate: component")
	names, err = sysupdate.RecordComponents(os.DirFS(t.TempDir() + "/nowhere"))
	require.NoError(t, err)
	require.Empty(t, names)
}

// Without the definitions, every UKI of their names is an orphan, whichever program installed it;
// with them, none is.
func TestOrphans(t *testing.T) {
	esp := fstest.MapFS{}
	for _, name := range []string{"acme_1.efi", "acme_2+3-0.efi", "acme_2.efi.extra.d/x.addon.efi", "acme_3+3-0.efi.osmith-staged", ".sysupdate.pending.acme_4.efi", "other_1.efi"} {
		esp["EFI/Linux/"+name] = &fstest.MapFile{Data: []byte("x")}
	}
	// links stay
	esp["EFI/Linux/acme_9.efi"] = &fstest.MapFile{Data: []byte("acme_1.efi"), Mode: fs.ModeSymlink | 0o777}
	records := []sysupdate.Record{{Dir: "/efi/EFI/Linux", Pattern: "acme_@v+@l-@d.efi"}, {Dir: "/efi/EFI/Linux", Pattern: "acme_@v.efi"}, {Dir: "/efi/EFI/Linux", Pattern: "no pattern"}, {Dir: "/efi/none", Pattern: "a_@v"}}
	of := func(d *sysupdate.Definitions, p sysupdate.Places) (paths []string, unknown int) {
		t.Helper()
		c, err := sysupdate.FindOrphans(d, records, p)
		require.NoError(t, err)
		for _, o := range c.Orphans {
			paths = append(paths, o.Path)
		}
		return paths, len(c.Unknown)
	}
	none := &sysupdate.Definitions{}
	p := sysupdate.Places{ESP: esp, ESPMount: "/efi"}
	paths, unknown := of(none, p)
	require.Equal(t, []string{"/efi/EFI/Linux/acme_1.efi", "/efi/EFI/Linux/acme_2+3-0.efi"}, paths)
	require.Zero(t, unknown)

	text := definition("", "", "Path=/EFI/Linux\nPathRelativeTo=esp\nMatchPattern=\nMatchPattern=acme_@v+@l-@d.efi acme_@v.efi\n")
	read := func(files map[string]string) *sysupdate.Definitions {
		t.Helper()
		fsys := fstest.MapFS{}
		for name, text := range files {
			fsys["usr/lib/sysupdate.d/"+name] = &fstest.MapFile{Data: []byte(text)}
		}
		d, err := sysupdate.ReadDefinitions(fsys, sysupdate.DefinitionOptions{})
		require.NoError(t, err)
		return d
	}
	paths, unknown = of(read(map[string]string{"30-uki.transfer": text}), p)
	require.Empty(t, paths)
	require.Zero(t, unknown)
	// A transfer that is switched off has nothing.
	paths, _ = of(read(map[string]string{"30-uki.transfer": strings.Replace(text, "[Transfer]", "[Transfer]\nFeatures=x", 1)}), p)
	require.Len(t, paths, 2)
	// Where the ESP is mounted has to be known, and what is there.
	paths, unknown = of(read(map[string]string{"30-uki.transfer": text}), sysupdate.Places{ESP: esp})
	require.Empty(t, paths)
	require.Equal(t, 4, unknown, "three records, since what is no pattern matches nothing, and the transfer")
	_, err := sysupdate.FindOrphans(none, records, sysupdate.Places{ESPMount: "efi"})
	require.ErrorContains(t, err, `sysupdate: mount point "efi"`)
	_, unknown = of(none, sysupdate.Places{ESPMount: "/efi"})
	require.Equal(t, 3, unknown)
}

// FuzzRecords: whatever a record and a transfer say, what is an orphan has the record's pattern and
// is below its directory.
func FuzzRecords(f *testing.F) {
	f.Add("/efi/EFI/Linux/./acme_@v.efi", "acme_@v+@l.efi", "EFI/Linux/acme_1.efi")
	f.Add("/./@v", "a_@v", "1/2/3")
	f.Add("/efi/./@v/@d", "@v/x", "1/2")
	f.Fuzz(func(t *testing.T, record, pattern, name string) {
		if !fs.ValidPath(name) || name == "." {
			return
		}
		esp := fstest.MapFS{name: {Data: []byte("x")}}
		db := fstest.MapFS{"installdb/" + sysupdate.RecordName(record): {Data: []byte(record), Mode: fs.ModeSymlink | 0o777}}
		records, findings, err := sysupdate.ReadRecords(db, "")
		require.NoError(t, err)
		require.Equal(t, 1, len(records)+len(findings))
		d, err := sysupdate.ReadDefinitions(files(map[string]string{"etc/sysupdate.d/a.transfer": definition("", "", "Path=/efi\nMatchPattern="+pattern+"\n")}), sysupdate.DefinitionOptions{Specifiers: specifiers})
		if err != nil {
			d = &sysupdate.Definitions{}
		}
		c, err := sysupdate.FindOrphans(d, records, sysupdate.Places{ESP: esp, ESPMount: "/efi", Root: fstest.MapFS{}})
		require.NoError(t, err)
		for _, o := range c.Orphans {
			p, err := sysupdate.ParsePattern(o.Record.Pattern)
			require.NoError(t, err)
			rest, ok := strings.CutPrefix(o.Path, strings.TrimSuffix(o.Record.Dir, "/")+"/")
			require.True(t, ok)
			_, ok = p.Match(rest)
			require.True(t, ok)
		}
	})
}
