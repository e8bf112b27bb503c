package bootloader_test

import (
	"bytes"
	"errors"
	"fmt"

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
		fmt.Println(err)
		return
	}
	results, err := plan.Apply(&store)
	for _, r := range results {
		fmt.Println(r.Change, r.Err)
	}
	if err != nil && !errors.Is(err, bootloader.ErrVariableRefused) {
		fmt.Println(err)
		return
	}
	v, err := bootloader.ReadVariables(&store)
	if err != nil {
		fmt.Println(err)
		return
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
		fmt.Println(err)
		return
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
		fmt.Println(err)
		return
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

func ExampleReadVariable() {
	// os.DirFS("/sys/firmware/efi/efivars")
	v, err := bootloader.ReadVariable(efivars(machine()), "BootNext", globalVariable)
	fmt.Println(v.Attributes, v.Data, err)
	_, err = bootloader.ReadVariable(efivars(machine()), "Boot0007", globalVariable)
	fmt.Println(err)
	// Output:
	// 6 [10 0] <nil>
	// bootloader: variable Boot0007: open Boot0007-8be4df61-93ca-11d2-aa0d-00e098032b8c: file does not exist
}

// What a change would make of a machine is seen in a copy of its variables.
func ExampleCopyVariables() {
	// os.DirFS("/sys/firmware/efi/efivars")
	store, err := bootloader.CopyVariables(efivars(machine()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.Delete("BootNext", globalVariable), store.Writes)
	v, err := bootloader.ReadVariables(store)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(v.Next == nil, v.Order)
	// Output:
	// <nil> 1
	// true [3 1 10 9 2]
}

// The variables of a virtual machine that is off.
func ExampleParseVariableImage() {
	store, err := bootloader.ParseVariableImage(variableVolume(1024)) // the content of OVMF_VARS.fd
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.Free(), "bytes are free")
	if err := bootloader.SetLoaderVariable(store, "LoaderConfigTimeout", "menu-force"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.Free(), "of", len(store.Bytes())) // which are to be written to the file
	// Output:
	// 1024 bytes are free
	// 900 of 1188
}
