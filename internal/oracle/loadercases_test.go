package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// labUKI is a UKI whose os-release has these lines.
func labUKI(osrel ...string) string {
	return "PE .osrel=" + strings.Join(osrel, "\n") + "\n;.cmdline=quiet;.linux=kernel"
}

func labOS(version string) string {
	return labUKI("ID=os", "IMAGE_VERSION="+version, `PRETTY_NAME="OS `+version+`"`)
}

// ukis are UKIs of one OS under their file names; the version is what is behind the underscore.
func ukis(names ...string) (files []labFile) {
	for _, name := range names {
		_, version, _ := strings.Cut(strings.TrimSuffix(name, ".efi"), "_")
		version, _, _ = strings.Cut(version, "+")
		files = append(files, labFile{"EFI/Linux/" + name, labOS(version)})
	}
	return files
}

// conf is a Type #1 entry; k is a program in the root that every case with one has.
func conf(name string, lines ...string) labFile {
	return labFile{"loader/entries/" + name, strings.Join(lines, "\n") + "\n"}
}

var kernelFile = labFile{"k", "PE "}

func config(lines ...string) labFile {
	return labFile{"loader/loader.conf", strings.Join(lines, "\n") + "\n"}
}

func files(parts ...any) (all []labFile) {
	for _, p := range parts {
		switch p := p.(type) {
		case labFile:
			all = append(all, p)
		case []labFile:
			all = append(all, p...)
		}
	}
	return all
}

// loaderCases are what the boot loaders were started with.
func loaderCases() []labCase {
	vars := func(nameValue ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(nameValue); i += 2 {
			m["LoaderEntry"+nameValue[i]] = nameValue[i+1]
		}
		return m
	}
	all := []labCase{
		// Order.
		{name: "newest first", esp: ukis("os_9.efi", "os_10.efi", "os_10~rc1.efi", "os_1.efi")},
		{name: "bad last", esp: ukis("os_1.efi", "os_2+0-3.efi", "os_0.efi")},
		{name: "all bad", esp: ukis("os_1+0-1.efi", "os_2+0-3.efi"), boots: 2},
		{name: "same entry, more tries first", esp: ukis("os_1+1-2.efi", "os_1+2-1.efi", "os_1+2-0.efi"), boots: 2},
		{name: "counted and not", esp: ukis("os_1+2.efi", "os_1.efi"), boots: 3},
		{name: "not counted and counted", esp: ukis("os_1.efi", "os_1+2.efi"), boots: 3},
		{name: "sort keys", esp: files(kernelFile, conf("a.conf", "linux /k", "sort-key z", "version 1"), conf("b.conf", "linux /k", "version 9"),
			conf("c.conf", "linux /k", "sort-key a", "machine-id 2", "version 1"), conf("d.conf", "linux /k", "sort-key a", "machine-id 1", "version 1"),
			conf("e.conf", "linux /k", "sort-key a", "version 1"), conf("f.conf", "linux /k", "sort-key a", "machine-id 1", "version 2"), conf("g.conf", "linux /k", "version 1"))},
		{name: "sort keys by code unit", esp: files(kernelFile, conf("a.conf", "linux /k", "sort-key B"), conf("b.conf", "linux /k", "sort-key a"), conf("c.conf", "linux /k", "sort-key é"),
			conf("d.conf", "linux /k", "sort-key a1"), conf("e.conf", "linux /k", "sort-key a10"), conf("f.conf", "linux /k", "sort-key a2"))},
		{name: "versions without sort key", esp: files(kernelFile, conf("b.conf", "linux /k", "version 1"), conf("a.conf", "linux /k", "version 9"), conf("c-10.conf", "linux /k"), conf("c-9.conf", "linux /k"))},
		{name: "both types", esp: files(kernelFile, ukis("os_2.efi"), conf("a.conf", "linux /k", "sort-key os", "version 3"), conf("b.conf", "linux /k", "sort-key os", "version 1"), conf("z.conf", "linux /k"))},
		{name: "xbootldr", esp: ukis("os_1.efi"), xbootldr: files(kernelFile, ukis("os_2+2.efi"), conf("a+1.conf", "title A", "linux /k", "options a")), boots: 4},
		{name: "the same on both", esp: ukis("os_1.efi", "os_2.efi"), xbootldr: ukis("os_2.efi", "os_1.efi")},
		{name: "counted on both", esp: ukis("os_1+2.efi"), xbootldr: ukis("os_1+3.efi"), boots: 3},
		{name: "loader.conf of xbootldr is not read", esp: ukis("os_1.efi"), xbootldr: files(ukis("os_2.efi"), config("default os_1*"))},
		{name: "default on xbootldr", esp: files(ukis("os_1.efi", "os_3.efi"), config("default os_2*")), xbootldr: ukis("os_2.efi")},
		// Counting.
		{name: "three tries", esp: ukis("os_1.efi", "os_2+3.efi"), boots: 5},
		{name: "widths", esp: ukis("os_2+10-00.efi"), boots: 2},
		{name: "leading zeros", esp: ukis("os_2+03-00.efi"), boots: 2},
		{name: "zero left", esp: ukis("os_2+0.efi"), boots: 2},
		{name: "done is large", esp: ukis("os_2+2-9.efi"), boots: 3},
		{name: "no counter", esp: ukis("os_2+.efi", "os_1+3x.efi", "os_0+-1.efi", "os_3+1-.efi", "os_4+-.efi")},
		{name: "dash without a number", esp: ukis("os_3+1-.efi"), boots: 2},
		{name: "two pluses", esp: ukis("os_1+2+3.efi", "os_1+a+1-1.efi"), boots: 2},
		{name: "huge counters", esp: ukis("os_1+2147483647.efi", "os_2+2147483648.efi", "os_3+4294967296.efi", "os_4+99999999999999999999.efi")},
		{name: "capital letters", esp: files(labFile{"EFI/Linux/OS_2+2.EFI", labOS("2")}, labFile{"EFI/Linux/OS_1.EFI", labOS("1")}), boots: 3},
		{name: "counted conf", esp: files(kernelFile, conf("a+2.conf", "linux /k", "version 2"), conf("b.conf", "linux /k", "version 1")), boots: 4},
		{name: "counted conf with capitals", esp: files(kernelFile, conf("Entry+2.CONF", "linux /k")), boots: 3},
		{name: "counted efi is not counted", esp: files(kernelFile, conf("a+2.conf", "efi /k")), boots: 2},
		{name: "counted efi without tries", esp: files(kernelFile, conf("a+0-2.conf", "efi /k"), conf("b.conf", "efi /k")), boots: 2},
		{name: "counted uki key", esp: files(labFile{"u.efi", labOS("3")}, conf("a+2.conf", "uki /u.efi"), ukis("os_1.efi")), boots: 2},
		{name: "rename onto a name that is there", esp: ukis("os_2+2.efi", "os_2+1-1.efi"), boots: 3},
		// The directories.
		{name: "names that are left out", esp: files(ukis("auto-x_9.efi", ".os_8.efi", "os_7.txt", "os_6.efi.bak", "Auto-y_5.efi", "os_1.efi"), labFile{"EFI/Linux/os_9.efi/", ""}, labFile{"EFI/Linux/sub/os_8.efi", labOS("8")})},
		{name: "confs that are left out", esp: files(kernelFile, conf("auto-a.conf", "linux /k"), conf(".b.conf", "linux /k"), conf("c.cfg", "linux /k"), conf("d.conf", "linux /k"), labFile{"loader/entries/e.conf/", ""})},
		{name: "directories in lower case", esp: files(labFile{"efi/linux/os_1.efi", labOS("1")}, labFile{"LOADER/ENTRIES/A.CONF", "efi \\K\n"}, labFile{"LOADER/LOADER.CONF", "default A.conf\n"}, kernelFile)},
		// Type 1.
		{name: "no such kernel", esp: files(kernelFile, conf("z.conf", "linux /nothing"), conf("a.conf", "linux /k"))},
		{name: "nothing to start", esp: files(kernelFile, conf("z.conf", "title x"), conf("a.conf", "linux /k"))},
		{name: "two things to start", esp: files(kernelFile, conf("z.conf", "linux /k", "efi /k"), conf("y.conf", "efi /k", "linux /k"), conf("x.conf", "linux /nothing", "linux /k"), conf("w.conf", "linux /k", "linux /nothing"), conf("a.conf", "linux /k"))},
		{name: "architecture", esp: files(kernelFile, conf("z.conf", "linux /k", "architecture aa64"), conf("y.conf", "linux /k", "architecture X64"), conf("x.conf", "architecture arm", "linux /k"), conf("w.conf", "linux /k", "architecture x86_64"))},
		{name: "keys", esp: files(kernelFile, conf("z.conf", "# comment", "  linux\t/k  ", "options  a  b ", "options c", "Options d", "options", "version  1 2", "unknown x", "options #e"))},
		{name: "quotes", esp: files(kernelFile, conf("z.conf", `linux "/k"`, `options "a b"`, `sort-key 'q'`, `version "2"`), conf("y.conf", `linux '/k'`, "sort-key q", "version 1"), conf("x.conf", "linux /k", `sort-key "q`, "version 3"))},
		{name: "line ends", esp: files(kernelFile, conf("z.conf", "linux /k\r", "options a\r\r", "options b\x00", "options c"), conf("y.conf", "\ufefflinux /k"), conf("x.conf", "linux /k\roptions q"))},
		{name: "no end of line", esp: files(kernelFile, labFile{"loader/entries/a.conf", "linux /k\noptions x"}, labFile{"loader/entries/empty.conf", ""})},
		{name: "not UTF-8", esp: files(kernelFile, conf("z.conf", "linux /k", "options a\xffb\xc3\xa9\xf0\x9f\x98\x80", "sort-key \xff"))},
		{name: "paths", esp: files(labFile{"dir/k", "PE "}, conf("z.conf", "linux dir/k"), conf("y.conf", `linux \dir\k`), conf("x.conf", "linux /DIR/K"), conf("w.conf", "linux //dir//k"), conf("v.conf", "linux /dir/../dir/./k"), conf("u.conf", "linux dir/k/"), conf("t.conf", "linux /dir"))},
		{name: "efi is the loader itself", esp: files(kernelFile, conf("z.conf", `efi /EFI/BOOT/BOOTX64.EFI`), conf("y.conf", `efi \efi\boot\bootx64.efi`), conf("a.conf", "efi /k"))},
		{name: "linux is the loader itself", esp: files(kernelFile, conf("z.conf", "linux /EFI/BOOT/BOOTX64.EFI"), conf("a.conf", "efi /k"), config("default a.conf"))},
		{name: "uki key", esp: files(labFile{"u.efi", labOS("3")}, conf("z.conf", "uki /u.efi", "options x", "version 1", "sort-key s"), conf("y.conf", "uki /u.efi", "profile 0"), conf("a.conf", "efi /u.efi"))},
		{name: "uki-url", esp: files(kernelFile, conf("z.conf", "uki-url http://a/b.efi"), conf("y.conf", "uki-url :b.efi"), conf("a.conf", "efi /k"), config("default a.conf"))},
		{name: "machine id", esp: files(kernelFile, conf("z.conf", "linux /k", "sort-key a", "machine-id b"), conf("y.conf", "linux /k", "sort-key a", "machine-id a"), conf("x.conf", "linux /k", "sort-key a"), conf("w.conf", "linux /k", "machine-id 0"))},
		{name: "empty sort key", esp: files(kernelFile, conf("z.conf", "linux /k", `sort-key ""`), conf("y.conf", "linux /k", "sort-key a"), conf("x.conf", "linux /k"))},
		{name: "kernel is cut off", esp: files(labFile{"k2", "PE .linux=x;cut=1500"}, kernelFile, conf("a.conf", "linux /k"))},
		// Type 2.
		{name: "fields of os-release", esp: files(labFile{"EFI/Linux/a.efi", labUKI("ID=z", "VERSION_ID=3")}, labFile{"EFI/Linux/b.efi", labUKI("ID=q", "IMAGE_ID=a", "VERSION=1", "VERSION_ID=9", "NAME=N")},
			labFile{"EFI/Linux/c.efi", labUKI("NAME=N", "BUILD_ID=7")}, labFile{"EFI/Linux/d.efi", labUKI("ID=z", "BUILD_ID=4")}, labFile{"EFI/Linux/e.efi", labUKI("VERSION_ID=4")},
			labFile{"EFI/Linux/f.efi", labUKI("PRETTY_NAME=P", "VERSION_ID=5")}, labFile{"EFI/Linux/g.efi", labUKI("# ID=c", `ID="z"`, "VERSION_ID='3.5'")}, labFile{"EFI/Linux/h.efi", labUKI("ID=", "NAME=x")})},
		{name: "spaces in os-release", esp: files(labFile{"EFI/Linux/a.efi", labUKI("ID =z", "VERSION_ID=3", "NAME=x")}, labFile{"EFI/Linux/b.efi", labUKI(" ID=y", "NAME=x")}, labFile{"EFI/Linux/c.efi", labUKI("ID= x", "NAME=x")}, labFile{"EFI/Linux/d.efi", labUKI("ID=a", "ID=w", "NAME=x")}, labFile{"EFI/Linux/e.efi", labUKI("ID=v\r", "NAME=x\r")})},
		{name: "no os-release", esp: files(labFile{"EFI/Linux/a.efi", "PE .linux=k"}, labFile{"EFI/Linux/b.efi", "PE .osrel=;.linux=k"}, labFile{"EFI/Linux/c.efi", "no program"}, labFile{"EFI/Linux/d.efi", ""}, labFile{"EFI/Linux/e.efi", labUKI("ID=x")})},
		{name: "os-release without kernel", esp: files(labFile{"EFI/Linux/a.efi", "PE .osrel=ID=x\nNAME=x\n"})},
		{name: "two os-releases", esp: files(labFile{"EFI/Linux/a.efi", "PE .osrel=ID=x\nNAME=x\n;.osrel=ID=b\nNAME=x\n"}, labFile{"EFI/Linux/b.efi", labUKI("ID=c", "NAME=x")})},
		{name: "profiles", esp: files(labFile{"EFI/Linux/os_1+2.efi", labOS("1") + ";.profile=ID=main\n;.profile=ID=debug\nTITLE=Debug it\n;.cmdline=debug;.profile=TITLE=x\n"}, ukis("os_0.efi")), boots: 4},
		{name: "profile with its own os-release", esp: files(labFile{"EFI/Linux/os_1.efi", labOS("1") + ";.profile=ID=main\n;.profile=ID=new\n;.osrel=ID=os\nIMAGE_VERSION=9\nNAME=x\n"}, ukis("os_2.efi"))},
		{name: "profile by name", esp: files(labFile{"EFI/Linux/os_1.efi", labOS("1") + ";.profile=ID=main\n;.profile=ID=Debug\n"}, ukis("os_2.efi")), vars: vars("Default", "os_1.efi@debug"), boots: 2},
		{name: "profile by number", esp: files(labFile{"EFI/Linux/os_1.efi", labOS("1") + ";.profile=ID=main\n;.profile=TITLE=two\n"}, ukis("os_2.efi")), vars: vars("OneShot", "os_1.efi@1"), boots: 2},
		{name: "default's profile", esp: files(labFile{"EFI/Linux/os_1.efi", labOS("1") + ";.profile=ID=main\n;.profile=ID=debug\n"}, config("default os_1*"))},
		{name: "a kernel's name in its entry", esp: files(labFile{"EFI/Linux/os_1.efi", "PE .osrel=ID=os\nNAME=x\n;.uname=6.1;.linux=k"}, labFile{"EFI/Linux/os_2.efi", "PE .osrel=ID=os\nNAME=x\n;.uname=6.0;.linux=k"})},
		// Choice.
		{name: "default pattern", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("default os_[12].efi"))},
		{name: "default is bad", esp: files(ukis("os_1.efi", "os_3+0-3.efi"), config("default os_3*")), boots: 2},
		{name: "default is counted", esp: files(ukis("os_1+2.efi", "os_3.efi"), config("default os_1*")), boots: 4},
		{name: "default without suffix", esp: files(ukis("os_1.efi", "os_3.efi"), config("default os_1"))},
		{name: "default with counter", esp: files(ukis("os_1+2.efi", "os_3.efi"), config("default os_1+2.efi"))},
		{name: "default matches nothing", esp: files(ukis("os_1.efi", "os_3.efi"), config("default x*"))},
		{name: "default in capitals", esp: files(ukis("os_1.efi", "os_3.efi"), config("default OS_1.EFI"))},
		{name: "default of a counted name with capitals", esp: files(labFile{"EFI/Linux/OS_1+2.efi", labOS("1")}, ukis("os_3.efi"), config("default os_1.efi"))},
		{name: "default twice", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("default os_2*", "default os_1*"))},
		{name: "default in quotes", esp: files(ukis("os_1.efi", "os_3.efi"), config(`default "os_1.efi"`))},
		{name: "@saved", esp: files(ukis("os_1.efi", "os_3.efi"), config("default @saved")), vars: vars("LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved, nothing saved", esp: files(ukis("os_1.efi", "os_3.efi"), config("default @saved")), boots: 2},
		{name: "@saved by variable", esp: ukis("os_1.efi", "os_3.efi"), vars: vars("Default", "@saved", "LastBooted", "OS_1.efi"), boots: 2},
		{name: "@saved one-shot", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("default @saved")), vars: vars("OneShot", "os_1.efi"), boots: 3},
		{name: "preferred", esp: files(ukis("os_1.efi", "os_3.efi"), config("preferred os_1*")), boots: 1},
		{name: "preferred is bad", esp: files(ukis("os_1+0-1.efi", "os_2.efi", "os_3.efi"), config("preferred os_1*", "default os_2*"))},
		{name: "preferred is counted", esp: files(ukis("os_1+2.efi", "os_3.efi"), config("preferred os_1*")), boots: 4},
		{name: "preferred before default", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("preferred os_1*", "default os_2*"))},
		{name: "preferred variable", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("preferred os_2*")), vars: vars("Preferred", "os_1.efi")},
		{name: "default variable", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("default os_2*")), vars: vars("Default", "os_1.efi")},
		{name: "default variable that matches nothing", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("default os_2*")), vars: vars("Default", "os_9.efi")},
		{name: "config preferred, default variable", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), config("preferred os_2*")), vars: vars("Default", "os_1.efi")},
		{name: "pattern in a variable", esp: ukis("os_1.efi", "os_2.efi", "os_3.efi"), vars: vars("Default", "os_[1-2].*")},
		{name: "one-shot", esp: ukis("os_1.efi", "os_3.efi"), vars: vars("OneShot", "os_1.efi"), boots: 2},
		{name: "one-shot that is bad", esp: ukis("os_1+0-1.efi", "os_3.efi"), vars: vars("OneShot", "os_1.efi"), boots: 2},
		{name: "one-shot that matches nothing", esp: ukis("os_1.efi", "os_3.efi"), vars: vars("OneShot", "os_2.efi", "Default", "os_1.efi"), boots: 2},
		{name: "one-shot pattern", esp: ukis("os_1.efi", "os_2.efi", "os_3.efi"), vars: vars("OneShot", "*[12].efi"), boots: 2},
		{name: "one-shot counted", esp: ukis("os_1+2.efi", "os_3.efi"), vars: vars("OneShot", "os_1.efi"), boots: 3},
		{name: "one-shot with counter", esp: ukis("os_1+2.efi", "os_3.efi"), vars: vars("OneShot", "os_1+2.efi"), boots: 2},
		{name: "system failure alone", esp: ukis("os_1.efi", "os_3.efi"), vars: vars("SysFail", "os_1.efi"), boots: 1},
		{name: "last booted alone", esp: ukis("os_1.efi", "os_3.efi"), vars: vars("LastBooted", "os_1.efi"), boots: 1},
		{name: "all bad but the default", esp: files(ukis("os_1+0-1.efi", "os_3+0-1.efi"), config("default os_1*")), boots: 2},
		{name: "timeout 0", esp: files(ukis("os_1.efi"), config("timeout 0"))},
		{name: "timeout menu-hidden", esp: files(ukis("os_1.efi"), config("timeout menu-hidden"))},
		{name: "timeout menu-disabled", esp: files(ukis("os_1.efi"), config("timeout menu-disabled"))},
		{name: "timeout 1", esp: files(ukis("os_1.efi"), config("timeout 1"))},
		{name: "timeout nonsense", esp: files(ukis("os_1.efi"), config("timeout x", "timeout -1"))},
		{name: "config in lines", esp: files(ukis("os_1.efi", "os_2.efi", "os_3.efi"), labFile{"loader/loader.conf", "#default os_2*\r\n  default\tos_1*  \r\neditor no\r\n"})},
		// What does not come back.
		{name: "menu-force", esp: files(ukis("os_1.efi"), config("timeout menu-force"))},
		{name: "no entry", esp: files(kernelFile)},
		{name: "only a profile", esp: files(labFile{"EFI/Linux/os_1.efi", "PE .linux=k;.profile=ID=a\n;.profile=ID=b\n;.osrel=ID=os\nNAME=x\n"})},
		{name: "default is cut off", esp: files(labFile{"EFI/Linux/os_2.efi", labOS("2") + ";.initrd=" + strings.Repeat("x", 9000) + ";cut=7000"}, ukis("os_1.efi")), boots: 2},
		{name: "counted default is cut off", esp: files(labFile{"EFI/Linux/os_2+2.efi", labOS("2") + ";.initrd=" + strings.Repeat("x", 9000) + ";cut=7000"}, ukis("os_1.efi")), boots: 2},
		{name: "kernel of the default is no program", esp: files(labFile{"bad", "no program"}, kernelFile, conf("b.conf", "linux /bad", "version 2"), conf("a.conf", "linux /k")), boots: 2},
	}
	three := ukis("os_1.efi", "os_2.efi", "os_3.efi")
	cut := ";.initrd=" + strings.Repeat("x", 9000) + ";cut=7000"
	all = append(all, []labCase{
		{name: "@saved, lower case", esp: three, vars: vars("Default", "@saved", "LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved in capitals", esp: three, vars: vars("Default", "@SAVED", "LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved in loader.conf, booted with capitals", esp: files(three, config("default @saved")), vars: vars("LastBooted", "OS_1.efi")},
		{name: "@saved, a pattern was booted", esp: files(three, config("default @saved")), vars: vars("LastBooted", "os_[12]*")},
		{name: "@saved preferred", esp: files(three, config("preferred @saved")), vars: vars("LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved preferred that is bad", esp: files(ukis("os_1+0-1.efi", "os_2.efi", "os_3.efi"), config("preferred @saved")), vars: vars("LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved preferred by variable", esp: three, vars: vars("Preferred", "@saved", "LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved preferred, default", esp: files(three, config("preferred @saved", "default os_2*")), vars: vars("LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved, default variable", esp: files(three, config("default @saved")), vars: vars("Default", "os_2.efi", "LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved, default variable that matches nothing", esp: files(three, config("default @saved")), vars: vars("Default", "os_9.efi", "LastBooted", "os_1.efi"), boots: 2},
		{name: "@saved, one-shot, booted before", esp: files(three, config("default @saved")), vars: vars("OneShot", "os_1.efi", "LastBooted", "os_2.efi"), boots: 2},
		{name: "@saved, one-shot in capitals", esp: files(three, config("default @saved")), vars: vars("OneShot", "OS_1.efi", "LastBooted", "os_2.efi"), boots: 2},
		{name: "one-shot @saved", esp: three, vars: vars("OneShot", "@saved", "LastBooted", "os_1.efi"), boots: 2},
		{name: "renamed, three of them", esp: ukis("a_1+2.efi", "b_1.efi", "a_1.efi", "c_1.efi"), boots: 4},
		{name: "renamed conf", esp: files(kernelFile, conf("a+3.conf", "linux /k", "sort-key s"), conf("a.conf", "linux /k", "sort-key s"), conf("b.conf", "linux /k", "sort-key s")), boots: 4},
		{name: "renamed on xbootldr", esp: ukis("a_1.efi"), xbootldr: ukis("a_1+3.efi"), boots: 3},
		{name: "profiles, the first has no name", esp: files(labFile{"EFI/Linux/a_1.efi", "PE .linux=k;.profile=ID=a\n;.profile=ID=b\n;.osrel=ID=os\nNAME=x\n"}, labFile{"EFI/Linux/a_2+0-1.efi", labUKI("ID=x", "NAME=x")}), boots: 2},
		{name: "profile key", esp: files(labFile{"u.efi", labOS("3") + ";.profile=ID=a\n;.profile=ID=b\n"}, conf("a.conf", "uki /u.efi", "profile 1", "sort-key s"), conf("b.conf", "uki /u.efi", "profile 0", "sort-key s")), boots: 2},
		{name: "counted names in upper case", esp: files(labFile{"EFI/Linux/OS_1+3-1.EFI", labUKI("NAME=x")}, labFile{"EFI/Linux/os_2+3.efi", labUKI("NAME=x")}, labFile{"EFI/Linux/oS_3.efi", labUKI("NAME=x")}), boots: 3},
		{name: "names by code unit", esp: files(labFile{"EFI/Linux/b.efi", labUKI("NAME=x")}, labFile{"EFI/Linux/B2+1.efi", labUKI("NAME=x")}, labFile{"EFI/Linux/a+1.efi", labUKI("NAME=x")}, labFile{"EFI/Linux/C+1.efi", labUKI("NAME=x")})},
		{name: "bad default is cut off", esp: files(labFile{"EFI/Linux/os_2+0-1.efi", labOS("2") + cut}, ukis("os_1.efi"), config("default os_2*"))},
		{name: "cut off, reboot-on-error yes", esp: files(labFile{"EFI/Linux/os_2.efi", labOS("2") + cut}, ukis("os_1.efi"), config("reboot-on-error yes"))},
		{name: "cut off, reboot-on-error no", esp: files(labFile{"EFI/Linux/os_2+2.efi", labOS("2") + cut}, ukis("os_1.efi"), config("reboot-on-error no"))},
		{name: "cut off, last try", esp: files(labFile{"EFI/Linux/os_2+1.efi", labOS("2") + cut}, ukis("os_1.efi"))},
		{name: "no entry, no firmware setup", esp: files(config("auto-firmware no"))},
		{name: "paths with dots", esp: files(kernelFile, labFile{"dir/x", "x"}, conf("z.conf", "linux /nothing/../k"), conf("y.conf", "linux /dir/../k"), conf("x.conf", "linux /../k"), conf("w.conf", "linux /k/."),
			conf("v.conf", "linux /k/../k"), conf("u.conf", "linux ./k"), conf("t.conf", "linux /dir/"), conf("s.conf", "linux /"), conf("r.conf", `linux /dir\\\..\k`))},
		{name: "all but profiles, no firmware setup", esp: files(labFile{"EFI/Linux/os_1.efi", "PE .linux=k;.profile=ID=a\n;.profile=ID=b\n;.osrel=ID=os\nNAME=x\n"}, config("auto-firmware no"))},
	}...)
	// Glob patterns, against one entry.
	for i, p := range []string{"*", "os_1.efi", "os_?.efi", "?s_1.efi", "os_1.ef", "*1*", "*.efi", "**", "os*1*i", "o*s*2*", "[o]s_1.efi", "[!o]s_1.efi", "[^o]s_1.efi", "[a-z]s_1.efi", "[z-a]s_1.efi", "[-o]s_1.efi", "[o-]s_1.efi", "[]o]s_1.efi",
		"[os_1.efi", `\os_1.efi`, `os\_1.efi`, `os_1.efi\`, `\*`, "os_[0-9].efi", "os_[[:digit:]].efi", "", "os_1.efi ", "{os_1,x}.efi", "@saved", "@os_1.efi", "OS_?.EFI"} {
		all = append(all, labCase{name: fmt.Sprintf("pattern %d %s", i, p), esp: files(ukis("os_1.efi", "os_2.efi")), vars: vars("Default", p)})
	}
	// Versions, all at once: they come in their order.
	for i, list := range [][]string{
		{"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1", "124-1"},
		{"0", "a", "0.", "0.0", "~", "", "1_", "_1", "1", "1.2", "1_2_3", "1.3.3", "007", "7", "B", "a.b", "~~", "1-", "a~", "a^"},
		{"11α", "11β", "11", "1+", "+1", "99999999999999999999", "99999999999999999998", "1-1", "1.1", "1^1", "1~1", "1a", "1a1", "1aB", "1ab"},
	} {
		var esp []labFile
		for k, v := range list {
			esp = append(esp, conf(fmt.Sprintf("e%02d.conf", k), "linux /k", "sort-key s", `version "`+v+`"`))
		}
		all = append(all, labCase{name: fmt.Sprintf("versions %d", i), esp: files(kernelFile, esp)})
	}
	for i := range randomLoaderCases {
		all = append(all, randomLoaderCase(i))
	}
	return all
}

const randomLoaderCases = 120

// randomLoaderCase has entries that agree in much, so that each rule of the order decides
// somewhere.
func randomLoaderCase(i int) labCase {
	r := rand.New(rand.NewPCG(uint64(i), 2026))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	counter := func() string {
		return pick("", "", "", "+3", "+1-1", "+0-2", "+0", "+2-1", "+02-1", "+2")
	}
	version := func() string { return pick("1", "2", "10", "1.1", "2~rc", "2^a", "1-1", "a", "2.0", "02") }
	c := labCase{name: fmt.Sprintf("random %d", i), boots: 1 + r.IntN(4)}
	fill := func() (list []labFile) {
		seen := map[string]bool{}
		add := func(f labFile) {
			if name := strings.ToLower(f.path); !seen[name] {
				seen[name] = true
				list = append(list, f)
			}
		}
		add(kernelFile)
		for range r.IntN(6) {
			osrel := []string{"NAME=x", "ID=" + pick("os", "os", "ab"), pick("IMAGE_VERSION=", "VERSION_ID=", "X=") + version()}
			name := pick("os", "os", "OS", "b") + "_" + version() + counter() + pick(".efi", ".efi", ".EFI")
			content := labUKI(osrel...)
			if r.IntN(6) == 0 {
				content += ";.profile=ID=main\n;.profile=ID=" + pick("debug", "Alt") + "\n"
			}
			add(labFile{"EFI/Linux/" + name, content})
		}
		for range r.IntN(6) {
			var lines []string
			for _, key := range []string{"sort-key " + pick("os", "ab"), "machine-id " + pick("1", "2"), "version " + version(), "title " + pick("A", "B"), "options " + pick("a", "b")} {
				if r.IntN(2) == 0 {
					lines = append(lines, key)
				}
			}
			lines = append(lines, pick("linux /k", "linux /k", "efi /k", "linux /missing"))
			add(conf(pick("os", "b", "C")+"-"+version()+counter()+".conf", lines...))
		}
		return list
	}
	c.esp = fill()
	if i%8 == 0 {
		c.xbootldr = fill()
	}
	pattern := func() string {
		return pick("os*", "*.conf", "b_*", "os_[12]*", "*-1.conf", "*10*", "c-?.conf", "@saved", "nothing")
	}
	if r.IntN(3) == 0 {
		c.esp = append(c.esp, config(pick("default ", "preferred ")+pattern(), pick("timeout 0", "default "+pattern())))
	}
	c.vars = map[string]string{}
	for _, name := range []string{"OneShot", "Default", "Preferred", "LastBooted"} {
		if r.IntN(5) == 0 {
			c.vars["LoaderEntry"+name] = pattern()
		}
	}
	// Something that the loader starts by itself whatever the rest is.
	c.esp = append(c.esp, ukis("os_0.efi")...)
	return c
}

// labNames are the names of the cases, to see that none is there twice.
func labNames(cases []labCase) []string {
	names := map[string]bool{}
	for _, c := range cases {
		names[c.name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
