package partition

import "github.com/osmith-dev/osmith"

// The recipes are the layouts of known systems as values, to start from: neither IDs nor a seed nor contents are set,
// slots are labelled "_empty" or as the system does, and sizes are those of the system. Change what you like and give it
// to [Plan]. Where the real system decides a size itself, the table says so.

const (
	mib = 1 << 20
	gib = 1 << 30
)

// must is the type with a name of this package.
func must(name string) osmith.GUID {
	t, ok := TypeByName(name)
	if !ok {
		panic("partition: no type " + name) // a mistake in this file: every recipe is planned by a test
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
func ParticleOS() Layout {
	slot := func() []Spec {
		return []Spec{
			{Type: UsrX8664VeritySig, Name: EmptyName, Size: 16 << 10, Attributes: AttrReadOnly},
			{Type: UsrX8664Verity, Name: EmptyName, MinSize: 10 * mib, Weight: 1000, Attributes: AttrReadOnly},
			{Type: UsrX8664, Name: EmptyName, MinSize: 5 * gib, MaxSize: 20 * gib, Weight: 1000, Attributes: AttrGrowFileSystem},
		}
	}
	parts := []Spec{{Type: ESP, Name: "esp", Size: gib}}
	parts = append(append(parts, slot()...), slot()...)
	return Layout{Align: grain, Start: mib, Partitions: append(parts,
		Spec{Type: Swap, Name: "swap", Size: 4 * gib},
		Spec{Type: RootX8664, Name: "root-x86-64", MinSize: gib, Weight: 20000, Attributes: AttrGrowFileSystem})}
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
func GNOMEOS() Layout {
	parts := []Spec{{Type: ESP, Name: "esp", Size: gib}}
	for range 2 {
		parts = append(parts,
			Spec{Type: UsrX8664Verity, Name: EmptyName, Size: 275 * mib, Attributes: AttrReadOnly},
			Spec{Type: UsrX8664, Name: EmptyName, Size: 4 * gib, Attributes: AttrGrowFileSystem})
	}
	return Layout{Align: grain, Start: mib, Partitions: append(parts,
		Spec{Type: RootX8664, Name: "root-x86-64", MinSize: gib, Weight: 1000, Attributes: AttrGrowFileSystem})}
}

// IncusOS is the OS for Incus servers
// (https://github.com/lxc/incus-os, mkosi.images/base/mkosi.extra/usr/lib/repart.d, doc/reference/partitioning-scheme.md):
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
func IncusOS() Layout {
	parts := []Spec{{Type: ESP, Name: "esp", Size: 2 * gib}, {Type: LinuxGeneric, Name: "seed-data", Size: 100 * mib}}
	for n := range 2 {
		usr := Spec{Type: UsrX8664, Name: EmptyName, Size: gib, Attributes: AttrGrowFileSystem}
		if n == 1 {
			usr.Attributes |= AttrNoAuto
		}
		parts = append(parts, Spec{Type: UsrX8664VeritySig, Name: EmptyName, Size: 16 << 10, Attributes: AttrReadOnly},
			Spec{Type: UsrX8664Verity, Name: EmptyName, Size: 100 * mib, Attributes: AttrReadOnly}, usr)
	}
	return Layout{Align: grain, Start: mib, Partitions: append(parts,
		Spec{Type: Swap, Name: "swap", Size: 4 * gib},
		Spec{Type: RootX8664, Name: "root-x86-64", Size: 25 * gib, Attributes: AttrGrowFileSystem},
		Spec{Type: LinuxGeneric, Name: "local-data", MinSize: 10 * gib, Weight: 1000})}
}

// KairosUKI is Kairos with the whole system in UKIs: its slots are files on the ESP (active, passive, recovery). The
// installer sizes the ESP by its UKIs; here it holds four of 600 MiB, as there must be room for a new one beside them
// (https://github.com/kairos-io/kairos-agent, pkg/uki):
//
//	1 esp            COS_GRUB          by the size of the UKIs; here 3 GiB
//	2 linux-generic  oem, encrypted           64 MiB
//	3 linux-generic  persistent, encrypted    the rest
func KairosUKI() Layout {
	return Layout{Partitions: []Spec{
		{Type: ESP, Name: "efi", Size: 3 * gib},
		{Type: LinuxGeneric, Name: "oem", Size: 64 * mib},
		{Type: LinuxGeneric, Name: "persistent", MinSize: gib, Weight: 1000},
	}}
}

// Talos is Talos Linux with UKIs, which are its slots (https://github.com/siderolabs/talos,
// pkg/machinery/imager/quirks/partitions.go):
//
//	1 esp            EFI         2101 MiB; 1101 MiB before Talos 1.11
//	2 linux-generic  META        1 MiB, key-value store without a file system
//	3 linux-generic  STATE       100 MiB, xfs, may be encrypted
//	4 linux-generic  EPHEMERAL   2 GiB or more, xfs, may be encrypted
func Talos() Layout {
	return Layout{Partitions: []Spec{
		{Type: ESP, Name: "EFI", Size: 2101 * mib},
		{Type: LinuxGeneric, Name: "META", Size: mib},
		{Type: LinuxGeneric, Name: "STATE", Size: 100 * mib},
		{Type: LinuxGeneric, Name: "EPHEMERAL", MinSize: 2 * gib, Weight: 1000},
	}}
}
