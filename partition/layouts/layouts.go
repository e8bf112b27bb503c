// Package layouts has the partition layouts of known systems as values of package partition, to
// start from: neither IDs nor a seed nor contents are set, slots are labelled "_empty" or as the
// system does, and sizes are those of the system. Change what you like and give it to
// [partition.Plan]. Where the real system decides a size itself, the table says so.
package layouts

import (
	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// must is the type with a name of package partition.
func must(name string) osmith.GUID {
	t, ok := partition.TypeByName(name)
	if !ok {
		// a mistake in this file: every layout is planned by a test
		panic("layouts: no type " + name)
	}
	return t
}

// ParticleOS is an OS of the systemd project, with /usr in slots
// (https://github.com/systemd/particleos, mkosi.extra/usr/lib/repart.d):
//
//	1 esp                           CopyBlocks=auto: that of the installer; here 1 GiB
//	2 usr-verity-sig  ParticleOS_N_verity_sig    16 KiB
//	3 usr-verity      ParticleOS_N_verity        copied; here 10 MiB or more
//	4 usr             ParticleOS_N               5 to 20 GiB
//	5 usr-verity-sig  _empty
//	6 usr-verity      _empty
//	7 usr             _empty                     5 to 20 GiB
//	8 swap            encrypted                  4 GiB
//	9 root            btrfs, encrypted           1 GiB or more, weight 20000
func ParticleOS() partition.Layout {
	slot := func() []partition.Spec {
		return []partition.Spec{
			{Type: partition.UsrX8664VeritySig, Name: partition.EmptyName, Size: 16 * kib, Attributes: partition.AttrReadOnly},
			{Type: partition.UsrX8664Verity, Name: partition.EmptyName, MinSize: 10 * mib, Weight: 1000, Attributes: partition.AttrReadOnly},
			{Type: partition.UsrX8664, Name: partition.EmptyName, MinSize: 5 * gib, MaxSize: 20 * gib, Weight: 1000, Attributes: partition.AttrGrowFileSystem},
		}
	}
	parts := []partition.Spec{{Type: partition.ESP, Name: "esp", Size: gib}}
	parts = append(append(parts, slot()...), slot()...)
	return partition.Layout{Align: 4 * kib, Start: mib, Partitions: append(parts,
		partition.Spec{Type: partition.Swap, Name: "swap", Size: 4 * gib},
		partition.Spec{Type: partition.RootX8664, Name: "root-x86-64", MinSize: gib, Weight: 20000, Attributes: partition.AttrGrowFileSystem})}
}

// GNOMEOS is the image-based GNOME OS
// (https://gitlab.gnome.org/GNOME/gnome-build-meta, files/secure-repart-config):
//
//	1 esp                       500 MiB, since 2025 1 GiB
//	2 usr-verity  gnomeos_N_verity    275 MiB
//	3 usr         gnomeos_N           4 GiB
//	4 usr-verity  _empty              275 MiB
//	5 usr         _empty              4 GiB
//	6 root        btrfs, encrypted    the rest
func GNOMEOS() partition.Layout {
	parts := []partition.Spec{{Type: partition.ESP, Name: "esp", Size: gib}}
	for range 2 {
		parts = append(parts,
			partition.Spec{Type: partition.UsrX8664Verity, Name: partition.EmptyName, Size: 275 * mib, Attributes: partition.AttrReadOnly},
			partition.Spec{Type: partition.UsrX8664, Name: partition.EmptyName, Size: 4 * gib, Attributes: partition.AttrGrowFileSystem})
	}
	return partition.Layout{Align: 4 * kib, Start: mib, Partitions: append(parts,
		partition.Spec{Type: partition.RootX8664, Name: "root-x86-64", MinSize: gib, Weight: 1000, Attributes: partition.AttrGrowFileSystem})}
}

// IncusOS is the OS for Incus servers (https://github.com/lxc/incus-os,
// mkosi.images/base/mkosi.extra/usr/lib/repart.d, doc/reference/partitioning-scheme.md):
//
//	 1 esp                            2 GiB
//	 2 linux-generic   seed-data      100 MiB
//	 3 usr-verity-sig  IncusOS_N_verity_sig   16 KiB
//	 4 usr-verity      IncusOS_N_verity       100 MiB
//	 5 usr             IncusOS_N              1 GiB
//	 6 usr-verity-sig  _empty                 16 KiB
//	 7 usr-verity      _empty                 100 MiB
//	 8 usr             _empty, no-auto        1 GiB
//	 9 swap            encrypted              4 GiB
//	10 root            ext4, encrypted        25 GiB
//	11 linux-generic   local-data, ZFS        10 GiB or more
func IncusOS() partition.Layout {
	parts := []partition.Spec{{Type: partition.ESP, Name: "esp", Size: 2 * gib}, {Type: partition.LinuxGeneric, Name: "seed-data", Size: 100 * mib}}
	for n := range 2 {
		usr := partition.Spec{Type: partition.UsrX8664, Name: partition.EmptyName, Size: gib, Attributes: partition.AttrGrowFileSystem}
		if n == 1 {
			usr.Attributes |= partition.AttrNoAuto
		}
		parts = append(parts, partition.Spec{Type: partition.UsrX8664VeritySig, Name: partition.EmptyName, Size: 16 * kib, Attributes: partition.AttrReadOnly},
			partition.Spec{Type: partition.UsrX8664Verity, Name: partition.EmptyName, Size: 100 * mib, Attributes: partition.AttrReadOnly}, usr)
	}
	return partition.Layout{Align: 4 * kib, Start: mib, Partitions: append(parts,
		partition.Spec{Type: partition.Swap, Name: "swap", Size: 4 * gib},
		partition.Spec{Type: partition.RootX8664, Name: "root-x86-64", Size: 25 * gib, Attributes: partition.AttrGrowFileSystem},
		partition.Spec{Type: partition.LinuxGeneric, Name: "local-data", MinSize: 10 * gib, Weight: 1000})}
}

// KairosUKI is Kairos with the whole system in UKIs: its slots are files on the ESP (active,
// passive, recovery). The installer sizes the ESP by its UKIs; here it holds four of 600 MiB, as
// there must be room for a new one beside them (https://github.com/kairos-io/kairos-agent,
// pkg/uki):
//
//	1 esp            COS_GRUB          by the size of the UKIs; here 3 GiB
//	2 linux-generic  oem, encrypted           64 MiB
//	3 linux-generic  persistent, encrypted    the rest
func KairosUKI() partition.Layout {
	return partition.Layout{Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "efi", Size: 3 * gib},
		{Type: partition.LinuxGeneric, Name: "oem", Size: 64 * mib},
		{Type: partition.LinuxGeneric, Name: "persistent", MinSize: gib, Weight: 1000},
	}}
}

// Talos is Talos Linux with UKIs, which are its slots (https://github.com/siderolabs/talos,
// pkg/machinery/imager/quirks/partitions.go):
//
//	1 esp            EFI         2101 MiB; 1101 MiB before Talos 1.11
//	2 linux-generic  META        1 MiB, key-value store without a file system
//	3 linux-generic  STATE       100 MiB, xfs, may be encrypted
//	4 linux-generic  EPHEMERAL   2 GiB or more, xfs, may be encrypted
func Talos() partition.Layout {
	return partition.Layout{Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "EFI", Size: 2101 * mib},
		{Type: partition.LinuxGeneric, Name: "META", Size: mib},
		{Type: partition.LinuxGeneric, Name: "STATE", Size: 100 * mib},
		{Type: partition.LinuxGeneric, Name: "EPHEMERAL", MinSize: 2 * gib, Weight: 1000},
	}}
}

// Bottlerocket is Bottlerocket for an OS image of 2 GiB that updates in place
// (https://github.com/bottlerocket-os/twoliter, embedded/partyplanner); sizes marked * grow with
// the image. The slot to boot is chosen by the gptprio bits of the boot partitions.
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
func Bottlerocket() partition.Layout {
	backup := osmith.GUID{0xb3, 0x9c, 0xe3, 0x9c, 0x0a, 0x00, 0xb4, 0xab, 0x2d, 0x11, 0xf1, 0x8f, 0x82, 0x37, 0xa2, 0x1c}
	parts := []partition.Spec{{Type: partition.BIOSBoot, Name: "BIOS-BOOT", Size: 4 * mib}}
	for _, bank := range []struct {
		name string
		efi  partition.Spec
	}{
		{"A", partition.Spec{Type: partition.ESP, Name: "EFI-SYSTEM", Size: 5 * mib}},
		{"B", partition.Spec{Type: backup, Name: "EFI-BACKUP", Size: 5 * mib}},
	} {
		parts = append(parts, bank.efi,
			partition.Spec{Type: must("bottlerocket-boot"), Name: "BOTTLEROCKET-BOOT-" + bank.name, Size: 40 * mib},
			partition.Spec{Type: must("bottlerocket-root"), Name: "BOTTLEROCKET-ROOT-" + bank.name, Size: 920 * mib},
			partition.Spec{Type: must("bottlerocket-hash"), Name: "BOTTLEROCKET-HASH-" + bank.name, Size: 10 * mib},
			partition.Spec{Type: must("bottlerocket-reserved"), Name: "BOTTLEROCKET-RESERVED-" + bank.name, Size: 25 * mib})
	}
	return partition.Layout{Size: 2 * gib, Partitions: append(parts,
		partition.Spec{Type: must("bottlerocket-private"), Name: "BOTTLEROCKET-PRIVATE", Size: 41 * mib},
		partition.Spec{Type: must("bottlerocket-data"), Name: "BOTTLEROCKET-DATA-A", Size: mib})}
}

// Flatcar is Flatcar Container Linux (https://github.com/flatcar/scripts,
// build_library/disk_layout.json); the IDs of the slots are fixed. The slot to boot is chosen by
// the gptprio bits of the USR partitions; the root hash of USR is inside of the kernel image.
// Entries 5 (ROOT-C) and 8 are kept free.
//
//	1 esp               EFI-SYSTEM    1 GiB; 128 MiB before 2025
//	2 bios-boot         BIOS-BOOT     2 MiB
//	3 flatcar-usr       USR-A         2 GiB; 1 GiB before 2025
//	4 flatcar-usr       USR-B         2 GiB
//	6 linux-generic     OEM           1 GiB
//	7 flatcar-reserved  OEM-CONFIG    64 MiB
//	9 flatcar-resize    ROOT          1784 MiB, grows at the first boot
func Flatcar() partition.Layout {
	return partition.Layout{Align: 2 * mib, Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "EFI-SYSTEM", Size: gib},
		{Type: partition.BIOSBoot, Name: "BIOS-BOOT", Size: 2 * mib},
		{Type: must("flatcar-usr"), ID: osmith.GUID{0x71, 0x30, 0xc9, 0x4a, 0x21, 0x3a, 0x4e, 0x5a, 0x8e, 0x26, 0x6c, 0xce, 0x96, 0x62, 0xf1, 0x32},
			Name: "USR-A", Size: 2 * gib},
		{Type: must("flatcar-usr"), ID: osmith.GUID{0xe0, 0x3d, 0xd3, 0x5c, 0x7c, 0x2d, 0x4a, 0x47, 0xb3, 0xfe, 0x27, 0xf1, 0x57, 0x80, 0xa5, 0x7c},
			Name: "USR-B", Size: 2 * gib},
		{Number: 6, Type: partition.LinuxGeneric, Name: "OEM", Size: gib},
		{Number: 7, Type: must("flatcar-reserved"), Name: "OEM-CONFIG", Size: 64 * mib},
		{Number: 9, Type: must("flatcar-resize"), Name: "ROOT", MinSize: 1784 * mib, Weight: 1000},
	}}
}

// ChromeOS is ChromiumOS with its first disk layout
// (https://www.chromium.org/chromium-os/developer-library/reference/device/disk-format); boards
// have other sizes. The slot to boot is chosen by the gptprio bits of the kernel partitions; the
// root hash is in the signed kernel blob. In the order of the disk:
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
func ChromeOS() partition.Layout {
	kernel, root, reserved := must("chromeos-kernel"), must("chromeos-root"), must("chromeos-reserved")
	return partition.Layout{Partitions: []partition.Spec{
		{Number: 11, Type: must("chromeos-firmware"), Name: "RWFW", Size: 8 * mib},
		{Number: 6, Type: kernel, Name: "KERN-C", Size: 4 * kib},
		{Number: 7, Type: root, Name: "ROOT-C", Size: 4 * kib},
		{Number: 9, Type: reserved, Name: "reserved", Size: 4 * kib},
		{Number: 10, Type: reserved, Name: "reserved", Size: 4 * kib},
		{Number: 2, Type: kernel, Name: "KERN-A", Size: 16 * mib},
		{Number: 4, Type: kernel, Name: "KERN-B", Size: 16 * mib},
		{Number: 8, Type: partition.LinuxGeneric, Name: "OEM", Size: 16 * mib},
		{Number: 12, Type: partition.ESP, Name: "EFI-SYSTEM", Size: 64 * mib},
		{Number: 5, Type: root, Name: "ROOT-B", Size: 4 * gib},
		{Number: 3, Type: root, Name: "ROOT-A", Size: 4 * gib},
		{Number: 1, Type: partition.LinuxGeneric, Name: "STATE", MinSize: gib, Weight: 1000},
	}}
}
