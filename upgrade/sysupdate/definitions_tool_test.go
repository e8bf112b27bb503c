package sysupdate_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// definition is a transfer with lines put into its sections.
func definition(transfer, source, target string) string {
	return "[Transfer]\n" + transfer + "[Source]\nType=regular-file\nPath=/src\nMatchPattern=a_@v\n" + source + "[Target]\nType=regular-file\nPath=/x\nMatchPattern=f_@v\n" + target
}

// transferLines, sourceLines and targetLines are put into a definition one by one: what
// systemd-sysupdate takes, what it passes over with a warning, and what it fails on.
var (
	transferLines = []string{
		"", "MinVersion=2", "MinVersion=a/b", "MinVersion=", "MinVersion=%B", "MinVersion=%z", "ProtectVersion=1 2", "ProtectVersion=%A", "ProtectVersion=%B", "ProtectVersion=", "Verify=maybe", "Verify=",
		"Verify=off", "ChangeLog=foo", "ChangeLog=https://acme.example/@v", "ChangeLog=", "AppStream=ftp://x", "AppStream=file:///x", "Features=", "RequisiteFeatures=", "Frobnicate=1", "X-Mine=1", "no assignment", "=1",
		"; comment", "MinVersion=1 \\\n2", "[X-Mine]\nfoo=bar\nbaz", "[Mine]\nfoo=bar\nbaz\n[Transfer]", "[Transfer]",
	}
	sourceLines = []string{
		"", "Type=", "Type=foo", "Type=partition", "Type=tar", "Type=url-file", "Type=url-file\nPath=https://acme.example", "Type=url-file\nPath=file:///src", "Type=url-file\nPath=ftp://x", "Path=src", "Path=/src/", "Path=/src//x",
		"Path=//src", "Path=/./src", "Path=/a/../src", "Path=", "PathRelativeTo=foo", "PathRelativeTo=root", "MatchPattern=", "MatchPattern=b_@v", "MatchPattern=**/b_@v", "MatchPattern=**/b/b_@v", "InstancesMax=2", "Verify=no",
	}
	targetLines = []string{
		"", "Type=directory", "Type=partition\nPath=/disk.img", "Type=partition\nPath=/disk.img\nCurrentSymlink=a", "Type=partition\nPath=/disk.img\nCurrentSymlink=/a", "Type=url-file", "Type=foo", "Path=x", "Path=/x/", "Path=/x/./y",
		"Path=auto", "PathRelativeTo=esp", "PathRelativeTo=boot", "PathRelativeTo=xbootldr", "PathRelativeTo=explicit", "PathRelativeTo=foo", "Type=partition\nPath=/disk.img\nPathRelativeTo=esp",
		"MatchPattern=", "MatchPattern=\nMatchPattern=g_@v", "MatchPattern=g_@v h_@v", "MatchPattern=%M_@v", "MatchPattern=%z_@v", "MatchPattern=\nMatchPattern=%z_@v", "MatchPattern=g", "MatchPattern=g_@v@u", "MatchPattern=g_@v_@v", "MatchPattern=g_@x",
		"MatchPattern=g_@v@", "MatchPattern=g_@v@@", "MatchPattern=*_@v", "MatchPattern=?_@v", "MatchPattern=[_@v", "MatchPattern=]_@v", "MatchPattern={_@v", `MatchPattern="g_@v"`, "MatchPattern=**/g_@v", "MatchPattern=g_@v/x",
		"MatchPartitionType=foo", "MatchPartitionType=", "MatchPartitionType=root", "MatchPartitionType=usr-secondary-verity-sig", "MatchPartitionType=0fc63daf84834772-8e793d69d8477de4", "PartitionUUID=x", "PartitionUUID=",
		"PartitionUUID=0FC63DAF84834772 8e793d69d8477de4", "PartitionUUID=0FC63DAF848347728e793d69d8477de4", "PartitionFlags=zz", "PartitionFlags=0x", "PartitionFlags=", "PartitionFlags=1152921504606846976",
		"PartitionFlags=0x1000000000000000", "PartitionFlags=-1", "PartitionNoAuto=zz", "PartitionNoAuto=", "PartitionGrowFileSystem=T", "ReadOnly=x", "ReadOnly=", "Mode=9", "Mode=0644", "Mode=+644", "Mode=0o7", "Mode=7777", "Mode=17777", "Mode=",
		"TriesLeft=-1", "TriesLeft=", "TriesLeft=0x3", "TriesLeft=99999999999999999999", "TriesDone=3", "TriesDone=-0", "InstancesMax=0", "InstancesMax=1", "InstancesMax=3", "InstancesMax=x", "InstancesMax=", "RemoveTemporary=x",
		"RemoveTemporary=", "RemoveTemporary=no", "CurrentSymlink=/foo", "CurrentSymlink=../foo", "CurrentSymlink=a/./b", "CurrentSymlink=", "Features=a", "[Target", "[Foo]", "Mode=0644 ; comment",
	}
)

var warned = regexp.MustCompile(`(?m)^(?:Failed to chase '\S*?cusr|/)?(\S+?\.(?:transfer|feature|component)(?:\.d/\S+)?):(\d+): `)

// Every line is taken, passed over with a warning at that line, or an error, as by
// systemd-sysupdate.
func TestDefinitionsAgainstSysupdate(t *testing.T) {
	r := newRoot(t)
	r.disk([]part{{slotType(2, 0), "_empty"}, {slotType(2, 0), "_empty"}})
	const name = "usr/lib/sysupdate.d/10-a.transfer"
	var texts []string
	for i, lines := range [][]string{transferLines, sourceLines, targetLines} {
		for _, line := range lines {
			var in [3]string
			if in[i] = line; line != "" {
				in[i] += "\n"
			}
			texts = append(texts, definition(in[0], in[1], in[2]))
		}
	}
	texts = append(texts, "", "a=b\n"+definition("", "", ""), "\ufeff"+definition("", "", ""), definition("", "", "x=\xff\n"), definition("", "", "# \\\nMode=9\n"), definition("", "", "Mode=\\\n9\n"))
	wrong, passed, fatal := 0, 0, 0
	for _, text := range texts {
		r.write(name, text)
		out, err := r.try("list", "--offline", "--json=short")
		d, ours := sysupdate.ReadDefinitions(r.fs(), sysupdate.DefinitionOptions{Specifiers: specifiers})
		if text == "" { // it masks, and there is no other
			require.Error(t, err)
			require.NoError(t, ours)
			require.Empty(t, d.Transfers)
			continue
		}
		if (err != nil) != (ours != nil) {
			wrong++
			t.Errorf("%s\nsysupdate: %v\nours: %v", text, err, ours)
			continue
		}
		if err != nil {
			fatal++
			var e *sysupdate.DefinitionError
			require.ErrorAs(t, ours, &e)
			require.Equal(t, name, e.File)
			continue
		}
		var want, got []string
		for _, m := range warned.FindAllStringSubmatch(out, -1) {
			want = append(want, m[1]+":"+m[2])
		}
		for _, f := range d.Findings {
			// what is about the file as a whole, it says of line 1
			got = append(got, fmt.Sprintf("%s:%d", f.File, max(f.Line, 1)))
		}
		if strings.Contains(text, "\\\n") {
			// of a line that goes on it has the number of the last part
			require.Len(t, got, len(want), text)
			continue
		}
		slices.Sort(want)
		slices.Sort(got)
		if passed += len(got); !slices.Equal(slices.Compact(want), slices.Compact(got)) {
			wrong++
			t.Errorf("%s\nsysupdate: %s\nours: %v", text, out, d.Findings)
		}
	}
	t.Logf("%d definitions, %d lines passed over, %d errors", len(texts), passed, fatal)
	require.Zero(t, wrong)
	require.Greater(t, passed, 25)
	require.Greater(t, fatal, 25)
}

// layers are sets of files of which one or the other counts; each target has a version of its own.
func TestLayersAgainstSysupdate(t *testing.T) {
	target := func(version string) string {
		return "[Source]\nType=regular-file\nPath=/src\nMatchPattern=a_@v\n[Target]\nType=regular-file\nPath=/x" + version + "\nMatchPattern=f_@v\n"
	}
	dropIn := "[Target]\nPath=/x3\n"
	in := func(section, line string) string { return "[" + section + "]\n" + line + "\n" }
	const lib, etc, run, local = "usr/lib/sysupdate.d/", "etc/sysupdate.d/", "run/sysupdate.d/", "usr/local/lib/sysupdate.d/"
	for _, files := range []map[string]string{
		{lib + "10-a.transfer": target("1")},
		{lib + "10-a.conf": target("1")},
		{lib + "10-a.conf": target("1"), lib + "20-b.transfer": target("2")},
		{lib + "10-a.conf": target("1"), lib + "20-b.transfer": "->/dev/null"},
		{lib + "10-a.conf": target("1"), lib + "20-b.transfer": ""},
		{lib + "10-a.transfer": target("1"), etc + "10-a.transfer": target("2")},
		{run + "10-a.transfer": target("1"), etc + "10-a.transfer": target("2"), local + "10-a.transfer": target("3")},
		{run + "10-a.transfer": target("1"), local + "10-a.transfer": target("3")},
		{lib + "10-a.transfer": target("1"), local + "10-a.transfer": target("3")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": target("2"), etc + "20-b.transfer": "->/dev/null"},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": target("2"), run + "20-b.transfer": ""},
		{lib + "10-a.transfer": target("1"), etc + "10-a.transfer/x": "a"},
		{lib + "10-a.transfer": target("1"), lib + ".20-b.transfer": target("2"), lib + "30-c": target("3")},
		{lib + "10-a.transfer": target("1"), lib + "10-a.transfer.d/50-x.conf": dropIn},
		{lib + "10-a.transfer": target("1"), etc + "10-a.transfer.d/50-x.conf": dropIn},
		{lib + "10-a.conf": target("1"), etc + "10-a.conf.d/50-x.conf": dropIn},
		{lib + "10-a.transfer": target("1"), lib + "10-a.transfer.d/50-x.conf": dropIn, etc + "10-a.transfer.d/50-x.conf": ""},
		{lib + "10-a.transfer": target("1"), lib + "10-a.transfer.d/50-x.conf": dropIn, etc + "10-a.transfer.d/50-x.conf": "->/dev/null"},
		{lib + "10-a.transfer": target("1"), lib + "10-a.transfer.d/50-x.conf": dropIn, etc + "10-a.transfer.d/60-x.conf": "[Target]\nPath=/x2\n"},
		{lib + "10-a.transfer": target("1"), lib + "10-a.transfer.d/60-x.conf": dropIn, etc + "10-a.transfer.d/50-x.conf": "[Target]\nPath=/x2\n"},
		{lib + "10-a.transfer": target("1"), etc + "10-.transfer.d/x.conf": dropIn, etc + "transfer.d/x.conf": dropIn},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo") + target("2")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo bar") + target("2"), lib + "bar.feature": in("Feature", "Enabled=yes")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "RequisiteFeatures=foo bar") + target("2"), lib + "bar.feature": in("Feature", "Enabled=yes")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "RequisiteFeatures=foo\nRequisiteFeatures=bar") + target("2"), lib + "bar.feature": in("Feature", "Enabled=yes"), lib + "foo.feature": in("Feature", "Enabled=1")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo") + target("2"), lib + "foo.feature": in("Feature", "Enabled=yes"), etc + "foo.feature.d/x.conf": in("Feature", "Enabled=no")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo") + target("2"), lib + "foo.feature": in("Feature", "Description=x\nSuggest=yes\nSuggestOnHost=a"), etc + "foo.feature.d/x.conf": in("Feature", "Enabled=yes")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo") + target("2"), etc + "foo.feature.d/x.conf": in("Feature", "Enabled=yes")},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo") + target("2"), lib + "foo.feature": in("Feature", "Enabled=yes"), etc + "foo.feature": "->/dev/null"},
		{lib + "10-a.transfer": target("1"), lib + "20-b.transfer": in("Transfer", "Features=foo") + target("2"), lib + "foo.feature": in("Feature", "Enabled=maybe\nSuggestOnFoo=1\nDocumentation=x\nAppStream=http://x") + in("Foo", "a=b")},
	} {
		r := newRoot(t)
		for i := range 3 {
			r.write(fmt.Sprintf("x%d/f_%d", i+1, i+1), "x")
		}
		for name, text := range files {
			if target, ok := strings.CutPrefix(text, "->"); ok {
				r.link(target, name)
			} else {
				r.write(name, text)
			}
		}
		var want, got []string
		for _, l := range r.list() {
			want = append(want, l.Version)
		}
		s := r.read(sysupdate.Places{Root: r.fs()})
		for _, v := range s.Versions {
			got = append(got, v.Version)
		}
		require.Equal(t, want, got, "%v", files)
	}
}

// Components have definitions of their own.
func TestComponentsAgainstSysupdate(t *testing.T) {
	r := newRoot(t)
	for _, dir := range []string{"etc/sysupdate.a.b.d", "run/sysupdate.foo.d", "usr/lib/sysupdate.foo.d", "usr/local/lib/sysupdate.x.d", "usr/lib/sysupdate.z.component.d", "usr/lib/sysupdate.a b.d", "usr/lib/sysupdate..d", "usr/lib/sysupdate@s.d"} {
		r.write(dir+"/10-a.transfer", definition("", "", "Path=/"+dir+"\n"))
	}
	r.write("usr/lib/sysupdate.y.component", "[Component]\n")
	r.write("run/sysupdate.foo.d/f_3", "x")
	names, err := sysupdate.Components(r.fs())
	require.NoError(t, err)
	for _, name := range names {
		require.Contains(t, r.script("$S components --json=short"), `"`+name+`"`)
	}
	require.Equal(t, `{"default":false,"components":["`+strings.Join(names, `","`)+`"]}`, strings.TrimSpace(r.script("$S components --json=short")))

	r.write("usr/lib/sysupdate.foo.component", "[Component]\nEnabled=yes\nDescription=Foo\nDocumentation=x\nFoo=1\nAppStream=http://x\nSuggest=no\n")
	for _, on := range []string{"yes", "no", "maybe"} {
		r.write("etc/sysupdate.foo.component.d/50-on.conf", "[Component]\nEnabled="+on+"\n")
		d, err := sysupdate.ReadDefinitions(r.fs(), sysupdate.DefinitionOptions{Component: "foo", Specifiers: specifiers})
		require.NoError(t, err)
		s, err := sysupdate.ReadState(d, sysupdate.Places{Root: r.fs()})
		require.NoError(t, err)
		require.Equal(t, "3", s.Newest().Version)
		require.Contains(t, r.script("$S -C foo list --offline --json=short"), `"all":["3"]`)
		out, err := r.try("-C", "foo", "update")
		require.Equal(t, d.Component.Disabled, err != nil && strings.Contains(out+err.Error(), "Component is disabled"))
		require.Equal(t, on == "no", d.Component.Disabled)
		require.Equal(t, "Foo", d.Component.Description)
		require.Equal(t, []sysupdate.Setting{{Key: "Suggest", Value: "no"}}, d.Component.Suggestions)
		unknown := 0
		for _, f := range d.Findings {
			if errors.Is(f, sysupdate.ErrUnknown) {
				unknown++
			}
		}
		require.Equal(t, 2, unknown)
	}
}
