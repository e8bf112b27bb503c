package bootloader_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
)

var globalVariable = osmith.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")

// The loader of a new ESP gets a boot option; NVRAM that takes no write does not end the
// installation.
func ExamplePlanBootOption() {
	var store bootloader.MemoryVariables // on the machine: bootloader.OpenEFIVarFS("")
	// of a machine with variables: bootloader.ReadVariables(&store)
	have := &bootloader.MachineVariables{}
	loader := bootloader.BootProgram{
		File: "EFI/systemd/systemd-bootx64.efi",
		// of the ESP, as the partition table has it
		Partition:       osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"),
		PartitionNumber: 1,
		FirstLBA:        2048,
		LastLBA:         1050623,
	}
	plan, err := bootloader.PlanBootOption(have, loader, bootloader.BootPlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	results, err := plan.Apply(&store)
	for _, r := range results {
		fmt.Println(r.Change, r.Err)
	}
	if err != nil && !errors.Is(err, bootloader.ErrVariableRefused) {
		log.Fatal(err)
	}
	v, err := bootloader.ReadVariables(&store)
	if err != nil {
		log.Fatal(err)
	}
	o, _ := v.Option(plan.Number)
	fmt.Printf("Boot%04X %s: %s\n", o.Number, o.Description, o.Path)
	// Output:
	// create Boot0000 <nil>
	// create BootOrder <nil>
	// Boot0000 Linux Boot Manager: HD(1,GPT,11111111-2222-3333-4444-555555555555,0x800,0x100000)/\EFI\systemd\systemd-bootx64.efi
}

// A machine whose memory for variables is full.
func ExampleBootPlan_Apply() {
	store := bootloader.MemoryVariables{Quota: 100}
	loader := bootloader.BootProgram{File: "EFI/acme/loader.efi", Partition: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"), PartitionNumber: 1, FirstLBA: 2048, LastLBA: 4095}
	plan, err := bootloader.PlanBootOption(&bootloader.MachineVariables{}, loader, bootloader.BootPlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	results, err := plan.Apply(&store)
	fmt.Println(err)
	for _, r := range results {
		fmt.Println(r.Change, errors.Is(r.Err, bootloader.ErrNoSpace), errors.Is(r.Err, bootloader.ErrNotAttempted))
	}
	// Output:
	// bootloader: variable Boot0000: refused by the firmware: not enough room in the variable store: 154 bytes in all, the limit is 100
	// create Boot0000 true false
	// create BootOrder false true
}

func ExampleSetLoaderVariable() {
	var store bootloader.MemoryVariables
	fmt.Println(bootloader.SetLoaderVariable(&store, "LoaderEntryOneShot", "example_2.efi"))
	fmt.Println(bootloader.SetLoaderVariable(&store, "LoaderEntryDefault", "")) // there was none
	fmt.Println(bootloader.SetLoaderVariable(&store, "LoaderInfo", "systemd-boot 999"))
	v, err := bootloader.ReadVariables(&store)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.EntryOneShot)
	// Output:
	// <nil>
	// <nil>
	// bootloader: variable LoaderInfo: not a text variable of systemd-boot that an operating system writes
	// example_2.efi
}

func ExampleSetSystemToken() {
	var store bootloader.MemoryVariables
	token := bytes.Repeat([]byte{1}, bootloader.SystemTokenSize) // of crypto/rand
	fmt.Println(bootloader.SetSystemToken(&store, token))
	fmt.Println(bootloader.SetSystemToken(&store, token))
	// Output:
	// true <nil>
	// false <nil>
}

// machineVariables is what a machine has in /sys/firmware/efi/efivars. Each file begins with the
// attributes of its variable.
func machineVariables() fs.FS {
	return fstest.MapFS{
		"BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c": {Data: []byte{7, 0, 0, 0, 3, 0, 1, 0, 10, 0}},
		"BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c":  {Data: []byte{7, 0, 0, 0, 10, 0}},
	}
}

func ExampleReadVariable() {
	v, err := bootloader.ReadVariable(machineVariables(), "BootNext", globalVariable)
	fmt.Println(v.Attributes, v.Data, err)
	_, err = bootloader.ReadVariable(machineVariables(), "Boot0007", globalVariable)
	fmt.Println(err)
	// Output:
	// 7 [10 0] <nil>
	// bootloader: variable Boot0007: open Boot0007-8be4df61-93ca-11d2-aa0d-00e098032b8c: file does not exist
}

// What a change would make of a machine is seen in a copy of its variables.
func ExampleCopyVariables() {
	store, err := bootloader.CopyVariables(machineVariables())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Delete("BootNext", globalVariable), store.Writes)
	v, err := bootloader.ReadVariables(store)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Next == nil, v.Order)
	// Output:
	// <nil> 1
	// true [3 1 10]
}

// The variables of a virtual machine that is off: its menu is to be shown at the next start.
func ExampleParseVariableImage() {
	file, err := os.Open("../signing/secureboot/testdata/firmware/VARS.fd.gz") // of OVMF
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		log.Fatal(err)
	}
	image, err := io.ReadAll(unpacked)
	if err != nil {
		log.Fatal(err)
	}
	store, err := bootloader.ParseVariableImage(image)
	if err != nil {
		log.Fatal(err)
	}
	before := store.Free()
	if err := bootloader.SetLoaderVariable(store, "LoaderConfigTimeoutOneShot", "menu-force"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("takes", before-store.Free(), "bytes of", before)
	changed := store.Bytes() // to be written to the file
	fmt.Println(len(changed) == len(image), bytes.Equal(changed, image))
	// Output:
	// takes 136 bytes of 254632
	// true false
}
