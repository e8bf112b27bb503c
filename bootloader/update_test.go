package bootloader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition/fat"
)

const (
	firstLoader    = "EFI/systemd/systemd-bootx64.efi"
	fallbackLoader = "EFI/systemd/systemd-boot-fallbackx64.efi"
	lastLoader     = "EFI/BOOT/BOOTX64.EFI"
)

// loaderWith is a systemd-boot whose .sbat section has these lines behind that of sbat itself; ""
// leaves the section out.
func loaderWith(version, sbat string) string {
	im := petest.Image{SizeOfHeaders: 0x400, Sections: []petest.Section{{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-boot " + version + " ####\x00")}}}
	if sbat != "" {
		im.Sections = append(im.Sections, petest.Section{Name: ".sbat", Content: []byte(sbat)})
	}
	return string(im.Bytes())
}

func sbatLines(lines ...string) string {
	text := "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	for _, l := range lines {
		text += l + ",a,b,c,https://d\n"
	}
	return text
}

func stub(version string) string { return string(petest.Loader(version)) }

// file is one that may be written to, as files of a FAT are.
func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o644} }

func installed(version string, more ...string) fstest.MapFS {
	esp := fstest.MapFS{firstLoader: file(stub(version)), lastLoader: file(stub(version)), "loader/loader.conf": file("# mine\ntimeout 5\n"), "loader/entries.srel": file("type1\n"),
		"loader/random-seed": file(strings.Repeat("s", 32))}
	for i := 0; i < len(more); i += 2 {
		esp[more[i]] = file(more[i+1])
	}
	return esp
}

func wanted(loader string, keys ...osmith.ESPFile) *Installation {
	return &Installation{Loader: strings.NewReader(loader), Keys: keys}
}

// Places of shim, and of the loader behind it.
const (
	firstShim   = "EFI/systemd/shimx64.efi"
	firstBehind = "EFI/systemd/grubx64.efi"
	lastBehind  = "EFI/BOOT/grubx64.efi"
)

// shim is a shim of that generation.
func shim(generation int) string {
	vendor := binary.LittleEndian.AppendUint32(make([]byte, 8), 16)
	vendor = binary.LittleEndian.AppendUint32(vendor, 16)
	return string(petest.Shim(vendor, nil, []byte(sbatLines(fmt.Sprintf("shim,%d", generation))), 3, ".vendor_cert\x00.sbatlevel\x00"))
}

// withShim is an ESP on which shim starts the loader, and nothing else.
func withShim(version, shim string, more ...string) fstest.MapFS {
	esp := installed("", append([]string{firstShim, shim, firstBehind, stub(version), lastLoader, shim, lastBehind, stub(version)}, more...)...)
	delete(esp, firstLoader)
	return esp
}

func behindShim(loader, shim string) *Installation {
	return &Installation{Loader: strings.NewReader(loader), Shim: strings.NewReader(shim)}
}

func read(t testing.TB, src osmith.Source) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
	require.NoError(t, err)
	return string(b)
}

// carryOut makes the first n changes, and refuses what an ESP could not do.
func carryOut(t testing.TB, esp fstest.MapFS, changes []FileChange) fstest.MapFS {
	t.Helper()
	esp = maps.Clone(esp)
	for _, c := range changes {
		_, err := fs.Stat(esp, c.Path)
		switch c.Kind {
		case ChangeCreate:
			require.ErrorIs(t, err, fs.ErrNotExist, "%s is there", c.Path)
			esp[c.Path] = file(read(t, c.Content))
		case ChangeReplace:
			require.NoError(t, err)
			esp[c.Path] = file(read(t, c.Content))
		case ChangeRemove:
			require.Nil(t, c.Content)
			if list, err := fs.ReadDir(esp, c.Path); err == nil && len(list) > 0 {
				t.Fatalf("directory %s is not empty", c.Path)
			}
			delete(esp, c.Path)
		default:
			t.Fatalf("kind %v of %s", c.Kind, c.Path)
		}
	}
	return esp
}

func summary(p *InstallationPlan) (lines []string) {
	for _, c := range p.Changes {
		l := c.Kind.String() + " " + c.Path
		if c.Before != "" || c.After != "" {
			l += fmt.Sprintf(" %s>%s", c.Before, c.After)
		}
		lines = append(lines, l)
	}
	return lines
}

func kept(p *InstallationPlan) (names []string) {
	for _, k := range p.Kept {
		names = append(names, k.Path)
	}
	return names
}

func TestPlanInstallationOnEmptyESP(t *testing.T) {
	for _, omit := range []bool{false, true} {
		in := &Installation{Loader: strings.NewReader(stub("262-1")), Config: &Config{Timeout: "0"}, Keys: keys("auto", "PK", "KEK", "db", "dbx"), OmitFallback: omit}
		plan, err := PlanInstallation(fstest.MapFS{}, in, InstallationOptions{})
		require.NoError(t, err)
		assert.Empty(t, plan.Kept)
		assert.Empty(t, plan.Findings)
		files, err := in.Files()
		require.NoError(t, err)
		want := map[string]string{}
		for _, f := range files {
			want[f.Path] = read(t, f.Content)
		}
		got := map[string]string{}
		for name, f := range carryOut(t, fstest.MapFS{}, plan.Changes) {
			got[name] = string(f.Data)
		}
		assert.Equal(t, want, got)
	}
}

func TestPlanInstallation(t *testing.T) {
	const update = "replace " + firstLoader + " 257>262"
	vendor := sbatLines("systemd-boot,1", "systemd-boot.acme,3")
	old, now := loaderWith("257", vendor), loaderWith("262", vendor)
	for name, c := range map[string]struct {
		esp      fstest.MapFS
		want     *Installation
		options  InstallationOptions
		changes  []string
		kept     []string
		findings []string
	}{
		"the same": {esp: installed("262"), want: wanted(stub("262")),
			kept: []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"an update": {esp: installed("257"), want: wanted(stub("262")),
			changes: []string{"create " + fallbackLoader + " >257", update, "replace " + lastLoader + " 257>262"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"one in other letters": {esp: fstest.MapFS{"efi/Boot/bootx64.EFI": file(stub("257")), "Loader/LOADER.CONF": file(""), "Loader/x": file("")}, want: wanted(stub("262")),
			changes: []string{"create Loader/entries.srel", "create efi/systemd/systemd-bootx64.efi >262", "replace efi/Boot/bootx64.EFI 257>262"},
			kept:    []string{"Loader/LOADER.CONF"}},
		"a fallback of before": {esp: installed("257", fallbackLoader, stub("255")), want: wanted(stub("262")),
			changes: []string{"replace " + fallbackLoader + " 255>257", update, "replace " + lastLoader + " 257>262"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"a fallback that is there": {esp: installed("257", fallbackLoader, stub("257")), want: wanted(stub("262")),
			changes: []string{update, "replace " + lastLoader + " 257>262"},
			kept:    []string{fallbackLoader, "loader/loader.conf", "loader/entries.srel"}},
		"signed anew": {esp: installed("262"), want: wanted(stub("262") + "signature"),
			changes: []string{"create " + fallbackLoader + " >262", "replace " + firstLoader + " 262>262", "replace " + lastLoader + " 262>262"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"a newer one stays": {esp: installed("262"), want: wanted(stub("257")),
			kept:     []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{firstLoader + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader", lastLoader + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader"}},
		"a newer one is replaced": {esp: installed("262"), want: wanted(stub("257")), options: InstallationOptions{ReplaceNewerLoader: true},
			changes: []string{"create " + fallbackLoader + " >262", "replace " + firstLoader + " 262>257", "replace " + lastLoader + " 262>257"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"one place is newer": {esp: installed("262", lastLoader, stub("255")), want: wanted(stub("257")),
			changes:  []string{"replace " + lastLoader + " 255>257"},
			kept:     []string{firstLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{firstLoader + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader"}},
		"EFI/BOOT alone, and newer": {esp: fstest.MapFS{lastLoader: file(stub("262")), "loader/loader.conf": file("")}, want: wanted(stub("257")),
			changes:  []string{"create loader/entries.srel"},
			kept:     []string{lastLoader, "loader/loader.conf"},
			findings: []string{lastLoader + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader", firstLoader + ": is not created, because firmware would prefer it to "}},
		"EFI/systemd alone, and newer": {esp: fstest.MapFS{firstLoader: file(stub("262")), "loader/loader.conf": file("")}, want: wanted(stub("257")),
			changes:  []string{"create loader/entries.srel", "create " + lastLoader + " >257"},
			kept:     []string{firstLoader, "loader/loader.conf"},
			findings: []string{firstLoader + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader"}},
		"a pre-release is older": {esp: installed("262~rc1"), want: wanted(stub("262")),
			changes: []string{"create " + fallbackLoader + " >262~rc1", "replace " + firstLoader + " 262~rc1>262", "replace " + lastLoader + " 262~rc1>262"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"a shim in EFI/BOOT": {esp: installed("257", lastLoader, "MZ shim", "EFI/BOOT/grubx64.efi", stub("257"), "EFI/acme/shimx64.efi", "x", "EFI/acme/notes.txt", "", "EFI/Linux/os.efi", "uki", "EFI/BOOT/BOOTAA64.EFI", "x"), want: wanted(stub("262")),
			changes:  []string{"create " + fallbackLoader + " >257", update},
			kept:     []string{lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{lastLoader + ": a program that is not systemd-boot is not replaced, and firmware may start it: what that program starts", "EFI/BOOT/grubx64.efi: systemd-boot 257", "EFI/acme/shimx64.efi: a program that is not systemd-boot is not replaced, and firmware may start it: what"}},
		"a shim comes in front": {esp: installed("257"), want: behindShim(stub("262"), shim(4)),
			changes: []string{"create " + fallbackLoader + " >257", update, "create " + firstBehind + " >262", "create " + firstShim, "create " + lastBehind + " >262", "replace " + lastLoader + " 257>"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"the same behind a shim": {esp: withShim("262", shim(4)), want: behindShim(stub("262"), shim(4)),
			kept: []string{firstBehind, firstShim, lastBehind, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"an update behind the same shim": {esp: withShim("257", shim(4)), want: behindShim(stub("262"), shim(4)),
			changes: []string{"create " + fallbackLoader + " >257", "replace " + firstBehind + " 257>262", "replace " + lastBehind + " 257>262"},
			kept:    []string{firstShim, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"an update of both": {esp: withShim("257", shim(3)), want: behindShim(stub("262"), shim(4)),
			changes: []string{"create " + fallbackLoader + " >257", "replace " + firstBehind + " 257>262", "replace " + firstShim, "replace " + lastBehind + " 257>262", "replace " + lastLoader},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"shim alone": {esp: withShim("262", shim(3)), want: behindShim(stub("262"), shim(4)),
			changes: []string{"replace " + firstShim, "replace " + lastLoader},
			kept:    []string{firstBehind, lastBehind, "loader/loader.conf", "loader/entries.srel"}},
		"a shim of a lower generation stays": {esp: withShim("257", shim(4)), want: behindShim(stub("262"), shim(3)),
			changes:  []string{"create " + fallbackLoader + " >257", "replace " + firstBehind + " 257>262", "replace " + lastBehind + " 257>262"},
			kept:     []string{firstShim, lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{firstShim + `: the loader is not replaced, because it has generation 4 of SBAT component "shim" and the new loader has 3`, lastLoader + ": the loader is not replaced"}},
		"a shim of a lower generation is accepted": {esp: withShim("262", shim(4)), want: behindShim(stub("262"), shim(3)), options: InstallationOptions{AcceptLowerSBATGeneration: true},
			changes: []string{"replace " + firstShim, "replace " + lastLoader},
			kept:    []string{firstBehind, lastBehind, "loader/loader.conf", "loader/entries.srel"}},
		"a newer loader behind shim stays": {esp: withShim("262", shim(3)), want: behindShim(stub("257"), shim(4)),
			changes:  []string{"replace " + firstShim, "replace " + lastLoader},
			kept:     []string{firstBehind, lastBehind, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{firstBehind + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader", lastBehind + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader"}},
		"a newer loader without a shim stays": {esp: fstest.MapFS{lastLoader: file(stub("262")), "loader/loader.conf": file("")}, want: behindShim(stub("257"), shim(4)),
			changes:  []string{"create loader/entries.srel"},
			kept:     []string{lastLoader, "loader/loader.conf"},
			findings: []string{lastLoader + ": systemd-boot 262 is not replaced, because 257 is older: install a newer systemd-boot, or set ReplaceNewerLoader", firstBehind + ": is not created, because firmware would prefer it to "}},
		"GRUB behind the shim in EFI/BOOT": {esp: installed("262", lastLoader, shim(3), lastBehind, "GRUB"), want: behindShim(stub("262"), shim(4)),
			changes:  []string{"create " + firstBehind + " >262", "create " + firstShim},
			kept:     []string{firstLoader, lastLoader, lastBehind, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{lastBehind + ": a program that is not systemd-boot is not replaced, and firmware may start it: what that program starts"}},
		"another program in EFI/BOOT": {esp: installed("262", lastLoader, "MZ other"), want: behindShim(stub("262"), shim(4)),
			changes:  []string{"create " + firstBehind + " >262", "create " + firstShim},
			kept:     []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{lastLoader + ": a program that is not systemd-boot is not replaced, and firmware may start it: what that program starts"}},
		"shim, and EFI/BOOT is left out": {esp: withShim("257", shim(3)), want: &Installation{Loader: strings.NewReader(stub("262")), Shim: strings.NewReader(shim(4)), OmitFallback: true},
			changes:  []string{"create " + fallbackLoader + " >257", "replace " + firstBehind + " 257>262", "replace " + firstShim},
			kept:     []string{"loader/loader.conf", "loader/entries.srel"},
			findings: []string{lastLoader + ": a program that is not systemd-boot is not replaced, and firmware may start it: what that program starts", lastBehind + ": systemd-boot 257"}},
		"leftovers of shim": {esp: withShim("262", shim(4), firstShim+PartialSuffix, "half", lastBehind+PartialSuffix, ""), want: behindShim(stub("262"), shim(4)),
			changes: []string{"remove " + firstShim + PartialSuffix, "remove " + lastBehind + PartialSuffix},
			kept:    []string{firstBehind, firstShim, lastBehind, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"EFI/BOOT is left out": {esp: installed("257"), want: &Installation{Loader: strings.NewReader(stub("262")), OmitFallback: true},
			changes:  []string{"create " + fallbackLoader + " >257", update},
			kept:     []string{"loader/loader.conf", "loader/entries.srel"},
			findings: []string{lastLoader + ": systemd-boot 257"}},
		"a lower generation stays": {esp: installed("", firstLoader, old, lastLoader, old), want: wanted(loaderWith("262", sbatLines("systemd-boot,1", "systemd-boot.acme,2"))),
			kept:     []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{firstLoader + `: the loader is not replaced, because it has generation 3 of SBAT component "systemd-boot.acme" and the new loader has 2`, lastLoader + ": the loader is not replaced"}},
		"one without SBAT": {esp: installed("", firstLoader, old, lastLoader, old), want: wanted(loaderWith("262", "")),
			kept:     []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{firstLoader + `: the loader is not replaced, because it has generation 1 of SBAT component "sbat" and the new loader has 0:`, lastLoader + ": the loader is not replaced"}},
		"a lower generation is accepted": {esp: installed("", firstLoader, old, lastLoader, old), want: wanted(loaderWith("262", "")), options: InstallationOptions{AcceptLowerSBATGeneration: true},
			changes: []string{"create " + fallbackLoader + " >257", update, "replace " + lastLoader + " 257>262"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"of another vendor": {esp: installed("", firstLoader, old, lastLoader, old), want: wanted(loaderWith("262", sbatLines("systemd-boot,2", "systemd-boot.other,1"))),
			changes: []string{"create " + fallbackLoader + " >257", update, "replace " + lastLoader + " 257>262"},
			kept:    []string{"loader/loader.conf", "loader/entries.srel"}},
		"SBAT that is no SBAT is accepted": {esp: installed("", firstLoader, loaderWith("257", "sbat\n"), lastLoader, now), want: wanted(now), options: InstallationOptions{AcceptLowerSBATGeneration: true},
			changes: []string{"create " + fallbackLoader + " >257", update},
			kept:    []string{lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"leftovers": {esp: installed("262", firstLoader+PartialSuffix, "half", "loader/loader.conf"+PartialSuffix, "", "loader/keys/a/KEK.auth"+PartialSuffix, "", "EFI/BOOT/other.efi"+PartialSuffix, ""),
			want:    wanted(stub("262"), keys("a", "PK", "KEK", "db")...),
			changes: []string{"remove " + firstLoader + PartialSuffix, "remove loader/loader.conf" + PartialSuffix, "remove loader/keys/a/KEK.auth" + PartialSuffix, "create loader/keys/a/KEK.auth", "create loader/keys/a/db.auth", "create loader/keys/a/PK.auth"},
			kept:    []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"keys that are there": {esp: installed("262", "loader/keys/A/PK.auth", "pk", "loader/keys/A/KEK.auth", "kek", "loader/keys/A/db.auth", "db"), want: wanted(stub("262"), keys("a", "PK", "KEK", "db")...),
			kept: []string{"loader/keys/A/KEK.auth", "loader/keys/A/db.auth", "loader/keys/A/PK.auth", firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"another db": {esp: installed("257", "loader/keys/a/PK.auth", "pk", "loader/keys/a/KEK.auth", "kek", "loader/keys/a/db.auth", "old", "loader/keys/a/dbx.auth", "old"), want: wanted(stub("262"), keys("a", "PK", "KEK", "db")...),
			changes: []string{"remove loader/keys/a/PK.auth", "create " + fallbackLoader + " >257", update, "replace " + lastLoader + " 257>262",
				"replace loader/keys/a/db.auth", "remove loader/keys/a/dbx.auth", "create loader/keys/a/PK.auth"},
			kept: []string{"loader/keys/a/KEK.auth", "loader/loader.conf", "loader/entries.srel"}},
		"without dbx": {esp: installed("262", "loader/keys/a/PK.auth", "pk", "loader/keys/a/KEK.auth", "kek", "loader/keys/a/db.auth", "db", "loader/keys/a/dbx.auth", "dbx"), want: wanted(stub("262"), keys("a", "PK", "KEK", "db")...),
			changes: []string{"remove loader/keys/a/PK.auth", "remove loader/keys/a/dbx.auth", "create loader/keys/a/PK.auth"},
			kept:    []string{"loader/keys/a/KEK.auth", "loader/keys/a/db.auth", firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"one set in two spellings": {esp: installed("262"), want: wanted(stub("262"), append(keys("A", "PK"), keys("a", "KEK", "db")...)...),
			changes: []string{"create loader/keys/A/KEK.auth", "create loader/keys/A/db.auth", "create loader/keys/A/PK.auth"},
			kept:    []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"a seed that is there": {esp: installed("262"), want: wanted(stub("262")), options: InstallationOptions{RandomSeed: make([]byte, 32)},
			kept: []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel", "loader/random-seed"}},
		"a seed is refreshed": {esp: installed("262", "loader/random-seed", strings.Repeat("s", 99)), want: wanted(stub("262")), options: InstallationOptions{RandomSeed: make([]byte, 32), RefreshRandomSeed: true},
			changes: []string{"replace loader/random-seed"},
			kept:    []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"a seed is too short": {esp: installed("262", "loader/random-seed", strings.Repeat("s", 31)), want: wanted(stub("262")), options: InstallationOptions{RandomSeed: make([]byte, 32)},
			changes: []string{"replace loader/random-seed"},
			kept:    []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"a seed is too long": {esp: installed("262", "loader/random-seed", strings.Repeat("s", 32<<10+1)), want: wanted(stub("262")), options: InstallationOptions{RandomSeed: make([]byte, 32)},
			changes: []string{"replace loader/random-seed"},
			kept:    []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"}},
		"a seed is as long as it may be": {esp: installed("262", "loader/random-seed", strings.Repeat("s", 32<<10)), want: wanted(stub("262")), options: InstallationOptions{RandomSeed: make([]byte, 32)},
			kept: []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel", "loader/random-seed"}},
		"loader.conf is edited": {esp: installed("257"), want: wanted(stub("262")), options: InstallationOptions{EditConfig: ConfigEdit{Set: &Config{Timeout: "0"}}},
			changes: []string{"create " + fallbackLoader + " >257", update, "replace " + lastLoader + " 257>262", "replace loader/loader.conf"},
			kept:    []string{"loader/entries.srel"}},
		"loader.conf has other settings": {esp: installed("262", "loader/loader.conf", "timeout 5\ndefault x\n"), want: &Installation{Loader: strings.NewReader(stub("262")), Config: &Config{Timeout: "0", Editor: SwitchNo}},
			kept:     []string{firstLoader, lastLoader, "loader/loader.conf", "loader/entries.srel"},
			findings: []string{"loader/loader.conf: exists and is not replaced, although its settings differ from the installation's: timeout, editor: set them with EditConfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(c.esp)
			plan, err := PlanInstallation(c.esp, c.want, c.options)
			require.NoError(t, err)
			assert.Equal(t, c.changes, summary(plan))
			assert.ElementsMatch(t, c.kept, kept(plan))
			require.Len(t, plan.Findings, len(c.findings), "%v", plan.Findings)
			for i, f := range plan.Findings {
				assert.Contains(t, f.Path+": "+f.Err.Error(), c.findings[i])
			}
			assert.Equal(t, before, c.esp)
			for _, c := range plan.Changes {
				assert.NotEmpty(t, c.Reason)
			}
			after := carryOut(t, c.esp, plan.Changes)
			again, err := PlanInstallation(after, c.want, c.options)
			require.NoError(t, err)
			assert.Empty(t, again.Changes, "a second time")
			assert.Equal(t, fmt.Sprint(plan.Findings), fmt.Sprint(again.Findings))
		})
	}
}

func TestPlanInstallationErrors(t *testing.T) {
	readOnly := installed("262", "loader/random-seed", "short")
	readOnly["loader/random-seed"].Mode = 0o444
	plan, err := PlanInstallation(readOnly, wanted(stub("262")), InstallationOptions{RandomSeed: make([]byte, 32), RefreshRandomSeed: true})
	require.NoError(t, err)
	require.Empty(t, plan.Changes, "a file that is marked read-only stays")

	long := installed("262", lastLoader, strings.Repeat("x", maxLoader+1))
	plan, err = PlanInstallation(long, wanted(stub("262")), InstallationOptions{})
	require.NoError(t, err)
	require.Len(t, plan.Findings, 1, "a UKI, perhaps")

	badSBAT := loaderWith("257", "sbat\n")
	twice := petest.Image{SizeOfHeaders: 0x400, Sections: []petest.Section{{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-boot 262 ####\x00")},
		{Name: ".sbat", Content: []byte(sbatLines())}, {Name: ".sbat", Content: []byte(sbatLines())}}}
	for name, c := range map[string]struct {
		esp     fs.FS
		want    *Installation
		options InstallationOptions
		is      error
		text    string
	}{
		"no loader":              {fstest.MapFS{}, &Installation{}, InstallationOptions{}, ErrMissingLoader, ""},
		"not a loader":           {fstest.MapFS{}, wanted("x"), InstallationOptions{}, ErrNotLoader, ""},
		"too long":               {fstest.MapFS{}, wanted(strings.Repeat("x", maxLoader+1)), InstallationOptions{}, errTooLong, ""},
		"bad keys":               {fstest.MapFS{}, wanted(stub("262"), keys("a", "PK")...), InstallationOptions{}, nil, "systemd-boot enrols the whole set or nothing"},
		"another program there":  {installed("257", firstLoader, "torn"), wanted(stub("262")), InstallationOptions{}, ErrNotLoader, firstLoader + " is not replaced"},
		"a large program there":  {installed("257", firstLoader, strings.Repeat("x", maxLoader+1)), wanted(stub("262")), InstallationOptions{}, errTooLong, firstLoader + " is not replaced"},
		"a torn fallback":        {installed("257", fallbackLoader, "torn"), wanted(stub("262")), InstallationOptions{}, ErrNotLoader, fallbackLoader + " is not replaced"},
		"SBAT that is none":      {installed("257", firstLoader, badSBAT), wanted(stub("262")), InstallationOptions{}, nil, "cannot compare SBAT generations"},
		"new SBAT that is none":  {fstest.MapFS{}, wanted(badSBAT), InstallationOptions{}, nil, "shim will not start it"},
		"new SBAT twice":         {fstest.MapFS{}, wanted(string(twice.Bytes())), InstallationOptions{}, nil, "two sections .sbat"},
		"short seed":             {fstest.MapFS{}, wanted(stub("262")), InstallationOptions{RandomSeed: make([]byte, 31)}, nil, "31 bytes: want 32"},
		"refresh without a seed": {fstest.MapFS{}, wanted(stub("262")), InstallationOptions{RefreshRandomSeed: true}, nil, "RandomSeed is empty, but the random seed is to be refreshed"},
		"bad edit":               {installed("262"), wanted(stub("262")), InstallationOptions{EditConfig: ConfigEdit{Set: &Config{Timeout: "x"}}}, ErrConfigValue, ""},
		"a directory":            {fstest.MapFS{"loader/loader.conf/x": file("")}, wanted(stub("262")), InstallationOptions{}, nil, "loader/loader.conf is a directory"},
		"a file":                 {fstest.MapFS{"efi": file("")}, wanted(stub("262")), InstallationOptions{}, nil, "efi is a file"},
		"a long loader.conf":     {installed("262", "loader/loader.conf", strings.Repeat("\n", maxConfigLen+1)), wanted(stub("262")), InstallationOptions{}, errTooLong, ""},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := PlanInstallation(c.esp, c.want, c.options)
			require.Error(t, err)
			require.Nil(t, plan)
			assert.Equal(t, 1, strings.Count(err.Error(), "bootloader: "), "%v", err)
			assert.ErrorContains(t, err, c.text)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
		})
	}

	// Whatever cannot be read is an error, and nothing that may be replaced.
	esp := installed("257", fallbackLoader, stub("255"), "loader/keys/a/PK.auth", "x", "EFI/acme/x.efi", "x")
	for name := range esp {
		if name == "loader/entries.srel" {
			continue // that it is there is enough
		}
		_, err := PlanInstallation(unreadable{esp, name}, wanted(stub("262"), keys("a", "PK", "KEK", "db")...), InstallationOptions{RandomSeed: make([]byte, 32)})
		require.ErrorIs(t, err, errMedium, name)
	}
	_, err = PlanInstallation(esp, &Installation{Loader: brokenSource{}}, InstallationOptions{})
	require.ErrorIs(t, err, errMedium)
}

var errMedium = errors.New("the medium is broken")

// unreadable has a file that cannot be read.
type unreadable struct {
	fs.FS
	name string
}

func (b unreadable) Open(name string) (fs.File, error) {
	f, err := b.FS.Open(name)
	if name == b.name && err == nil {
		return brokenFile{f}, nil
	}
	return f, err
}

type brokenFile struct{ fs.File }

func (brokenFile) Read([]byte) (int, error) { return 0, errMedium }

type brokenSource struct{}

func (brokenSource) Size() int64                       { return 100 }
func (brokenSource) ReadAt([]byte, int64) (int, error) { return 50, errMedium }

// What was judged is what is written, whatever a source does later.
func TestPlanInstallationReadsOnce(t *testing.T) {
	loader, seed, key := petest.Loader("262"), make([]byte, 32), []byte("key")
	set := keys("a", "PK", "KEK", "db")
	set[0].Content = bytes.NewReader(key)
	plan, err := PlanInstallation(installed("257"), &Installation{Loader: bytes.NewReader(loader), Keys: set}, InstallationOptions{RandomSeed: seed, RefreshRandomSeed: true})
	require.NoError(t, err)
	for _, b := range [][]byte{loader, seed, key} {
		b[0]++
	}
	after := carryOut(t, installed("257"), plan.Changes)
	require.Equal(t, stub("262"), string(after[firstLoader].Data))
	require.Equal(t, stub("262"), string(after[lastLoader].Data))
	require.Equal(t, string(make([]byte, 32)), string(after["loader/random-seed"].Data))
	require.Equal(t, "key", string(after["loader/keys/a/PK.auth"].Data))
}

// FuzzPlanInstallation: whatever is in the places of the loader, there is a plan or an error; a
// program that is not ours stays, and what is done is done once.
func FuzzPlanInstallation(f *testing.F) {
	f.Add([]byte(stub("257")), []byte(stub("262")), []byte("MZ"), []byte("timeout 3"))
	f.Add([]byte(loaderWith("263", "")), []byte(loaderWith("1", sbatLines("systemd-boot,65535"))), []byte(loaderWith("262", "sbat")), []byte{})
	f.Fuzz(func(t *testing.T, first, fallback, last, config []byte) {
		esp := fstest.MapFS{firstLoader: file(string(first)), fallbackLoader: file(string(fallback)), lastLoader: file(string(last)), "loader/loader.conf": file(string(config))}
		in, o := wanted(stub("262")), InstallationOptions{EditConfig: ConfigEdit{Set: &Config{Timeout: "7"}}}
		plan, err := PlanInstallation(esp, in, o)
		require.Equal(t, err == nil, plan != nil)
		if err != nil {
			return
		}
		after := carryOut(t, esp, plan.Changes)
		for name, before := range map[string][]byte{firstLoader: first, fallbackLoader: fallback, lastLoader: last} {
			if _, err := LoaderVersion(bytes.NewReader(before)); err != nil {
				require.Equal(t, string(before), string(after[name].Data), name)
			}
		}
		rest, err := PlanInstallation(after, in, o)
		require.NoError(t, err)
		require.Empty(t, rest.Changes)
		removal, err := PlanRemoval(after, RemovalOptions{})
		require.NoError(t, err)
		carryOut(t, after, removal.Changes)
	})
}

// The names follow from the loader's machine type; what another architecture's loader is does not
// matter.
func TestPlanInstallationOfAnotherArchitecture(t *testing.T) {
	arm := func(version string) string {
		b := petest.Loader(version)
		b[64+4], b[64+5] = byte(arch.ARM64.Machine&0xff), byte(arch.ARM64.Machine>>8)
		return string(b)
	}
	esp := installed("257", "EFI/systemd/systemd-bootaa64.efi", arm("257"), "EFI/BOOT/BOOTAA64.EFI", arm("257"))
	plan, err := PlanInstallation(esp, wanted(arm("262")), InstallationOptions{})
	require.NoError(t, err)
	assert.Empty(t, plan.Findings)
	assert.Equal(t, []string{"create EFI/systemd/systemd-boot-fallbackaa64.efi >257", "replace EFI/systemd/systemd-bootaa64.efi 257>262", "replace EFI/BOOT/BOOTAA64.EFI 257>262"}, summary(plan))
}

// What firmware and systemd-boot make of an ESP, for the tests of cuts.
type cutModel struct {
	esp      fstest.MapFS
	old, now string // loaders
	keys     [2]map[string]string
}

// enrols is the set of keys that systemd-boot would enrol, nil if none (systemd 262,
// src/boot/secure-boot.c: a file that is missing, but for dbx, ends it).
func (m cutModel) enrols() map[string]string {
	set := map[string]string{}
	for _, name := range []string{"db.auth", "dbx.auth", "KEK.auth", "PK.auth"} {
		f, ok := m.esp["loader/keys/auto/"+name]
		if !ok && name != "dbx.auth" {
			return nil
		}
		if ok {
			set[name] = string(f.Data)
		}
	}
	return set
}

func (m cutModel) content(name string) string {
	if f, ok := m.esp[name]; ok {
		return string(f.Data)
	}
	return ""
}

func (m cutModel) check(t *testing.T, fresh bool) {
	t.Helper()
	first, last := m.content(firstLoader), m.content(lastLoader)
	if !fresh {
		assert.Contains(t, []string{m.old, m.now}, first)
		assert.Contains(t, []string{m.old, m.now}, last)
		assert.False(t, first == m.old && last == m.now, "EFI/BOOT is last")
		if first == m.now {
			assert.Equal(t, m.old, m.content(fallbackLoader), "the old loader is kept")
		}
	} else if first != "" || last != "" {
		assert.Contains(t, m.content("loader/loader.conf"), "editor no", "no loader without its settings")
	}
	allNow := first == m.now && last == m.now
	if conf := ParseConfig([]byte(m.content("loader/loader.conf"))); !fresh && conf.SecureBootEnroll == "force" {
		assert.True(t, allNow, "an enrolment is ordered while an old loader is there")
	}
	if set := m.enrols(); set != nil {
		assert.Contains(t, m.keys, set, "a mixed set of keys")
		if assert.ObjectsAreEqual(m.keys[1], set) {
			assert.True(t, allNow, "new keys are enrolled while an old loader is there")
		}
	}
}

// Whatever change is the last one that is made, the ESP is as the documentation of PlanInstallation
// says, and a new plan has the rest.
func TestInstallationCutBehindEachChange(t *testing.T) {
	const old, now = "257", "262"
	oldKeys := map[string]string{"PK.auth": "pk", "KEK.auth": "old", "db.auth": "old", "dbx.auth": "old"}
	nowKeys := map[string]string{"PK.auth": "pk", "KEK.auth": "kek", "db.auth": "db"}
	withKeys := installed(old)
	for name, content := range oldKeys {
		withKeys["loader/keys/auto/"+name] = file(content)
	}
	withFallback := maps.Clone(withKeys)
	withFallback[fallbackLoader] = file(stub("255"))
	withFallback[firstLoader+PartialSuffix] = file("half")
	for name, esp := range map[string]fstest.MapFS{"fresh": {}, "update": installed(old), "keys": withKeys, "fallback": withFallback} {
		t.Run(name, func(t *testing.T) {
			in := &Installation{Loader: strings.NewReader(stub(now)), Config: &Config{Editor: SwitchNo}, Keys: keys("auto", "PK", "KEK", "db")}
			o := InstallationOptions{RandomSeed: make([]byte, 32), RefreshRandomSeed: true, EditConfig: ConfigEdit{Set: &Config{SecureBootEnroll: "force"}}}
			plan, err := PlanInstallation(esp, in, o)
			require.NoError(t, err)
			require.Greater(t, len(plan.Changes), 6)
			for n := range len(plan.Changes) + 1 {
				m := cutModel{carryOut(t, esp, plan.Changes[:n]), stub(old), stub(now), [2]map[string]string{oldKeys, nowKeys}}
				m.check(t, name == "fresh")
				rest, err := PlanInstallation(m.esp, in, o)
				require.NoError(t, err)
				require.Equal(t, summary(&InstallationPlan{Changes: plan.Changes[n:]}), summary(rest), "after %d changes", n)
				for i, c := range plan.Changes[n:] {
					if c.Content != nil {
						require.Equal(t, read(t, c.Content), read(t, rest.Changes[i].Content), c.Path)
					}
				}

				// One who does not write a file whole may leave this one torn: the machine starts
				// by another.
				if n == len(plan.Changes) || name == "fresh" {
					continue
				}
				torn := maps.Clone(m.esp)
				torn[plan.Changes[n].Path] = file("torn")
				m.esp = torn
				first, last := m.content(firstLoader), m.content(lastLoader)
				require.True(t, first == m.old || first == m.now || last == m.old || last == m.now, "no loader is whole after %d changes", n)
			}
			final := carryOut(t, esp, plan.Changes)
			require.Equal(t, stub(now), string(final[lastLoader].Data))
			require.Equal(t, nowKeys, cutModel{esp: final}.enrols())
		})
	}
}

// On a FAT that is cut off at any write, each file is as before or as after a change, and never two
// loaders are gone.
func TestInstallationCutOnFAT(t *testing.T) {
	limit := 1 << 11
	if testing.Short() {
		limit = 1 << 7
	}
	disk := faultio.NewDisk(4 << 20)
	var files []osmith.ESPFile
	esp := installed("257", "loader/keys/auto/PK.auth", "pk", "loader/keys/auto/KEK.auth", "old", "loader/keys/auto/db.auth", "old")
	for _, name := range slices.Sorted(maps.Keys(esp)) {
		files = append(files, osmith.ESPFile{Path: name, Content: bytes.NewReader(esp[name].Data)})
	}
	require.NoError(t, fat.Build(disk, files, fat.BuildOptions{Size: disk.Size(), VolumeID: 1}))
	volume, err := fat.Open(disk)
	require.NoError(t, err)
	plan, err := PlanInstallation(volume, wanted(stub("262"), keys("auto", "PK", "KEK", "db")...), InstallationOptions{RandomSeed: make([]byte, 32), RefreshRandomSeed: true})
	require.NoError(t, err)
	states := []map[string]string{} // after each change
	for n := range len(plan.Changes) + 1 {
		state := map[string]string{}
		for name, f := range carryOut(t, esp, plan.Changes[:n]) {
			state[name] = string(f.Data)
		}
		states = append(states, state)
	}
	disk.Record()
	for _, c := range plan.Changes {
		require.NoError(t, carryOutOnFAT(volume, c))
	}
	faults, err := disk.Faults(faultio.FaultOptions{Sector: 512, Limit: limit})
	require.NoError(t, err)
	seen := map[int]bool{}
	for state := range faults.States() {
		v, err := oracle.ReadFAT(state.Disk, state.Disk.Size(), oracle.FATOptions{Reader: oracle.FATReaderEDK2, SectorSize: 512})
		require.NoError(t, err)
		got := map[string]string{}
		boot := v.BootFiles()
		for _, f := range boot {
			if !f.Dir {
				b, err := boot.ReadFile(f.Path)
				require.NoError(t, err)
				got[f.Path] = string(b)
			}
		}
		i := slices.IndexFunc(states, func(s map[string]string) bool { return maps.Equal(s, got) })
		require.GreaterOrEqual(t, i, 0, "%v: %v", state, slices.Sorted(maps.Keys(got)))
		seen[i] = true
	}
	require.Len(t, seen, len(states), "every state was seen")
	t.Logf("%+v", faults.Counts())
}

// carryOutOnFAT is what a program does with a change.
func carryOutOnFAT(esp *fat.FS, c FileChange) error {
	switch c.Kind {
	case ChangeCreate:
		if err := esp.MkdirAll(path.Dir(c.Path)); err != nil {
			return err
		}
		return esp.WriteFile(c.Path, c.Content)
	case ChangeReplace:
		return esp.ReplaceFile(c.Path, c.Content)
	default:
		return esp.Remove(c.Path)
	}
}

func TestPlanRemoval(t *testing.T) {
	esp := installed("262", fallbackLoader, stub("257"), "EFI/systemd/systemd-bootaa64.efi", stub("262"), "EFI/BOOT/BOOTIA32.EFI", "another", "EFI/Linux/os.efi", "uki",
		"loader/keys/auto/PK.auth", "pk", "loader/keys/auto/KEK.auth", "kek", "loader/keys/auto/db.auth", "db", "loader/keys/auto/dbx.auth", "dbx", "loader/keys/mine/PK.auth", "pk",
		"loader/keys/ours/PK.auth", "pk", "loader/keys/ours/note", "", "loader/random-seed"+PartialSuffix, "", "loader/entries/x.conf", "")
	plan, err := PlanRemoval(esp, RemovalOptions{KeySets: []string{"ours", "AUTO"}})
	require.NoError(t, err)
	var names []string
	for _, c := range plan.Changes {
		require.Equal(t, ChangeRemove, c.Kind)
		names = append(names, c.Path)
	}
	assert.Equal(t, []string{"loader/keys/auto/PK.auth", "loader/keys/auto/KEK.auth", "loader/keys/auto/db.auth", "loader/keys/auto/dbx.auth", "loader/keys/ours/PK.auth"}, names[:5])
	assert.Equal(t, []string{lastLoader, "loader/loader.conf", "loader/random-seed", "loader/entries.srel", "loader/random-seed" + PartialSuffix, "loader/keys/auto", "EFI/systemd"}, names[8:])
	assert.ElementsMatch(t, []string{firstLoader, fallbackLoader, "EFI/systemd/systemd-bootaa64.efi"}, names[5:8])
	require.Len(t, plan.Findings, 1)
	require.Equal(t, "EFI/BOOT/BOOTIA32.EFI", plan.Findings[0].Path)
	other, ok := errors.AsType[*OtherLoaderError](plan.Findings[0].Err)
	require.True(t, ok)
	require.ErrorIs(t, other, ErrNotLoader)
	after := carryOut(t, esp, plan.Changes)
	assert.Equal(t, []string{"EFI/BOOT/BOOTIA32.EFI", "EFI/Linux/os.efi", "loader/entries/x.conf", "loader/keys/mine/PK.auth", "loader/keys/ours/note"}, slices.Sorted(maps.Keys(after)))
	again, err := PlanRemoval(after, RemovalOptions{KeySets: []string{"ours"}})
	require.NoError(t, err)
	assert.Empty(t, again.Changes)

	// What a cut leaves has its settings as long as a loader is there, and no part of a set of keys
	// that could be enrolled.
	for n := range plan.Changes {
		m := cutModel{esp: carryOut(t, esp, plan.Changes[:n])}
		if m.content(firstLoader) != "" || m.content(lastLoader) != "" {
			assert.NotEmpty(t, m.content("loader/loader.conf"))
		}
		assert.True(t, n == 0 || m.enrols() == nil)
	}

	plan, err = PlanRemoval(fstest.MapFS{}, RemovalOptions{})
	require.NoError(t, err)
	require.Empty(t, plan.Changes)
	for _, bad := range []string{"", "..", "../../EFI", `a\b`} {
		_, err = PlanRemoval(esp, RemovalOptions{KeySets: []string{bad}})
		require.ErrorContains(t, err, "bootloader: set of keys", bad)
	}
	for _, name := range []string{firstLoader, lastLoader} {
		_, err = PlanRemoval(unreadable{esp, name}, RemovalOptions{})
		require.ErrorIs(t, err, errMedium)
	}
}

// Installed and removed, an ESP is as it was before.
func TestInstalledAndRemoved(t *testing.T) {
	in := &Installation{Loader: strings.NewReader(stub("262")), Keys: keys("auto", "PK", "KEK", "db", "dbx")}
	before := fstest.MapFS{"EFI/Linux/os.efi": file("uki")}
	plan, err := PlanInstallation(before, in, InstallationOptions{RandomSeed: make([]byte, 32)})
	require.NoError(t, err)
	there := carryOut(t, before, plan.Changes)
	plan, err = PlanRemoval(there, RemovalOptions{})
	require.NoError(t, err)
	require.Equal(t, before, carryOut(t, there, plan.Changes))
}

func TestChangeKind(t *testing.T) {
	assert.Equal(t, "create replace remove ChangeKind(0) ChangeKind(4)", fmt.Sprint(ChangeCreate, ChangeReplace, ChangeRemove, ChangeKind(0), ChangeKind(4)))
}
