// luks-create makes an encrypted volume of an image file and adds a recovery key, which it prints.
// It takes the place of cryptsetup luksFormat and systemd-cryptenroll --recovery-key, and needs
// neither root nor the kernel.
//
//	truncate -s 1G IMAGE
//	luks-create IMAGE PASSPHRASE-FILE
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/luks"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: luks-create IMAGE PASSPHRASE-FILE")
		os.Exit(2)
	}
	if err := create(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("luks-create: ", err)
	}
}

func create(image, passphraseFile string) error {
	passphrase, err := os.ReadFile(passphraseFile)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	disk, err := osmith.NewDevice(f) // OpenFile would open it for reading
	if err != nil {
		return err
	}
	// Whatever was there is lost. The header is written last, so that a power cut leaves the new
	// volume or none.
	volume, key, err := luks.Format(disk, bytes.TrimSuffix(passphrase, []byte("\n")), luks.FormatOptions{Rand: rand.Reader, Label: "state"})
	if err != nil {
		return err
	}
	defer key.Clear()
	recovery, slot, err := volume.AddRecoveryKey(key, luks.KeyOptions{Rand: rand.Reader})
	if err != nil {
		return err
	}
	header := volume.Header()
	fmt.Printf("%s %s: data at %d, %d key slots\n", header.Label, header.UUID, header.Segments[0].Offset, len(header.Slots))
	fmt.Printf("recovery key in slot %d: %s\n", slot, recovery)
	return disk.Sync()
}
