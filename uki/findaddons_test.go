package uki_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// Add-ons are found in the stub's order, each with what becomes of it.
func TestFindAddons(t *testing.T) {
	bytesOf := func(a interface {
		Assemble() (*uki.Assembled, error)
	}) []byte {
		t.Helper()
		made, err := a.Assemble()
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = made.WriteTo(&b)
		require.NoError(t, err)
		return b.Bytes()
	}
	stub := func() osmith.Source { return bytes.NewReader(petest.AddonStub("262")) }
	image := func(release string) *uki.File {
		im := bytesOf(&uki.Image{Stub: bytes.NewReader(petest.Stub(release)), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Cmdline: "quiet", OSRelease: []byte("ID=acme\n"), Uname: "6.12.0"})
		f, err := uki.Open(bytes.NewReader(im))
		require.NoError(t, err)
		return f
	}
	file := func(name string, b []byte) uki.CompanionFile {
		return uki.CompanionFile{Name: name, Content: bytes.NewReader(b)}
	}
	good := bytesOf(&uki.Addon{Stub: stub(), Cmdline: "a=1", Uname: "6.12.0"})
	shorter := bytesOf(&uki.Addon{Stub: stub(), Cmdline: "a=2", Uname: "6.12"})
	other := bytesOf(&uki.Addon{Stub: stub(), Cmdline: "a=3", Uname: "6.13.0"})
	odd := bytesOf(&uki.Addon{Stub: stub(), Sections: []uki.Section{{Name: ".cmdline", Content: strings.NewReader("in\xe9xxit=x\x00y")}}})
	foreign := bytes.Clone(good)
	at := bytes.Index(foreign, []byte("PE\x00\x00"))
	foreign[at+4], foreign[at+5] = 0x64, 0xaa
	companions := &uki.Companions{
		Addons:       []uki.CompanionFile{file("b.addon.efi", good), file("a.addon.efi", shorter), file("c.addon.efi", other), file("d.addon.efi", []byte("MZ"))},
		GlobalAddons: []uki.CompanionFile{file("z.addon.efi", odd), file("y.addon.efi", foreign)},
	}
	found, err := image("262").FindAddons(uki.Boot{Companions: companions})
	require.NoError(t, err)
	var names, cmdlines []string
	for _, a := range found {
		names, cmdlines = append(names, a.Name), append(cmdlines, a.Cmdline)
	}
	require.Equal(t, []string{"y.addon.efi", "z.addon.efi", "a.addon.efi", "b.addon.efi", "c.addon.efi", "d.addon.efi"}, names)
	require.Equal(t, []string{"", "init=x", "a=2", "a=1", "", ""}, cmdlines, "as the stub makes it: what it drops hides nothing")
	require.True(t, found[0].Global)
	require.False(t, found[2].Global)
	var skipped *uki.SkippedAddonError
	require.ErrorAs(t, found[0].Err, &skipped)
	require.Contains(t, skipped.Text, "machine type 0xaa64, and the image for 0x8664")
	require.NoError(t, found[1].Err)
	require.NoError(t, found[2].Err, "a .uname that is the beginning of the image's is the same to the stub")
	require.NoError(t, found[3].Err)
	require.ErrorAs(t, found[4].Err, &skipped)
	require.Equal(t, []string{"6.12.0", "6.13.0"}, []string{skipped.Want, skipped.Got})
	var format *osmith.FormatError
	require.ErrorAs(t, found[5].Err, &format)
	require.Nil(t, found[5].File)

	// What is found is what the kernel gets.
	companions.Addons, companions.GlobalAddons = companions.Addons[:3], companions.GlobalAddons[:1]
	h, err := image("262").Handover(uki.Boot{Companions: companions, NoBootSecret: true, Consoles: []string{}})
	require.NoError(t, err)
	require.Equal(t, "quiet init=x a=2 a=1", h.Cmdline)

	// Old stubs take none, or it is not known.
	found, err = image("252").FindAddons(uki.Boot{Companions: companions})
	require.NoError(t, err)
	require.ErrorAs(t, found[0].Err, &skipped)
	found, err = image("255").FindAddons(uki.Boot{Companions: companions})
	require.NoError(t, err)
	require.ErrorIs(t, found[3].Err, uki.ErrUnknownStub)
	_, err = image("999").FindAddons(uki.Boot{Companions: companions})
	require.ErrorIs(t, err, uki.ErrUnknownStub)
	none, err := image("262").FindAddons(uki.Boot{})
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestAddonNames(t *testing.T) {
	require.Equal(t, "EFI/Linux/os_1.efi.extra.d", uki.AddonDirectory("EFI/Linux/os_1+3-1.efi"))
	require.Equal(t, "loader/addons", uki.AddonDirectory(""))
	for _, good := range []string{"a.addon.efi", "A b.ADDON.EFI"} {
		require.NoError(t, uki.CheckAddonName(good))
	}
	for _, bad := range []string{"", "a.efi", ".addon.efi", ".a.addon.efi", "d/a.addon.efi", `d\a.addon.efi`, "é.addon.efi", "a:.addon.efi", strings.Repeat("a", 250) + ".addon.efi"} {
		require.Error(t, uki.CheckAddonName(bad), bad)
	}
}
