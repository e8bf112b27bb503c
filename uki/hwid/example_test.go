package hwid_test

import (
	"fmt"
	"os"
	"testing/fstest"

	"github.com/osmith-dev/osmith/uki/hwid"
)

func ExampleRead() {
	// In real programs os.DirFS("/usr/lib/systemd/boot/hwids/aa64").
	tree := fstest.MapFS{"laptop.json": {Data: []byte(`{
		"type": "devicetree", "name": "LENOVO ThinkPad X13s Gen 1", "compatible": "lenovo,thinkpad-x13s",
		"hwids": ["c869f39e-f205-5ca0-be7b-d90f90ef5556"]}`)}}
	ids, err := hwid.Read(tree)
	if err != nil {
		fmt.Println(err)
		return
	}
	section, err := hwid.Encode(ids) // the content of .hwids
	fmt.Println(len(section), err)
	ids, err = hwid.Parse(section)
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
	s, err := hwid.ParseSMBIOS(table)
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
	fmt.Println(hwid.PanelID(edid))
	// Output: LGD05a1 <nil>
}

// What a stub makes of the table on a machine.
func ExampleMatch() {
	machine := &hwid.SMBIOS{Manufacturer: "Acer", ProductName: "Aspire 1"}
	table, err := hwid.Encode([]hwid.Record{
		// manufacturer and product
		{CHID: machine.CHIDs("")[9], Type: hwid.TypeDeviceTree, Name: "Aspire 1", Match: "acer,aspire1"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	match, ok := hwid.Match(table, hwid.TypeDeviceTree, machine, "", 262)
	fmt.Printf("%q %v\n", match, ok)
	match, ok = hwid.Match(table, hwid.TypeDeviceTree, &hwid.SMBIOS{Manufacturer: "Acer", ProductName: "Aspire 3"}, "", 262)
	fmt.Printf("%q %v\n", match, ok)
	// Output:
	// "acer,aspire1" true
	// "" false
}
