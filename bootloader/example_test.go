package bootloader_test

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
)

// kernelImage is a Unified Kernel Image of a version with one digit.
func kernelImage(version string) *fstest.MapFile {
	image, err := os.ReadFile("testdata/example_1.efi")
	if err != nil {
		log.Fatal(err)
	}
	image = bytes.Replace(image, []byte("Example OS 1"), []byte("Example OS "+version), 1)
	return &fstest.MapFile{Data: bytes.Replace(image, []byte("VERSION_ID=1"), []byte("VERSION_ID="+version), 1)}
}

// systemdBoot is systemd-bootx64.efi of a version with three digits.
func systemdBoot(version string) []byte {
	program, err := os.ReadFile("testdata/systemd-bootx64.efi")
	if err != nil {
		log.Fatal(err)
	}
	return bytes.ReplaceAll(program, []byte("262-1"), []byte(version+"-1"))
}

func ExampleReadMenu() {
	esp := fstest.MapFS{ // os.DirFS("/efi"), or a fat.FS
		"EFI/Linux/example_1.efi":     kernelImage("1"),
		"EFI/Linux/example_2+0-3.efi": kernelImage("2"), // three boots failed
		"EFI/Linux/example_3+3.efi":   kernelImage("3"), // new
		"loader/loader.conf":          {Data: []byte("timeout 0\n")},
	}
	menu, err := bootloader.ReadMenu(esp, bootloader.MenuOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range menu.Entries {
		fmt.Println(e.ID, "-", e.Title, "- bad:", e.Bad())
	}
	entry, reason := menu.Default(bootloader.Variables{})
	from, to := entry.Boot()
	fmt.Println("boots", entry.ID+",", reason)
	fmt.Println("renames", from, "to", to)
	// Output:
	// example_3.efi - Example OS 3 - bad: false
	// example_1.efi - Example OS 1 - bad: false
	// example_2.efi - Example OS 2 - bad: true
	// boots example_3.efi, first in the menu
	// renames EFI/Linux/example_3+3.efi to EFI/Linux/example_3+2-1.efi
}

// What the next start does is worked out from what this one leaves: the one-shot variable is used
// up.
func ExampleMenu_Started() {
	esp := fstest.MapFS{"EFI/Linux/example_1.efi": kernelImage("1"), "EFI/Linux/example_2.efi": kernelImage("2")}
	menu, err := bootloader.ReadMenu(esp, bootloader.MenuOptions{})
	if err != nil {
		log.Fatal(err)
	}
	v := bootloader.Variables{EntryOneShot: "example_1.efi"}
	for range 2 {
		entry, reason := menu.Default(v)
		fmt.Println(entry.ID+",", reason)
		v = menu.Started(v, entry)
	}
	// Output:
	// example_1.efi, LoaderEntryOneShot
	// example_2.efi, first in the menu
}

func ExampleBless() {
	esp := fstest.MapFS{"EFI/Linux/example_3+2-1.efi": kernelImage("3")}
	const bootCountPath = `\EFI\Linux\example_3+2-1.efi` // EFI variable LoaderBootCountPath
	status, err := bootloader.BootStatus(esp, bootCountPath)
	fmt.Println(status, err)
	fmt.Println(bootloader.Bless(esp, bootCountPath, bootloader.StatusGood))
	fmt.Println(bootloader.Bless(esp, bootCountPath, bootloader.StatusBad))
	// Output:
	// indeterminate <nil>
	// EFI/Linux/example_3+2-1.efi EFI/Linux/example_3.efi <nil>
	// EFI/Linux/example_3+2-1.efi EFI/Linux/example_3+0-1.efi <nil>
}

func ExampleInstallation_Files() {
	in := bootloader.Installation{
		Loader: bytes.NewReader(systemdBoot("262")),
		Config: &bootloader.Config{Timeout: "menu-hidden", Editor: bootloader.SwitchNo},
	}
	files, err := in.Files()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		fmt.Println(f.Path, f.Content.Size())
	}
	// Output:
	// EFI/systemd/systemd-bootx64.efi 10752
	// EFI/BOOT/BOOTX64.EFI 10752
	// loader/loader.conf 30
	// loader/entries.srel 6
}

func ExampleLoaderVersion() {
	fmt.Println(bootloader.LoaderVersion(bytes.NewReader(systemdBoot("262"))))
	_, err := bootloader.LoaderVersion(bytes.NewReader([]byte("text")))
	fmt.Println(err)
	// Output:
	// 262-1 <nil>
	// bootloader: MS-DOS header at 0x0: not a systemd-boot binary: 4 bytes are too few: not a PE image
}

func ExampleParseConfig() {
	c := bootloader.ParseConfig([]byte("timeout 3\neditor perhaps\n"))
	fmt.Println(c.Timeout, c.Ignored[0].Line, c.Ignored[0].Reason)
	// Output: 3 2 not a yes or no
}

func ExampleConfig_MarshalText() {
	b, err := (&bootloader.Config{Timeout: "3", Default: "example_*", Editor: bootloader.SwitchNo}).MarshalText()
	fmt.Printf("%s%v\n", b, err)
	// Output:
	// timeout 3
	// default example_*
	// editor no
	// <nil>
}

func ExampleCountedName() {
	fmt.Println(bootloader.CountedName("example_4", 3))
	// Output: example_4+3.efi <nil>
}

func ExampleParseName() {
	stem, counter, ok := bootloader.ParseName("example_4+09-01.efi", ".efi")
	fmt.Println(stem, counter.TriesLeft, counter.TriesDone, ok, counter.Next())
	// Output: example_4 9 1 true +08-02
}

func ExampleCompareVersions() {
	fmt.Println(bootloader.CompareVersions("6.12.0", "6.9.1"), bootloader.CompareVersions("1.0~rc1", "1.0"))
	// Output: 1 -1
}

// The file systems are the same, the releases of systemd-boot are not.
func ExampleMenuOptions() {
	esp := fstest.MapFS{
		"EFI/Linux/example_1.efi":    kernelImage("1"),
		"EFI/Linux/example_2+3.efi":  kernelImage("2"),
		"loader/entries/rescue.conf": {Data: []byte("title Rescue\nlinux /vmlinuz\ninitrd /initrd /microcode\n")},
		"vmlinuz":                    {Data: []byte("kernel")},
		"initrd":                     {Data: []byte("initrd")},
	}
	for _, version := range []osmith.Version{"252.39-1~deb12u1", "262-1", "263"} {
		// LoaderVersion reads it from the loader's file
		menu, err := bootloader.ReadMenu(esp, bootloader.MenuOptions{LoaderVersion: version})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(menu.Release.Number, menu.Release.Evidence, menu.Entries[0].ID)
		for _, f := range menu.Findings {
			fmt.Println(f.Path, f.Err)
		}
	}
	// Output:
	// 252 source example_2+3.efi
	// loader/entries/rescue.conf line 3: initrd /initrd /microcode: not on the file system of the entry: systemd-boot reads the whole line as one path, so write one line per file: file does not exist
	// 262 booted example_2.efi
	// loader/entries/rescue.conf line 3: initrd /initrd /microcode: not on the file system of the entry: systemd-boot reads the whole line as one path, so write one line per file: file does not exist
	// bootloader: systemd-boot 263 is newer than 262, the newest known here: name in AssumeLoader the release to treat it as
}

func ExampleFindRelease() {
	r, err := bootloader.FindRelease("257.13-1~deb13u1", 0)
	fmt.Println(r.Version(), r.Evidence, "reboots after a refused image:", r.RebootOnError, err)
	rows, err := bootloader.Between("258.3", 0) // was not looked at itself
	fmt.Println(rows[0].Version(), rows[1].Version(), err)
	// Output:
	// 257.13 booted reboots after a refused image: false <nil>
	// 257.13 260 <nil>
}

func ExampleReleases() {
	for _, r := range bootloader.Releases() {
		if r.Evidence == bootloader.EvidenceBooted {
			fmt.Println(r.Version(), "reboots after a refused image:", r.RebootOnError)
		}
	}
	// Output:
	// 257.13 reboots after a refused image: false
	// 262 reboots after a refused image: true
}

// An ESP with systemd-boot 257 gets 262, and a loader.conf that an administrator has written stays.
func ExamplePlanInstallation() {
	old := &fstest.MapFile{Data: systemdBoot("257")}
	esp := fstest.MapFS{ // os.DirFS("/efi"), or a fat.FS
		"EFI/systemd/systemd-bootx64.efi": old,
		"EFI/BOOT/BOOTX64.EFI":            old,
		"loader/loader.conf":              {Data: []byte("timeout 5 # mine\n")},
		"loader/entries.srel":             {Data: []byte("type1\n")},
	}
	plan, err := bootloader.PlanInstallation(esp, &bootloader.Installation{Loader: bytes.NewReader(systemdBoot("262"))}, bootloader.InstallationOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range plan.Changes {
		// with fat.FS: MkdirAll and WriteFile, ReplaceFile, or Remove, in this order
		fmt.Println(c.Kind, c.Path, c.After)
	}
	for _, f := range plan.Findings {
		fmt.Println(f.Path, f.Err)
	}

	// The other way round, it stays.
	esp["EFI/systemd/systemd-bootx64.efi"] = &fstest.MapFile{Data: systemdBoot("263")}
	plan, err = bootloader.PlanInstallation(esp, &bootloader.Installation{Loader: bytes.NewReader(systemdBoot("262"))}, bootloader.InstallationOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range plan.Findings {
		fmt.Println(f.Path, f.Err)
	}
	// Output:
	// create EFI/systemd/systemd-boot-fallbackx64.efi 257-1
	// replace EFI/systemd/systemd-bootx64.efi 262-1
	// replace EFI/BOOT/BOOTX64.EFI 262-1
	// EFI/systemd/systemd-bootx64.efi systemd-boot 263-1 is not replaced, because 262-1 is older: install a newer systemd-boot, or set ReplaceNewerLoader
}

func ExamplePlanRemoval() {
	esp := fstest.MapFS{
		"EFI/systemd/systemd-bootx64.efi": {Data: systemdBoot("262")},
		"EFI/BOOT/BOOTX64.EFI":            {Data: []byte("a shim")},
		"EFI/Linux/example_1.efi":         kernelImage("1"),
		"loader/loader.conf":              {},
	}
	plan, err := bootloader.PlanRemoval(esp, bootloader.RemovalOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range plan.Changes {
		fmt.Println(c.Kind, c.Path)
	}
	for _, k := range plan.Kept {
		fmt.Println("keep", k.Path, "-", k.Reason)
	}
	// Output:
	// remove EFI/systemd/systemd-bootx64.efi
	// remove loader/loader.conf
	// remove loader
	// remove EFI/systemd
	// keep EFI/BOOT/BOOTX64.EFI - not systemd-boot
}

func ExampleEditConfig() {
	text := []byte("# this machine is slow\r\ntimeout 5\r\ndefault example_*\r\n")
	text, err := bootloader.EditConfig(text, bootloader.ConfigEdit{
		Set:    &bootloader.Config{Timeout: "menu-hidden", Editor: bootloader.SwitchNo},
		Remove: []string{"default"},
	})
	fmt.Printf("%q %v\n", text, err)
	// Output: "# this machine is slow\r\ntimeout menu-hidden\r\neditor no\r\n" <nil>
}
