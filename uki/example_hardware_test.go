package uki_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

func ExampleDeviceTreeCompatible() {
	tree := bytes.NewReader(treeFor("acer,aspire1", "qcom,sc7180")) // a .dtb file
	fmt.Println(uki.DeviceTreeCompatible(tree))
	// Output: acer,aspire1 <nil>
}

func ExampleFile_Choose() {
	machine := &hwid.SMBIOS{Manufacturer: "Acer", ProductName: "Aspire 1"}
	ids, err := hwid.Encode([]hwid.Record{{CHID: machine.CHIDs("")[9], Type: hwid.TypeDeviceTree, Name: "Aspire 1", Match: "acer,aspire1"}})
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
	// the firmware has a tree of its own
	v, err = f.Choose(0, uki.Hardware{DeviceTree: "other,machine"})
	fmt.Printf("%+v %v\n", v, err)
	// Output:
	// {Profile:0 DeviceTree:2 Firmware:0} <nil>
	// {Profile:0 DeviceTree:1 Firmware:0} <nil>
}

// A stub that is newer than this package is treated as the last one known, because the caller says
// so.
func ExampleFile_AssumeStub() {
	f, err := uki.Open(source(sectionsOf(".sdmagic", "#### LoaderInfo: systemd-stub 300 ####", ".linux", "kernel")))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = f.Measurements()
	fmt.Println(errors.Is(err, uki.ErrUnknownStub))
	ms, err := f.AssumeStub(262).Measurements()
	fmt.Println(ms[0].Section, err)
	// Output:
	// true
	// .linux <nil>
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
