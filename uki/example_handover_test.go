package uki_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
)

// What a stub will hand over and measure, given the files beside its image.
func ExampleFile_Handover() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{
		Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel),
		Initrd:  []osmith.Source{strings.NewReader("070701...")},
		Cmdline: "ro quiet", OSRelease: []byte("ID=example\n"),
	}
	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(assembled)
	if err != nil {
		log.Fatal(err)
	}
	esp := fstest.MapFS{ // in real programs the file system of the partition
		"EFI/Linux/os_2.efi.extra.d/root.cred": {Data: []byte("secret")},
		"loader/extensions/tools.sysext.raw":   {Data: []byte("erofs")},
	}
	companions, err := uki.ReadCompanions(esp, "EFI/Linux/os_2+3.efi")
	if err != nil {
		log.Fatal(err)
	}
	h, err := f.Handover(uki.Boot{Companions: companions, SecureBoot: true, NoBootSecret: true, Consoles: []string{"console=tty0"}})
	if err != nil {
		log.Fatal(err)
	}
	measured, err := h.Measure(crypto.SHA256) // Handover of a tpm.Boot
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range measured.Events {
		fmt.Printf("PCR %d: %s: %x...\n", e.PCR, e.Description, e.Digests[crypto.SHA256][:4])
	}
	fmt.Printf("PCR 9: %s, initrd %x...\n", h.Cmdline, measured.Initrd[crypto.SHA256][:4])
	for _, p := range h.Initrds {
		fmt.Println("initrd:", p.Name)
	}
	// Output:
	// PCR 12: Credentials initrd: 751aa748...
	// PCR 13: Global system extension initrd: 2bd1fe2b...
	// PCR 9: ro quiet console=tty0, initrd 28a50f92...
	// initrd: .initrd
	// initrd: Credentials initrd
	// initrd: Global system extension initrd
	// initrd: os-release
}

func ExampleSplitLoadOptions() {
	fmt.Println(uki.SplitLoadOptions("@1 systemd.unit=rescue.target"))
	fmt.Println(uki.SplitLoadOptions("quiet @1"))
	// Output:
	// 1 systemd.unit=rescue.target
	// 0 quiet @1
}

func ExampleDeriveBootSecret() {
	var variable, mixin [32]byte // of the machine and of the partition
	secret := uki.DeriveBootSecret(variable, mixin, []byte("ID=example\n"))
	fmt.Printf("%x\n", secret[:8])
	// Output: 345ab8b56d0ddf24
}

func ExampleReadCompanions() {
	esp := fstest.MapFS{
		"EFI/Linux/os_2.efi.extra.d/root.cred":       {},
		"EFI/Linux/os_2.efi.extra.d/debug.addon.efi": {},
		"LOADER/EXTENSIONS/etc.confext.raw":          {},
	}
	c, err := uki.ReadCompanions(esp, "EFI/Linux/os_2+3-1.efi")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Credentials[0].Name, c.Addons[0].Name, c.GlobalConfexts[0].Name, c.Counted)
	// Output: root.cred debug.addon.efi etc.confext.raw true
}

func ExampleEntryExtras() {
	h, err := uki.EntryExtras([]uki.CompanionFile{{Name: "root.cred", Content: strings.NewReader("secret")}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Events[0].PCR, h.Events[0].Description)
	fmt.Println(h.Initrd().Size()) // Previous of a Boot
	// Output:
	// 12 Entry credentials initrd
	// 524
}
