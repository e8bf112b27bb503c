package sdstub

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
)

func units(s string) []uint16 { return utf16.Encode([]rune(s)) }

// The first four were booted as add-ons, with the stubs of 257 and 262: e2e, oddCmdlines.
func TestUTF16(t *testing.T) {
	for text, want := range map[string]string{
		"a\x00b":            "a",
		"name=\U0001f600":   "name=",
		"caf\xe9":           "caf",
		"z\xe9abc":          "zc", // a lead byte takes those that it announces with it
		"":                  "",
		"öwn\xff\xc3(x\x00": "öwnx",
		"\xc0\x80x":         "", // an overlong NUL
		"\xed\xa0\x80x":     "x",
		"\xf8\x80\x80\x80":  "",
	} {
		assert.Equal(t, units(want), UTF16([]byte(text)), "%q", text)
	}
}

func TestMangle(t *testing.T) {
	const text = " \x01own\tline\x7f\n "
	assert.Equal(t, units("own line"), Mangle(units(text), 262))
	assert.Equal(t, units("own line"), Mangle(units(text), 255))
	assert.Equal(t, units("  own line\x7f"), Mangle(units(text), 254))
	assert.Empty(t, Mangle(units(" \t"), 262))
	assert.Empty(t, Mangle(units(" \t"), 252))
}

func TestJoin(t *testing.T) {
	texts := []string{" a\n", "b "}
	assert.Equal(t, units("a b"), JoinAddons(texts, 257))
	assert.Equal(t, units(" a\n b "), JoinAddons(texts, 256))
	assert.Equal(t, []byte{'a', 0, 0, 0}, Bytes(units("a")))
	for text, want := range map[string]bool{"": false, "console=": true, "quiet console=tty0": true, "xconsole=tty0": false} {
		assert.Equal(t, want, HasConsole(units(text)), text)
	}
	assert.True(t, IsText(units("a\t"), 257))
	assert.False(t, IsText(units("a\t"), 258))
	assert.False(t, IsText(units("\t"), 252))
	assert.True(t, IsText(nil, 252))
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		version  osmith.Version
		assume   int
		release  int // 0: an error
		evidence Evidence
	}{
		{"262.1-1", 0, 262, EvidenceBooted},
		{"262.1-1", 257, 262, EvidenceBooted}, // what is known of a release is not overruled
		{"258", 0, 258, EvidenceSource},
		{"263~rc1", 0, 0, 0},
		{"263~rc1", 262, 262, EvidenceNone},
		{"263~rc1", 251, 0, 0},
		{"", 0, 0, 0},
		{"", 262, 262, EvidenceNone},
		{"251", 0, 0, 0},
		{"251", 262, 0, 0},
	} {
		row, err := Find(c.version, c.assume)
		if c.release == 0 {
			var unknown *UnknownReleaseError
			require.ErrorAs(t, err, &unknown, "%+v", c)
			continue
		}
		require.NoError(t, err, "%+v", c)
		assert.Equal(t, c.release, row.Number, "%+v", c)
		assert.Equal(t, c.evidence, row.Evidence, "%+v", c)
	}
	_, err := Find("263~rc1", 0)
	assert.EqualError(t, err, "systemd 263~rc1 is newer than 262, the newest known release: AssumeStub names the release to treat it as")
	_, err = Find("251", 0)
	assert.EqualError(t, err, "systemd 251: want release 252 to 262")
	_, err = Find("x", 0)
	assert.EqualError(t, err, `systemd version "x": want a version that begins with a release number, as 258 or 258.1`)
}

func TestTables(t *testing.T) {
	rows := Releases()
	for i, r := range rows {
		assert.Equal(t, 252+i, r.Number)
		assert.Equal(t, r.Number < 257, r.InnerKernel)
		assert.Equal(t, r.Number >= 254, r.SMBIOSExtra)
		assert.Equal(t, r.Number >= 255, r.LoaderConf)
		assert.Equal(t, r.Number >= 261, r.SMBIOS && r.Console && r.BootSecret)
	}
	assert.Equal(t, []int{Oldest(), Newest()}, []int{rows[0].Number, rows[len(rows)-1].Number})
	rows[0].Number = 1
	assert.Equal(t, 252, Oldest(), "a copy")
	for i, s := range Sections() {
		assert.Equal(t, i, Order(s.Name))
		assert.Equal(t, s, *SectionOf(s.Name))
		assert.GreaterOrEqual(t, s.Since, Oldest())
	}
	assert.Nil(t, SectionOf(".text"))
	assert.Equal(t, -1, Order(".text"))
}

// emptied takes all of its place in the file from the second section of an image.
func emptied(b []byte) []byte {
	clear(b[64+24+240+40+16:][:8]) // SizeOfRawData, PointerToRawData
	return b
}

func TestReadVersion(t *testing.T) {
	read := func(b []byte, program string) (osmith.Version, error) {
		f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		return ReadVersion(bytes.NewReader(b), f, program)
	}
	const marker = "#### LoaderInfo: systemd-stub 252.39 ####\x00"
	plain := func(sections ...petest.Section) []byte {
		return petest.Image{SizeOfHeaders: 1024, Sections: append([]petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}}, sections...)}.Bytes()
	}
	in := func(name, content string) petest.Section { return petest.Section{Name: name, Content: []byte(content)} }
	version, err := read(petest.Stub("262.1"), ProgramStub)
	require.NoError(t, err)
	assert.EqualValues(t, "262.1", version)
	_, err = read(petest.Stub("262.1"), ProgramBoot)
	require.ErrorIs(t, err, ErrNoMarker)
	_, err = read(plain(in(".sdmagic", "no"), in(".data", marker)), ProgramStub)
	require.ErrorIs(t, err, ErrNoMarker, "the section counts")

	for name, b := range map[string][]byte{
		"in a section":     plain(in(".data", "before"+marker)),
		"behind all":       append(plain(), marker...),
		"before others":    plain(in(".data", marker), in(".initrd", strings.Replace(marker, "252", "262", 1))),
		"beside another's": plain(in(".data", "#### LoaderInfo: systemd-boot 1 ####"+marker)),
		"behind an empty":  emptied(plain(in(".cmdline", "x"), in(".data", marker))),
		"at the very end":  append(plain(), marker[:len(marker)-1]...),
	} {
		version, err := read(b, ProgramStub)
		require.NoError(t, err, name)
		assert.EqualValues(t, "252.39", version, name)
	}
	for name, b := range map[string][]byte{
		"none":           plain(),
		"two":            plain(in(".data", marker+strings.Replace(marker, "252", "253", 1))),
		"of the payload": plain(in(".initrd", marker)),
		"too far":        append(plain(), append(make([]byte, maxProgram), marker...)...),
	} {
		_, err := read(b, ProgramStub)
		require.ErrorIs(t, err, ErrNoMarker, name)
	}
	f, err := pe.Parse(bytes.NewReader(plain()), int64(len(plain())))
	require.NoError(t, err)
	_, err = ReadVersion(broken{}, f, ProgramStub)
	require.ErrorIs(t, err, errBroken)
	b := petest.Stub("262")
	f, err = pe.Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	_, err = ReadVersion(broken{}, f, ProgramStub)
	require.ErrorIs(t, err, errBroken)
}

func TestVersionOf(t *testing.T) {
	for marker, want := range map[string]osmith.Version{
		"#### LoaderInfo: systemd-stub 262.1-1 ####":         "262.1-1",
		"#### LoaderInfo: systemd-stub 262.1-1 ####\x00\x00": "262.1-1",
		"#### LoaderInfo: systemd-stub  ####":                "",
		"#### LoaderInfo: systemd-addon 262 ####":            "",
		"#### LoaderInfo: systemd-stub 262":                  "",
		"":                                                   "",
	} {
		got, ok := VersionOf([]byte(marker), ProgramStub)
		assert.Equal(t, want != "", ok, marker)
		if ok {
			assert.Equal(t, want, got)
		}
	}
}
