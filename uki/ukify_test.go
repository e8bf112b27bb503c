package uki_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// Add-ons and images of profiles are the same bytes as ukify's.
func TestUkifyAddonsAndProfiles(t *testing.T) {
	n, seed := gridSize(t)
	for _, root := range ukifies {
		t.Run(root.name, func(t *testing.T) {
			t.Parallel()
			r := root.open(t)
			d := newDrawer(t, seed+1, t.TempDir(), root.release)
			d.readParts(r)
			type pair struct {
				toolCase
				ours func() (*uki.Assembled, error)
			}
			var pairs []pair
			var cases []toolCase
			for i := range n / 2 {
				c, ours := d.drawAddon(i)
				pairs = append(pairs, pair{c, ours})
				cases = append(cases, c)
			}
			runAll(t, r, d.dir, cases)
			for _, p := range pairs {
				theirs, err := os.ReadFile(filepath.Join(p.dir, "theirs.efi"))
				log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
				require.NoError(t, err, "%s\n%s", p.lines, log)
				if root.release == 257 && bytes.Contains(theirs[:0x400], []byte(".sbat")) {
					theirs = withoutNUL(t, theirs)
				}
				a, err := p.ours()
				require.NoError(t, err)
				assert.Truef(t, bytes.Equal(theirs, written(t, a)), "%s\n%s", p.lines, log)
			}
		})
	}
}

// drawAddon draws an add-on, or every third time a profile.
func (d *drawer) drawAddon(i int) (toolCase, func() (*uki.Assembled, error)) {
	d.files++
	c := toolCase{dir: filepath.Join(d.dir, fmt.Sprintf("case-%d", d.files))}
	require.NoError(d.t, os.Mkdir(c.dir, 0o755))
	stubFile := d.addon
	if i%4 == 3 {
		stubFile = d.oldAddon
	}
	stub, err := os.ReadFile(stubFile)
	require.NoError(d.t, err)
	p, args := d.parts(i%3 == 0)
	if len(args) == 0 || p.Cmdline == "" {
		p.Cmdline = "debug"
		args = append(args, "--cmdline=debug")
	}
	var trees uki.Image
	args = append(args, d.trees(&trees)...)
	args = append(args, "--stub="+stubFile, "--output="+filepath.Join(c.dir, "theirs.efi"))
	extra := d.bytes(d.size())
	args = append(args, "--section=.extra:@"+d.file("extra", extra))
	sections := []uki.Section{{Name: ".extra", Content: source(extra)}}
	if i%3 == 0 {
		p.Profile, p.Sections = []byte("ID=x"), sections
		p.DeviceTreeAuto, p.HWIDs = trees.DeviceTreeAuto, trees.HWIDs
		if i%2 == 0 {
			k := d.drawKernel()
			p.Linux = source(k)
			args = append(args, "--linux="+d.file("linux", k))
			if p.OSRelease == nil {
				args = append(args, "--os-release=")
			}
		}
		c.lines = []string{d.ukify(append(args, "--profile=ID=x"))}
		return c, func() (*uki.Assembled, error) { return p.Assemble(source(stub)) }
	}
	a := uki.Addon{Stub: source(stub), Cmdline: p.Cmdline, DeviceTree: p.DeviceTree, DeviceTreeAuto: trees.DeviceTreeAuto, HWIDs: trees.HWIDs,
		Initrd: p.Initrd, Microcode: p.Microcode, Uname: p.Uname, Sections: sections}
	if p.Splash != nil { // of no use in an add-on
		b := make([]byte, p.Splash.Size())
		_, err := p.Splash.ReadAt(b, 0)
		require.NoError(d.t, err)
		for j, s := range args {
			if strings.HasPrefix(s, "--splash=") {
				args[j] = "--section=.splash2:@" + d.file("splash2", b)
			}
		}
		a.Sections = append([]uki.Section{{Name: ".splash2", Content: source(b)}}, sections...)
	}
	if d.has(2) {
		a.SBAT = []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nours,1,x,x,1,x\n")
		args = append(args, "--sbat=@"+d.file("sbat", a.SBAT))
	}
	c.lines = []string{d.ukify(args)}
	return c, a.Assemble
}

// ukify --join-profile= drops what this test names from the profiles that it joins. We keep it, and
// the rest is the same.
func TestUkifyDropsSections(t *testing.T) {
	r := testtools.Forky(t)
	d := newDrawer(t, 5, t.TempDir(), 262)
	d.readParts(r)
	tree := deviceTree("acme,machine-0", 7)
	hwids := filepath.Join(d.dir, "hwids")
	require.NoError(t, os.Mkdir(hwids, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(hwids, "a.json"), []byte(`{"type": "devicetree", "name": "Acme", "compatible": "acme,machine-0", "hwids": ["f83b2743-4d7a-5fc5-ab29-8f7c3955ce91"]}`), 0o644))
	kernel := petest.Kernel("6.12.0")
	base := []string{"--stub=" + d.file("stub", d.stubs[262]), "--linux=" + d.file("linux", kernel), "--os-release="}
	profile := []string{"--profile=ID=other", "--cmdline=debug", "--os-release=ID=other", "--devicetree-auto=" + d.file("tree", tree), "--hwids=" + hwids,
		"--pcrpkey=" + d.file("public", d.public), "--section=.extra:extra", "--stub=" + d.addon}
	in := func(name string) string { return filepath.Join(d.dir, name) }
	r.Run(t, d.dir, "sh", "-ec", strings.Join([]string{
		d.ukify(append(profile, "--output="+in("profile.efi"))),
		d.ukify(append(base, "--join-profile="+in("profile.efi"), "--output="+in("joined.efi"))),
	}, "\n"))

	theirs, err := os.ReadFile(in("joined.efi"))
	require.NoError(t, err)
	p := openProfile(t, in("profile.efi"), 0)
	im := uki.Image{Stub: source(d.stubs[262]), Linux: source(kernel), Profiles: []uki.Profile{p}}
	ours := assemble(t, &im)
	dropped, kept := []string(nil), sectionDigests(t, theirs)
	for name, digest := range sectionDigests(t, ours) {
		if other, ok := kept[name]; !ok {
			dropped = append(dropped, name)
		} else {
			assert.Equal(t, digest, other, name)
			delete(kept, name)
		}
	}
	assert.Empty(t, kept)
	// .osrel is dropped only where the base has none.
	assert.ElementsMatch(t, []string{"1.osrel", "1.dtbauto", "1.hwids", "1.pcrpkey", "1.extra"}, dropped)

	// Joined from an image that has it as profile 1, it is the same again.
	im.Profiles[0] = openProfileOf(t, ours, 1)
	assert.True(t, bytes.Equal(ours, assemble(t, &im)))
}

// ukify 262 writes 13 bytes of header in .efifw where its own stub wants 16, the first four being a
// number. Ours are what the stub accepts; all else is the same.
func TestUkifyFirmwareHeader(t *testing.T) {
	r := testtools.Forky(t)
	d := newDrawer(t, 6, t.TempDir(), 262)
	d.readParts(r)
	firmware := filepath.Join(d.dir, "fw")
	require.NoError(t, os.MkdirAll(filepath.Join(firmware, "acme"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(firmware, "acme", "fw.bin"), []byte("capsule"), 0o644))
	kernel := petest.Kernel("6.12.0")
	out := filepath.Join(d.dir, "theirs.efi")
	r.Run(t, d.dir, "sh", "-ec", d.ukify([]string{"--stub=" + d.file("stub", d.stubs[262]), "--linux=" + d.file("linux", kernel), "--os-release=",
		"--efifw=" + filepath.Join(firmware, "acme"), "--microcode=" + d.file("ucode", []byte("ucode")), "--output=" + out}))
	theirs, err := os.ReadFile(out)
	require.NoError(t, err)
	im := uki.Image{Stub: source(d.stubs[262]), Linux: source(kernel), Microcode: strings.NewReader("ucode"),
		Firmware: []uki.Firmware{{ID: "acme", Payload: strings.NewReader("capsule")}}}
	ours := assemble(t, &im)
	a, b := sectionDigests(t, ours), sectionDigests(t, theirs)
	assert.NotEqual(t, a["-1.efifw"], b["-1.efifw"])
	assert.Equal(t, sectionNames(t, ours), sectionNames(t, theirs))
	delete(a, "-1.efifw")
	delete(b, "-1.efifw")
	assert.Equal(t, a, b)
	f, err := uki.Open(source(theirs))
	require.NoError(t, err)
	s, _ := f.Section(".efifw")
	_, err = uki.ParseFirmware(s)
	assert.ErrorContains(t, err, "magic")
	f, err = uki.Open(source(ours))
	require.NoError(t, err)
	s, _ = f.Section(".efifw")
	fw, err := uki.ParseFirmware(s)
	require.NoError(t, err)
	assert.Equal(t, "acme", fw.ID)
}

// When profiles with kernels are joined, ukify looks at all kernels for what the image promises
// (NX), as we do, but at the base's only for what revokes it (SBAT): the kernel of a profile could
// not be revoked.
func TestUkifyMergesOneSBAT(t *testing.T) {
	r := testtools.Forky(t)
	d := newDrawer(t, 7, t.TempDir(), 262)
	d.readParts(r)
	base := petest.Kernel("6.12.0")
	other := petest.Kernel("6.13.0", petest.Section{Name: ".sbat", Content: []byte("sbat,1,SBAT Version,sbat,1,https://example.org\nlinux,7,x,x,1,x\n")})
	other[88+70], other[88+71] = 0, 0 // DllCharacteristics of the optional header at 88
	in := func(name string) string { return filepath.Join(d.dir, name) }
	r.Run(t, d.dir, "sh", "-ec", strings.Join([]string{
		d.ukify([]string{"--profile=ID=other", "--linux=" + d.file("other", other), "--os-release=", "--stub=" + d.addon, "--output=" + in("profile.efi")}),
		d.ukify([]string{"--stub=" + d.file("stub", d.stubs[262]), "--linux=" + d.file("linux", base), "--os-release=", "--join-profile=" + in("profile.efi"), "--output=" + in("joined.efi")}),
	}, "\n"))
	theirs, err := os.ReadFile(in("joined.efi"))
	require.NoError(t, err)
	im := uki.Image{Stub: source(d.stubs[262]), Linux: source(base), Profiles: []uki.Profile{openProfile(t, in("profile.efi"), 0)}}
	for what, b := range map[string][]byte{"theirs": theirs, "ours": assemble(t, &im)} {
		f, err := pe.Parse(source(b), int64(len(b)))
		require.NoError(t, err)
		assert.Zero(t, f.DllCharacteristics&pe.DllNXCompat, what)
		assert.Equal(t, what == "ours", bytes.Contains(b[f.Sections[3].Offset:][:1024], []byte("linux,7,x,x,1,x\n")), what)
	}
}
