package uki_test

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

func sectionsOf(list ...string) []byte {
	im := petest.Image{SizeOfHeaders: 0x1000}
	for i := 0; i < len(list); i += 2 {
		im.Sections = append(im.Sections, petest.Section{Name: list[i], Content: []byte(list[i+1])})
	}
	return im.Bytes()
}

// stubImage is an image with the stub of a release.
func stubImage(t testing.TB, release int, more ...string) *uki.File {
	f, err := uki.Open(source(sectionsOf(append([]string{".sdmagic", fmt.Sprintf("#### LoaderInfo: systemd-stub %d ####", release), ".linux", "kernel"}, more...)...)))
	require.NoError(t, err)
	return f
}

func companion(name, content string) uki.CompanionFile {
	return uki.CompanionFile{Name: name, Content: strings.NewReader(content)}
}

func addonFile(name string, sections ...string) uki.CompanionFile {
	return uki.CompanionFile{Name: name, Content: source(sectionsOf(append([]string{".sdmagic", "#### LoaderInfo: systemd-addon 262 ####"}, sections...)...))}
}

// allCompanions is a set of companions of all kinds.
func allCompanions() *uki.Companions {
	return &uki.Companions{
		Credentials:       []uki.CompanionFile{companion("b.cred", "2"), companion("a.cred", "1")},
		GlobalCredentials: []uki.CompanionFile{companion("g.cred", "1")},
		Sysexts:           []uki.CompanionFile{companion("x.raw", "1"), companion("z.sysext.raw", "1")},
		GlobalSysexts:     []uki.CompanionFile{companion("g.raw", "1")},
		Confexts:          []uki.CompanionFile{companion("y.confext.raw", "1")},
		GlobalConfexts:    []uki.CompanionFile{companion("g.confext.raw", "1")},
		Addons:            []uki.CompanionFile{addonFile("l.addon.efi", ".cmdline", " local\n", ".initrd", "li", ".ucode", "lu", ".dtb", "lt", ".uname", "6.1")},
		GlobalAddons:      []uki.CompanionFile{addonFile("g.addon.efi", ".cmdline", "global", ".initrd", "gi", ".ucode", "gu", ".dtb", "gt")},
	}
}

func eventText(h *uki.Handover) string {
	var out []string
	for _, e := range h.Events {
		out = append(out, fmt.Sprintf("%d %s", e.PCR, e.Description))
	}
	return strings.Join(out, "; ")
}

func initrdText(h *uki.Handover) string {
	var out []string
	for _, p := range h.Initrds {
		out = append(out, p.Name)
	}
	return strings.Join(out, "; ")
}

func TestHandoverByRelease(t *testing.T) {
	const archives = "12 Credentials initrd; 12 Global credentials initrd; 13 System extension initrd"
	const parts = ".initrd; Credentials initrd; Global credentials initrd; System extension initrd"
	const keys = "tpm2-pcr-signature.json; tpm2-pcr-public-key.pem"
	for _, c := range []struct {
		release                  int
		events, cmdline, initrds string
	}{
		{252, "12 passed; " + archives, "passed", parts + "; " + keys},
		{254, "12 passed; 12 global; 12  local; 12 smbios; " + archives, "passed global  local smbios", parts + "; " + keys},
		{255, "12 passed; 12 global  local; 12 smbios; " + archives + "; 12 g.addon.efi; 12 l.addon.efi", "passed global  local smbios", parts + "; " + keys},
		{257, "12 passed; 12 global local; 12 smbios; 12 g.addon.efi; 12 l.addon.efi; " + archives + "; 12 Configuration extension initrd; 12 l.addon.efi; 12 g.addon.efi; 12 g.addon.efi; 12 l.addon.efi",
			"passed global local smbios", "l.addon.efi; g.addon.efi; .ucode; " + parts + "; Configuration extension initrd; " + keys + "; os-release; g.addon.efi; l.addon.efi"},
		{262, "12 passed; 12 global local; 12 smbios; 12 g.addon.efi; 12 l.addon.efi; " + archives + "; 13 Global system extension initrd; 12 Configuration extension initrd; 12 Global configuration extension initrd; 12 l.addon.efi; 12 g.addon.efi; 12 g.addon.efi; 12 l.addon.efi",
			"passed global local smbios", "l.addon.efi; g.addon.efi; .ucode; " + parts + "; Global system extension initrd; Configuration extension initrd; Global configuration extension initrd; " + keys + "; os-release; boot-secret; g.addon.efi; l.addon.efi"},
	} {
		f := stubImage(t, c.release, ".osrel", "ID=x\n", ".cmdline", "own", ".initrd", "initrd", ".ucode", "ucode", ".uname", "6.1", ".pcrsig", "{}", ".pcrpkey", "key")
		b := uki.Boot{Cmdline: "passed", Companions: allCompanions(), BootSecret: make([]byte, 32)}
		b.Hardware.SMBIOS = &hwid.SMBIOS{OEMStrings: []string{"io.systemd.stub.kernel-cmdline-extra=smbios"}}
		h, err := f.Handover(b)
		require.NoError(t, err)
		assert.Equal(t, c.events, eventText(h), c.release)
		assert.Equal(t, c.cmdline, h.Cmdline, c.release)
		assert.Equal(t, c.initrds, initrdText(h), c.release)
		if c.release == 262 {
			var kinds []string
			for _, e := range h.Events {
				kinds = append(kinds, e.Kind.String())
			}
			assert.Equal(t, "passed command line; add-on command line; SMBIOS command line; add-on device tree; add-on device tree; companion files; companion files; "+
				"companion files; companion files; companion files; companion files; add-on microcode; add-on microcode; add-on initrd; add-on initrd", strings.Join(kinds, "; "))
			require.Len(t, h.Addons, 2)
			assert.Equal(t, "g.addon.efi", h.Addons[0].Name)
			assert.True(t, h.Addons[0].Global)
			assert.Equal(t, " local\n", h.Addons[1].Cmdline)
			assert.EqualValues(t, 2, h.Addons[1].Microcode.Size())
			b.Previous, b.Consoles = strings.NewReader("earlier"), []string{"console=ttyS0", "console=tty0"}
			b.SecureBoot = true
			h, err = f.Handover(b)
			require.NoError(t, err)
			assert.Equal(t, "own global local smbios console=ttyS0 console=tty0", h.Cmdline)
			assert.Equal(t, strings.Replace(c.initrds, ".ucode; ", ".ucode; previous initrd; ", 1), initrdText(h))
		}
	}
}

// Digests that systemd-stub 262 left in the event log of a virtual machine.
func TestHandoverCmdlineDigests(t *testing.T) {
	f := stubImage(t, 262, ".cmdline", "root=x")
	b := uki.Boot{Companions: &uki.Companions{
		Addons:       []uki.CompanionFile{addonFile("local.addon.efi", ".cmdline", "lab.addon=local\n")},
		GlobalAddons: []uki.CompanionFile{addonFile("global.addon.efi", ".cmdline", "lab.addon=global")},
	}}
	b.Hardware.SMBIOS = &hwid.SMBIOS{OEMStrings: []string{"io.systemd.stub.kernel-cmdline-extra=lab.smbios"}}
	h, err := f.Handover(b)
	require.NoError(t, err)
	d, err := h.Measure()
	require.NoError(t, err)
	require.Len(t, d.Events, 2)
	require.Equal(t, "19ce2301f4cfdcbd202da893db69d4e23179e50f18181e1419d09259955c7a02", hex.EncodeToString(d.Events[0].Digests[crypto.SHA256]))
	require.Equal(t, "392e79829981353ed845c3e9b73964028311073e829f6e6ebd495d8e73edd685", hex.EncodeToString(d.Events[1].Digests[crypto.SHA256]))
	require.Nil(t, d.Initrd)
}

func TestHandoverCmdline(t *testing.T) {
	for _, c := range []struct {
		release        int
		own, passed    string
		secure, coco   bool
		want, measured string
	}{
		{262, "", "", false, false, "", ""},
		{262, " \x01own\tline\n ", "", false, false, "own line", ""},
		{254, " \x01own\x7fline\n ", "", false, false, "  own\x7fline", ""},
		{262, "own", " a\x7fb ", false, false, "a b", "a b"},
		{262, "own", "a\tb", false, false, "own", ""}, // taken for no text
		{257, "own", "a\tb", false, false, "a b", "a b"},
		{257, "own", "\ta", false, false, "own", ""},
		{262, "own", "  ", false, false, "own", ""},
		{262, "own", "passed", true, false, "own", ""},
		{262, "", "passed", true, false, "passed", "passed"},
		{262, "", "passed", true, true, "", ""},
		{254, "", "passed", true, true, "passed", "passed"},
		{262, "öwn\xff\xc3(\U0001f600x\x00y", "", false, false, "öwnx", ""},
		{262, "own", "pässed \U0001f600", false, false, "pässed \U0001f600", "pässed \U0001f600"},
	} {
		sections := []string{}
		if c.own != "" {
			sections = []string{".cmdline", c.own}
		}
		h, err := stubImage(t, c.release, sections...).Handover(uki.Boot{Cmdline: c.passed, SecureBoot: c.secure, ConfidentialVM: c.coco})
		require.NoError(t, err)
		assert.Equal(t, c.want, h.Cmdline, "%+v", c)
		if c.measured == "" {
			assert.Empty(t, h.Events, "%+v", c)
		} else {
			assert.Equal(t, "12 "+c.measured, eventText(h), "%+v", c)
		}
		assert.Equal(t, c.want == "", h.LoadOptions == nil)
	}
}

func TestHandoverInitrdPadding(t *testing.T) {
	read := func(f *uki.File, b uki.Boot) string {
		h, err := f.Handover(b)
		require.NoError(t, err)
		src := h.Initrd()
		if src == nil {
			return ""
		}
		data, err := io.ReadAll(io.NewSectionReader(src, 0, src.Size()))
		require.NoError(t, err)
		return string(data)
	}
	require.Equal(t, "", read(stubImage(t, 262), uki.Boot{}))
	require.Equal(t, "12345", read(stubImage(t, 262, ".initrd", "12345"), uki.Boot{}))
	require.Equal(t, "123\x0012345\x00\x00\x00", read(stubImage(t, 262, ".initrd", "12345", ".ucode", "123"), uki.Boot{}))
	require.Equal(t, "12345", read(stubImage(t, 255, ".initrd", "12345", ".ucode", "123"), uki.Boot{}))
}

func TestHandoverUnknown(t *testing.T) {
	two := []uki.CompanionFile{addonFile("a.addon.efi", ".cmdline", "a "), addonFile("b.addon.efi", ".cmdline", "b")}
	other := []uki.CompanionFile{addonFile("a.addon.efi", ".cmdline", "a", ".uname", "6.2")}
	tree := []uki.CompanionFile{addonFile("a.addon.efi", ".dtb", "a")}
	smbios := uki.Hardware{SMBIOS: &hwid.SMBIOS{OEMStrings: []string{"io.systemd.stub.kernel-cmdline-extra= x"}}}
	for _, c := range []struct {
		release int
		boot    uki.Boot
		text    string // "": known
	}{
		{254, uki.Boot{Companions: &uki.Companions{Addons: two}}, "measured together"},
		{254, uki.Boot{Companions: &uki.Companions{Addons: two[:1], GlobalAddons: two[1:]}}, ""},
		{256, uki.Boot{Companions: &uki.Companions{Addons: two}}, "white space"},
		{256, uki.Boot{Companions: &uki.Companions{Addons: two[1:]}}, ""},
		{255, uki.Boot{Companions: &uki.Companions{Addons: other}}, `for kernel "6.2" is ignored under kernel "6.1"`},
		{256, uki.Boot{Companions: &uki.Companions{Addons: tree, Credentials: []uki.CompanionFile{companion("a.cred", "")}}}, "before or after"},
		{256, uki.Boot{Companions: &uki.Companions{Addons: tree}}, ""},
		{256, uki.Boot{Hardware: smbios}, "white space around it"},
		{255, uki.Boot{Hardware: smbios}, ""},
		{254, uki.Boot{Cmdline: " "}, "how the stub treats a passed command line of white space only"},
		{254, uki.Boot{Cmdline: " ", SecureBoot: true}, ""},
		{260, uki.Boot{Previous: strings.NewReader("x")}, "set up already"},
		{253, uki.Boot{Companions: &uki.Companions{Counted: true, Sysexts: []uki.CompanionFile{companion("a.raw", "")}}}, "boot counter"},
		{254, uki.Boot{Companions: &uki.Companions{Counted: true, Sysexts: []uki.CompanionFile{companion("a.raw", "")}}}, ""},
	} {
		h, err := stubImage(t, c.release, ".cmdline", "own", ".uname", "6.1").Handover(c.boot)
		if c.text == "" {
			require.NoError(t, err, "%+v", c)
			continue
		}
		require.Nil(t, h)
		require.ErrorIs(t, err, uki.ErrUnknownStub, "%+v", c)
		require.ErrorContains(t, err, c.text)
		require.ErrorContains(t, err, fmt.Sprintf("systemd %d", c.release))
	}
}

func TestHandoverRefuses(t *testing.T) {
	f := stubImage(t, 262)
	for text, b := range map[string]uki.Boot{
		"boot secret: 31 bytes, want 32":   {BootSecret: make([]byte, 31)},
		"profile 1: the image has 0":       {Profile: 1},
		"add-on x.addon.efi":               {Companions: &uki.Companions{Addons: []uki.CompanionFile{companion("x.addon.efi", "no PE")}}},
		`companion file "x.cred": not giv`: {Companions: &uki.Companions{Credentials: []uki.CompanionFile{{Name: "x.cred"}}}},
	} {
		h, err := f.Handover(b)
		require.Nil(t, h)
		require.ErrorContains(t, err, text)
	}
	// An add-on for another kernel is ignored, one for this kernel and those like it is not.
	h, err := stubImage(t, 262, ".uname", "6.1.2").Handover(uki.Boot{Companions: &uki.Companions{Addons: []uki.CompanionFile{
		addonFile("a.addon.efi", ".cmdline", "a", ".uname", "6.2"), addonFile("b.addon.efi", ".cmdline", "b", ".uname", "6.1"),
		addonFile("c.addon.efi", ".cmdline", "c"), addonFile("d.addon.efi", ".cmdline", "d", ".uname", "6.1\x00")}}})
	require.NoError(t, err)
	require.Equal(t, "b c", h.Cmdline)
	require.Len(t, h.Addons, 2)
}

// Of a device tree that is picked by hardware, an add-on has its own .hwids.
func TestHandoverTreeAddons(t *testing.T) {
	plain, other := string(treeFor("v,plain")), string(treeFor("v,other"))
	auto := addonFile("a.addon.efi", ".dtb", plain, ".dtbauto", string(treeFor("v,a")), ".dtbauto", other,
		".hwids", encoded(t, hwidOf(laptop, "", 9, hwid.TypeDeviceTree, "v,other")))
	f := stubImage(t, 262, ".cmdline", "x", ".hwids", encoded(t, hwidOf(laptop, "", 9, hwid.TypeDeviceTree, "v,a")))
	for _, c := range []struct {
		hw   uki.Hardware
		want string
	}{{uki.Hardware{}, plain}, {uki.Hardware{SMBIOS: &laptop}, other}, {uki.Hardware{SMBIOS: &laptop, DeviceTree: "v,a"}, string(treeFor("v,a"))}} {
		h, err := f.Handover(uki.Boot{Hardware: c.hw, Companions: &uki.Companions{GlobalAddons: []uki.CompanionFile{auto}}})
		require.NoError(t, err)
		require.Equal(t, "12 a.addon.efi", eventText(h))
		require.EqualValues(t, 0x6c46f751, h.Events[0].Tag)
		b, err := io.ReadAll(io.NewSectionReader(h.Events[0].Data, 0, h.Events[0].Data.Size()))
		require.NoError(t, err)
		require.Equal(t, c.want, string(b))
	}
}
