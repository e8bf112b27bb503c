package uki_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// One image that the boot menu shows twice: the second profile has another command line, the rest
// is shared.
func ExampleImage_profiles() {
	image := &uki.Image{
		Stub: stub, Linux: kernel, Initrd: []osmith.Source{initrd}, OSRelease: []byte("ID=example\n"),
		Cmdline:  "ro quiet",
		Profile:  []byte("ID=main\nTITLE=Start\n"),
		Profiles: []uki.Profile{{Profile: []byte("ID=reset\nTITLE=Factory reset\n"), Cmdline: "ro factory-reset"}},
	}
	measured, err := image.MeasureVariants()
	if err != nil {
		fmt.Println(err)
		return
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
		fmt.Println(err)
		return
	}
	fmt.Println("room for", assembled.FreeSections(), "more sections")
	// Output:
	// profile 0 .cmdline 8 bytes
	// profile 0 .profile 20 bytes
	// profile 1 .cmdline 16 bytes
	// profile 1 .profile 29 bytes
	// room for 184 more sections
}

func ExampleAddon() {
	addon := &uki.Addon{
		Stub:    bytes.NewReader(petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}}}.Bytes()),
		Cmdline: "console=ttyS0",
		Uname:   "6.12.0", // for images with this kernel only
	}
	assembled, err := addon.Assemble()
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := assembled.WriteTo(io.Discard) // /loader/addons/serial.addon.efi
	fmt.Println(n, err)

	addon.Cmdline = ""
	_, err = addon.Assemble()
	fmt.Println(err)
	// Output:
	// 3072 <nil>
	// uki: Addon: not given: none of the sections that a stub applies (Cmdline, DeviceTree, DeviceTreeAuto, Initrd, Microcode)
}

// A profile of another vendor is joined to an image of our own.
func ExampleProfileOf() {
	theirs := &uki.Profile{Profile: []byte("ID=debug\nTITLE=Debug\n"), Cmdline: "debug"}
	carried, err := theirs.Assemble(stub) // or ukify build --profile=
	if err != nil {
		fmt.Println(err)
		return
	}

	f, err := uki.OpenProfile(carried)
	if err != nil {
		fmt.Println(err)
		return
	}
	profile, err := uki.ProfileOf(f, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	image := &uki.Image{Stub: stub, Linux: kernel, Cmdline: "ro quiet", OSRelease: []byte("ID=example\n"), Profiles: []uki.Profile{profile}}
	assembled, err := image.Assemble()
	if err != nil {
		fmt.Println(err)
		return
	}
	joined, err := uki.Open(assembled)
	if err != nil {
		fmt.Println(err)
		return
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
	var kernel []byte
	for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
		if k.Name == "linux-relocations" {
			kernel = k.Kernel
		}
	}
	image := uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(kernel), OSRelease: []byte("ID=acme\n")}
	_, err := image.Assemble()
	var refused *uki.KernelError
	if errors.As(err, &refused) {
		fmt.Println(refused.Findings[0])
	}
	image.Stub = bytes.NewReader(petest.Stub("257"))
	_, err = image.Assemble()
	fmt.Println("on the stub of 257:", err)
	// Output:
	// error: section .linux: the stub of systemd 262 does not start the kernel (seen in a boot): has base relocations (a directory of 12 bytes), which the stub does not apply (linux-relocations)
	// on the stub of 257: <nil>
}
