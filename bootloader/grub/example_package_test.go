package grub_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/grub"
)

// PCR 8 holds the commands that GRUB runs, so it depends on the menu entry that is booted. Its
// value for each entry is known before the machine boots.
func Example() {
	files := map[string]string{ // the file systems that GRUB reads
		"(hd0,gpt1)/EFI/acme/grub.cfg": `
set default=normal
menuentry Acme --id normal {
	linux /vmlinuz quiet
	initrd /initrd.img
}
menuentry Recovery --id rescue {
	linux /vmlinuz systemd.unit=rescue.target
	initrd /initrd.img
}
`,
		"(hd0,gpt1)/vmlinuz":    "a kernel",
		"(hd0,gpt1)/initrd.img": "an initrd",
	}
	open := func(name string) (osmith.Source, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return bytes.NewReader([]byte(text)), nil
	}

	for _, entry := range []string{"", "rescue"} { // "" boots the default entry
		boot, err := grub.Run(grub.Environment{
			Version: "2.12", // grub.Version reads it from grubx64.efi
			Config:  "(hd0,gpt1)/EFI/acme/grub.cfg",
			Open:    open,
			Entry:   entry,
		}, crypto.SHA256)
		if err != nil {
			log.Fatal(err)
		}
		pcr8 := make([]byte, sha256.Size)
		for _, event := range append(boot.Before, boot.After...) {
			if event.PCR == 8 {
				sum := sha256.Sum256(append(pcr8, event.Digests[crypto.SHA256]...))
				pcr8 = sum[:]
			}
		}
		fmt.Printf("entry %q: kernel %s, PCR 8 %x\n", entry, boot.Kernel, pcr8[:8])
	}
	// Output:
	// entry "": kernel /vmlinuz, PCR 8 f0453c363c1579bc
	// entry "rescue": kernel /vmlinuz, PCR 8 e3568ee40c5a5dad
}
