package fat_test

import (
	"fmt"
	"io/fs"
	"log"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// disk stands for a partition; an [osmith.Device], of an image file or a block device, does as
// well.
func disk(size int64) *faultio.Disk { return faultio.NewDisk(size) }

func ExampleBuild() {
	files := []osmith.ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Content: strings.NewReader("boot loader")},
		{Path: "EFI/Linux/os_1.0+3-0.efi", Content: strings.NewReader("unified kernel image")},
		{Path: "loader/entries/"},
	}
	o := fat.BuildOptions{Size: 64 << 20, VolumeID: 0x2026_1123, Label: "ESP", TargetIsZero: true}
	esp := disk(o.Size)
	if err := fat.Build(esp, files, o); err != nil {
		log.Fatal(err)
	}
	f, err := fat.OpenReader(esp)
	if err != nil {
		log.Fatal(err)
	}
	err = fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
		fmt.Println(name)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// .
	// EFI
	// EFI/BOOT
	// EFI/BOOT/BOOTX64.EFI
	// EFI/Linux
	// EFI/Linux/os_1.0+3-0.efi
	// loader
	// loader/entries
}

func ExampleOpen() {
	esp := disk(64 << 20)
	if err := fat.Build(esp, nil, fat.BuildOptions{Size: esp.Size(), TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	f, err := fat.Open(esp)
	if err != nil {
		log.Fatal(err)
	}
	if err := f.MkdirAll("EFI/Linux"); err != nil {
		log.Fatal(err)
	}
	if err := f.WriteFile("EFI/Linux/os_1.1+3-0.efi", strings.NewReader("new kernel")); err != nil {
		log.Fatal(err)
	}
	if err := f.Rename("EFI/Linux/os_1.1+3-0.efi", "EFI/Linux/os_1.1.efi"); err != nil {
		log.Fatal(err)
	}
	b, err := fs.ReadFile(f, "efi/linux/OS_1.1.EFI") // FAT does not tell names apart by case
	fmt.Println(string(b), err)
	// Output: new kernel <nil>
}

func ExampleMinSize() {
	uki := strings.NewReader(strings.Repeat("x", 100<<20))
	size, err := fat.MinSize([]osmith.ESPFile{{Path: "EFI/Linux/os.efi", Content: uki}}, fat.BuildOptions{})
	fmt.Println(size>>20, "MiB", err)
	_, err = fat.Plan([]osmith.ESPFile{{Path: "EFI/Linux/os.efi", Content: uki}}, fat.BuildOptions{Size: 64 << 20})
	fmt.Println(err)
	// Output:
	// 100 MiB <nil>
	// fat: the volume is too small for its files as FAT32: needs 105704448 bytes, has 67108864: 38595584 bytes are missing
}

// A planned volume is the content of a partition: it exists nowhere before the disk is written.
func ExamplePlan() {
	esp, err := fat.Plan([]osmith.ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Content: strings.NewReader("boot loader")},
	}, fat.BuildOptions{Size: 64 << 20, Label: "ESP", HiddenSectors: 2048})
	if err != nil {
		log.Fatal(err)
	}
	id, err := osmith.ParseGUID("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b02")
	if err != nil {
		log.Fatal(err)
	}
	im, err := partition.Plan(partition.Layout{DiskID: osmith.MustParseGUID("5b3d1e3e-8a55-4b6e-9d0f-2c1a7e4f6b03"), Partitions: []partition.Spec{
		{Type: partition.ESP, ID: id, Name: "esp", Content: esp},
	}})
	if err != nil {
		log.Fatal(err)
	}
	target := disk(im.Size)
	if err := partition.WriteImage(target, im, partition.WriteOptions{TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	window := im.Table.Window(target, 0)
	f, err := fat.Open(window)
	if err != nil {
		log.Fatal(err)
	}
	b, err := f.ReadFile("EFI/BOOT/BOOTX64.EFI")
	fmt.Println(string(b), err)
	// Output: boot loader <nil>
}

// A job that was cut off has left half a file, which is worth nothing whatever its state.
func ExampleFS_RepairWith() {
	esp := disk(64 << 20)
	files := []osmith.ESPFile{{Path: "EFI/Linux/os.efi", Content: strings.NewReader("kernel")}, {Path: "EFI/Linux/next.partial", Content: strings.NewReader("ker")}}
	if err := fat.Build(esp, files, fat.BuildOptions{Size: esp.Size(), TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	f, err := fat.Open(esp)
	if err != nil {
		log.Fatal(err)
	}
	done, err := f.RepairWith(fat.RepairOptions{Discard: func(name string) bool { return strings.HasSuffix(name, ".partial") }})
	fmt.Println(done, err)
	// Output: 0 FAT sectors, 1 lost clusters, 0 pieces of names, 1 discarded files <nil>
}
