// uki-pcr11 says what PCR 11 will be when a unified kernel image boots, at each point of the boot
// that secrets are sealed for. It takes the place of systemd-measure calculate.
//
//	uki-pcr11 UKI
package main

import (
	"crypto"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: uki-pcr11 UKI")
		os.Exit(2)
	}
	if err := predict(os.Args[1]); err != nil {
		log.Fatal("uki-pcr11: ", err)
	}
}

func predict(name string) error {
	src, err := osmith.OpenFile(name)
	if err != nil {
		return err
	}
	defer src.Close()
	image, err := uki.Open(src)
	if err != nil {
		return err
	}
	// What the stub measures depends on its version. One that the package does not know is an
	// error, never a guess.
	sections, err := image.Measurements(crypto.SHA256, crypto.SHA384)
	if err != nil {
		return err
	}
	for _, phases := range tpm.DefaultPhasePaths() {
		fmt.Println("#", strings.Join(phases, ":"))
		for _, bank := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
			value, err := tpm.PCR11(bank, sections, phases...)
			if err != nil {
				return err
			}
			fmt.Printf("11:%s=%x\n", tpm.BankName(bank), value)
		}
	}
	return nil
}
