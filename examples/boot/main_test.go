package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

func callOf(t *testing.T) *cli.Call {
	return &cli.Call{Context: t.Context(), Stdout: io.Discard, Stderr: io.Discard}
}

// opened opens file systems for reading.
func opened(t *testing.T, p *espvolume.Place, do func(*espvolume.Volumes)) {
	t.Helper()
	c := callOf(t)
	defer c.Close()
	v, err := p.Open(c, false)
	require.NoError(t, err)
	do(v)
}

// three is an ESP with a committed version, one that is new and one that has failed.
func three() []osmith.ESPFile {
	return []osmith.ESPFile{loaderFile("EFI/systemd/systemd-bootx64.efi", "262-1"), loaderFile("EFI/BOOT/BOOTX64.EFI", "262-1"),
		ukiOf("EFI/Linux/os_1.efi", "1"), ukiOf("EFI/Linux/os_2+3.efi", "2"), ukiOf("EFI/Linux/os_3+0-3.efi", "3")}
}

// both calls a test with the same ESP in an image, with its flag, and in a directory.
func both(t *testing.T, files []osmith.ESPFile, test func(b *bench, esp string)) {
	t.Run("image", func(t *testing.T) {
		b := newBench(t)
		b.image("disk.img", b.fat(partition.ESP, "esp", files))
		test(b, "@disk.img")
	})
	t.Run("directory", func(t *testing.T) {
		b := newBench(t)
		b.directory("efi", files)
		test(b, "@efi")
	})
}

func TestListAndWhy(t *testing.T) {
	both(t, append(three(), text("loader/loader.conf", "timeout 3\ncolour red\n"), text("loader/entries/x.conf", "linux /missing\n")), func(b *bench, esp string) {
		require.Equal(b, `EFI/systemd/systemd-bootx64.efi: systemd-boot 262-1, by the rules of 262 (booted)
* os_2.efi  "OS 2"  2  type2  3 tries left, 0 done  EFI/Linux/os_2+3.efi
  os_1.efi  "OS 1"  1  type2  good  EFI/Linux/os_1.efi
  os_3.efi  "OS 3"  3  type2  bad, after 3 tries  EFI/Linux/os_3+0-3.efi
* first in the menu, if no variable says otherwise (-vars)
! loader/loader.conf: line 2: colour red: unknown key
! loader/entries/x.conf: the file to start is missing: line 1: linux /missing: not on the file system of the entry: file does not exist
`, b.ok("list -esp "+esp))

		b.store("vars", 2000, "LoaderEntryDefault", "os_1*")
		out := object[listResult](b, 0, "list -vars @vars -esp "+esp)
		require.Equal(b, []any{"osmith.boot/1", "list", true, "os_1.efi", "LoaderEntryDefault"}, []any{out.Schema, out.Verb, out.Vars, out.Default, out.Reason})
		require.Equal(b, loaderObject{"EFI/systemd/systemd-bootx64.efi", "262-1", "x64", "262", "booted"}, out.Loader)
		left, done := 3, 0
		require.Equal(b, entryObject{ID: "os_2.efi", Path: "EFI/Linux/os_2+3.efi", Type: "type2", Title: "OS 2", Version: "2", TriesLeft: &left, TriesDone: &done}, out.Entries[0])
		require.Equal(b, []bool{false, true, false}, []bool{out.Entries[0].Default, out.Entries[1].Default, out.Entries[2].Default})
		require.Len(b, out.Findings, 2)

		require.Equal(b, `EFI/systemd/systemd-bootx64.efi: systemd-boot 262-1, by the rules of 262 (booted)
starts os_2.efi  "OS 2"  EFI/Linux/os_2+3.efi, if no variable says otherwise (-vars)
  neither a variable nor loader.conf names an entry that there is, so it is the first one of the menu that starts by itself
  it comes before EFI/Linux/os_1.efi by version: "2" is newer than "1"
not os_3.efi  "OS 3"  EFI/Linux/os_3+0-3.efi
  it has no tries left: it was started 3 times, or marked, and not declared good
if no start is ever declared good:
  3 times: EFI/Linux/os_2+3.efi -> os_2+0-3.efi  (first in the menu)
  from then on: EFI/Linux/os_1.efi  (first in the menu)
`, b.ok("why -esp "+esp+" os_3.efi"))
		require.Contains(b, b.ok("why EFI/Linux/os_2+2-1.efi -vars @vars -esp "+esp), "  LoaderEntryDefault names it (os_1*), whether it has tries left or not\n"+
			"not os_2.efi  \"OS 2\"  EFI/Linux/os_2+3.efi\n  os_1.efi comes first: LoaderEntryDefault, which goes before the order of the menu\n")
		why := object[whyResult](b, 0, "why os_1.efi -esp "+esp)
		require.Equal(b, []string{`EFI/Linux/os_2+3.efi comes before EFI/Linux/os_1.efi by version: "2" is newer than "1"`}, why.WhyNot)
		require.Equal(b, []startsObject{{"os_2.efi", "EFI/Linux/os_2+3.efi", "EFI/Linux/os_2+0-3.efi", "first in the menu", 3}, {"os_1.efi", "EFI/Linux/os_1.efi", "EFI/Linux/os_1.efi", "first in the menu", 1}}, why.Starts)
		require.True(b, why.Endless)
		require.Equal(b, "os_2.efi", why.Default.ID)

		b.store("once", 2000, "LoaderEntryOneShot", "os_3.efi")
		require.Contains(b, b.ok("why -vars @once -esp "+esp), "  once: EFI/Linux/os_3+0-3.efi -> os_3+0-4.efi  (LoaderEntryOneShot)\n  3 times: EFI/Linux/os_2+3.efi")
		b.store("fresh", 2000)
		require.NotContains(b, b.ok("why -vars @fresh -esp "+esp), "-vars")

		b.refused(1, "boot: os_9.efi is not in the menu", "why os_9.efi -esp "+esp)
		b.refused(1, "boot: loader/entries/x.conf is not in the menu: the file to start is missing: line 1: linux /missing", "why loader/entries/x.conf -esp "+esp)
	})
}

func TestWhyNothingAndEverySort(t *testing.T) {
	b := newBench(t)
	b.directory("empty", []osmith.ESPFile{text("note", "")})
	require.Equal(t, "no systemd-boot; by the rules of 262\n* there is no entry, if no variable says otherwise (-vars)\n", b.ok("list -esp @empty"))
	b.refused(1, "the loader starts nothing: there is no entry", "why -esp @empty")
	entry := func(name, lines string) osmith.ESPFile { return text("loader/entries/"+name, "linux /k\n"+lines) }
	for _, s := range []struct {
		a, b osmith.ESPFile
		says string
	}{
		{entry("a.conf", "sort-key a\n"), entry("b.conf", ""), "since that has no sort-key"},
		{entry("a.conf", "sort-key a\n"), entry("b.conf", "sort-key b\n"), `by sort-key: "a" against "b"`},
		{entry("a.conf", "sort-key a\nmachine-id 1\n"), entry("b.conf", "sort-key a\nmachine-id 2\n"), `by machine-id: "1" against "2"`},
		{entry("b.conf", ""), entry("a.conf", ""), "by id: b.conf is newer than a.conf"},
		{entry("a+3.conf", ""), entry("a+2.conf", ""), "by boot counter: 3 tries left, 0 done against 2 tries left, 0 done"},
		{entry("a.conf", ""), entry("a+2.conf", ""), "by nothing but the order of the files"},
		{entry("a.conf", ""), entry("b+0.conf", ""), "since that has no tries left"},
	} {
		b := newBench(t)
		b.directory("efi", []osmith.ESPFile{text("k", "k"), s.a, s.b})
		require.Contains(t, b.ok("why -esp @efi"), s.says)
	}
	b.directory("profiles", []osmith.ESPFile{ukiOf("EFI/Linux/a.efi", "1", petest.Section{Name: ".profile", Content: []byte("ID=main\n")}, petest.Section{Name: ".profile", Content: []byte("ID=debug\n")})})
	require.Contains(t, b.ok("why -esp @profiles a.efi@debug"), "it is profile 1 of its image, and only the first one starts by itself")
}

func TestBless(t *testing.T) {
	both(t, []osmith.ESPFile{ukiOf("EFI/Linux/os_1.efi", "1"), ukiOf("EFI/Linux/os_2+2-1.efi", "2")}, func(b *bench, esp string) {
		b.store("vars", 2000, "LoaderBootCountPath", `\EFI\Linux\os_2+2-1.efi`)
		b.store("none", 2000)
		b.refused(1, "not booted with boot counting", "bless -vars @none -esp "+esp)
		out := object[markResult](b, 0, "bless -good-if-uncounted -vars @none -esp "+esp)
		require.Equal(b, markResult{Header: cli.Header{Schema: schema, Verb: "bless"}}, out)
		out = object[markResult](b, 0, "bless -vars @vars -esp "+esp)
		require.Equal(b, markResult{Header: cli.Header{Schema: schema, Verb: "bless"}, Counted: true, From: "EFI/Linux/os_2+2-1.efi", Path: "EFI/Linux/os_2.efi"}, out)
		require.True(b, b.has(esp, "EFI/Linux/os_2.efi"))
		require.False(b, b.has(esp, "EFI/Linux/os_2+2-1.efi"))
		require.Equal(b, "EFI/Linux/os_2.efi is good already\n", b.ok("bless -vars @vars -esp "+esp))

		// And bad, which the same variable names.
		require.Equal(b, "bad: EFI/Linux/os_2+0-1.efi; the loader starts EFI/Linux/os_1.efi next (first in the menu)\n", b.ok("bad -vars @vars -esp "+esp))
		require.Equal(b, "good: EFI/Linux/os_2.efi, which was os_2+0-1.efi\n", b.ok("bless -vars @vars -esp "+esp))
		b.store("vars", 2000, "LoaderBootCountPath", `\EFI\Linux\os_9+2-1.efi`)
		b.refused(1, "no file has a name that this entry can have", "bless -good-if-uncounted -vars @vars -esp "+esp)
	})
}

func TestBad(t *testing.T) {
	both(t, three(), func(b *bench, esp string) {
		out := object[markResult](b, 0, "bad os_2.efi -vars none -esp "+esp)
		require.Equal(b, markResult{Header: cli.Header{Schema: schema, Verb: "bad"}, Counted: true, From: "EFI/Linux/os_2+3.efi", Path: "EFI/Linux/os_2+0.efi", Next: "os_1.efi"}, out)
		require.True(b, b.has(esp, "EFI/Linux/os_2+0.efi"))
		require.Equal(b, "bad: EFI/Linux/os_2+0.efi; the loader starts EFI/Linux/os_1.efi next (first in the menu)\n", b.ok("bad -vars none EFI/Linux/os_2.efi -esp "+esp))
		b.refused(1, "boot: EFI/Linux/os_1.efi is not marked as bad: no other entry has tries left", "bad -vars none os_1.efi -esp "+esp)
		b.store("vars", 2000, "LoaderEntryDefault", "os_1.efi", "LoaderEntrySelected", "os_1.efi")
		b.refused(1, "LoaderEntryDefault has it started all the same: change that first", "bad -vars @vars -esp "+esp)
		require.True(b, b.has(esp, "EFI/Linux/os_1.efi"))
		b.refused(1, "os_9.efi is not in the menu", "bad -vars none os_9.efi -esp "+esp)
		b.refused(2, "ENTRY is missing", "bad -vars none -esp "+esp)
	})
	both(t, []osmith.ESPFile{ukiOf("EFI/Linux/os_1.efi", "1"), ukiOf("EFI/Linux/os_2.efi", "2"), ukiOf("EFI/Linux/os_1+0.efi", "1")}, func(b *bench, esp string) {
		require.Contains(b, b.ok("bad os_2.efi -vars none -esp "+esp), "bad: EFI/Linux/os_2+0.efi")
		b.refused(1, "os_1.efi is both EFI/Linux/os_1.efi and EFI/Linux/os_1+0.efi: name the path", "bad os_1.efi -vars none -esp "+esp)
		b.refused(1, "os_1+0.efi is there already: remove one of them", "bad EFI/Linux/os_1.efi -vars none -esp "+esp)
	})
	b := newBench(t)
	b.image("disk.img", b.fat(partition.ESP, "esp", three()))
	b.refused(2, "-vars is missing: those of this machine are not those of", "bad os_2.efi -esp @disk.img")
}

// Entries on the extended boot loader partition are found and renamed there.
func TestXBOOTLDR(t *testing.T) {
	b := newBench(t)
	extended := []osmith.ESPFile{text("k", "k"), text("loader/entries/x+2.conf", "linux /k\ntitle X\n")}
	b.image("disk.img", b.fat(partition.ESP, "esp", three()), b.fat(partition.XBOOTLDR, "boot", extended))
	b.directory("efi", three())
	b.directory("boot", extended)
	b.store("vars", 2000, "LoaderBootCountPath", `\loader\entries\x+2.conf`)
	for _, line := range []string{" -esp @disk.img", " -esp @disk.img:1", " -esp @efi -xbootldr @boot", " -esp @efi -xbootldr @disk.img:boot"} {
		require.Contains(t, b.ok("list"+line), "XBOOTLDR:loader/entries/x")
	}
	require.NotContains(t, b.ok("list -esp @efi"), "XBOOTLDR")
	require.Equal(t, "good: XBOOTLDR:loader/entries/x.conf, which was x+2.conf\n", b.ok("bless -vars @vars -esp @disk.img"))
	require.Equal(t, "bad: XBOOTLDR:loader/entries/x+0.conf; the loader starts EFI/Linux/os_2+3.efi next (first in the menu)\n", b.ok("bad -vars @vars -esp @disk.img"))
	require.Equal(t, "good: XBOOTLDR:loader/entries/x.conf, which was x+2.conf\n", b.ok("bless -vars @vars -esp @efi -xbootldr @boot"))
	require.FileExists(t, filepath.Join(b.dir, "boot/loader/entries/x.conf"))
}

func TestInstall(t *testing.T) {
	both(t, []osmith.ESPFile{ukiOf("EFI/Linux/os_1.efi", "1")}, func(b *bench, esp string) {
		b.file("old", petest.Loader("257.13-1"))
		b.file("new", petest.Loader("262-1"))
		for _, name := range []string{"PK", "KEK", "db"} {
			b.file("keys/"+name+".auth", []byte(name))
		}
		call := "install -esp " + esp + " -conf timeout=3 -keys @keys -random-seed"
		require.Contains(b, b.ok(call+" -dry-run -loader @old"), "a dry run: nothing was written\n")
		require.False(b, b.has(esp, "loader/loader.conf"))
		out := object[installResult](b, 0, call+" -loader @old")
		require.False(b, out.DryRun || out.NewerStays)
		var changed []string
		for _, c := range out.Changes {
			require.Equal(b, "create", c.Kind)
			require.True(b, b.has(esp, c.Path), c.Path)
			require.False(b, b.has(esp, c.Path+bootloader.PartialSuffix))
			changed = append(changed, c.Path)
		}
		require.ElementsMatch(b, []string{"loader/loader.conf", "loader/entries.srel", "loader/random-seed", "EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI",
			"loader/keys/auto/PK.auth", "loader/keys/auto/KEK.auth", "loader/keys/auto/db.auth"}, changed)
		require.Contains(b, b.ok("list -esp "+esp), "EFI/systemd/systemd-bootx64.efi: systemd-boot 257.13-1")
		require.Contains(b, b.ok(call+" -loader @old"), "nothing to do\n")

		text := b.ok("install -esp " + esp + " -random-seed -loader @new -conf editor=no -conf timeout=")
		require.Contains(b, text, "create  EFI/systemd/systemd-boot-fallbackx64.efi  257.13-1")
		require.Contains(b, text, "replace EFI/systemd/systemd-bootx64.efi  257.13-1 -> 262-1")
		require.True(b, strings.HasSuffix(text, "\ndone\n"), text)

		// One that is newer stays, unless it is said.
		out = object[installResult](b, 1, "install -esp "+esp+" -loader @old")
		require.True(b, out.NewerStays)
		require.Len(b, out.Findings, 2)
		b.refused(1, "is not installed everywhere, since that would be a step back", "install -esp "+esp+" -loader @old")
		require.Contains(b, out.Findings[0].Text, "say -replace-newer-loader")
		require.Contains(b, b.ok("list -esp "+esp), "systemd-boot 262-1")
		b.ok("install -replace-newer-loader -loader @old -esp " + esp)
		require.Contains(b, b.ok("list -esp "+esp), "systemd-boot 257.13-1")

		b.refused(1, "not a systemd-boot binary", "install -loader @keys/PK.auth -esp "+esp)
		b.refused(2, "-conf colour=red: ", "install -conf colour=red -loader @new -esp "+esp)
		b.refused(2, "-conf timeout=often: ", "install -conf timeout=often -loader @new -esp "+esp)
		b.refused(2, `-conf "timeout": want KEY=VALUE`, "install -conf timeout -loader @new -esp "+esp)
		b.refused(2, `remove "colour"`, "install -conf colour= -loader @new -esp "+esp)
		b.refused(2, "db.auth", "install -keys @half -loader @new -esp "+esp+func() string { b.file("half/PK.auth", nil); b.file("half/KEK.auth", nil); return "" }())
		b.refused(2, "neither PK.auth nor a directory with it", "install -keys @efiless -loader @new -esp "+esp+func() string { b.file("efiless/x", nil); return "" }())
		b.refused(2, "-loader is missing", "install -esp "+esp)
		b.refused(2, "-vars is missing", "install -boot-option -loader @new -esp "+esp)
	})
}

// A shim comes in front of the loader, and firmware is told to start it.
func TestInstallShim(t *testing.T) {
	b := newBench(t)
	b.file("new", petest.Loader("262-1"))
	vendor := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(make([]byte, 8), 16), 16)
	b.file("shim", petest.Shim(vendor, nil, []byte("sbat,1,x,x,1,x\nshim,4,x,x,1,x\n"), 0, ".vendor_cert\x00.sbatlevel\x00"))
	b.store("vars", 2000)
	b.image("disk.img", b.fat(partition.ESP, "esp", nil))
	out := object[installResult](b, 0, "install -esp @disk.img -loader @new -shim @shim -boot-option -vars @vars")
	var changed []string
	for _, c := range out.Changes {
		changed = append(changed, c.Path)
	}
	require.Equal(t, []string{"loader/loader.conf", "loader/entries.srel", "EFI/systemd/grubx64.efi", "EFI/systemd/shimx64.efi", "EFI/BOOT/grubx64.efi", "EFI/BOOT/BOOTX64.EFI"}, changed)
	image, err := os.ReadFile(filepath.Join(b.dir, "vars"))
	require.NoError(t, err)
	store, err := bootloader.ParseVariableImage(image)
	require.NoError(t, err)
	v, err := bootloader.ReadVariables(store)
	require.NoError(t, err)
	require.Equal(t, `\EFI\systemd\shimx64.efi`, v.Options[0].File)
	require.Contains(t, b.ok("list -esp @disk.img"), "EFI/systemd/grubx64.efi: systemd-boot 262-1, by the rules of 262 (booted)")
	b.refused(1, "shim: this shim does not start the loader", "install -esp @disk.img -loader @new -shim @new")
}

// Firmware gets a boot option; where there is no room for it, the installation stands.
func TestBootOption(t *testing.T) {
	b := newBench(t)
	b.file("new", petest.Loader("262-1"))
	b.store("vars", 2000)
	b.store("full", 90)
	b.directory("efi", nil)
	b.image("disk.img", b.fat(partition.ESP, "esp", nil))
	call := "install -esp @disk.img -loader @new -boot-option -random-seed -vars "
	require.Contains(t, b.ok(call+"@vars -dry-run"), "create Boot0000\ncreate BootOrder\na dry run")
	out := object[installResult](b, 0, call+"@vars")
	require.Equal(t, &optionObject{0, []string{"create Boot0000", "create BootOrder"}, false, ""}, out.Option)
	require.Equal(t, "written", out.SystemToken)
	out = object[installResult](b, 0, call+"@vars")
	require.Equal(t, &optionObject{0, []string{}, false, ""}, out.Option)
	require.Equal(t, "there", out.SystemToken)
	image, err := os.ReadFile(filepath.Join(b.dir, "vars"))
	require.NoError(t, err)
	store, err := bootloader.ParseVariableImage(image)
	require.NoError(t, err)
	v, err := bootloader.ReadVariables(store)
	require.NoError(t, err)
	require.Equal(t, []uint16{0}, v.Order)
	require.Equal(t, `\EFI\systemd\systemd-bootx64.efi`, v.Options[0].File)

	b.image("disk.img", b.fat(partition.ESP, "esp", nil))
	_, stderr := b.want(0, "install -esp @disk.img -loader @new -boot-option -vars @full")
	require.Contains(t, stderr, "boot: warning: no boot option: ")
	require.Contains(t, stderr, "; firmware starts it as the fallback of the ESP\n")
	require.True(t, b.has("@disk.img", "EFI/BOOT/BOOTX64.EFI"))
	out = object[installResult](b, 0, "install -esp @disk.img -loader @new -boot-option -vars @full -no-fallback")
	require.Contains(t, out.Option.Refused, "no room")
	b.refused(2, "which partition it is to name is not known: ", "install -esp @efi -loader @new -boot-option -vars @vars")
	b.refused(2, "keeps no variables", "install -esp @disk.img -loader @new -boot-option -vars none")
}

// What is no ESP, or cannot be told.
func TestBadInput(t *testing.T) {
	b := newBench(t)
	b.image("two.img", b.fat(partition.ESP, "a", three()), b.fat(partition.ESP, "b", three()))
	b.image("no.img", b.fat(partition.LinuxGeneric, "a", three()))
	b.image("notfat.img", partition.Spec{Type: partition.ESP, Content: bytes.NewReader(make([]byte, 1<<20))})
	b.file("zeros", make([]byte, 1<<20))
	b.file("short", []byte("x"))
	var bare bytes.Buffer
	im, err := fat.Plan(three(), fat.BuildOptions{Kind: 16, Size: 8 << 20})
	require.NoError(t, err)
	_, err = io.Copy(&bare, io.NewSectionReader(im, 0, im.Size()))
	require.NoError(t, err)
	b.file("bare", bare.Bytes())
	b.directory("old", []osmith.ESPFile{loaderFile("EFI/BOOT/BOOTX64.EFI", "999")})

	require.Contains(t, b.ok("list -esp @bare"), "* os_2.efi")
	b.ok("bad os_2.efi -vars none -esp @bare")
	require.Contains(t, b.ok("list -esp @two.img:b"), "* os_2.efi")
	require.Contains(t, b.ok("list -esp @no.img:1"), "* os_2.efi")
	b.refused(1, "partitions 1 and 2 are both an EFI system partition: name one by its number, as in IMG:2", "list -esp @two.img")
	b.refused(1, "no partition is an EFI system partition", "list -esp @no.img")
	b.refused(1, `no partition is called "9"`, "list -esp @no.img:9")
	b.refused(1, "notfat.img, partition 1: fat: ", "list -esp @notfat.img")
	b.refused(1, "zeros: fat: ", "bless -vars @zeros -esp @zeros")
	b.refused(1, "short: ", "list -esp @short")
	b.refused(1, "bare: partition: ", "list -esp @bare:1")
	b.refused(2, "missing", "list -esp @missing")
	b.refused(2, "missing", "list -esp @bare -vars @missing")
	b.refused(2, "-vars ", "list -esp @bare -vars @zeros")
	b.refused(2, "-esp is missing", "list")
	b.refused(2, "which has no partitions", "list -esp @old:1")
	require.NotContains(t, b.ok("list -vars none -esp @bare"), "-vars")
	b.refused(1, "name in -loader-as the release that it is like", "list -esp @old")
	require.Contains(t, b.ok("list -esp @old -loader-as 262"), "systemd-boot 999, by the rules of 262 (none)")
	for _, v := range program.Verbs {
		status, _, stderr := b.call(v.Name + " -h")
		require.Zero(t, status)
		require.Contains(t, stderr, "example: boot "+v.Name)
	}
}
