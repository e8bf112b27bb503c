package fat_test

import (
	"fmt"
	"io/fs"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/fat"
)

// An EFI system partition is made of files, and is an fs.FS when it is read.
func Example() {
	file, err := os.CreateTemp("", "esp")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	err = fat.Build(file, []osmith.ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Content: strings.NewReader("a boot loader")},
		{Path: "EFI/Linux/acme_1.efi", Content: strings.NewReader("a unified kernel image")},
	}, fat.BuildOptions{Size: 40 << 20, Label: "ESP"})
	if err != nil {
		log.Fatal(err)
	}
	device, err := osmith.NewDevice(file)
	if err != nil {
		log.Fatal(err)
	}
	esp, err := fat.OpenReader(device)
	if err != nil {
		log.Fatal(err)
	}
	names, err := fs.Glob(esp, "EFI/Linux/*.efi")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(names)
	// Output:
	// [EFI/Linux/acme_1.efi]
}
