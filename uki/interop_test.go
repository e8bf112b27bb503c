package uki_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// The releases of ukify that the grid is drawn for.
var ukifies = []struct {
	name    string
	open    func(testing.TB) testtools.Root
	release int
}{{"forky", testtools.Forky, 262}, {"trixie", testtools.Trixie, 257}}

// gridSize is the number of cases for each ukify, and the seed: a third and fixed, or with
// OSMITH_LONG=1 all and fresh.
func gridSize(t *testing.T) (int, uint64) {
	if os.Getenv("OSMITH_LONG") != "1" {
		return 25, 1
	}
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	return 80, seed
}

// TestUkifyGrid has ukify and us make images of the same parts and compares all bytes, and has
// systemd-measure compute PCR 11 of every variant of them.
func TestUkifyGrid(t *testing.T) {
	n, seed := gridSize(t)
	for _, root := range ukifies {
		t.Run(root.name, func(t *testing.T) {
			t.Parallel()
			r := root.open(t)
			d := newDrawer(t, seed, t.TempDir(), root.release)
			d.readParts(r)
			var cases []toolCase
			for i := range n {
				release := root.release
				if i%7 == 3 {
					release = []int{252, 254}[i/7%2]
				}
				cases = append(cases, d.draw(release, i == 0))
			}
			runAll(t, r, d.dir, cases)
			var measured []measuredCase
			for i := range cases {
				if b := compareWithUkify(t, &cases[i], root.release); b != nil {
					measured = append(measured, measuredCase{cases[i], b})
				}
			}
			assert.Greater(t, len(measured), n*4/5)
			judgePCRs(t, d.dir, measured)
		})
	}
}

// readParts takes the stubs, the kernel and the addon stub from the trees.
func (d *drawer) readParts(r testtools.Root) {
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(d.t, err)
		return b
	}
	d.stubs[d.release] = read(r.Part(d.t, "stub"))
	trixie := testtools.Trixie(d.t)
	d.stubs[252] = read(trixie.Path("opt/stub-252/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	d.stubs[254] = read(trixie.Path("opt/stub-254/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	d.kernel = read(r.Part(d.t, "kernel"))
	d.addon = d.file("addon-stub", read(r.Part(d.t, "addon-stub")))
	d.oldAddon = d.file("addon-stub-254", read(trixie.Path("opt/stub-254/usr/lib/systemd/boot/efi/addonx64.efi.stub")))
}

// runAll runs the command lines of all cases. A case that the tool refuses has no output.
func runAll(t *testing.T, r testtools.Root, dir string, cases []toolCase) {
	var script strings.Builder
	for _, c := range cases {
		script.WriteString("( true")
		for _, l := range c.lines {
			script.WriteString(" && " + l)
		}
		script.WriteString(" ) >" + filepath.Join(c.dir, "log") + " 2>&1 || true\n")
	}
	path := filepath.Join(dir, "run.sh")
	require.NoError(t, os.WriteFile(path, []byte(script.String()), 0o644))
	r.Run(t, dir, "sh", path)
}

// compareWithUkify returns the image that both made, or nil if both refused.
func compareWithUkify(t *testing.T, c *toolCase, ukify int) []byte {
	theirs, err := os.ReadFile(filepath.Join(c.dir, "theirs.efi"))
	log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	what := strings.Join(c.lines, "\n") + "\n" + string(log)
	if err != nil {
		a, err := c.image.Assemble()
		if err == nil && strings.Contains(string(log), "header space to add section .sbat") {
			assert.Zero(t, a.FreeSections(), "ukify wants a header for the .sbat that the stub has already")
			return nil
		}
		var full *uki.SpaceError
		require.Truef(t, errors.As(err, &full) && strings.HasPrefix(full.What, "header of the stub"), "ukify refused, we say %v\n%s", err, what)
		require.Contains(t, string(log), "Not enough header space", what)
		return nil
	}
	if ukify == 257 {
		theirs = withoutNUL(t, theirs)
	}
	if c.signed {
		takeSignatures(t, theirs, &c.image)
	}
	ours := assemble(t, &c.image)
	if !bytes.Equal(theirs, ours) {
		t.Errorf("%d bytes, ukify wrote %d; first difference at %#x\n%s", len(ours), len(theirs), firstDifference(ours, theirs), what)
		return nil
	}
	if len(c.joins) > 0 {
		joined := c.image
		joined.Profiles = nil
		for i, path := range c.joins {
			p := openProfile(t, path, 0)
			p.PCRSignature = c.image.Profiles[i].PCRSignature
			joined.Profiles = append(joined.Profiles, p)
		}
		assert.True(t, bytes.Equal(theirs, assemble(t, &joined)), "joined from the images of ukify --profile=:\n%s", what)
	}
	return ours
}

func openProfile(t *testing.T, path string, n int) uki.Profile {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := uki.OpenProfile(source(b))
	require.NoError(t, err)
	p, err := uki.ProfileOf(f, n)
	require.NoError(t, err)
	return p
}

// withoutNUL undoes the one difference between images of ukify 257 and 262: the former ends .sbat
// with a NUL byte behind the last newline. Where .sbat is one of the added sections its size is
// counted.
func withoutNUL(t *testing.T, b []byte) []byte {
	b = bytes.Clone(b)
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	added := false
	for i, s := range f.Sections {
		if k := s.Name; k == ".cmdline" || k == ".osrel" || k == ".linux" || k == ".dtb" {
			added = true
		}
		if s.Name == ".sbat" {
			require.Equal(t, "\n\x00", string(b[s.Offset+s.VirtualSize-2:][:2]))
			binary.LittleEndian.PutUint32(b[f.Fields.SectionTable+int64(i)*40+8:], s.VirtualSize-1)
			if added {
				binary.LittleEndian.PutUint32(b[f.Fields.SizeOfInitializedData:], f.SizeOfInitializedData-1)
			}
		}
	}
	return b
}

// takeSignatures puts the .pcrsig sections that ukify made into the parts.
func takeSignatures(t *testing.T, b []byte, im *uki.Image) {
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	for i, s := range f.Sections() {
		if s.Name != ".pcrsig" {
			continue
		}
		text := make([]byte, s.Size)
		_, err := f.SectionData(i).ReadAt(text, 0)
		require.NoError(t, err)
		if s.Profile <= 0 {
			im.PCRSignature = text
		} else {
			im.Profiles[s.Profile-1].PCRSignature = text
		}
	}
	require.NotEmpty(t, im.PCRSignature)
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestRealParts(t *testing.T) {
	for name, open := range map[string]func(testing.TB) testtools.Root{"forky": testtools.Forky, "trixie": testtools.Trixie} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			kernel, err := os.ReadFile(r.Part(t, "kernel"))
			require.NoError(t, err)
			uname, err := uki.ProbeUname(bytes.NewReader(kernel))
			require.NoError(t, err)
			assert.Regexp(t, `^\d+\.\d+\.\d+\+deb\d+-cloud-amd64$`, uname)

			stub, err := os.ReadFile(r.Part(t, "stub"))
			require.NoError(t, err)
			im := uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=test\n")}
			f, err := uki.Open(bytes.NewReader(assemble(t, &im)))
			require.NoError(t, err)
			version, err := f.StubVersion()
			require.NoError(t, err)
			t.Logf("stub %s, kernel %s", version, f.Uname())
		})
	}
}
