package uki_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
)

func ExampleImage_Assemble() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub") // of systemd
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{
		Stub:      bytes.NewReader(stub),
		Linux:     bytes.NewReader(kernel),
		Initrd:    []osmith.Source{strings.NewReader("070701...")},
		Cmdline:   "ro quiet",
		OSRelease: []byte("ID=example\nVERSION_ID=1\n"),
	}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer // a file
	n, err := assembled.WriteTo(&out)
	fmt.Println(n, err)
	// Output: 17920 <nil>
}

func ExampleImage_Measurements() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), Cmdline: "ro quiet", OSRelease: []byte("ID=example\n")}
	measured, err := image.Measurements(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range measured {
		fmt.Printf("%-8s %5d bytes %x...\n", m.Section, m.Size, m.Digests[crypto.SHA256][:4])
	}
	// Output:
	// .linux    5120 bytes b4e01ed8...
	// .osrel      11 bytes e867e747...
	// .cmdline     8 bytes ef371752...
	// .uname       6 bytes fea4e26f...
	// .sbat      223 bytes abb433db...
}

func ExampleOpen() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), Cmdline: "ro quiet", OSRelease: []byte("ID=example\nPRETTY_NAME=\"Example OS\"\n")}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	version, _ := f.StubVersion()
	cmdline, _ := f.Cmdline()
	release, _ := f.OSRelease()
	fmt.Println("stub", version, "kernel", f.Uname())
	fmt.Println(release["PRETTY_NAME"], "with", cmdline)
	for _, s := range f.Sections() {
		fmt.Printf("%-8s %5d bytes at %d\n", s.Name, s.Size, s.Offset)
	}
	// Output:
	// stub 262-1 kernel 6.12.0
	// Example OS with ro quiet
	// .text        3 bytes at 8192
	// .rodata     48 bytes at 8704
	// .sbat      223 bytes at 9216
	// .sdmagic    41 bytes at 10240
	// .osrel      36 bytes at 10752
	// .cmdline     8 bytes at 11264
	// .uname       6 bytes at 11776
	// .linux    5120 bytes at 12288
}

func ExampleProbeUname() {
	kernel, err := os.ReadFile("testdata/vmlinuz")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(uki.ProbeUname(bytes.NewReader(kernel)))
	_, err = uki.ProbeUname(strings.NewReader("no kernel"))
	fmt.Println(errors.Is(err, uki.ErrUnknownUname), err)
	// Output:
	// 6.12.0 <nil>
	// true uki: Linux: kernel version not found (no x86 setup header (HdrS at 0x202) and no banner (Linux version) in 9 bytes)
}

func ExampleParseOSRelease() {
	r, err := uki.ParseOSRelease([]byte("# comment\nNAME=\"Example \\\"OS\\\"\"\nVERSION_ID='1 beta'\n"))
	fmt.Println(r["NAME"], r["VERSION_ID"], err)
	// Output:
	// Example "OS" 1 beta <nil>
}
