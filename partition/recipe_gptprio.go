package partition

import "github.com/osmith-dev/osmith"

// Bottlerocket is Bottlerocket for an OS image of 2 GiB that updates in place
// (https://github.com/bottlerocket-os/twoliter, embedded/partyplanner); sizes marked * grow with the image. The slot to boot
// is chosen by the gptprio bits of the boot partitions.
//
//	 1 bios-boot              BIOS-BOOT                  4 MiB
//	 2 esp                    EFI-SYSTEM                 5 MiB
//	 3 bottlerocket-boot      BOTTLEROCKET-BOOT-A       40 MiB*
//	 4 bottlerocket-root      BOTTLEROCKET-ROOT-A      920 MiB*
//	 5 bottlerocket-hash      BOTTLEROCKET-HASH-A       10 MiB*
//	 6 bottlerocket-reserved  BOTTLEROCKET-RESERVED-A   25 MiB*
//	 7 b39ce39c-...           EFI-BACKUP                 5 MiB
//	 8 to 11                  as 3 to 6, for B
//	12 bottlerocket-private   BOTTLEROCKET-PRIVATE      41 MiB*
//	13 bottlerocket-data      BOTTLEROCKET-DATA-A        1 MiB; on a disk of its own, DATA-B takes all of it
func Bottlerocket() Layout {
	backup := osmith.GUID{0xb3, 0x9c, 0xe3, 0x9c, 0x0a, 0x00, 0xb4, 0xab, 0x2d, 0x11, 0xf1, 0x8f, 0x82, 0x37, 0xa2, 0x1c}
	parts := []Spec{{Type: BIOSBoot, Name: "BIOS-BOOT", Size: 4 * mib}}
	for _, bank := range []struct {
		name string
		efi  Spec
	}{
		{"A", Spec{Type: ESP, Name: "EFI-SYSTEM", Size: 5 * mib}},
		{"B", Spec{Type: backup, Name: "EFI-BACKUP", Size: 5 * mib}},
	} {
		parts = append(parts, bank.efi,
			Spec{Type: must("bottlerocket-boot"), Name: "BOTTLEROCKET-BOOT-" + bank.name, Size: 40 * mib},
			Spec{Type: must("bottlerocket-root"), Name: "BOTTLEROCKET-ROOT-" + bank.name, Size: 920 * mib},
			Spec{Type: must("bottlerocket-hash"), Name: "BOTTLEROCKET-HASH-" + bank.name, Size: 10 * mib},
			Spec{Type: must("bottlerocket-reserved"), Name: "BOTTLEROCKET-RESERVED-" + bank.name, Size: 25 * mib})
	}
	return Layout{Size: 2 * gib, Partitions: append(parts,
		Spec{Type: must("bottlerocket-private"), Name: "BOTTLEROCKET-PRIVATE", Size: 41 * mib},
		Spec{Type: must("bottlerocket-data"), Name: "BOTTLEROCKET-DATA-A", Size: mib})}
}

// Flatcar is Flatcar Container Linux (https://github.com/flatcar/scripts, build_library/disk_layout.json); the IDs of the
// slots are fixed. The slot to boot is chosen by the gptprio bits of the USR partitions; the root hash of USR is inside of
// the kernel image. Entries 5 (ROOT-C) and 8 are kept free.
//
//	1 esp               EFI-SYSTEM    1 GiB; 128 MiB before 2025
//	2 bios-boot         BIOS-BOOT     2 MiB
//	3 flatcar-usr       USR-A         2 GiB; 1 GiB before 2025
//	4 flatcar-usr       USR-B         2 GiB
//	6 linux-generic     OEM           1 GiB
//	7 flatcar-reserved  OEM-CONFIG    64 MiB
//	9 flatcar-resize    ROOT          1784 MiB, grows at the first boot
func Flatcar() Layout {
	return Layout{Align: 2 * mib, Partitions: []Spec{
		{Type: ESP, Name: "EFI-SYSTEM", Size: gib},
		{Type: BIOSBoot, Name: "BIOS-BOOT", Size: 2 * mib},
		{Type: must("flatcar-usr"), ID: osmith.GUID{0x71, 0x30, 0xc9, 0x4a, 0x21, 0x3a, 0x4e, 0x5a, 0x8e, 0x26, 0x6c, 0xce, 0x96, 0x62, 0xf1, 0x32},
			Name: "USR-A", Size: 2 * gib},
		{Type: must("flatcar-usr"), ID: osmith.GUID{0xe0, 0x3d, 0xd3, 0x5c, 0x7c, 0x2d, 0x4a, 0x47, 0xb3, 0xfe, 0x27, 0xf1, 0x57, 0x80, 0xa5, 0x7c},
			Name: "USR-B", Size: 2 * gib},
		{Number: 6, Type: LinuxGeneric, Name: "OEM", Size: gib},
		{Number: 7, Type: must("flatcar-reserved"), Name: "OEM-CONFIG", Size: 64 * mib},
		{Number: 9, Type: must("flatcar-resize"), Name: "ROOT", MinSize: 1784 * mib, Weight: 1000},
	}}
}

// ChromeOS is ChromiumOS with its first disk layout
// (https://www.chromium.org/chromium-os/developer-library/reference/device/disk-format); boards have other sizes. The
// slot to boot is chosen by the gptprio bits of the kernel partitions; the root hash is in the signed kernel blob. In the
// order of the disk:
//
//	11 chromeos-firmware  RWFW        8 MiB
//	 6 chromeos-kernel    KERN-C      one sector; here 4 KiB, likewise 7, 9 and 10
//	 7 chromeos-root      ROOT-C
//	 9 chromeos-reserved  reserved
//	10 chromeos-reserved  reserved
//	 2 chromeos-kernel    KERN-A      16 MiB
//	 4 chromeos-kernel    KERN-B      16 MiB
//	 8 linux-generic      OEM         16 MiB
//	12 esp                EFI-SYSTEM  16 to 64 MiB; here 64 MiB
//	 5 chromeos-root      ROOT-B      2 to 4 GiB; here 4 GiB
//	 3 chromeos-root      ROOT-A      as ROOT-B
//	 1 linux-generic      STATE       the rest
func ChromeOS() Layout {
	kernel, root, reserved := must("chromeos-kernel"), must("chromeos-root"), must("chromeos-reserved")
	return Layout{Partitions: []Spec{
		{Number: 11, Type: must("chromeos-firmware"), Name: "RWFW", Size: 8 * mib},
		{Number: 6, Type: kernel, Name: "KERN-C", Size: grain},
		{Number: 7, Type: root, Name: "ROOT-C", Size: grain},
		{Number: 9, Type: reserved, Name: "reserved", Size: grain},
		{Number: 10, Type: reserved, Name: "reserved", Size: grain},
		{Number: 2, Type: kernel, Name: "KERN-A", Size: 16 * mib},
		{Number: 4, Type: kernel, Name: "KERN-B", Size: 16 * mib},
		{Number: 8, Type: LinuxGeneric, Name: "OEM", Size: 16 * mib},
		{Number: 12, Type: ESP, Name: "EFI-SYSTEM", Size: 64 * mib},
		{Number: 5, Type: root, Name: "ROOT-B", Size: 4 * gib},
		{Number: 3, Type: root, Name: "ROOT-A", Size: 4 * gib},
		{Number: 1, Type: LinuxGeneric, Name: "STATE", MinSize: gib, Weight: 1000},
	}}
}
