package acmeos

import (
	"fmt"
	"path"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

const mib = 1 << 20

// DiskOptions are the sizes of a new disk. They are for ever: partitions do not grow, so the slots must hold the releases
// of years to come.
type DiskOptions struct {
	RootSize int64 // of each slot's root partition; 0: the root image plus half, in whole MiB
	ESPSize  int64 // 0: the loader and three UKIs of this size plus half
	Slots    int   // 0: two

	Files []osmith.ESPFile // more files of the ESP

	State osmith.Source // content of a partition that outlives every version; nil: there is none

	// Enroll puts the Secure Boot keys onto the ESP, where systemd-boot finds them and enrols them into a machine in
	// setup mode.
	Enroll bool
}

// Disk plans the first disk of a system: an ESP with the loader and the UKI of set, slot A with its root file system, slot B
// empty. The result is written with partition.WriteImage.
func (b *Builder) Disk(set *Set, o DiskOptions) (*partition.Image, error) {
	dataID, treeID, err := partition.VerityIDs(set.RootHash)
	if err != nil {
		return nil, err
	}
	root, tree := set.Root, set.Tree
	if o.RootSize == 0 {
		o.RootSize = roundUp(root.Size()*3/2, mib)
	}
	treeSize := roundUp(max(tree.Size()*2, o.RootSize/100), mib)
	esp, err := b.ESP(set, o)
	if err != nil {
		return nil, fmt.Errorf("ESP: %w", err)
	}
	label := ID + "_" + set.Version
	rootType, treeType := rootTypes(b.Parts.Architecture)
	layout := partition.Layout{
		DiskID: partition.SeedDiskID(b.Seed),
		Partitions: []partition.Spec{
			{Type: partition.ESP, ID: partition.SeedPartitionID(b.Seed, partition.ESP, 0), Name: "esp", Content: esp},
			{Type: rootType, ID: dataID, Name: label, Size: o.RootSize, Content: root},
			{Type: treeType, ID: treeID, Name: label + "_verity", Size: treeSize, Content: tree},
		},
	}
	for n := 1; n < max(o.Slots, 2); n++ {
		layout.Partitions = append(layout.Partitions,
			partition.Spec{Type: rootType, ID: partition.SeedPartitionID(b.Seed, rootType, n), Name: partition.EmptyName, Size: o.RootSize},
			partition.Spec{Type: treeType, ID: partition.SeedPartitionID(b.Seed, treeType, n), Name: partition.EmptyName, Size: treeSize})
	}
	if o.State != nil {
		layout.Partitions = append(layout.Partitions, partition.Spec{Type: partition.LinuxGeneric, ID: partition.SeedPartitionID(b.Seed, partition.LinuxGeneric, 0), Name: "state",
			Size: roundUp(o.State.Size(), mib), Content: o.State})
	}
	return partition.Plan(layout)
}

// rootTypes are the types of root file system and hash tree for an architecture by its EFI name.
func rootTypes(architecture string) (root, tree osmith.GUID) {
	a, ok := arch.ByEFI(architecture)
	if !ok {
		a = arch.X8664
	}
	return a.Types[arch.Root], a.Types[arch.RootVerity]
}

// ESP plans the EFI system partition: what systemd-boot needs, and the UKI under its final name. The first version of a new
// disk has nothing to fall back to, so its tries are not counted.
func (b *Builder) ESP(set *Set, o DiskOptions) (*fat.Image, error) {
	loader, err := b.SignedLoader()
	if err != nil {
		return nil, err
	}
	install := bootloader.Installation{Loader: loader, Config: &bootloader.Config{Timeout: "0"}}
	if o.Enroll {
		e, err := b.Enroll(set.UKI)
		if err != nil {
			return nil, err
		}
		install.Config.SecureBootEnroll = "force"
		if install.Keys, err = e.LoaderKeys("auto"); err != nil {
			return nil, err
		}
	}
	installed, err := install.Files()
	if err != nil {
		return nil, err
	}
	files := append([]osmith.ESPFile{{Path: path.Join("EFI/Linux", ID+"_"+set.Version+".efi"), Content: set.UKI}}, installed...)
	files = append(files, o.Files...)
	options := fat.BuildOptions{Size: o.ESPSize, Kind: 32, VolumeID: 0xac3e0500, Label: "ESP", Time: b.Time}
	if options.Size == 0 {
		need, err := fat.MinSize(files, options)
		if err != nil {
			return nil, err
		}
		options.Size = roundUp(need+set.UKI.Size()*5/2, mib)
	}
	return fat.Plan(files, options)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// PartitionOf returns the extent of a slot's root partition of a disk: to look at it, or to damage it.
func PartitionOf(disk osmith.Source, rootHash []byte) (off, size int64, err error) {
	t, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return 0, 0, err
	}
	data, _, err := partition.VerityIDs(rootHash)
	if err != nil {
		return 0, 0, err
	}
	i := t.Find(data)
	if i < 0 {
		return 0, 0, fmt.Errorf("no partition %s", data)
	}
	off, size = t.Extent(i)
	return off, size, nil
}
