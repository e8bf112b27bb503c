package luks_test

import (
	"crypto/rand"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/luks"
)

// A file becomes an encrypted volume, without root and without the kernel.
func Example() {
	file, err := os.CreateTemp("", "volume")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	if err := file.Truncate(24 << 20); err != nil {
		log.Fatal(err)
	}
	disk, err := osmith.NewDevice(file)
	if err != nil {
		log.Fatal(err)
	}
	// The least cost there is, for an example; the zero value is what cryptsetup would take.
	cheap := luks.KDF{Type: luks.PBKDF2, Hash: "sha256", Iterations: 1000}
	volume, key, err := luks.Format(disk, []byte("correct horse"), luks.FormatOptions{Rand: rand.Reader, Label: "state", Key: luks.KeyOptions{KDF: cheap}})
	if err != nil {
		log.Fatal(err)
	}
	key.Clear()
	_, err = volume.Unlock([]byte("battery staple"), luks.UnlockOptions{})
	fmt.Println(err)
	key, err = volume.Unlock([]byte("correct horse"), luks.UnlockOptions{})
	fmt.Println(err)
	key.Clear()
	// Output:
	// luks: no key slot opens with this passphrase
	// <nil>
}
