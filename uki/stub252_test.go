package uki_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// armStub is a stub as Debian 12 has for arm64: two sections, and behind them what belongs to none,
// SBAT and marker among it.
func armStub(marker string) []byte {
	b := petest.Image{SizeOfHeaders: 0x1000, DllCharacteristics: 0x160, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true}, {Name: ".data", Content: make([]byte, 0x300)},
	}}.Bytes()
	b = append(b, make([]byte, 1000)...)
	return append(b, marker...)
}

const marker252 = "#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\x00"

// requireNoHoles wants every byte behind the headers to belong to one section.
func requireNoHoles(t testing.TB, b []byte) {
	t.Helper()
	f, err := pe.Parse(source(b), int64(len(b)))
	require.NoError(t, err)
	end := int64(f.SizeOfHeaders)
	for _, s := range f.Sections {
		if s.RawSize > 0 {
			require.Equal(t, end, int64(s.Offset), s.Name)
			end = s.Raw().End()
		}
	}
	require.EqualValues(t, len(b), end)
}

// rowOf is the row of a section in the table of any image.
func rowOf(t testing.TB, b []byte, name string) []byte {
	t.Helper()
	f, err := pe.Parse(source(b), int64(len(b)))
	require.NoError(t, err)
	for i, s := range f.Sections {
		if s.Name == name {
			return b[f.Fields.SectionTable+40*int64(i):][:40]
		}
	}
	t.Fatalf("no section %s", name)
	return nil
}

func TestStubWithDataBehindSections(t *testing.T) {
	im := good()
	im.Stub = source(armStub(marker252))
	b := assemble(t, &im)
	requireNoHoles(t, b)
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	version, err := f.StubVersion()
	require.NoError(t, err)
	assert.EqualValues(t, "252.39-1~deb12u2", version)
	assert.Equal(t, []string{"(sbat-stub)"}, codes(f.Check()))
	ours, err := im.Measurements()
	require.NoError(t, err)
	theirs, err := f.Measurements()
	require.NoError(t, err)
	assert.Equal(t, ours, theirs)

	// What another tool leaves as a hole between sections is looked at, too.
	r := row(t, b, ".data")
	binary.LittleEndian.PutUint32(r[16:], 0x400)
	f, err = uki.Open(source(b))
	require.NoError(t, err)
	version, err = f.StubVersion()
	require.NoError(t, err)
	assert.EqualValues(t, "252.39-1~deb12u2", version)

	// Symbols at the end go, and all else stays.
	im.Stub = source(withSymbolTable(armStub(marker252)))
	requireNoHoles(t, assemble(t, &im))
}

// The marker counts if it is the stub's: not that of a program in the initrd, nor one of two.
func TestMarkerOutsideOfItsSection(t *testing.T) {
	for name, c := range map[string]struct {
		marker, initrd, want string
	}{
		"one":            {marker252, "", "252.39-1~deb12u2"},
		"the same twice": {marker252 + marker252, "", "252.39-1~deb12u2"},
		"another":        {marker252 + strings.Replace(marker252, "252", "253", 1), "", ""},
		"of the loader":  {"#### LoaderInfo: systemd-boot 252 ####", "", ""},
		"of the initrd":  {"", marker252, ""},
		"cut":            {marker252[:30], "", ""},
		"none":           {"", "", ""},
	} {
		im := good()
		im.Stub = source(armStub(c.marker))
		im.Initrd = []osmith.Source{strings.NewReader(c.initrd + "initrd")}
		f, err := uki.Open(source(assemble(t, &im)))
		require.NoError(t, err, name)
		version, err := f.StubVersion()
		if c.want == "" {
			require.ErrorIs(t, err, uki.ErrUnknownStub, name)
			f = f.AssumeStub(252)
			_, err = f.Measurements()
			require.NoError(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		assert.EqualValues(t, c.want, version, name)
	}
}

// crampedStub is a stub as Debian 12 has for x86: .sbat has 512 bytes in the file and fewer in
// memory, where .sdmagic follows.
func crampedStub(t testing.TB, version string, room uint32) []byte {
	le := binary.LittleEndian
	b := petest.Stub(version)
	sbat, magic := row(t, b, ".sbat"), row(t, b, ".sdmagic")
	le.PutUint32(magic[12:], le.Uint32(sbat[12:])+room)
	return b
}

func TestStubWithoutRoomForSBAT(t *testing.T) {
	im := good()
	im.SBAT = nil
	im.Stub = source(crampedStub(t, "252.39", 0xb0))
	b := assemble(t, &im)
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	text := func() string {
		s, ok := f.Section(".sbat")
		require.True(t, ok)
		out := make([]byte, s.Size())
		_, err := s.ReadAt(out, 0)
		require.NoError(t, err)
		return string(out)
	}
	assert.True(t, strings.HasSuffix(text(), "\nuki,1,UKI,uki,1,-\n"), text())
	assert.NotContains(t, codes(f.Check()), "(overlap)")

	// Where there is room, the line is ukify's.
	im.Stub = source(crampedStub(t, "252.39", 0x200))
	f, err = uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(text(), "\nuki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n"), text())

	// What is given and does not fit is an error that says how much does.
	im.Stub = source(crampedStub(t, "252.39", 0xb0))
	im.SBAT = []byte("acme,1,Acme,acme,1," + strings.Repeat("x", 100))
	_, err = im.Assemble()
	var space *uki.SpaceError
	require.ErrorAs(t, err, &space)
	left := 0xb0 - int(space.Need) + len(im.SBAT) + 1
	assert.EqualError(t, err, fmt.Sprintf("uki: section .sbat of the stub, which leaves %d bytes to SBAT beside the lines of stub and kernels: needs %d bytes, has room for 176", left, space.Need))
	im.SBAT = []byte("acme,1,Acme,acme,1," + strings.Repeat("x", left-20))
	assemble(t, &im)

	// If not even the short line fits there is nothing to say but that.
	im.SBAT, im.Stub = nil, source(crampedStub(t, "252.39", 0x98))
	_, err = im.Assemble()
	require.ErrorAs(t, err, &space)
	assert.Equal(t, "section .sbat of the stub, which leaves 10 bytes to SBAT beside the lines of stub and kernels", space.What)
	im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nlinux,1,Linux,linux,6,https://kernel.org\n")}))
	_, err = im.Assemble()
	require.ErrorAs(t, err, &space)
	assert.Equal(t, "section .sbat of the stub", space.What)
}

// ukify lets .sbat reach over .sdmagic in memory. Stubs that do not measure .sbat boot all the
// same.
func TestSBATOverMarker(t *testing.T) {
	le := binary.LittleEndian
	image := func(version string) []byte {
		im := good()
		im.SBAT = nil
		im.Stub = source(crampedStub(t, version, 0xb0))
		b := assemble(t, &im)
		le.PutUint32(row(t, b, ".sbat")[8:], 0x133)
		return b
	}
	for _, version := range []string{"252.39-1~deb12u2", "253.1"} {
		f, err := uki.Open(source(image(version)))
		require.NoError(t, err, version)
		assert.Contains(t, codes(f.Check()), "(overlap)")
	}
	refused := map[string][]byte{"254": image("254"), "262": image("262.1")}
	known := image("252.39")
	copy(row(t, known, ".sdmagic"), ".osrel\x00\x00")
	refused["known section, and so no marker"] = known
	known = image("252.39")
	copy(row(t, known, ".sbat"), ".splash\x00")
	refused["over another section"] = known
	behind := image("252.39") // .sbat is loaded last, over the marker
	sbat, magic := row(t, behind, ".sbat"), row(t, behind, ".sdmagic")
	swapped := append(bytes.Clone(magic), sbat...)
	copy(sbat, swapped[:40])
	copy(magic, swapped[40:])
	refused["loaded last"] = behind
	for name, b := range refused {
		_, err := uki.Open(source(b))
		require.ErrorContains(t, err, "overlaps", name)
	}
}

// What ukify makes on the stubs of Debian 12 is read, and ours differ from it where they have to.
func TestUkifyOnDebian12(t *testing.T) {
	parts := testtools.Trixie(t)
	read := func(name string) []byte {
		b, err := os.ReadFile(parts.Part(t, name))
		require.NoError(t, err)
		return b
	}
	r, dir := testtools.Forky(t), t.TempDir()
	const osrel = "ID=x\nVERSION_ID=1\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "osrel"), []byte(osrel), 0o644))
	for _, c := range []struct {
		arch, stub, kernel string
		differ             []string // sections, or the fields of their rows
	}{
		{"x64", "stub-252", "kernel", []string{".sbat"}},
		{"ia32", "stub-252-ia32", "kernel", []string{".sbat"}},
		{"aa64", "stub-252-arm64", "kernel-arm64", []string{".data"}},
	} {
		t.Run(c.arch, func(t *testing.T) {
			stub, kernel := read(c.stub), read(c.kernel)
			for name, b := range map[string][]byte{"stub": stub, "linux": kernel} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
			}
			r.Run(t, dir, "ukify", "build", "--efi-arch="+c.arch, "--stub=stub", "--linux=linux", "--os-release=@osrel", "--cmdline=ro", "--hwids=", "--output=theirs")
			theirs, err := os.ReadFile(filepath.Join(dir, "theirs"))
			require.NoError(t, err)
			im := uki.Image{Stub: source(stub), Linux: source(kernel), OSRelease: []byte(osrel), Cmdline: "ro"}
			ours := assemble(t, &im)
			requireNoHoles(t, ours)
			var measured [2][]osmith.Measurement
			for i, b := range [][]byte{ours, theirs} {
				f, err := uki.Open(source(b))
				require.NoError(t, err)
				version, err := f.StubVersion()
				require.NoError(t, err)
				assert.True(t, strings.HasPrefix(string(version), "252."), version)
				for _, found := range f.Check() {
					assert.Equal(t, uki.SeverityWarning, found.Severity, "%s", found)
				}
				measured[i], err = f.Measurements()
				require.NoError(t, err)
			}
			assert.Equal(t, measured[0], measured[1], "stubs of 252 do not measure .sbat")
			require.Len(t, theirs, len(ours))
			for _, name := range c.differ {
				a, b := rowOf(t, ours, name), rowOf(t, theirs, name)
				at, size := binary.LittleEndian.Uint32(a[20:]), binary.LittleEndian.Uint32(a[16:])
				if name == ".sbat" {
					copy(ours[at:at+size], theirs[at:at+size])
				}
				copy(a, b)
			}
			assert.True(t, bytes.Equal(ours, theirs), "first difference at %#x", firstDifference(ours, theirs))
		})
	}
}
