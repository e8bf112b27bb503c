package slots_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith/bootloader/slots"
)

func print(c slots.Chain) {
	for i, s := range c.Starts {
		fmt.Println(i, s)
	}
	fmt.Println("from there on as from", c.Loop)
}

// Flatcar's USR-B was written, and is to be tried once before USR-A comes back.
func ExampleNewGPTPrio() {
	usr := slots.GPTFlatcar.SlotType()
	store, err := slots.NewGPTPrio(slots.GPTFlatcar, []slots.GPTPartition{ // from partition.Table
		{Number: 3, Type: usr, Attributes: 0x0101_0000_0000_0000},
		{Number: 4, Type: usr},
	})
	if err != nil {
		log.Fatal(err)
	}
	change, err := store.Mark(slots.Mark{Slot: "4", As: slots.AsTrying, Tries: 1, Fallback: "3"})
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range change.Writes {
		fmt.Printf("%s: %x\n", w.Object, w.After)
	}
	print(slots.Predict(change.After))
	// Output:
	// attributes of partition 4: 0000000000001200
	// 0 slot "4" (priority 2, 1 tries left)
	// 1 slot "3" (priority 1)
	// from there on as from 1
}

// Two boot options belong to slots, and the second one is tried.
func ExampleNewBootOrder() {
	store, err := slots.NewBootOrder(slots.BootVariables{BootOrder: []byte{1, 0, 2, 0}, Active: map[uint16]bool{1: true, 2: true}}, 1, 2)
	if err != nil {
		log.Fatal(err)
	}
	change, err := store.Mark(slots.Mark{Slot: "Boot0002", As: slots.AsTrying, Tries: 1, Fallback: "Boot0001"})
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range change.Writes {
		fmt.Printf("%s: %x\n", w.Object, w.After)
	}
	print(slots.Predict(change.After))
	// Output:
	// BootNext: 0200
	// 0 slot "Boot0002" (BootNext)
	// 1 slot "Boot0001" (first in BootOrder that is active)
	// from there on as from 1
}

// ubootCopies are the two places on a medium where U-Boot and fw_setenv keep the environment.
func ubootCopies() (first, second []byte) {
	first, err1 := os.ReadFile("testdata/uboot-copy1.bin")
	second, err2 := os.ReadFile("testdata/uboot-copy2.bin")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	return first, second
}

// With two copies the older one is written: whatever a power cut leaves of it, the other one holds.
func ExampleUBootEnvironment_Set() {
	first, second := ubootCopies()
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, first, second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("U-Boot takes copy", env.Active())
	after, writes, needs, err := env.Set(slots.Variable{Name: "bootdelay", Value: "2"})
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range writes {
		fmt.Printf("%s: %d bytes; the medium has to promise %v\n", w.Object, len(w.After), needs)
	}
	fmt.Println("then copy", after.Active())
	// Output:
	// U-Boot takes copy 1
	// copy 2: 512 bytes; the medium has to promise nothing
	// then copy 2
}

// A power cut has damaged the newer copy: the older one is taken.
func ExampleParseUBootEnvironment() {
	first, second := ubootCopies()
	first[20] ^= 1
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, first, second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copy", env.Active(), "is taken,", env.Damaged(), "damaged")
	fmt.Println(env.Get("BOOT_ORDER"))
	// Output:
	// copy 2 is taken, [1] damaged
	// A B true
}

// RAUC's slot B has two tries left, and A starts after that. Once B is marked as bad, A starts at
// once.
func ExampleNewRAUCUBoot() {
	first, second := ubootCopies()
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, first, second)
	if err != nil {
		log.Fatal(err)
	}
	env, _, _, err = env.Set(slots.Variable{Name: "BOOT_ORDER", Value: "B A"}, slots.Variable{Name: "BOOT_B_LEFT", Value: "2"})
	if err != nil {
		log.Fatal(err)
	}
	store, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range slots.Predict(store).Starts[:3] {
		fmt.Println(s)
	}
	change, err := store.Mark(slots.Mark{Slot: "B", As: slots.AsBad, Fallback: "A"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("then", slots.Predict(change.After).Starts[0])
	fmt.Printf("safe if torn: %v, the medium has to promise %v\n", store.Properties().Torn, change.Needs)
	// Output:
	// slot "B" (BOOT_B_LEFT is 2)
	// slot "B" (BOOT_B_LEFT is 1)
	// slot "A" (BOOT_A_LEFT is 3)
	// then slot "A" (BOOT_A_LEFT is 3)
	// safe if torn: yes, the medium has to promise nothing
}

func ExampleParseGRUBEnvironment() {
	block := "# GRUB Environment Block\nsaved_entry=acme\n"
	env, err := slots.ParseGRUBEnvironment([]byte(block + strings.Repeat("#", 1024-len(block))))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(env.Variables())
	_, err = slots.ParseGRUBEnvironment(make([]byte, 1024))
	fmt.Println(err)
	// Output:
	// [{saved_entry acme}]
	// slots: environment block: first line at 0x0: want "# GRUB Environment Block"
}

func ExampleNewRAUCGRUB() {
	env, _, _, err := slots.NewGRUBEnvironment().Set(slots.Variable{Name: "ORDER", Value: "A B"}, slots.Variable{Name: "A_OK", Value: "1"}, slots.Variable{Name: "A_TRY", Value: "0"})
	if err != nil {
		log.Fatal(err)
	}
	store, err := slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
	if err != nil {
		log.Fatal(err)
	}
	change, err := store.Mark(slots.Mark{Slot: "B", As: slots.AsTrying, Tries: 1, Fallback: "A"})
	if err != nil {
		log.Fatal(err)
	}
	print(slots.Predict(change.After))
	// Output:
	// 0 slot "B" (B_OK is 1 and B_TRY is 0)
	// 1 slot "A" (A_OK is 1 and A_TRY is 0)
	// 2 unknown (no slot has OK=1 and TRY=0: the script starts the default entry of grub.cfg)
	// from there on as from -1
}

func ExampleNewKairosGRUB() {
	change, err := slots.NewKairosGRUB(slots.NewGRUBEnvironment()).Mark(
		slots.Mark{Slot: slots.KairosActive, As: slots.AsTrying, Tries: 1, Fallback: slots.KairosPassive})
	if err != nil {
		log.Fatal(err)
	}
	print(slots.Predict(change.After))
	// Output:
	// 0 slot "active" (first start of the assessment)
	// 1 slot "passive" (boot_assessment_tentative is yes)
	// from there on as from 1
}

func ExampleParseRAUCStatus() {
	status, err := slots.ParseRAUCStatus([]byte("[slot.rootfs.0]\nbundle.version=3.1\nstatus=ok\ninstalled.timestamp=2026-12-02T00:13:04Z\n"))
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range status.Slots() {
		fmt.Println(s.Name, s.Version, s.Status, s.Installed)
	}
	// Output:
	// rootfs.0 3.1 ok 2026-12-02T00:13:04Z
}

// What cannot be told is said: nothing follows a start of an image of SteamOS that fails.
func ExampleNewSteamOS() {
	a, err := slots.ParseSteamOSConfig("A", []byte("boot-requested-at: 20260101000000\n"))
	if err != nil {
		log.Fatal(err)
	}
	b, err := slots.ParseSteamOSConfig("B", []byte("boot-requested-at: 20260202000000\nimage-invalid: 1\n"))
	if err != nil {
		log.Fatal(err)
	}
	store, err := slots.NewSteamOS(a, b)
	if err != nil {
		log.Fatal(err)
	}
	print(slots.Predict(store))
	fmt.Println(store.Properties().Evidence)
	// Output:
	// 0 slot "A" (boot-requested-at is 20260101000000)
	// 1 unknown (the store does not record how often a slot is tried)
	// from there on as from -1
	// source
}

func ExampleParseAndroidMisc() {
	misc := make([]byte, 4096) // the partition
	control := misc[2048:][:32]
	copy(control, "_a\x00\x00BCAB\x01\x02")
	// _a successful, _b with one try and a higher priority
	control[12], control[14] = 0x80|14, 1<<4|15
	sum := crc32.ChecksumIEEE(control[:28])
	copy(control[28:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
	store, err := slots.ParseAndroidMisc(misc)
	if err != nil {
		log.Fatal(err)
	}
	print(slots.Predict(store))
	// Output:
	// 0 slot "_b" (priority 15)
	// 1 slot "_a" (priority 14)
	// from there on as from 1
}

// The firmware's own slots, with Arm's metadata: bank 0 was accepted, bank 1 is on trial, and the
// second copy of the metadata is damaged.
func ExampleParseFWU() {
	metadata := make([]byte, 32)
	le := binary.LittleEndian
	le.PutUint32(metadata[4:], 2)                      // version
	le.PutUint32(metadata[8:], 1)                      // active bank
	le.PutUint32(metadata[12:], 0)                     // the bank before it
	le.PutUint32(metadata[16:], uint32(len(metadata))) // size
	copy(metadata[24:], "\xfc\xfe\xff\xff")            // states of four banks: accepted, valid, none
	le.PutUint32(metadata, crc32.ChecksumIEEE(metadata[4:]))
	damaged := bytes.Clone(metadata)
	damaged[0] ^= 1
	store, err := slots.ParseFWU(slots.FWUOptions{}, metadata, damaged)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("damaged:", store.Damaged())
	fmt.Println(store.Boot())
	// Output:
	// damaged: [2]
	// slot "bank 1" (active, and not accepted) <nil>
}

func ExampleParseAutoboot() {
	const text = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
	store, err := slots.ParseAutoboot([]byte(text), slots.AnswerYes) // after `reboot "0 tryboot"`
	if err != nil {
		log.Fatal(err)
	}
	print(slots.Predict(store))
	// Output:
	// 0 slot "3" (boot_partition of [tryboot])
	// 1 slot "2" (boot_partition of [all])
	// from there on as from 1
}

func ExamplePredict() {
	kernel := slots.GPTChromeOS.SlotType()
	store, err := slots.NewGPTPrio(slots.GPTChromeOS, []slots.GPTPartition{
		{Number: 2, Type: kernel, Attributes: 0x0101_0000_0000_0000}, {Number: 4, Type: kernel, Attributes: 0x0022_0000_0000_0000}})
	if err != nil {
		log.Fatal(err)
	}
	chain := slots.Predict(store)
	print(chain)
	fmt.Println(chain.Reaches("2"), chain.Reaches("6"))
	// Output:
	// 0 slot "4" (priority 2, 2 tries left)
	// 1 slot "4" (priority 2, 1 tries left)
	// 2 slot "2" (priority 1)
	// from there on as from 2
	// yes no
}
