package upgrade_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
)

// One boot asks for a factory reset, and the next one does it.
func ExampleReadResetRequest() {
	osRelease, err := uki.ParseOSRelease([]byte("ID=acme\nVERSION_ID=7\n"))
	if err != nil {
		log.Fatal(err)
	}
	// /proc/sys/kernel/random/boot_id
	asking := osmith.MustParseGUID("6f1c0f1e-5a0c-4d0e-9f5e-111111111111")
	next := osmith.MustParseGUID("6f1c0f1e-5a0c-4d0e-9f5e-222222222222")
	store := &bootloader.MemoryVariables{} // of a real machine: bootloader.OpenEFIVarFS
	if err := (&upgrade.ResetRequest{OS: "acme", OSVersion: "7", Boot: asking}).Ask(store); err != nil {
		log.Fatal(err)
	}
	r, err := upgrade.ReadResetRequest(store)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in this boot:", r.Mode(osRelease, asking))
	fmt.Println("in the next:", r.Mode(osRelease, next))
	// Output:
	// in this boot: pending
	// in the next: on
}

// A request is taken away once the reset is done, or to cancel it.
func ExampleCompleteReset() {
	store := &bootloader.MemoryVariables{}
	if err := (&upgrade.ResetRequest{OS: "acme", Boot: osmith.GUID{1}}).Ask(store); err != nil {
		log.Fatal(err)
	}
	if err := upgrade.CompleteReset(store); err != nil {
		log.Fatal(err)
	}
	_, err := upgrade.ReadResetRequest(store)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}
