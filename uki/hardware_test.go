package uki_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

var (
	laptop = hwid.SMBIOS{Manufacturer: "First Vendor", ProductName: "Device 1", SKU: "KD01", Family: "Laptop X", BoardName: "FODM1", BoardVendor: "First ODM"}
	tablet = hwid.SMBIOS{Manufacturer: "Second Vendor", ProductName: "Device 2", SKU: "KD02", Family: "Tablet Y", BoardName: "SODM2", BoardVendor: "Second ODM"}
)

// hwidOf is a record for a machine by one type of hardware id.
func hwidOf(s hwid.SMBIOS, panel string, kind int, what hwid.Type, match string) hwid.Record {
	return hwid.Record{CHID: s.CHIDs(panel)[kind], Type: what, Name: "name", Match: match}
}

func encoded(t testing.TB, ids ...hwid.Record) string {
	b, err := hwid.Encode(ids)
	require.NoError(t, err)
	return string(b)
}

func TestChoose(t *testing.T) {
	const tree, fw = hwid.TypeDeviceTree, hwid.TypeFirmware
	a, b, c := string(treeFor("v,a", "v,b")), string(treeFor("v,b")), string(treeFor("v,c"))
	fwA, fwB := string(encodeFirmware(t, "fw-a", "1")), string(encodeFirmware(t, "fw-b", "2"))
	f := stubImage(t, 262,
		".dtb", "plain", ".dtbauto", "no tree", ".dtbauto", a, ".dtbauto", b, ".dtbauto", b,
		".efifw", fwA, ".efifw", fwB,
		".hwids", encoded(t, hwidOf(laptop, "", 9, tree, "v,c"), hwidOf(laptop, "", 3, tree, "v,b"), hwidOf(laptop, "", 11, fw, "fw-b"), hwidOf(laptop, "ABC1234", 17, tree, "v,a")),
		".hwids", encoded(t, hwidOf(tablet, "", 3, tree, "v,a")), // not the first one
		".profile", "ID=main\n", ".dtbauto", c,
		".profile", "ID=own\n", ".dtbauto", c, ".dtbauto", a, ".efifw", fwA,
		".hwids", encoded(t, hwidOf(laptop, "", 4, tree, "v,c"), hwidOf(laptop, "", 4, fw, "fw-a")),
	)
	for name, x := range map[string]struct {
		hw      uki.Hardware
		profile int
		want    uki.Variant
	}{
		"nothing known":            {uki.Hardware{}, 0, uki.Variant{}},
		"tree of the firmware":     {uki.Hardware{DeviceTree: "v,b"}, 0, uki.Variant{DeviceTree: 3}},
		"in a profile":             {uki.Hardware{DeviceTree: "v,c"}, 0, uki.Variant{DeviceTree: 5}},
		"first string only":        {uki.Hardware{DeviceTree: "v,d"}, 0, uki.Variant{}},
		"most specific id":         {uki.Hardware{SMBIOS: &laptop}, 0, uki.Variant{DeviceTree: 3, Firmware: 2}},
		"with display":             {uki.Hardware{SMBIOS: &laptop, Panel: "ABC1234"}, 0, uki.Variant{DeviceTree: 2, Firmware: 2}},
		"other display":            {uki.Hardware{SMBIOS: &laptop, Panel: "ABC1235"}, 0, uki.Variant{DeviceTree: 3, Firmware: 2}},
		"firmware's tree wins":     {uki.Hardware{SMBIOS: &laptop, DeviceTree: "v,a"}, 0, uki.Variant{DeviceTree: 2, Firmware: 2}},
		"unknown firmware tree":    {uki.Hardware{SMBIOS: &laptop, DeviceTree: "v,x"}, 0, uki.Variant{Firmware: 2}},
		"second table":             {uki.Hardware{SMBIOS: &tablet}, 0, uki.Variant{}},
		"profile's own":            {uki.Hardware{SMBIOS: &laptop}, 1, uki.Variant{Profile: 1, DeviceTree: 5, Firmware: 3}},
		"shared one in a profile":  {uki.Hardware{DeviceTree: "v,b"}, 1, uki.Variant{Profile: 1, DeviceTree: 3}},
		"profile's takes over":     {uki.Hardware{DeviceTree: "v,a"}, 1, uki.Variant{Profile: 1, DeviceTree: 6}},
		"tablet in second profile": {uki.Hardware{SMBIOS: &tablet}, 1, uki.Variant{Profile: 1}},
	} {
		v, err := f.Choose(x.profile, x.hw)
		require.NoError(t, err, name)
		assert.Equal(t, x.want, v, name)
		vs, err := f.Variants()
		require.NoError(t, err)
		assert.Contains(t, vs, v, name)
	}
	_, err := f.Choose(2, uki.Hardware{})
	require.ErrorContains(t, err, "profile 2: the image has 2")
}

func TestChooseByRelease(t *testing.T) {
	f := stubImage(t, 257, ".dtbauto", string(treeFor("v,a")), ".hwids",
		encoded(t, hwidOf(laptop, "", 3, hwid.TypeDeviceTree, "v,a"), hwidOf(laptop, "", 11, hwid.TypeFirmware, "fw-b")))
	v, err := f.Choose(0, uki.Hardware{SMBIOS: &laptop})
	require.NoError(t, err)
	require.Equal(t, uki.Variant{}, v, "257 refuses a table with firmware")
	ids := encoded(t, hwidOf(laptop, "ABC1234", 17, hwid.TypeDeviceTree, "v,a"), hwidOf(laptop, "", 14, hwid.TypeDeviceTree, "v,b"), hwidOf(laptop, "", 10, hwid.TypeDeviceTree, "v,b"))
	for release, want := range map[int]int{256: 0, 257: 2, 258: 1, 262: 1} {
		f := stubImage(t, release, ".dtbauto", string(treeFor("v,a")), ".dtbauto", string(treeFor("v,b")), ".hwids", ids)
		v, err := f.Choose(0, uki.Hardware{SMBIOS: &laptop, Panel: "ABC1234"})
		require.NoError(t, err)
		require.Equal(t, uki.Variant{DeviceTree: want}, v, release)
	}
}

// The stub hashes a string that SMBIOS lacks as an empty one, and a zero id matches ids that it
// could not compute.
func TestChooseIncompleteSMBIOS(t *testing.T) {
	full := laptop
	full.SKU = "0" // leading zeros do not count
	lacking := laptop
	lacking.SKU = ""
	require.True(t, lacking.CHIDs("")[4].IsZero())
	match := func(id hwid.Record, hw uki.Hardware) int {
		f := stubImage(t, 262, ".dtbauto", string(treeFor("v,a")), ".hwids", encoded(t, id))
		v, err := f.Choose(0, hw)
		require.NoError(t, err)
		return v.DeviceTree
	}
	require.Equal(t, 1, match(hwidOf(full, "", 4, hwid.TypeDeviceTree, "v,a"), uki.Hardware{SMBIOS: &lacking}))
	require.Equal(t, 1, match(hwid.Record{Type: hwid.TypeDeviceTree, Match: "v,a"}, uki.Hardware{}))
	require.Equal(t, 0, match(hwid.Record{Type: hwid.TypeDeviceTree, Match: "v,a"}, uki.Hardware{Panel: "ABC1234"}))
}

func TestChooseBadTable(t *testing.T) {
	good := encoded(t, hwidOf(laptop, "", 3, hwid.TypeDeviceTree, "v,a"))
	for name, table := range map[string]string{
		"type":      "\x1c\x00\x00\x30" + good[4:],
		"offset":    good[:24] + "\xff" + good[25:],
		"no string": good[:24] + "\x00" + good[25:],
		"short":     good[:28],
	} {
		f := stubImage(t, 262, ".dtbauto", string(treeFor("v,a")), ".hwids", table)
		v, err := f.Choose(0, uki.Hardware{SMBIOS: &laptop})
		require.NoError(t, err)
		require.Zero(t, v.DeviceTree, name)
	}
}

// wornOut can be read up to an offset.
type wornOut struct {
	osmith.Source
	from int64
}

var errWornOut = errors.New("worn out")

func (f wornOut) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.from {
		return 0, errWornOut
	}
	return f.Source.ReadAt(b, off)
}

func TestChooseReadError(t *testing.T) {
	image := sectionsOf(".sdmagic", "#### LoaderInfo: systemd-stub 262 ####", ".linux", "kernel", ".dtbauto", string(treeFor("v,a")))
	src := source(image)
	at := int64(0)
	f, err := uki.Open(src)
	require.NoError(t, err)
	for _, s := range f.Sections() {
		if s.Name == ".dtbauto" {
			at = s.Offset
		}
	}
	f, err = uki.Open(wornOut{io.NewSectionReader(src, 0, src.Size()), at})
	require.NoError(t, err)
	_, err = f.Choose(0, uki.Hardware{DeviceTree: "v,a"})
	require.ErrorIs(t, err, errWornOut)
	require.ErrorContains(t, err, "uki: section .dtbauto: ")
}
