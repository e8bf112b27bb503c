package bootloader

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
)

// The rows are ascending without a gap, and what a release has the later ones have, too.
func TestReleases(t *testing.T) {
	list := Releases()
	require.Equal(t, 252, list[0].Number)
	has := func(r Release) (n int) {
		for _, b := range []bool{r.Profiles, r.UKIKeys, r.RebootOnError, r.SysFail, r.ProfileKey, r.Preferred, r.ExtraKey, r.FirstProfile, r.ReadOnly} {
			if b {
				n++
			}
		}
		return n
	}
	var table []string
	for i, r := range list {
		require.Equal(t, 252+i, r.Number)
		require.Equal(t, r.ReadOnly, r.Number >= 262)
		require.NotEqual(t, rules{}, r.rules, r.Number)
		table = append(table, fmt.Sprintf("%s %s %d", r.Version(), r.Evidence, has(r)))
	}
	require.Equal(t, []string{"252 source 0", "253 source 0", "254 source 0", "255 source 0", "256 source 0", "257.13 booted 1", "258 none 4", "259 none 5", "260 source 6", "261 source 8",
		"262 booted 9"}, table)
	list[0].Number = 1
	require.Equal(t, 252, Releases()[0].Number, "the table is the package's own")
	require.Equal(t, "Evidence(9)", Evidence(9).String())
}

func TestFindRelease(t *testing.T) {
	for _, c := range []struct {
		version  osmith.Version
		assume   int
		number   int
		evidence Evidence
		between  string
		err      string
	}{
		{"262-1", 0, 262, EvidenceBooted, "262", ""},
		{"262.4-1.fc45", 0, 262, EvidenceBooted, "262", ""},
		{"257.13-1~deb13u1", 0, 257, EvidenceBooted, "257.13", ""},
		{"257.9", 0, 257, EvidenceNone, "256 257.13", ""},
		{"257", 0, 257, EvidenceNone, "256 257.13", ""},
		{"257~rc1.20", 0, 257, EvidenceNone, "256 257.13", ""},
		{"257.99999999999999999999", 0, 257, EvidenceBooted, "257.13", ""},
		{"258.3", 0, 258, EvidenceNone, "257.13 260", ""},
		{"259", 0, 259, EvidenceNone, "257.13 260", ""},
		{"252.39-1~deb12u1", 0, 252, EvidenceSource, "252", ""},
		{"252", 262, 252, EvidenceSource, "252", ""},
		{"263", 262, 262, EvidenceNone, "262", ""},
		{"", 262, 262, EvidenceNone, "262", ""},
		{"main", 257, 257, EvidenceNone, "257.13", ""},
		{"263~devel", 0, 0, 0, "", "bootloader: systemd-boot 263~devel is newer than 262, the newest known here: name in AssumeLoader the release to treat it as"},
		{"251", 262, 0, 0, "", `bootloader: systemd-boot "251": want release 252 to 262`},
		{"main", 0, 0, 0, "", `bootloader: systemd-boot "main": want release 252 to 262`},
		{"263", 264, 0, 0, "", "bootloader: systemd-boot 264 is newer than 262, the newest known here: name in AssumeLoader the release to treat it as"},
	} {
		t.Run(fmt.Sprint(c.version, " ", c.assume), func(t *testing.T) {
			r, err := FindRelease(c.version, c.assume)
			rows, betweenErr := Between(c.version, c.assume)
			_, menuErr := ReadMenu(fstest.MapFS{}, MenuOptions{LoaderVersion: c.version, AssumeLoader: c.assume})
			if c.err != "" {
				require.EqualError(t, err, c.err)
				require.EqualError(t, betweenErr, c.err)
				require.EqualError(t, menuErr, c.err+"")
				var typed *LoaderVersionError
				require.ErrorAs(t, err, &typed)
				require.Equal(t, []int{252, 262}, []int{typed.Oldest, typed.Newest})
				require.Empty(t, rows)
				return
			}
			require.NoError(t, err)
			require.NoError(t, menuErr)
			require.Equal(t, c.number, r.Number)
			require.Equal(t, c.evidence, r.Evidence)
			var list []string
			for _, row := range rows {
				list = append(list, string(row.Version()))
			}
			require.Equal(t, c.between, strings.Join(list, " "))
		})
	}
}

// What each release makes of one file system.
func TestMenuByRelease(t *testing.T) {
	many := petest.Image{SizeOfHeaders: 8192, Sections: []petest.Section{{Name: ".osrel", Content: []byte("ID=many\nNAME=x\n")}}}
	for range 96 { // one more than 256 takes
		many.Sections = append(many.Sections, petest.Section{Name: ".x", Content: []byte("y")})
	}
	files := fstest.MapFS{
		"k":                            text("k"),
		"EFI/Linux/OS_2+3.efi":         ukiFile(".linux", "k", ".osrel", "ID=os\nVERSION_ID=2\nNAME=x\n", ".profile", "ID=main\n", ".profile", "ID=debug\n"),
		"EFI/Linux/os_1.efi":           ukiFile(".linux", "k", ".osrel", "ID=os\nVERSION_ID='1'\nNAME=x\n", ".osrelx", "ID=x\nNAME=y\n"),
		"EFI/Linux/many.efi":           {Data: many.Bytes()},
		"EFI/Linux/AUTO-x.efi":         release("9"),
		"loader/entries/Conf+2.conf":   text("linux /k\nsort-key \"\"\n"),
		"loader/entries/efi+2.conf":    text("efi /k\n"),
		"loader/entries/uki.conf":      text("uki /k\n"),
		"loader/entries/two.conf":      text("linux /k\nefi /k\n"),
		"loader/entries/profile.conf":  text("linux /k\nprofile 1\n"),
		"loader/loader.conf":           text("preferred conf*\nreboot-on-error yes\n"),
		"EFI/Linux/broken/ignored.efi": text(""),
	}
	for version, want := range map[osmith.Version]string{
		"252":    "auto-x.efi os_2+3.efi os_1.efi two.conf profile.conf efi+2.conf conf+2.conf, auto-x.efi (first in the menu), efi+1-1.conf",
		"256":    "auto-x.efi os_2+3.efi os_1.efi two.conf profile.conf efi+2.conf conf+2.conf, auto-x.efi (first in the menu), efi+1-1.conf",
		"257.13": "many.efi OS_2.efi OS_2.efi os_1.efi two.conf profile.conf efi.conf Conf.conf, many.efi (first in the menu), efi+1-1.conf",
		"258":    "Conf.conf many.efi OS_2.efi OS_2.efi os_1.efi uki.conf profile.conf efi.conf, Conf.conf (first in the menu), efi+2.conf",
		"259":    "conf.conf many.efi OS_2.efi OS_2.efi@debug os_1.efi uki.conf profile.conf efi.conf, conf.conf (first in the menu), efi+2.conf",
		"260":    "conf.conf many.efi OS_2.efi OS_2.efi@debug os_1.efi uki.conf profile.conf efi.conf, conf.conf (preferred in loader.conf), efi+2.conf",
		"262":    "conf.conf many.efi OS_2.efi OS_2.efi@debug os_1.efi uki.conf profile.conf efi.conf, conf.conf (preferred in loader.conf), efi+2.conf",
	} {
		t.Run(string(version), func(t *testing.T) {
			m := readMenu(t, files, MenuOptions{LoaderVersion: version})
			require.Equal(t, version, m.Release.Version())
			e, reason := m.Default(Variables{})
			counted := ""
			for _, e := range m.Entries {
				if e.Path == "loader/entries/efi+2.conf" {
					_, counted = e.Boot()
				}
			}
			require.Equal(t, want, fmt.Sprintf("%s, %s (%s), %s", strings.Join(ids(m), " "), e.ID, reason, strings.TrimPrefix(counted, "loader/entries/")))
		})
	}
	// The number of profiles, and which of them may start by itself.
	only := fstest.MapFS{"EFI/Linux/a.efi": ukiFile(".linux", "k", ".osrel", "ID=a\nVERSION_ID=1\nNAME=x\n", ".profile", "ID=a\n", ".profile", "ID=b\n", ".osrel", "ID=a\nVERSION_ID=2\nNAME=x\n")}
	for version, want := range map[osmith.Version]string{"256": "a.efi", "257.13": "a.efi@b", "260": "a.efi@b", "261": "a.efi"} {
		e, _ := readMenu(t, only, MenuOptions{LoaderVersion: version}).Default(Variables{})
		require.Equal(t, want, e.ID, version)
	}
	// Variables that a release does not know.
	two := fstest.MapFS{"EFI/Linux/a_1.efi": release("1"), "EFI/Linux/a_2.efi": release("2")}
	v := Variables{EntryPreferred: "a_1.efi", EntrySysFail: "a_1.efi"}
	for version, want := range map[osmith.Version]Reason{"257.13": ReasonOrder, "258": ReasonOrder, "260": ReasonPreferred} {
		_, reason := readMenu(t, two, MenuOptions{LoaderVersion: version}).Default(v)
		require.Equal(t, want, reason, version)
	}
	v.FirmwareFailed = true
	for version, want := range map[osmith.Version]Reason{"257.13": ReasonOrder, "258": ReasonSysFail} {
		_, reason := readMenu(t, two, MenuOptions{LoaderVersion: version}).Default(v)
		require.Equal(t, want, reason, version)
	}
	// A menu that was not read has the rules of the newest release.
	_, reason := (&Menu{Config: new(Config), Entries: readMenu(t, two, MenuOptions{}).Entries}).Default(Variables{EntryPreferred: "a_1.efi"})
	require.Equal(t, ReasonPreferred, reason)
}

func TestConfigByRelease(t *testing.T) {
	const file = "default 'a'\npreferred b\nlog-level info\nauto-reboot yes\nsecure-boot-enroll-action reboot\n"
	c := readMenu(t, fstest.MapFS{"loader/loader.conf": text(file)}, MenuOptions{LoaderVersion: "254"}).Config
	assert.Equal(t, &Config{Default: "'a'", Ignored: []IgnoredLine{
		{2, "preferred", "b", "systemd-boot 254 does not read it, 260 and later do"},
		{3, "log-level", "info", "systemd-boot 254 does not read it, 259 and later do"},
		{4, "auto-reboot", "yes", "systemd-boot 254 does not read it, 255 and later do"},
		{5, "secure-boot-enroll-action", "reboot", "systemd-boot 254 does not read it, 258 and later do"}}}, c)
	c = readMenu(t, fstest.MapFS{"loader/loader.conf": text(file)}, MenuOptions{LoaderVersion: "260"}).Config
	assert.Equal(t, &Config{Default: "a", Preferred: "b", LogLevel: "info", AutoReboot: SwitchYes, SecureBootEnrollAction: "reboot"}, c)
}

func TestRebootsOnError(t *testing.T) {
	for _, c := range []struct {
		version osmith.Version
		config  string
		name    string
		want    bool
	}{
		{"262", "", "os+1.efi", true}, {"262", "", "os+0-3.efi", false}, {"262", "", "os.efi", false},
		{"262", "reboot-on-error auto", "os+1.efi", true}, {"262", "reboot-on-error auto", "os.efi", false},
		{"262", "reboot-on-error on", "os.efi", true}, {"262", "reboot-on-error f", "os+1.efi", false}, {"262", "reboot-on-error maybe", "os+1.efi", true},
		{"258", "", "os+1.efi", true}, {"257.13", "", "os+1.efi", false}, {"257.13", "reboot-on-error yes", "os+1.efi", false}, {"", "", "os+1.efi", true},
	} {
		m := readMenu(t, fstest.MapFS{"EFI/Linux/" + c.name: release("1"), "loader/loader.conf": text(c.config)}, MenuOptions{LoaderVersion: c.version})
		require.Equal(t, c.want, m.RebootsOnError(m.Entries[0]), "%+v", c)
	}
	m := &Menu{Config: new(Config)} // not read: as the newest
	require.True(t, m.RebootsOnError(&Entry{Counted: true, Counter: Counter{TriesLeft: 1}}))
}

// What is read of a file that differs by release.
func TestFieldsByRelease(t *testing.T) {
	files := fstest.MapFS{
		"EFI/Linux/last.efi":          ukiFile(".osrel", "NAME=first\n", ".osrelx", "NAME=last\n"),
		"EFI/Linux/title.efi":         ukiFile(".osrel", "NAME=x\n", ".profile", "TITLE=t\n"),
		"EFI/Linux/empty.efi":         ukiFile(".osrel", "PRETTY_NAME=\nNAME=n\n"),
		"loader/entries/options.conf": text("linux /k\noptions a\noptions \"\"\noptions b\n"),
		"loader/entries/self.conf":    text("linux /k\n"),
		"k":                           text("k"),
	}
	for version, want := range map[osmith.Version]string{
		"256":    `"last" "x" "n" "a b"`,
		"257.13": `"first" "x (t)" "n" "a b"`,
		"262":    `"first" "x (t)" "" "a  b"`,
	} {
		// hidden are only entries that start the loader with efi
		m := readMenu(t, files, MenuOptions{LoaderVersion: version, Self: "/k"})
		require.Len(t, m.Entries, 5, version)
		entry := func(id string) *Entry {
			e, ok := m.Entry(id)
			require.True(t, ok, id)
			return e
		}
		require.Equal(t, want, fmt.Sprintf("%q %q %q %q", entry("last.efi").Title, entry("title.efi").Title, entry("empty.efi").Title, entry("options.conf").Options), version)
	}
	require.Equal(t, 257, readMenu(t, files, MenuOptions{AssumeLoader: 257}).Release.Number)
}
