package sysupdate_test

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// files makes a root file system; "->" makes a link.
func files(of map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range of {
		f := &fstest.MapFile{Data: []byte(text)}
		if len(text) > 2 && text[:2] == "->" {
			f = &fstest.MapFile{Data: []byte(text[2:]), Mode: fs.ModeSymlink | 0o777}
		}
		fsys[name] = f
	}
	return fsys
}

func patterns(t *testing.T, list ...string) (out []*sysupdate.Pattern) {
	t.Helper()
	for _, text := range list {
		p, err := sysupdate.ParsePattern(text)
		require.NoError(t, err)
		out = append(out, p)
	}
	return out
}

const whole = `# All that a transfer can say.
[Transfer]
MinVersion=1
ProtectVersion=%A
ProtectVersion=0.9
Verify=no
ChangeLog=https://acme.example/changes
AppStream=https://acme.example/catalog.xml
Features=devel
RequisiteFeatures=base other
[Source]
Type=url-file
Path=https://acme.example/updates/
MatchPattern=%M_@v_@u.root.raw
[Target]
Type=partition
Path=auto
MatchPartitionType=root
MatchPattern=%M_@v
MatchPattern=old_@v x_@v
PartitionUUID=8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8fb
PartitionFlags=1000000000000000
PartitionNoAuto=no
PartitionGrowFileSystem=yes
ReadOnly=yes
Mode=0444
TriesLeft=3
TriesDone=0
InstancesMax=1
RemoveTemporary=no
CurrentSymlink=/run/current
`

func TestReadDefinitions(t *testing.T) {
	o := sysupdate.DefinitionOptions{Specifiers: map[byte]string{'A': "1.2", 'M': "acme"}, Architecture: "arm64"}
	d, err := sysupdate.ReadDefinitions(files(map[string]string{
		"usr/lib/sysupdate.d/50-root.transfer":                   whole,
		"etc/sysupdate.d/50-root.transfer.d/10-min.conf":         "[Transfer]\nMinVersion=1.1\n",
		"usr/lib/sysupdate.d/60-uki.transfer":                    definition("", "", "PathRelativeTo=esp\n"),
		"usr/lib/sysupdate.d/devel.feature":                      "[Feature]\nDescription=Tools\nDocumentation=https://acme.example\nAppStream=https://acme.example/x\nSuggest=yes\nSuggestOnHost=a\n",
		"run/sysupdate.d/devel.feature.d/50-on.conf":             "[Feature]\nEnabled=yes\n",
		"usr/lib/sysupdate.d/base.feature":                       "[Feature]\nEnabled=yes\n",
		"usr/lib/sysupdate.d/other.feature":                      "[Feature]\nEnabled=yes\n",
		"usr/local/lib/sysupdate.d/other.feature":                "[Feature]\nEnabled=no\n",
		"usr/lib/sysupdate.d/70-masked.transfer":                 whole,
		"etc/sysupdate.d/70-masked.transfer":                     "->/dev/null",
		"usr/lib/sysupdate.d/80-old.conf":                        whole,
		"usr/lib/sysupdate.d/README":                             "no definition",
		"usr/lib/sysupdate.foo.d/10-other-component.transfer":    whole,
		"usr/lib/sysupdate.d/60-uki.transfer.d/not-a-drop-in.md": "x",
	}), o)
	require.NoError(t, err)
	id := osmith.MustParseGUID("8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8fb")
	require.Equal(t, []*sysupdate.Transfer{{
		Name: "50-root", File: "usr/lib/sysupdate.d/50-root.transfer", DropIns: []string{"etc/sysupdate.d/50-root.transfer.d/10-min.conf"}, Enabled: false,
		MinVersion: "1.1", ProtectVersions: []string{"1.2", "0.9"}, ChangeLogs: []string{"https://acme.example/changes"}, AppStreams: []string{"https://acme.example/catalog.xml"},
		Features: []string{"devel"}, RequisiteFeatures: []string{"base", "other"},
		Source: sysupdate.TransferSource{Type: sysupdate.URLFile, Path: "https://acme.example/updates", Base: sysupdate.BaseRoot, Patterns: patterns(t, "acme_@v_@u.root.raw")},
		Target: sysupdate.TransferTarget{Type: sysupdate.Partition, Path: "auto", Base: sysupdate.BaseRoot, Patterns: patterns(t, "acme_@v", "old_@v", "x_@v"), PartitionType: partition.RootARM64, PartitionUUID: &id,
			PartitionFlags: new(uint64(1 << 60)), NoAuto: new(false), GrowFileSystem: new(true), ReadOnly: new(true), Mode: new(uint32(0o444)), TriesLeft: new(uint64(3)), TriesDone: new(uint64(0)), InstancesMax: 2,
			KeepTemporary: true, CurrentSymlink: "/run/current"},
	}, {
		Name: "60-uki", File: "usr/lib/sysupdate.d/60-uki.transfer", Enabled: true, Verify: true,
		Source: sysupdate.TransferSource{Type: sysupdate.RegularFile, Path: "/src", Base: sysupdate.BaseRoot, Patterns: patterns(t, "a_@v")},
		Target: sysupdate.TransferTarget{Type: sysupdate.RegularFile, Path: "/x", Base: sysupdate.BaseESP, Patterns: patterns(t, "f_@v"), PartitionType: partition.LinuxGeneric},
	}}, d.Transfers)
	require.Equal(t, []*sysupdate.Feature{
		{Name: "base", File: "usr/lib/sysupdate.d/base.feature", Enabled: true},
		{Name: "devel", File: "usr/lib/sysupdate.d/devel.feature", DropIns: []string{"run/sysupdate.d/devel.feature.d/50-on.conf"}, Description: "Tools", Documentation: "https://acme.example", AppStream: "https://acme.example/x", Enabled: true,
			Suggestions: []sysupdate.Setting{{Key: "Suggest", Value: "yes"}, {Key: "SuggestOnHost", Value: "a"}}},
		{Name: "other", File: "usr/local/lib/sysupdate.d/other.feature"},
	}, d.Features)
	require.Len(t, d.Findings, 1)
	require.EqualError(t, d.Findings[0], "usr/lib/sysupdate.d/50-root.transfer:29: InstancesMax=1: 1 counts as 2: what runs and what comes next")

	// One directory, and definitions of before 257.
	d, err = sysupdate.ReadDefinitions(files(map[string]string{"defs/a.conf": definition("", "", ""), "usr/lib/sysupdate.d/b.transfer": whole}), sysupdate.DefinitionOptions{Directory: "defs"})
	require.NoError(t, err)
	require.Len(t, d.Transfers, 1)
	require.Equal(t, "a", d.Transfers[0].Name)
	require.ErrorContains(t, d.Findings[0], "transfer definitions are named *.transfer since systemd 257: *.conf files are read only where no *.transfer exists")
	d, err = sysupdate.ReadDefinitions(files(nil), sysupdate.DefinitionOptions{})
	require.NoError(t, err)
	require.Equal(t, &sysupdate.Definitions{}, d)
}

// What would change the meaning of a definition is passed over only where the program does so, and
// then told.
func TestFindings(t *testing.T) {
	read := func(text string) (*sysupdate.Definitions, error) {
		return sysupdate.ReadDefinitions(files(map[string]string{"usr/lib/sysupdate.d/a.transfer": text}), sysupdate.DefinitionOptions{Specifiers: specifiers})
	}
	for _, c := range []struct{ transfer, source, target, finding string }{
		{"Frobnicate=1\n", "", "", "unknown to systemd-sysupdate 262 key in [Transfer]"},
		{"[Foo]\na=b\n[Transfer]\n", "", "", "unknown to systemd-sysupdate 262 section: [Foo]"},
		{"foo\n", "", "", "want KEY=VALUE"},
		{"MinVersion=a/b\n", "", "", "want a version"},
		{"ProtectVersion=%B\n", "", "", "want a version"},
		{"MinVersion=%z\n", "", "", "is no specifier"},
		{"Verify=maybe\n", "", "", "want yes or no"},
		{"", "Type=foo\n", "", "want one of url-file"},
		{"", "", "PathRelativeTo=foo\n", "want one of root"},
		{"", "", "MatchPartitionType=foo\n", "no such partition type"},
		{"", "", "PartitionUUID=foo\n", ""},
		{"", "", "PartitionFlags=0x\n", ""},
		{"", "", "Mode=17777\n", "up to 07777"},
		{"", "", "TriesLeft=-1\n", "want a number"},
		{"", "", "InstancesMax=0\n", "0 counts as 2"},
		{"", "", "CurrentSymlink=../x\n", `without ".." in it`},
		{"", "", "MatchPattern=\n", "that of [Source] counts"},
		{"ChangeLog=foo\n", "", "", "want an address"},
	} {
		d, err := read(definition(c.transfer, c.source, c.target))
		require.NoError(t, err)
		require.Len(t, d.Findings, 1, "%v", c)
		require.ErrorContains(t, d.Findings[0], c.finding)
	}
	for _, c := range []struct{ transfer, source, target, err string }{
		{"MinVersion=%m\n", "", "", "the text for a specifier is not given: %m"},
		{"Features=\"a b\"\n", "", "", "unsupported"},
		{"", "", `MatchPattern=a\x20b_@v` + "\n", "escapes: unsupported"},
		{"", "", "MatchPattern=a\n", "@v is missing"},
		{"", "", "MatchPattern=**/a_@v\n", "for sources alone"},
		{"", "Path=x\n", "", "want an absolute path"},
		{"", "Type=tar\n", "", "tar can only be written to"},
		{"", "Type=url-file\n", "", "want an address"},
		{"", "MatchPattern=\n", "", "has no MatchPattern="},
		{"", "", "Path=/a/../b\n", "want an absolute path"},
		{"", "", "Path=auto\n", "want an absolute path"},
		{"", "", "PathRelativeTo=explicit\n", "for sources alone"},
		{"", "", "Type=partition\nPathRelativeTo=esp\n", "can be there"},
		{"", "", "Type=partition\nCurrentSymlink=x\n", "want an absolute path, since"},
		{"", "", "Type=url-file\n", "want one of [partition"},
		{"", "Type=partition\n", "", "want one of [url-file"},
		{"", "Type=directory\nMatchPattern=**/a_@v\n", "Type=directory\n", "for files alone"},
		{"", "Type=subvolume\nPathRelativeTo=boot\n", "Type=directory\n", "can be there"},
		{"[Transfer\n", "", "", "want a closing bracket at the end"},
		{"", "", "x=\xff\n", "want UTF-8"},
	} {
		d, err := read(definition(c.transfer, c.source, c.target))
		require.Nil(t, d, "%v", c)
		var e *sysupdate.DefinitionError
		require.ErrorAs(t, err, &e)
		require.ErrorContains(t, err, c.err)
		require.ErrorContains(t, err, "sysupdate: usr/lib/sysupdate.d/a.transfer")
	}
	_, err := read("a=b\n" + definition("", "", ""))
	require.NoError(t, err)
	for _, o := range []sysupdate.DefinitionOptions{{Architecture: "pdp-11"}, {Component: "a/b"}, {Component: ".."}, {Component: "a", Directory: "b"}, {Specifiers: map[byte]string{'z': ""}}, {Specifiers: map[byte]string{0xff: ""}}} {
		_, err := sysupdate.ReadDefinitions(files(nil), o)
		require.ErrorContains(t, err, "sysupdate: ", "%v", o)
	}
	d, err := sysupdate.ReadDefinitions(files(map[string]string{"etc/sysupdate.d/a.transfer": "->nowhere", "usr/lib/sysupdate.d/a.transfer": definition("", "", "")}), sysupdate.DefinitionOptions{})
	require.NoError(t, err)
	require.Len(t, d.Transfers, 1)
	require.ErrorContains(t, d.Findings[0], "etc/sysupdate.d/a.transfer: is a link to nowhere")
}

// FuzzDefinitions: no panic, nil exactly with an error, and the same again.
func FuzzDefinitions(f *testing.F) {
	f.Add(whole, "[Feature]\nEnabled=yes\n")
	f.Add(definition("", "", ""), "")
	for _, line := range targetLines {
		f.Add(definition("", "", line+"\n"), "[Target]\nPath=/y\n")
	}
	f.Fuzz(func(t *testing.T, transfer, second string) {
		fsys := files(map[string]string{"usr/lib/sysupdate.d/a.transfer": transfer, "usr/lib/sysupdate.d/devel.feature": second, "etc/sysupdate.d/a.transfer.d/b.conf": second})
		o := sysupdate.DefinitionOptions{Specifiers: specifiers}
		d, err := sysupdate.ReadDefinitions(fsys, o)
		require.Equal(t, err == nil, d != nil)
		if err != nil {
			return
		}
		again, err := sysupdate.ReadDefinitions(fsys, o)
		require.NoError(t, err)
		require.Equal(t, d, again)
		for _, tr := range d.Transfers {
			require.NotEmpty(t, tr.Source.Patterns)
			require.NotEmpty(t, tr.Target.Patterns)
		}
		_, err = sysupdate.ReadState(d, sysupdate.Places{Root: fsys, ESP: fsys, ESPMount: "/efi"})
		require.NoError(t, err)
	})
}
