package uki_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing/fstest"

	"github.com/osmith-dev/osmith/uki"
)

func ExampleReadHWIDs() {
	// In real programs os.DirFS("/usr/lib/systemd/boot/hwids/aa64").
	tree := fstest.MapFS{"laptop.json": {Data: []byte(`{
		"type": "devicetree", "name": "LENOVO ThinkPad X13s Gen 1", "compatible": "lenovo,thinkpad-x13s",
		"hwids": ["c869f39e-f205-5ca0-be7b-d90f90ef5556"]}`)}}
	ids, err := uki.ReadHWIDs(tree)
	if err != nil {
		fmt.Println(err)
		return
	}
	section, err := uki.EncodeHWIDs(ids) // the content of .hwids
	fmt.Println(len(section), err)
	ids, err = uki.ParseHWIDs(section)
	fmt.Println(ids[0].Type, ids[0].CHID, ids[0].Match, err)
	// Output:
	// 104 <nil>
	// devicetree c869f39e-f205-5ca0-be7b-d90f90ef5556 lenovo,thinkpad-x13s <nil>
}

func ExampleParseSMBIOS() {
	table, err := os.ReadFile("testdata/dmi-qemu.bin") // /sys/firmware/dmi/tables/DMI
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := uki.ParseSMBIOS(table)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Manufacturer, s.ProductName)
	fmt.Println(s.CHIDs("")[9]) // manufacturer and product
	// Output:
	// QEMU Standard PC (Q35 + ICH9, 2009)
	// 817fca52-ae83-52f5-8642-9497f79d49d0
}

func ExamplePanelID() {
	edid := make([]byte, 128) // /sys/class/drm/card0-eDP-1/edid
	copy(edid, "\x00\xff\xff\xff\xff\xff\xff\x00\x30\xe4\xa1\x05")
	fmt.Println(uki.PanelID(edid))
	// Output: LGD05a1 <nil>
}

func ExampleDeviceTreeCompatible() {
	tree := bytes.NewReader(treeFor("acer,aspire1", "qcom,sc7180")) // a .dtb file
	fmt.Println(uki.DeviceTreeCompatible(tree))
	// Output: acer,aspire1 <nil>
}

func ExampleFile_Choose() {
	machine := &uki.SMBIOS{Manufacturer: "Acer", ProductName: "Aspire 1"}
	ids, err := uki.EncodeHWIDs([]uki.HWID{{CHID: machine.CHIDs("")[9], Type: uki.HWIDDeviceTree, Name: "Aspire 1", Match: "acer,aspire1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := uki.Open(source(sectionsOf(".sdmagic", "#### LoaderInfo: systemd-stub 262 ####", ".linux", "kernel",
		".dtbauto", string(treeFor("other,machine")), ".dtbauto", string(treeFor("acer,aspire1")), ".hwids", string(ids))))
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := f.Choose(0, uki.Hardware{SMBIOS: machine})
	fmt.Printf("%+v %v\n", v, err)
	v, err = f.Choose(0, uki.Hardware{DeviceTree: "other,machine"}) // the firmware has a tree of its own
	fmt.Printf("%+v %v\n", v, err)
	// Output:
	// {Profile:0 DeviceTree:2 Firmware:0} <nil>
	// {Profile:0 DeviceTree:1 Firmware:0} <nil>
}

func ExampleParseFirmware() {
	section, err := uki.EncodeFirmware(uki.Firmware{ID: "acer,aspire1", Payload: strings.NewReader("capsule")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fw, err := uki.ParseFirmware(section)
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := io.ReadAll(io.NewSectionReader(fw.Payload, 0, fw.Payload.Size()))
	fmt.Println(fw.ID, string(payload), err)
	// Output: acer,aspire1 capsule <nil>
}
