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

// twoProfiles is an image with a second profile and a device tree for some machines.
func twoProfiles() *uki.Image {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	return &uki.Image{
		Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel),
		Cmdline:        "ro quiet",
		OSRelease:      []byte("ID=example\nVERSION_ID=1\n"),
		DeviceTreeAuto: []osmith.Source{strings.NewReader("a device tree")},
		Profile:        []byte("ID=main\n"),
		Profiles:       []uki.Profile{{Profile: []byte("ID=debug\nTITLE=Debug\n"), Cmdline: "ro debug"}},
	}
}

func ExampleImage_MeasureVariants() {
	variants, err := twoProfiles().MeasureVariants(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range variants {
		last := v.Sections[len(v.Sections)-1]
		fmt.Printf("profile %d, device tree %d: %d sections, the last is %s\n", v.Profile, v.DeviceTree, len(v.Sections), last.Section)
	}
	// Output:
	// profile 0, device tree 0: 6 sections, the last is .profile
	// profile 0, device tree 1: 7 sections, the last is .dtbauto
	// profile 1, device tree 0: 6 sections, the last is .profile
	// profile 1, device tree 1: 7 sections, the last is .dtbauto
}

func ExampleAssembled_WriteStream() {
	image := twoProfiles()
	image.PCRSignatureReserve = 1000
	image.Profiles[0].PCRSignatureReserve = 1000
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer // a file, or a signer in front of one
	variants, err := assembled.WriteStream(&out, uki.WriteOptions{
		Hashes: []crypto.Hash{crypto.SHA256, crypto.SHA384},
		Sign: func(variants []uki.VariantMeasurements) ([]byte, error) {
			fmt.Printf("to sign for profile %d: %d ways to boot\n", variants[0].Profile, len(variants))
			return []byte(`{"sha256":[]}`), nil // see tpm.PCR11States and policy.Sign
		},
	})
	fmt.Println(len(variants), out.Len(), err)
	// Output:
	// to sign for profile 0: 2 ways to boot
	// to sign for profile 1: 2 ways to boot
	// 4 21504 <nil>
}

func ExampleFile_Edit() {
	assembled, err := twoProfiles().Assemble()
	if err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	e := f.Edit()
	err = errors.Join(
		e.Replace(".cmdline", 1, strings.NewReader("ro debug systemd.unit=rescue.target")),
		e.Add(".initrd", 1, strings.NewReader("070701...")),
	)
	if err != nil {
		log.Fatal(err)
	}
	edited, err := e.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	if f, err = uki.Open(edited); err != nil {
		log.Fatal(err)
	}
	for _, p := range f.Profiles() {
		cmdline, _ := f.ProfileCmdline(p.Index)
		_, initrd := f.ProfileSection(p.Index, ".initrd")
		fmt.Println(p.ID, cmdline, initrd)
	}
	// Output:
	// main ro quiet false
	// debug ro debug systemd.unit=rescue.target true
}

func ExampleFile_Check() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), Uname: "6.12.1", OSRelease: []byte("NAME=Example\n")}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	for _, finding := range f.Check() {
		fmt.Println(finding.Severity, finding.Code, finding.Section)
	}
	// Output:
	// warning osrel-version .osrel
	// warning uname .uname
}

func ExampleOpenAddon() {
	f, err := uki.OpenAddon(strings.NewReader("text"))
	fmt.Println(f, errors.Is(err, uki.ErrNotPE))
	// Output: <nil> true
}
