package bootloader_test

import (
	"fmt"
	"log"
	"testing/fstest"

	"github.com/osmith-dev/osmith/bootloader"
)

// What systemd-boot lists and boots follows from the files of the ESP: entries that have no tries
// left come last.
func Example() {
	esp := fstest.MapFS{ // os.DirFS("/efi"), or a volume of package fat
		"loader/loader.conf":          {Data: []byte("timeout 0\n")},
		"loader/entries/new+0-3.conf": {Data: []byte("title New\nversion 2\nlinux /vmlinuz-2\n")},
		"loader/entries/old.conf":     {Data: []byte("title Old\nversion 1\nlinux /vmlinuz-1\n")},
		"vmlinuz-1":                   {Data: []byte("kernel")},
		"vmlinuz-2":                   {Data: []byte("kernel")},
	}
	menu, err := bootloader.ReadMenu(esp, bootloader.MenuOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range menu.Entries {
		fmt.Println(e.Title, "bad:", e.Bad())
	}
	entry, reason := menu.Default(bootloader.Variables{})
	fmt.Println("boots", entry.Title+",", reason)
	// Output:
	// Old bad: false
	// New bad: true
	// boots Old, first in the menu
}
