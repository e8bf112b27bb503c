//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// forThisHardware adds device trees to an image, and firmware if the stub knows that, of which the
// second ones are for the machine: by the hardware id of its manufacturer and product, out of the
// tables that it reported.
func forThisHardware(t *testing.T, s *System, im uki.Image, rep *report.Report) uki.Image {
	t.Helper()
	smbios, err := hwid.ParseSMBIOS(rep.SMBIOS)
	require.NoError(t, err)
	require.Equal(t, "QEMU", smbios.Manufacturer)
	const product = 9 // type of hardware id
	own := smbios.CHIDs("")[product]
	require.NotEqual(t, osmith.GUID{}, own)
	another := hwid.SMBIOS{Manufacturer: "Acme", ProductName: "One"}

	im.DeviceTree = bytes.NewReader(deviceTree("acme,zero"))
	im.DeviceTreeAuto = []osmith.Source{bytes.NewReader(deviceTree("acme,one")), bytes.NewReader(deviceTree("acme,two"))}
	im.HWIDs = []hwid.Record{
		{CHID: another.CHIDs("")[product], Type: hwid.TypeDeviceTree, Name: "One", Match: "acme,one"},
		{CHID: own, Type: hwid.TypeDeviceTree, Name: "Two", Match: "acme,two"},
	}
	want := uki.Variant{DeviceTree: 2}
	image, err := s.UKI("1", im)
	require.NoError(t, err)
	if release, err := stubRelease(open(t, image)); err != nil || release >= 258 {
		require.NoError(t, err)
		im.HWIDs = append(im.HWIDs, hwid.Record{CHID: own, Type: hwid.TypeFirmware, Name: "Two", Match: "two"})
		im.Firmware = []uki.Firmware{
			{ID: "one", Payload: bytes.NewReader([]byte("firmware one"))},
			{ID: "two", Payload: bytes.NewReader([]byte("firmware two"))},
		}
		want.Firmware = 2
		image, err = s.UKI("1", im)
		require.NoError(t, err)
	}
	got, err := open(t, image).Choose(0, uki.Hardware{SMBIOS: smbios})
	require.NoError(t, err)
	require.Equal(t, want, got)
	return im
}

// requireMeasured says which sections a stub has measured, in its order: the tree that every
// machine gets is one of them although the kernel gets another.
func requireMeasured(t *testing.T, rep *report.Report, want ...string) {
	t.Helper()
	log, err := tpm.ParseLog(rep.EventLog)
	require.NoError(t, err)
	var got []string
	for _, e := range log.Events {
		if name := report.UTF16(e.Data); e.PCR == 11 && !slices.Contains(got, name) {
			// once for the name, once for the content
			got = append(got, name)
		}
	}
	require.Equal(t, want, got)
}

// deviceTree is a flattened device tree with nothing but the compatible string of its root:
// Devicetree Specification v0.4, chapter 5. Kernels for this processor do not look at it.
func deviceTree(compatible string) []byte {
	const header, reservations, name = 40, 16, "compatible\x00"
	be := binary.BigEndian
	structure := be.AppendUint32(nil, 1) // FDT_BEGIN_NODE
	structure = be.AppendUint32(structure, 0)
	structure = be.AppendUint32(structure, 3) // FDT_PROP: length, offset of the name, value
	structure = be.AppendUint32(structure, uint32(len(compatible)+1))
	structure = be.AppendUint32(structure, 0)
	structure = append(append(structure, compatible...), make([]byte, 4-len(compatible)%4)...)
	structure = be.AppendUint32(structure, 2) // FDT_END_NODE
	structure = be.AppendUint32(structure, 9) // FDT_END
	const start = header + reservations
	names := uint32(start + len(structure))
	var tree []byte
	for _, word := range []uint32{0xd00dfeed, names + uint32(len(name)), start, names, header, 17, 16, 0, uint32(len(name)), uint32(len(structure))} {
		tree = be.AppendUint32(tree, word)
	}
	return append(append(append(tree, make([]byte, reservations)...), structure...), name...)
}
