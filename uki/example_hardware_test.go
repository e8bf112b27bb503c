package uki_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

func ExampleDeviceTreeCompatible() {
	tree, err := osmith.OpenFile("testdata/aspire1.dtb")
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close()
	fmt.Println(uki.DeviceTreeCompatible(tree))
	// Output: acer,aspire1 <nil>
}

// An image for two machines: the stub takes the device tree of the firmware's own machine, or the
// one that the hardware ids lead to.
func ExampleFile_Choose() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	laptop, err3 := os.ReadFile("testdata/aspire1.dtb")
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}
	tablet := bytes.Replace(laptop, []byte("acer,aspire1"), []byte("acme,tablet1"), 1)
	machine := &hwid.SMBIOS{Manufacturer: "Acer", ProductName: "Aspire 1"}
	image := &uki.Image{
		Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=acme\n"),
		DeviceTreeAuto: []osmith.Source{bytes.NewReader(tablet), bytes.NewReader(laptop)},
		HWIDs:          []hwid.Record{{CHID: machine.CHIDs("")[9], Type: hwid.TypeDeviceTree, Name: "Aspire 1", Match: "acer,aspire1"}},
	}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	for _, hardware := range []uki.Hardware{{SMBIOS: machine}, {DeviceTree: "acme,tablet1"}, {}} {
		v, err := f.Choose(0, hardware)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("device tree", v.DeviceTree) // 0: none of them
	}
	// Output:
	// device tree 2
	// device tree 1
	// device tree 0
}

// A stub that is newer than this package is treated as the last one known, because the caller says
// so.
func ExampleFile_AssumeStub() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	newer := bytes.Replace(stub, []byte("systemd-stub 262-1"), []byte("systemd-stub 300-1"), 1)
	image := &uki.Image{Stub: bytes.NewReader(newer), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=acme\n"), AssumeStub: 262}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	_, err = f.Measurements()
	fmt.Println(err)
	ms, err := f.AssumeStub(262).Measurements()
	fmt.Println(ms[0].Section, err)
	// Output:
	// uki: unknown stub version: systemd 300-1 is newer than 262, the newest known release: AssumeStub names the release to treat it as
	// .linux <nil>
}

func ExampleParseFirmware() {
	section, err := uki.EncodeFirmware(uki.Firmware{ID: "acer,aspire1", Payload: strings.NewReader("capsule")})
	if err != nil {
		log.Fatal(err)
	}
	fw, err := uki.ParseFirmware(section)
	if err != nil {
		log.Fatal(err)
	}
	payload, err := io.ReadAll(io.NewSectionReader(fw.Payload, 0, fw.Payload.Size()))
	fmt.Println(fw.ID, string(payload), err)
	// Output: acer,aspire1 capsule <nil>
}
