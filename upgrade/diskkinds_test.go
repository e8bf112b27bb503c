package upgrade_test

import (
	"crypto/x509"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// diskKind is a kind of disk that a vendor may have.
type diskKind struct {
	name  string
	esp   fat.BuildOptions // and the sector size of the disk
	slots int
	usr   bool
	// the kernel has mounted the boot partitions
	mounted bool
	// a set is a UKI alone, and there are no slots
	alone bool
	// UKIs are on an extended boot loader partition
	apart bool
	// the slots have a partition for the signature of the root hash
	sign bool
	// bytes of those partitions; 0: 16 KiB
	signSize int64
	// blocks of the root file system come from what runs
	delta bool
	// as those of UKI do, and the others come from a server
	stream bool
	fill   func(s *system)                                  // puts more onto the ESP
	set    func(s *system, version string) *release.Release // nil: as the builder makes it

	releases map[string]*release.Release // that were built
	servers  map[string]*releaseServer   // of them
}

// diskKinds are those on which an upgrade is proved.
func diskKinds() []*diskKind {
	return []*diskKind{
		{name: "FAT32", esp: fat.BuildOptions{Kind: 32}},
		{name: "FAT16", esp: fat.BuildOptions{Kind: 16, Size: 24 << 20}},
		{name: "FAT12", esp: fat.BuildOptions{Kind: 12, Size: 3 << 20}},
		{name: "sectors of 4096 bytes", esp: fat.BuildOptions{Kind: 16, Size: 32 << 20, SectorSize: 4096}},
		{name: "three slots", esp: fat.BuildOptions{Kind: 32}, slots: 3, delta: true, stream: true},
		{name: "usr", esp: fat.BuildOptions{Kind: 32}, usr: true},
		{name: "signed usr", esp: fat.BuildOptions{Kind: 32}, usr: true, sign: true},
		{name: "extended boot loader partition", esp: fat.BuildOptions{Kind: 16, Size: 4 << 20, ClusterSize: 512}, apart: true},
		{name: "UKI alone", esp: fat.BuildOptions{Kind: 16, Size: 5 << 19, ClusterSize: 512}, alone: true, fill: leaveRoomForThree},
		{name: "fragmented and nearly full", esp: fat.BuildOptions{Kind: 16, Size: 5 << 19, ClusterSize: 512}, fill: fragment},
		{name: "add-ons", esp: fat.BuildOptions{Kind: 32}, set: func(s *system, version string) *release.Release { return s.bound(s.build(version), "quiet") }},
		{name: "Type #1 entries of others", esp: fat.BuildOptions{Kind: 32}, fill: others},
		{name: "mounted", esp: fat.BuildOptions{Kind: 32}, mounted: true, fill: crowd},
		{name: "mounted, extended boot loader partition", esp: fat.BuildOptions{Kind: 16, Size: 4 << 20, ClusterSize: 512}, apart: true, mounted: true},
		{name: "mounted, sectors of 4096 bytes, add-ons", esp: fat.BuildOptions{Kind: 16, Size: 32 << 20, SectorSize: 4096}, mounted: true, set: func(s *system, version string) *release.Release { return s.bound(s.build(version), "quiet") }},
	}
}

// fragment leaves room for two UKIs and their directories, in pieces.
func fragment(s *system) {
	esp := s.esp()
	require.NoError(s.t, esp.MkdirAll("EFI/acme"))
	const piece = 8 << 10
	count := 0
	for ; esp.Free() > 0; count++ {
		if err := esp.WriteFile(fmt.Sprintf("EFI/acme/%d", count), source(make([]byte, piece))); err != nil {
			require.ErrorAs(s.t, err, new(*fat.SpaceError))
			break
		}
	}
	need := 2*contentSize(s, "EFI/Linux/acme_1.efi") + 64<<10
	for i := 0; i < count && esp.Free() < need; i += 2 {
		require.NoError(s.t, esp.Remove(fmt.Sprintf("EFI/acme/%d", i)))
	}
	require.Less(s.t, esp.Free(), need+2*piece)
}

// leaveRoomForThree leaves room for two UKIs more.
func leaveRoomForThree(s *system) {
	esp := s.esp()
	size := contentSize(s, "EFI/Linux/acme_1.efi")
	require.NoError(s.t, esp.MkdirAll("EFI/acme"))
	require.NoError(s.t, esp.WriteFile("EFI/acme/filler", source(make([]byte, esp.Free()-2*size-8<<10))))
}

func contentSize(s *system, name string) int64 {
	info, err := s.esp().Stat(name)
	require.NoError(s.t, err)
	return info.Size()
}

// crowd has the names of new entries come where they lie in two sectors: the kernel does not mind.
// A name takes 32 bytes, or more of them in a row, of the first place that has room.
func crowd(s *system) {
	s.mount()
	esp, _, _, _ := s.espVolume()
	for i := range 24 {
		require.NoError(s.t, esp.Create(fmt.Sprintf("EFI/Linux/OTHER%d.TXT", i), source(nil)))
	}
	s.machine.Mounted, s.mounts = nil, false
}

// others puts a rescue system there, which firmware would start and no upgrade touches.
func others(s *system) {
	file(s, s.esp(), "rescue/linux", contentOf(s.t, s.signedLoader("262")))
	conf(s, s.esp(), "rescue.conf", "title Rescue\nlinux /rescue/linux\nsort-key zz\nversion 0\n")
	conf(s, s.esp(), "broken.conf", "title Broken\nlinux /rescue/none\n")
}

// on builds the first disk of the system anew, of this kind, with version 1 running.
func (k *diskKind) on(t *testing.T) *system {
	t.Helper()
	s := newSystem(t, "262")
	set := s.build("1")
	planned, err := s.builder.ESP(set, acmeos.DiskOptions{})
	require.NoError(t, err)
	built, err := fat.OpenReader(planned)
	require.NoError(t, err)
	var files, apart []osmith.ESPFile
	require.NoError(t, fs.WalkDir(built, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := built.ReadFile(name)
		if name == "EFI/Linux/acme_1.efi" {
			b = contentOf(t, k.release(s, "1").UKI)
		}
		if f := (osmith.ESPFile{Path: name, Content: source(b)}); k.apart && strings.HasPrefix(name, "EFI/Linux/") {
			apart = append(apart, f)
		} else {
			files = append(files, f)
		}
		return err
	}))
	for _, a := range k.release(s, "1").Addons {
		files = append(files, osmith.ESPFile{Path: "EFI/Linux/acme_1.efi.extra.d/" + a.Name, Content: a.Content})
	}
	esp := k.esp
	esp.VolumeID, esp.Label = 0xac3e0500, "ESP"
	if esp.Size == 0 {
		esp.Size = 40 << 20
	}
	volume, err := fat.Plan(files, esp)
	require.NoError(t, err)
	dataType, treeType := partition.RootX8664, partition.RootX8664Verity
	if k.usr {
		dataType, treeType = partition.UsrX8664, partition.UsrX8664Verity
	}
	data, tree, err := partition.VerityIDs(set.RootHash)
	require.NoError(t, err)
	sigType := partition.RootX8664VeritySig
	if k.usr {
		sigType = partition.UsrX8664VeritySig
	}
	layout := partition.Layout{Seed: osmith.GUID{1}, SectorSize: esp.SectorSize, Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "esp", Content: volume},
		{Type: dataType, ID: data, Name: "acme_1", Size: 1 << 20, Content: set.Root},
		{Type: treeType, ID: tree, Name: "acme_1_verity", Size: 1 << 20, Content: set.Tree},
	}}
	if k.apart {
		extended, err := fat.Plan(apart, fat.BuildOptions{Kind: 16, Size: 24 << 20, VolumeID: 7})
		require.NoError(t, err)
		layout.Partitions = append(layout.Partitions, partition.Spec{Type: partition.XBOOTLDR, Name: "boot", Content: extended})
	}
	if k.sign {
		content := k.release(s, "1").RootHashSignature
		layout.Partitions = append(layout.Partitions, partition.Spec{Type: sigType, Name: "acme_1_verity_sig", Size: max(k.signSize, 16<<10), Content: content})
		db := s.builder.Keys.SecureBoot.DB.Cert
		s.machine.VerityKeyrings = []upgrade.Keyring{{Name: upgrade.KeyringBuiltin}, {Name: upgrade.KeyringPlatform, Certificates: []*x509.Certificate{db}}}
	}
	if k.alone {
		layout.Partitions = layout.Partitions[:1]
		s.alone = true
	}
	for range max(k.slots, 2) - 1 {
		if k.alone {
			break
		}
		layout.Partitions = append(layout.Partitions,
			partition.Spec{Type: dataType, Name: partition.EmptyName, Size: 1 << 20}, partition.Spec{Type: treeType, Name: partition.EmptyName, Size: 1 << 20})
		if k.sign {
			layout.Partitions = append(layout.Partitions, partition.Spec{Type: sigType, Name: partition.EmptyName, Size: max(k.signSize, 16<<10)})
		}
	}
	image, err := partition.Plan(layout)
	require.NoError(t, err)
	s.disk = faultio.NewDisk(image.Size)
	require.NoError(t, partition.WriteImage(s.disk, image, partition.WriteOptions{TargetIsZero: true}))
	if k.fill != nil {
		k.fill(s)
	}
	s.bootAndRun()
	if k.mounted {
		s.mount()
	}
	return s
}

// release is a version as this kind of disk has it.
func (k *diskKind) release(s *system, version string) *release.Release {
	if k.releases == nil {
		k.releases = map[string]*release.Release{}
	}
	if r := k.releases[version]; r != nil {
		return r
	}
	set := s.build(version)
	r := set.Release()
	switch {
	case k.set != nil:
		r = k.set(s, version)
	case k.alone:
		uki := s.withUKI(set, func(im *uki.Image) { im.Cmdline = "talos.platform=metal" }, 0).UKI
		r = &release.Release{ID: r.ID, Version: r.Version, UKI: uki}
	case k.usr:
		r = s.withUKI(set, func(im *uki.Image) {
			im.Cmdline = fmt.Sprintf("usrhash=%x", set.RootHash)
			if k.sign {
				im.Cmdline += " systemd.verity_usr_options=root-hash-signature=auto"
			}
		}, 0)
	}
	if k.sign {
		db := s.builder.Keys.SecureBoot.DB
		signature, err := verity.SignRootHash(set.RootHash, db.Key, db.Cert)
		require.NoError(s.t, err)
		content, err := signature.Partition(0)
		require.NoError(s.t, err)
		r.RootHashSignature = source(content)
	}
	k.releases[version] = r
	return r
}

// A disk of each kind is upgraded, committed, upgraded over the oldest, and rolled back.
func TestDiskKinds(t *testing.T) {
	for _, k := range diskKinds() {
		t.Run(k.name, func(t *testing.T) {
			s := k.on(t)
			for _, version := range []string{"2", "3"} {
				p := s.planOf(k.release(s, version), upgrade.PlanOptions{})
				require.NoError(t, p.Refused(), "%s", p)
				require.NoError(t, p.Apply(t.Context(), nil))
				b := s.bootAndRun()
				require.Equal(t, version, b.Version)
				require.NoError(t, s.commit(b))
				found, err := s.esp().Check()
				require.NoError(t, err)
				require.True(t, found.Clean(), "%s", found)
			}
			require.NoError(t, rollback(s.disk, s.machine, ""))
			require.Equal(t, "2", s.boot().Version)
		})
	}
}
