package grub_test

import (
	"bytes"
	"crypto"
	"fmt"
	"io/fs"
	"log"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/grub"
)

// The release of a GRUB decides what it measures.
func ExampleVersion() {
	file, err := osmith.OpenFile("testdata/grubx64.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	version, err := grub.Version(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(version, grub.Versions())
	// Output: 2.12 [2.12 2.14]
}

// GRUB measures every command before it runs, and every file that it reads.
func ExampleRun() {
	files := map[string]string{
		"(hd0,gpt1)/EFI/acme/grub.cfg": "set timeout=0\nlinux /vmlinuz quiet\ninitrd /initrd.img\nboot\n",
		"(hd0,gpt1)/vmlinuz":           "kernel", "(hd0,gpt1)/initrd.img": "an initrd...",
	}
	open := func(name string) (osmith.Source, error) {
		if text, ok := files[name]; ok {
			return bytes.NewReader([]byte(text)), nil
		}
		return nil, fs.ErrNotExist
	}
	boot, err := grub.Run(grub.Environment{Version: "2.14", Config: "(hd0,gpt1)/EFI/acme/grub.cfg", Open: open}, crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range boot.Before {
		fmt.Printf("%d %x %s\n", e.PCR, e.Digests[crypto.SHA256][:4], strings.TrimRight(string(e.Data), "\x00"))
	}
	// Output:
	// 9 e0a0b252 (hd0,gpt1)/EFI/acme/grub.cfg
	// 9 e0a0b252 (hd0,gpt1)/EFI/acme/grub.cfg
	// 8 d3a793f4 grub_cmd: set timeout=0
	// 8 25f87588 grub_cmd: linux /vmlinuz quiet
	// 9 6923dd1b /vmlinuz
}
