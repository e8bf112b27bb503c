package uki_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

func TestProfilesOfAFile(t *testing.T) {
	im := petest.Image{SizeOfHeaders: 0x1000}
	for _, s := range [][2]string{{".linux", "kernel"}, {".osrel", "ID=shared"}, {".osrel", "ID=second"}, {".cmdline", "shared"},
		{".profile", "ID=main\nTITLE='Boot it'\n"}, {".profile", "# no such thing\nbroken\nID=\"debug\"\n"}, {".cmdline", "debug\x00x"}, {".osrel", "ID=own\x00"},
		{".profile", ""}} {
		im.Sections = append(im.Sections, petest.Section{Name: s[0], Content: []byte(s[1])})
	}
	f, err := uki.Open(source(im.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, []uki.ProfileInfo{{0, "main", "Boot it"}, {1, "debug", ""}, {2, "", ""}}, f.Profiles())
	for profile, want := range map[int][2]string{-1: {"shared", "ID=shared"}, 0: {"shared", "ID=shared"}, 1: {"debug\x00x", "ID=own\x00"}, 2: {"shared", "ID=shared"}} {
		for i, name := range []string{".cmdline", ".osrel"} {
			r, ok := f.ProfileSection(profile, name)
			require.True(t, ok)
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			assert.Equal(t, want[i], string(b), profile)
		}
	}
	cmdline, err := f.ProfileCmdline(1)
	require.NoError(t, err)
	assert.Equal(t, "debug", cmdline)
	release, err := f.ProfileOSRelease(1)
	require.NoError(t, err)
	assert.Equal(t, uki.OSRelease{"ID": "own"}, release)
	release, err = f.ProfileOSRelease(2)
	require.NoError(t, err)
	assert.Equal(t, uki.OSRelease{"ID": "shared"}, release)

	_, ok := f.ProfileSection(3, ".osrel")
	assert.False(t, ok)
	_, ok = f.ProfileSection(1, ".initrd")
	assert.False(t, ok)
	_, err = f.ProfileCmdline(3)
	assert.EqualError(t, err, "uki: profile 3: the image has 3")
	_, err = f.KernelVersion()
	assert.ErrorIs(t, err, uki.ErrUnknownUname)
	assert.False(t, f.Signed())
}

func TestKernelVersion(t *testing.T) {
	im := complete()
	for omit, want := range map[bool]string{false: "6.12.0-given", true: "6.12.0"} {
		im.OmitUname, im.Uname = omit, map[bool]string{false: want}[omit]
		f, err := uki.Open(source(assemble(t, &im)))
		require.NoError(t, err)
		version, err := f.KernelVersion()
		require.NoError(t, err)
		assert.Equal(t, want, version)
	}
}

func TestOpenAddonAndProfile(t *testing.T) {
	image := func(names ...string) osmith.Source {
		im := petest.Image{SizeOfHeaders: 0x1000, Sections: []petest.Section{{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-addon 262-1 ####")}}}
		for _, n := range names {
			im.Sections = append(im.Sections, petest.Section{Name: n, Content: []byte("ID=x")})
		}
		return source(im.Bytes())
	}
	for _, c := range []struct {
		sections       []string
		addon, profile error
	}{
		{[]string{".cmdline"}, nil, uki.ErrNotProfile},
		{[]string{".uname", ".sbat", ".dtbauto"}, nil, uki.ErrNotProfile},
		{[]string{".uname", ".sbat"}, uki.ErrNotAddon, uki.ErrNotProfile},
		{[]string{".cmdline", ".linux"}, uki.ErrNotAddon, uki.ErrNotProfile},
		{[]string{".profile", ".cmdline"}, uki.ErrNotAddon, nil},
		{[]string{".linux", ".profile"}, uki.ErrNotAddon, nil},
	} {
		f, err := uki.OpenAddon(image(c.sections...))
		assert.ErrorIs(t, err, c.addon, c.sections)
		assert.Equal(t, err == nil, f != nil)
		if err == nil {
			version, err := f.StubVersion()
			require.NoError(t, err)
			assert.EqualValues(t, "262-1", version)
			_, err = f.Measurements()
			assert.ErrorIs(t, err, uki.ErrNotUKI)
		}
		f, err = uki.OpenProfile(image(c.sections...))
		assert.ErrorIs(t, err, c.profile, c.sections)
		assert.Equal(t, err == nil, f != nil)
	}
}

// What ukify's inspect says of its own images, and of objcopy's, we say too.
func TestUkifyInspectAgrees(t *testing.T) {
	for name, open := range map[string]func(testing.TB) testtools.Root{"forky": testtools.Forky, "trixie": testtools.Trixie} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			dir := t.TempDir()
			write := func(name string, b []byte) string {
				p := filepath.Join(dir, name)
				require.NoError(t, os.WriteFile(p, b, 0o644))
				return p
			}
			kernel := write("kernel", petest.Kernel("6.12.0-x"))
			r.Run(t, dir, "ukify", "build", "--profile=ID=debug\nTITLE=Debug it", "--cmdline=debug", "--output="+filepath.Join(dir, "profile.efi"))
			r.Run(t, dir, "ukify", "build", "--linux="+kernel, "--initrd="+write("initrd", []byte("initrd")), "--cmdline=ro quiet",
				"--os-release=ID=test\nVERSION_ID=1\n", "--profile=ID=main", "--join-profile="+filepath.Join(dir, "profile.efi"), "--output="+filepath.Join(dir, "image.efi"))
			r.Run(t, dir, "ukify", "build", "--cmdline=more", "--sbat=x,1\n", "--output="+filepath.Join(dir, "x.addon.efi"))

			b, err := os.ReadFile(filepath.Join(dir, "image.efi"))
			require.NoError(t, err)
			f, err := uki.Open(source(b))
			require.NoError(t, err)
			inspect(t, r, f, filepath.Join(dir, "image.efi"))
			assert.Empty(t, f.Check())
			assert.Equal(t, []uki.ProfileInfo{{0, "main", ""}, {1, "debug", "Debug it"}}, f.Profiles())
			cmdline, err := f.ProfileCmdline(1)
			require.NoError(t, err)
			assert.Equal(t, "debug", cmdline)
			version, err := f.KernelVersion()
			require.NoError(t, err)
			assert.Equal(t, "6.12.0-x", version)
			vs, err := f.MeasureVariants(crypto.SHA256)
			require.NoError(t, err)
			require.Len(t, vs, 2)

			b, err = os.ReadFile(filepath.Join(dir, "profile.efi"))
			require.NoError(t, err)
			f, err = uki.OpenProfile(source(b))
			require.NoError(t, err)
			assert.Empty(t, f.Check())
			inspect(t, r, f, filepath.Join(dir, "profile.efi"))

			b, err = os.ReadFile(filepath.Join(dir, "x.addon.efi"))
			require.NoError(t, err)
			f, err = uki.OpenAddon(source(b))
			require.NoError(t, err)
			assert.Empty(t, f.Check())
			inspect(t, r, f, filepath.Join(dir, "x.addon.efi"))
			addonVersion, err := f.StubVersion()
			require.NoError(t, err)
			assert.Regexp(t, `^2\d\d`, string(addonVersion))
		})
	}
}

// inspect checks what ukify prints of the sections against ours. Its JSON has a list of profiles
// since 262, and the last section of a name before.
func inspect(t *testing.T, r testtools.Root, f *uki.File, path string) {
	ours := make(map[string]bool)
	for i, s := range f.Sections() {
		h := crypto.SHA256.New()
		_, err := io.Copy(h, f.SectionData(i))
		require.NoError(t, err)
		ours[fmt.Sprintf("%s %d %x", s.Name, s.Size, h.Sum(nil))] = true
	}
	seen := 0
	var check func(report map[string]json.RawMessage)
	check = func(report map[string]json.RawMessage) {
		for name, raw := range report {
			if name == "_profiles" {
				var profiles []map[string]json.RawMessage
				require.NoError(t, json.Unmarshal(raw, &profiles))
				for _, p := range profiles {
					check(p)
				}
				continue
			}
			var one struct {
				Size   int64  `json:"size"`
				SHA256 string `json:"sha256"`
			}
			require.NoError(t, json.Unmarshal(raw, &one), name)
			seen++
			assert.Contains(t, ours, fmt.Sprintf("%s %d %s", name, one.Size, one.SHA256))
		}
	}
	var report map[string]json.RawMessage
	out := r.Output(t, filepath.Dir(path), "ukify", "inspect", path, "--json=short")
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	check(report)
	assert.NotZero(t, seen, out)
}

// Images put together with objcopy, as distributions did before ukify.
func TestObjcopyMadeImages(t *testing.T) {
	testtools.Require(t, "objcopy")
	r := testtools.Trixie(t)
	dir := t.TempDir()
	content := map[string][]byte{".osrel": []byte("ID=test\n"), ".cmdline": []byte("ro"), ".linux": petest.Kernel("6.12.0-x"), ".initrd": bytes.Repeat([]byte("initrd"), 999)}
	var args []string
	address := int64(0x20000)
	for _, name := range []string{".osrel", ".cmdline", ".linux", ".initrd"} {
		p := filepath.Join(dir, name[1:])
		require.NoError(t, os.WriteFile(p, content[name], 0o644))
		args = append(args, "--add-section", name+"="+p, "--change-section-vma", fmt.Sprintf("%s=%#x", name, 0x14df90000+address))
		address += 0x100000
	}
	out := filepath.Join(dir, "image.efi")
	testtools.Run(t, "objcopy", append(args, r.Part(t, "stub"), out)...)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	for name, want := range content {
		s, ok := f.Section(name)
		require.True(t, ok, name)
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		assert.Equal(t, want, got[:len(want)], name)
		assert.Empty(t, strings.Trim(string(got[len(want):]), "\x00"), name)
	}
	version, err := f.KernelVersion()
	require.NoError(t, err)
	assert.Equal(t, "6.12.0-x", version)
	ms, err := f.Measurements()
	require.NoError(t, err)
	assert.Len(t, ms, 5)
	for _, found := range f.Check() {
		assert.NotEqual(t, uki.SeverityError, found.Severity, found)
	}
}

// table is where petest puts the section table.
const table = 64 + 24 + 240

// row finds the section header of that name in an image.
func row(t testing.TB, b []byte, name string) []byte {
	for i := range int(binary.LittleEndian.Uint16(b[64+6:])) {
		r := b[table+i*40:][:40]
		if strings.TrimRight(string(r[:8]), "\x00") == name {
			return r
		}
	}
	t.Fatalf("no section %s", name)
	return nil
}

func TestOpenRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		is     error
		text   string
	}{
		"text":         {func([]byte) []byte { return []byte("text") }, uki.ErrNotPE, ""},
		"stub":         {func([]byte) []byte { return petest.Stub("262") }, uki.ErrNotUKI, ""},
		"cut":          {func(b []byte) []byte { return b[:len(b)-1000] }, nil, "section .linux"},
		"beyond image": {func(b []byte) []byte { le.PutUint32(b[88+56:], 4096); return b }, nil, "section .sbat at 0x198: ends at address 0x40df, beyond SizeOfImage "},
		"zero fill": {func(b []byte) []byte {
			le.PutUint32(row(t, b, ".linux")[8:], 1<<30)
			le.PutUint32(b[88+56:], 1<<31)
			return b
		}, nil, "bytes in memory"},
		"overlap":       {func(b []byte) []byte { copy(row(t, b, ".cmdline")[12:16], row(t, b, ".osrel")[12:16]); return b }, nil, "overlaps"},
		"under text":    {func(b []byte) []byte { le.PutUint32(row(t, b, ".cmdline")[12:], 0x2000); return b }, nil, "overlaps"},
		"in the header": {func(b []byte) []byte { le.PutUint32(row(t, b, ".cmdline")[12:], 0x100); return b }, nil, "overlaps"},
		"driver":        {func(b []byte) []byte { b[88+68] = 11; return b }, nil, "subsystem"},
	} {
		t.Run(name, func(t *testing.T) {
			im := complete()
			b := c.change(assemble(t, &im))
			f, err := uki.Open(source(b))
			require.Nil(t, f)
			var fe *osmith.FormatError
			require.ErrorAs(t, err, &fe)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			assert.Contains(t, err.Error(), c.text)
		})
	}
	f, err := uki.Open(nil)
	assert.Nil(t, f)
	assert.ErrorIs(t, err, uki.ErrMissing)
}

// A section that is larger in memory than in the file is measured with the zeros that the loader
// adds.
func TestZeroFill(t *testing.T) {
	im := complete()
	im.Sections = []uki.Section{{Name: ".splash", Content: strings.NewReader("BM")}}
	b := assemble(t, &im)
	binary.LittleEndian.PutUint32(row(t, b, ".splash")[8:], 600) // raw size is 512
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	s, ok := f.Section(".splash")
	require.True(t, ok)
	got, err := io.ReadAll(s)
	require.NoError(t, err)
	assert.Equal(t, "BM"+strings.Repeat("\x00", 598), string(got))
}

func TestProfiles(t *testing.T) {
	im := complete()
	add := func(name, content string) {
		im.Sections = append(im.Sections, uki.Section{Name: name, Content: strings.NewReader(content)})
	}
	add(".profile", "ID=main\n")
	add(".profile", "ID=debug\n")
	add(".cmdline", "debug")
	add(".profile", "ID=last\n")
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	cmdline, ok := f.Cmdline()
	assert.True(t, ok)
	assert.Equal(t, "ro", cmdline)
	var profiles []string
	for _, s := range f.Sections() {
		if s.Profile >= 0 {
			profiles = append(profiles, fmt.Sprint(s.Profile, s.Name))
		}
	}
	assert.Equal(t, []string{"0.profile", "1.profile", "1.cmdline", "2.profile"}, profiles)
	sizes := func(profile int) (list []string) {
		ms, err := f.MeasureVariant(uki.Variant{Profile: profile})
		require.NoError(t, err)
		for _, m := range ms {
			if m.Section == ".cmdline" || m.Section == ".profile" {
				list = append(list, fmt.Sprint(m.Section, m.Size))
			}
		}
		return list
	}
	assert.Equal(t, []string{".cmdline2", ".profile8"}, sizes(0))
	assert.Equal(t, []string{".cmdline5", ".profile9"}, sizes(1))
	assert.Equal(t, []string{".cmdline2", ".profile8"}, sizes(2))
	_, err = f.MeasureVariant(uki.Variant{Profile: 3})
	assert.ErrorContains(t, err, "the image has 3")
	ours, err := im.Measurements()
	require.NoError(t, err)
	theirs, err := f.Measurements()
	require.NoError(t, err)
	assert.Equal(t, theirs, ours)
}

func TestOSRelease(t *testing.T) {
	for text, want := range map[string]uki.OSRelease{
		"":                             {},
		"\n # c\n\nID=x":               {"ID": "x"},
		"A=\"a b\"\r\nB='$x'\n":        {"A": "a b", "B": "$x"},
		`A="\"\$\x"`:                   {"A": `"$\x`},
		`A=a\ b"c d"'e'`:               {"A": "a bc de"},
		"ID=first\nID=second\nEMPTY=":  {"ID": "second", "EMPTY": ""},
		"NAME=\"Größe\"\nVERSION='1'2": {"NAME": "Größe", "VERSION": "12"},
	} {
		got, err := uki.ParseOSRelease([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for text, offset := range map[string]int64{"x": 0, "ID=x\n1A=b": 5, "=x": 0, "A=\"x": 0, "A='": 0, `A=x\`: 0, "A=b c": 0, "#\n#\nA B=c": 4} {
		got, err := uki.ParseOSRelease([]byte(text))
		assert.Nil(t, got)
		var fe *osmith.FormatError
		require.ErrorAs(t, err, &fe, text)
		assert.Equal(t, offset, fe.Offset, text)
	}
}

func FuzzOpen(f *testing.F) {
	// Small seeds: the engine's own work grows with the size of the input.
	small := petest.Image{SizeOfHeaders: 1024, DllCharacteristics: 0x160, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262-1 ####")},
		{Name: ".linux", Content: []byte("kernel")},
		{Name: ".osrel", Content: []byte("ID=x\nNAME=\"a b\"\n")},
		{Name: ".cmdline", Content: []byte("ro")},
		{Name: ".profile", Content: []byte("ID=main")},
		{Name: ".profile", Content: []byte("ID=other")},
	}}
	f.Add(small.Bytes())
	f.Add(small.Bytes()[:1600])
	small.Sections = small.Sections[:2]
	f.Add(small.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := uki.Open(source(b))
		if (u == nil) != (err != nil) {
			t.Fatal(u, err)
		}
		if err != nil {
			return
		}
		for i, s := range u.Sections() {
			if s.Size < 1<<20 {
				_, _ = io.Copy(io.Discard, u.SectionData(i))
			}
		}
		_, _ = u.Cmdline()
		_, _ = u.OSRelease()
		_, _ = u.StubVersion()
		if ms, err := u.Measurements(); (ms == nil) != (err != nil) {
			t.Fatal(ms, err)
		}
		again := uki.Image{Stub: source(b), Linux: source(b)}
		if a, err := again.Assemble(); (a == nil) != (err != nil) {
			t.Fatal(a, err)
		}
	})
}

func FuzzParseOSRelease(f *testing.F) {
	f.Add([]byte("ID=x\nNAME=\"a\\\"b\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := uki.ParseOSRelease(b); (r == nil) != (err != nil) {
			t.Fatal(r, err)
		}
	})
}

func TestMachine(t *testing.T) {
	im := good()
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	require.Equal(t, uint16(0x8664), f.Machine())
}
