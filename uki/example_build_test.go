package uki_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/osmith-dev/osmith/uki"
)

// One image that the boot menu shows twice: the second profile has another command line, the rest
// is shared.
func ExampleImage_profiles() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{
		Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=example\n"),
		Cmdline:  "ro quiet",
		Profile:  []byte("ID=main\nTITLE=Start\n"),
		Profiles: []uki.Profile{{Profile: []byte("ID=reset\nTITLE=Factory reset\n"), Cmdline: "ro factory-reset"}},
	}
	measured, err := image.MeasureVariants()
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range measured {
		for _, m := range v.Sections {
			if m.Section == ".cmdline" || m.Section == ".profile" {
				fmt.Println("profile", v.Profile, m.Section, m.Size, "bytes")
			}
		}
	}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("room for", assembled.FreeSections(), "more sections")
	// Output:
	// profile 0 .cmdline 8 bytes
	// profile 0 .profile 20 bytes
	// profile 1 .cmdline 16 bytes
	// profile 1 .profile 29 bytes
	// room for 185 more sections
}

func ExampleAddon() {
	stub, err := os.ReadFile("testdata/addonx64.efi.stub") // of systemd
	if err != nil {
		log.Fatal(err)
	}
	addon := &uki.Addon{
		Stub:    bytes.NewReader(stub),
		Cmdline: "console=ttyS0",
		Uname:   "6.12.0", // for images with this kernel only
	}
	assembled, err := addon.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	n, err := assembled.WriteTo(io.Discard) // /loader/addons/serial.addon.efi
	fmt.Println(n, err)

	addon.Cmdline = ""
	_, err = addon.Assemble()
	fmt.Println(err)
	// Output:
	// 3584 <nil>
	// uki: Addon: not given: none of the sections that a stub applies (Cmdline, DeviceTree, DeviceTreeAuto, Initrd, Microcode)
}

// A profile of another vendor is joined to an image of our own.
func ExampleProfileOf() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	theirs := &uki.Profile{Profile: []byte("ID=debug\nTITLE=Debug\n"), Cmdline: "debug"}
	carried, err := theirs.Assemble(bytes.NewReader(stub)) // or ukify build --profile=
	if err != nil {
		log.Fatal(err)
	}

	f, err := uki.OpenProfile(carried)
	if err != nil {
		log.Fatal(err)
	}
	profile, err := uki.ProfileOf(f, 0)
	if err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{
		Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel),
		Cmdline: "ro quiet", OSRelease: []byte("ID=example\n"), Profiles: []uki.Profile{profile},
	}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	joined, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range joined.Sections() {
		if s.Profile >= 0 {
			fmt.Println("profile", s.Profile, "has", s.Name)
		}
	}
	// Output:
	// profile 0 has .profile
	// profile 1 has .profile
	// profile 1 has .cmdline
}

// A stub of systemd 262 loads the kernel itself, and applies no relocations.
func ExampleKernelError() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	// A table of base relocations, at the end of the headers, with one block that is empty.
	const at, size = 0x1000 - 12, 12
	le := binary.LittleEndian
	le.PutUint32(kernel[at+4:], size)
	directory := le.Uint32(kernel[0x3c:]) + 24 + 112 + 5*8 // of the PE headers
	le.PutUint32(kernel[directory:], at)
	le.PutUint32(kernel[directory+4:], size)
	image := uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=acme\n")}
	_, err := image.Assemble()
	var refused *uki.KernelError
	if errors.As(err, &refused) {
		fmt.Println(refused.Findings[0])
	}
	image.Stub = bytes.NewReader(bytes.Replace(stub, []byte("systemd-stub 262-1"), []byte("systemd-stub 257.9"), 1))
	_, err = image.Assemble()
	fmt.Println("on the stub of 257:", err)
	// Output:
	// error: section .linux: the stub of systemd 262 does not start the kernel (seen in a boot): has base relocations (a directory of 12 bytes), which the stub does not apply (linux-relocations)
	// on the stub of 257: <nil>
}
