package build_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
	"github.com/osmith-dev/osmith/verity"
)

var seedOfDisks = osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")

// written is a disk that was planned, written.
func written(t *testing.T, d *build.DiskImage) *faultio.Disk {
	t.Helper()
	disk := faultio.NewDisk(d.Size)
	require.NoError(t, partition.WriteImage(disk, d.Image, partition.WriteOptions{TargetIsZero: true}))
	return disk
}

// enrolling has the keys of all tests put onto the ESP.
func enrolling(o build.DiskOptions) build.DiskOptions {
	testKeys()
	o.Seed, o.Enroll = seedOfDisks, hierarchy
	o.EnrollOptions = secureboot.EnrollOptions{Time: hierarchy.DB.Cert.NotBefore, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}}
	return o
}

// machineOf is the machine behind an enrolment.
func machineOf(d *build.DiskImage) upgrade.Machine {
	return upgrade.Machine{Offline: true, Firmware: &d.Enrollment.Variables, Loader: &bootloader.Variables{}, LoaderPaths: []string{}, NoShim: true,
		PCRKeys: []*rsa.PublicKey{testKeys().PCR[0].Signer.Public().(*rsa.PublicKey)}}
}

// The zero value makes a disk that boots, takes an upgrade and boots that: by the oracle of the
// upgrade engine, which shares no code with this package.
func TestDisk(t *testing.T) {
	p := parts()
	one := system(t, p)
	d, err := build.Disk(t.Context(), &one.Release, enrolling(build.DiskOptions{}))
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_1.efi", d.Entry)
	disk := written(t, d)
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	require.Empty(t, table.Findings())
	esp, err := fat.OpenReader(table.Section(disk, 0))
	require.NoError(t, err)
	conf, err := esp.ReadFile("loader/loader.conf")
	require.NoError(t, err)
	require.Equal(t, "secure-boot-enroll force\n", string(conf))
	_, err = esp.Stat("loader/keys/auto/PK.auth")
	require.NoError(t, err)
	var labels []string
	for _, q := range table.Partitions {
		labels = append(labels, q.Name)
	}
	require.Equal(t, []string{"esp", "acme_1", "acme_1_verity", "acme_1_verity_sig", "_empty", "_empty", "_empty"}, labels)
	signature, err := verity.ReadSignature(table.Section(disk, 3))
	require.NoError(t, err)
	_, err = signature.Verify([]*x509.Certificate{hierarchy.Verity.Cert})
	require.NoError(t, err)
	require.Equal(t, one.RootHash, signature.RootHash)

	up := func() *upgradetest.Boot {
		boots, err := (&upgradetest.Machine{Disk: disk, Machine: machineOf(d)}).BootUntilUp(t.Context(), 3)
		require.NoError(t, err)
		last := boots[len(boots)-1]
		require.Equal(t, upgradetest.Up, last.Outcome)
		return last
	}
	require.Equal(t, "1", up().Version)
	p.UKI.Image.OSRelease = []byte(strings.ReplaceAll(osRelease, "=1", "=2"))
	p.Root = bytes.NewReader(bytes.Repeat([]byte("more"), 80<<10))
	two := system(t, p)
	plan, err := upgrade.NewPlan(t.Context(), disk, &two.Release, machineOf(d), upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, plan.Apply(t.Context(), nil), "%s", plan)
	require.Equal(t, "2", up().Version)

	again, err := build.Disk(t.Context(), &one.Release, enrolling(build.DiskOptions{}))
	require.NoError(t, err)
	other := written(t, again)
	first, err := build.Disk(t.Context(), &one.Release, enrolling(build.DiskOptions{}))
	require.NoError(t, err)
	require.Equal(t, contentOf(t, other), contentOf(t, written(t, first)), "the same seed makes the same disk")
}

// A disk with a version to fall back to from its first start on: the newer one is damaged where the
// kernel reads, uses up its tries, and the older one comes up.
func TestDiskOlder(t *testing.T) {
	p := parts()
	one := system(t, p)
	p.UKI.Image.OSRelease = []byte(strings.ReplaceAll(osRelease, "=1", "=2"))
	p.Root = bytes.NewReader(bytes.Repeat([]byte("more"), 80<<10))
	two := system(t, p)
	d, err := build.Disk(t.Context(), &two.Release, enrolling(build.DiskOptions{Older: []*release.Release{&one.Release}, Tries: 2}))
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_2+2.efi", d.Entry)
	disk := written(t, d)
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	var labels []string
	for _, q := range table.Partitions {
		labels = append(labels, q.Name)
	}
	require.Equal(t, []string{"esp", "acme_2", "acme_2_verity", "acme_2_verity_sig", "acme_1", "acme_1_verity", "acme_1_verity_sig"}, labels)
	for i, set := range []*build.Set{two, one} {
		signature, err := verity.ReadSignature(table.Section(disk, 3+3*i))
		require.NoError(t, err)
		require.Equal(t, set.RootHash, signature.RootHash)
		require.NoError(t, verity.Verify(t.Context(), d.Content(1+3*i), d.Content(2+3*i), set.RootHash))
	}
	machine := &upgradetest.Machine{Disk: disk, Machine: machineOf(d)}
	boots, err := machine.BootUntilUp(t.Context(), 3)
	require.NoError(t, err)
	require.Len(t, boots, 1)
	require.Equal(t, "2", boots[0].Version)

	damaged := written(t, d)
	off, _ := table.Extent(1)
	_, err = damaged.WriteAt([]byte("damage"), off)
	require.NoError(t, err)
	machine = &upgradetest.Machine{Disk: damaged, Machine: machineOf(d)}
	boots, err = machine.BootUntilUp(t.Context(), 4)
	require.NoError(t, err)
	require.Len(t, boots, 3)
	require.Equal(t, upgradetest.Up, boots[2].Outcome)
	require.Equal(t, "1", boots[2].Version)

	refused := func(want string, first *build.Set, o build.DiskOptions) {
		t.Helper()
		var r *release.Release
		if first != nil {
			r = &first.Release
		}
		_, err := build.Disk(t.Context(), r, enrolling(o))
		require.ErrorContains(t, err, want)
	}
	older := []*release.Release{&one.Release}
	refused("Older has version 2 after version 1: want the newest first", one, build.DiskOptions{Older: []*release.Release{&two.Release}})
	refused("Older has version 1 after version 1", one, build.DiskOptions{Older: older})
	refused("Older has a set that is nil", two, build.DiskOptions{Older: []*release.Release{nil}})
	refused("1 slots: want at least 2, one for each set", two, build.DiskOptions{Older: older, Slots: 1})
	other := one.Release
	other.ID = "other"
	refused("want the product and architecture of the first set", two, build.DiskOptions{Older: []*release.Release{&other}})
	alone := one.Release
	alone.Root, alone.Tree, alone.RootHash, alone.RootHashSignature = nil, nil, nil, nil
	refused("different kind of file system", two, build.DiskOptions{Older: []*release.Release{&alone}})
	_, err = build.Disk(t.Context(), nil, build.DiskOptions{Seed: seedOfDisks, Older: older})
	require.ErrorContains(t, err, "Older without a first set")
	layout := repart(t, map[string]string{"10-esp": "Type=esp\nSizeMinBytes=64M\n", "20-a": "Type=root\nSizeMinBytes=16M\n", "21-a": "Type=root-verity\nSizeMinBytes=1M\n"})
	refused("the layout has 1 partitions for the root file system", two, build.DiskOptions{Layout: layout, Older: older})
}

func contentOf(t *testing.T, src osmith.Source) []byte {
	t.Helper()
	b := make([]byte, src.Size())
	_, err := src.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

// What the set has beside the UKI is on the ESP, before it; a counter is in its name; files of the
// caller are there.
func TestDiskESP(t *testing.T) {
	p := parts()
	p.Addons = []release.Addon{{Name: "debug.addon.efi", Content: strings.NewReader("debug")}}
	set := system(t, p)
	d, err := build.Disk(t.Context(), &set.Release, build.DiskOptions{Seed: seedOfDisks, Tries: 3, Slots: 3, SlotSize: 8 << 20, ESPSize: 64 << 20,
		Files:  []osmith.ESPFile{{Path: "loader/credentials/a.cred", Content: strings.NewReader("secret")}},
		More:   []partition.Spec{{Type: partition.LinuxGeneric, Name: "state", Size: 4 << 20}},
		Loader: &bootloader.Installation{Config: &bootloader.Config{Timeout: "7"}}})
	require.NoError(t, err)
	require.Equal(t, "EFI/Linux/acme_1+3.efi", d.Entry)
	require.Len(t, d.Table.Partitions, 1+3*3+1)
	esp, err := fat.OpenReader(d.Table.Section(written(t, d), d.ESP))
	require.NoError(t, err)
	for name, want := range map[string]string{"EFI/Linux/acme_1.efi.extra.d/debug.addon.efi": "debug", "loader/credentials/a.cred": "secret", "loader/loader.conf": "timeout 7\n"} {
		b, err := esp.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	_, size := d.Table.Extent(1)
	require.EqualValues(t, 8<<20, size)
}

// repart is a layout of definition files.
func repart(t *testing.T, files map[string]string) *partition.Layout {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name+".conf"] = &fstest.MapFile{Data: []byte("[Partition]\n" + text)}
	}
	r, err := partition.ReadRepart(fsys, partition.RepartOptions{})
	require.NoError(t, err)
	l := r.Layout
	l.FileSystemSectorSize = 4096
	return &l
}

// host is a tree of files as a build leaves it.
var host = fstest.MapFS{
	"etc/os-release":      {Data: []byte(osRelease), Mode: 0o644},
	"usr/bin/tool":        {Data: bytes.Repeat([]byte("tool"), 5000), Mode: fs.ModeSetuid | 0o755},
	"usr/bin/link":        {Data: []byte("tool"), Mode: fs.ModeSymlink | 0o777},
	"usr/share/doc/a":     {Data: []byte("a"), Mode: 0o644},
	"usr/share/doc/sub/b": {Data: []byte("b"), Mode: 0o644},
	"boot/loader.conf":    {Data: []byte("timeout 3\n"), Mode: 0o644},
	"keys/home":           {Data: []byte("secret"), Mode: 0o600},
	"raw":                 {Data: bytes.Repeat([]byte("raw "), 1<<18), Mode: 0o644},
}

// definitions ask for one partition of each kind that is made.
func definitions() map[string]string {
	return map[string]string{
		"10-esp":    "Type=esp\nFormat=vfat\nSizeMinBytes=40M\nCopyFiles=/boot:/loader\nMakeDirectories=/EFI/Linux\n",
		"20-root":   "Type=root\nFormat=erofs\nCopyFiles=/usr:/usr\nCopyFiles=/etc:/etc\nExcludeFiles=/usr/share/doc/\nMakeDirectories=/proc /sys\nMakeSymlinks=/bin:usr/bin\nVerity=data\nVerityMatchKey=root\nMinimize=best\n",
		"21-verity": "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
		"22-sig":    "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=root\n",
		"30-swap":   "Type=swap\nFormat=swap\nSizeMinBytes=16M\nSizeMaxBytes=16M\n",
		"40-home":   "Type=home\nEncrypt=key-file\nKeyFile=/keys/home\nCopyBlocks=/raw\nSizeMinBytes=48M\nSizeMaxBytes=48M\n",
		"50-raw":    "Type=linux-generic\nCopyBlocks=/raw\n",
	}
}

func fillOptions(t *testing.T) build.DiskOptions {
	testKeys()
	return build.DiskOptions{Seed: seedOfDisks, Layout: repart(t, definitions()), Host: host, TempDir: t.TempDir(), Verity: hierarchy.Verity,
		Volumes: map[string]build.Volume{"40-home": {Format: luks.FormatOptions{Rand: rand.NewChaCha8([32]byte{}), Key: luks.KeyOptions{KDF: luks.KDF{Type: luks.PBKDF2, Iterations: 1000}}}}}}
}

// TestDiskFills has a disk made of definition files alone, and reads back what is in each
// partition.
func TestDiskFills(t *testing.T) {
	d, err := build.Disk(t.Context(), nil, fillOptions(t))
	require.NoError(t, err)
	disk := written(t, d)
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	require.Empty(t, table.Findings())
	require.Len(t, table.Partitions, 7)
	root := d.RootHashes["root"]
	require.NoError(t, verity.Verify(t.Context(), table.Section(disk, 1), table.Section(disk, 2), root))
	data, tree, err := partition.VerityIDs(root)
	require.NoError(t, err)
	require.Equal(t, []osmith.GUID{data, tree}, []osmith.GUID{table.Partitions[1].ID, table.Partitions[2].ID})
	signature, err := verity.ReadSignature(table.Section(disk, 3))
	require.NoError(t, err)
	require.Equal(t, root, signature.RootHash)
	_, err = signature.Verify([]*x509.Certificate{hierarchy.Verity.Cert})
	require.NoError(t, err)

	files, err := erofs.Open(table.Section(disk, 1))
	require.NoError(t, err)
	var names []string
	require.NoError(t, fs.WalkDir(files, ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	}))
	require.Equal(t, []string{".", "bin", "etc", "etc/os-release", "proc", "sys", "usr", "usr/bin", "usr/bin/link", "usr/bin/tool", "usr/share", "usr/share/doc"}, names)
	b, err := fs.ReadFile(files, "usr/bin/tool")
	require.NoError(t, err)
	require.Equal(t, host["usr/bin/tool"].Data, b)
	info, err := fs.Stat(files, "usr/bin/tool")
	require.NoError(t, err)
	// its setuid bit, fsck.erofs sees: TestFileSystemsOfOthers
	require.Equal(t, fs.FileMode(0o755), info.Mode().Perm())

	esp, err := fat.OpenReader(table.Section(disk, 0))
	require.NoError(t, err)
	b, err = esp.ReadFile("loader/loader.conf")
	require.NoError(t, err)
	require.Equal(t, "timeout 3\n", string(b))
	_, err = esp.Stat("EFI/Linux")
	require.NoError(t, err)

	volume, err := luks.OpenReader(table.Section(disk, 5))
	require.NoError(t, err)
	require.Equal(t, partition.LUKSID(table.Partitions[5].ID).String(), volume.Header().UUID)
	require.Equal(t, "luks-home", volume.Header().Label)
	key, err := volume.Unlock([]byte("secret"), luks.UnlockOptions{})
	require.NoError(t, err)
	inside, err := volume.NewReader(key)
	require.NoError(t, err)
	require.Equal(t, host["raw"].Data, contentOf(t, inside)[:len(host["raw"].Data)])
	require.Equal(t, host["raw"].Data, contentOf(t, table.Section(disk, 6))[:len(host["raw"].Data)])
}

// Slots of a layout get the labels of the set, or that of an empty one, whatever it calls them.
func TestDiskLayoutSlots(t *testing.T) {
	set := system(t, parts())
	d, err := build.Disk(t.Context(), &set.Release, build.DiskOptions{Seed: seedOfDisks, Layout: repart(t, map[string]string{"10-esp": "Type=esp\nSizeMinBytes=64M\n", "20-a": "Type=root\nLabel=a\nSizeMinBytes=16M\n",
		"21-a": "Type=root-verity\nLabel=av\nSizeMinBytes=1M\n", "30-b": "Type=root\nLabel=b\nSizeMinBytes=16M\n", "31-b": "Type=root-verity\nLabel=bv\nSizeMinBytes=1M\n"})})
	require.NoError(t, err)
	var labels []string
	for _, p := range d.Table.Partitions[1:] {
		labels = append(labels, p.Name)
	}
	require.Equal(t, []string{"acme_1", "acme_1_verity", "_empty", "_empty"}, labels)
	require.NoError(t, verity.Verify(t.Context(), d.Content(1), d.Content(2), set.RootHash))
}

// Data of no whole block is filled up with zeros.
func TestDiskPadsData(t *testing.T) {
	o := fillOptions(t)
	o.Host = fstest.MapFS{"raw": {Data: make([]byte, 5000), Mode: 0o644}}
	o.Layout, o.Volumes = repart(t, map[string]string{"20": "Type=root\nCopyBlocks=/raw\nVerity=data\nVerityMatchKey=x\n", "21": "Type=root-verity\nVerity=hash\nVerityMatchKey=x\n"}), nil
	d, err := build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
	disk := written(t, d)
	require.NoError(t, verity.Verify(t.Context(), d.Table.Section(disk, 0), d.Table.Section(disk, 1), d.RootHashes["x"]))
}

func TestDiskRefused(t *testing.T) {
	set := system(t, parts())
	bare := parts()
	bare.Loader = nil
	loaderless := system(t, bare)
	stranger := parts()
	stranger.Loader = bytes.NewReader(petest.Loader("262"))
	unsigned, err := build.System(t.Context(), t.TempDir(), stranger, build.Keys{})
	require.NoError(t, err)
	defer unsigned.Close()
	half := set.Release
	half.Root = nil
	only := func(text string) func(o *build.DiskOptions) {
		return func(o *build.DiskOptions) { o.Layout = repart(t, map[string]string{"10-x": text}) }
	}
	for _, c := range []struct {
		want   string
		r      *release.Release
		change func(o *build.DiskOptions)
	}{
		{"no Seed", &set.Release, func(o *build.DiskOptions) { o.Seed = osmith.GUID{} }},
		{"disk: the release has a root hash without its root file system or hash tree: want all three, or none for a UKI alone", &half, func(*build.DiskOptions) {}},
		{"neither a set nor a Layout", nil, func(*build.DiskOptions) {}},
		{"no boot loader", &loaderless.Release, func(*build.DiskOptions) {}},
		{"Tries without a set", nil, func(o *build.DiskOptions) { o.Tries = 3 }},
		{"want 1 to 99", &set.Release, func(o *build.DiskOptions) { o.Tries = 100 }},
		{"disk: Slots, SlotSize, ESPSize and More are given together with Layout: want one or the other", &set.Release, func(o *build.DiskOptions) { o.Layout, o.Slots = &partition.Layout{}, 2 }},
		{"has the seed", &set.Release, func(o *build.DiskOptions) { o.Layout = &partition.Layout{Seed: osmith.GUID{2}} }},
		{"no partition for the root file system (root-x86-64)", &set.Release, only("Type=esp\n")},
		{"no partition for its hash tree", &set.Release, only("Type=root\n")},
		{"disk: files for an EFI system partition are given, but the layout has none", nil, func(o *build.DiskOptions) {
			only("Type=root\n")(o)
			o.Files = []osmith.ESPFile{{Path: "a", Content: strings.NewReader("a")}}
		}},
		{"Contents has \"20-y\"", nil, func(o *build.DiskOptions) {
			only("Type=esp\n")(o)
			o.Contents = map[string]osmith.Source{"20-y": strings.NewReader("y")}
		}},
		{"is to have a file system of type btrfs: want FAT, EROFS, squashfs, ext4 or swap: no other file systems are made: make the content elsewhere and give it as DiskOptions.Contents[\"10-x\"]", nil, only("Type=home\nFormat=btrfs\n")},
		{"squashfs is made with zstd or gzip, or without compression", nil, only("Type=root\nFormat=squashfs\nCompression=lzo\n")},
		{"EROFS is made only without compression", nil, only("Type=root\nFormat=erofs\nCompression=lz4hc\n")},
		{"no system runs from this disk yet", nil, only("Type=root\nCopyBlocks=auto\n")},
		{"no files are given (DiskOptions.Host)", nil, func(o *build.DiskOptions) { only("Type=root\nCopyBlocks=/raw\n")(o); o.Host = nil }},
		{"file does not exist", nil, only("Type=root\nCopyBlocks=/none\n")},
		{"no TempDir", nil, func(o *build.DiskOptions) { only("Type=root\nFormat=erofs\n")(o); o.TempDir = "" }},
		{"give its secrets as DiskOptions.Volumes[\"10-x\"]", nil, only("Type=home\nEncrypt=key-file\nCopyBlocks=/raw\n")},
		{"Format.Rand is needed", nil, func(o *build.DiskOptions) {
			only("Type=home\nEncrypt=key-file\nCopyBlocks=/raw\n")(o)
			o.Volumes = map[string]build.Volume{"10-x": {}}
		}},
		{"a key for a TPM is added by Keys", nil, func(o *build.DiskOptions) {
			only("Type=home\nEncrypt=tpm2\nCopyBlocks=/raw\n")(o)
			o.Volumes = map[string]build.Volume{"10-x": {Passphrase: []byte("x"), Format: luks.FormatOptions{Rand: rand.NewChaCha8([32]byte{})}}}
		}},
		{"no passphrase, key file or Keys, so nothing could unlock the volume", nil, func(o *build.DiskOptions) {
			only("Type=home\nEncrypt=key-file\nCopyBlocks=/raw\n")(o)
			o.Volumes = map[string]build.Volume{"10-x": {Format: luks.FormatOptions{Rand: rand.NewChaCha8([32]byte{})}}}
		}},
		{"give a key (DiskOptions.Verity)", nil, func(o *build.DiskOptions) { o.Layout, o.Verity = repart(t, definitions()), secureboot.KeyPair{} }},
		{"the layout and the system both have the file EFI/Linux/acme_1.efi", &set.Release, func(o *build.DiskOptions) {
			o.Layout = repart(t, map[string]string{"10-esp": "Type=esp\nFormat=vfat\nSizeMinBytes=40M\nCopyFiles=/raw:/EFI/Linux/acme_1.efi\n", "20-root": "Type=root\n", "21-v": "Type=root-verity\n"})
		}},
		{"has a content, but its slot is filled from the set: drop the content, or give no set", &set.Release, func(o *build.DiskOptions) {
			o.Layout = repart(t, map[string]string{"10-esp": "Type=esp\n", "20-root": "Type=root\n", "21-v": "Type=root-verity\n"})
			o.Contents = map[string]osmith.Source{"20-root": strings.NewReader("x")}
		}},
		{"the machine would not boot boot loader, UKI", &unsigned.Release, func(o *build.DiskOptions) { *o = enrolling(*o) }},
		{"Enroll without a boot loader", nil, func(o *build.DiskOptions) { only("Type=esp\n")(o); *o = enrolling(*o) }},
	} {
		o := fillOptions(t)
		o.Layout, o.Volumes = nil, nil
		c.change(&o)
		d, err := build.Disk(t.Context(), c.r, o)
		require.ErrorContains(t, err, c.want, c.want)
		require.True(t, strings.HasPrefix(err.Error(), "build: "), err)
		require.NotContains(t, err.Error()[7:], "build: ")
		require.Nil(t, d)
	}
}

// What is kept in memory is bounded, unless there is a place for it.
func TestDiskMemory(t *testing.T) {
	o := fillOptions(t)
	o.Layout = repart(t, map[string]string{"20-root": "Type=root\nFormat=erofs\nCopyFiles=/:/\n"})
	o.Host = fstest.MapFS{"large": {Data: make([]byte, 70<<20), Mode: 0o644}}
	_, err := build.Disk(t.Context(), nil, o)
	require.ErrorContains(t, err, "more than 64 MiB: give DiskOptions.Scratch")
	o.Scratch = func() (build.Scratch, error) { return faultio.NewDisk(100 << 20), nil }
	_, err = build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
}

// Boot says what the engine says that an upgrade of the same disk would measure, and the table, the
// loader's configuration and the kernel's command line besides.
func TestBoot(t *testing.T) {
	set := system(t, parts())
	d, err := build.Disk(t.Context(), &set.Release, enrolling(build.DiskOptions{}))
	require.NoError(t, err)
	ways, err := build.Boot(t.Context(), d, build.BootOptions{Variables: &d.Enrollment.Variables, NoBootSecret: true, NoShim: true})
	require.NoError(t, err)
	m := machineOf(d)
	m.Banks = tpm.Banks()
	log, err := upgrade.PredictBoot(m, set.Loader, set.UKI)
	require.NoError(t, err)
	for _, h := range tpm.Banks() {
		all, err := ways.Values(h)
		require.NoError(t, err)
		want, err := log.Values(h)
		require.NoError(t, err)
		for _, n := range []int{4, 7, 11} {
			require.Equal(t, [][]byte{want[n]}, all[n], n)
		}
		require.NotEmpty(t, all[5], "the partition table is known")
	}

	_, err = build.Boot(t.Context(), d, build.BootOptions{Variables: &osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: []byte{}, KEK: []byte{}, DB: []byte{}, DBX: []byte{}}})
	var refused *build.RefusedImageError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "EFI/systemd/systemd-bootx64.efi", refused.Path)
	ways, err = build.Boot(t.Context(), d, build.BootOptions{})
	require.NoError(t, err)
	all, err := ways.Values(tpm.Banks()[0])
	require.NoError(t, err)
	require.Empty(t, all[7], "what is not known is not claimed")
	_, err = build.Boot(t.Context(), &build.DiskImage{ESP: -1}, build.BootOptions{})
	require.ErrorContains(t, err, "boot: the disk has no system")
}

// A file that is another one when the disk is written ends that: what was planned is what is
// written, or nothing that boots.
func TestDiskHostChanges(t *testing.T) {
	o := fillOptions(t)
	o.Layout, o.Volumes = repart(t, map[string]string{"10-raw": "Type=linux-generic\nCopyBlocks=/raw\n"}), nil
	own := fstest.MapFS{"raw": {Data: []byte("four"), Mode: 0o644}}
	o.Host = own
	d, err := build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
	own["raw"] = &fstest.MapFile{Data: []byte("longer"), Mode: 0o644}
	disk := faultio.NewDisk(d.Size)
	err = partition.WriteImage(disk, d.Image, partition.WriteOptions{TargetIsZero: true})
	require.ErrorContains(t, err, "raw changed since the disk was planned: 6 bytes, want 4")
	_, err = partition.Read(disk, partition.ReadOptions{})
	require.ErrorIs(t, err, partition.ErrNoTable)
}

// shrinking is a file system whose files are shorter than it says.
type shrinking struct{ fstest.MapFS }

func (s shrinking) Open(name string) (fs.File, error) {
	f, err := s.MapFS.Open(name)
	return &short{f}, err
}

type short struct{ fs.File }

func (s *short) Read(p []byte) (int, error) {
	if len(p) > 1 {
		p = p[:1]
	}
	n, err := s.File.Read(p)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

func TestTreeChanges(t *testing.T) {
	tree := shrinking{fstest.MapFS{"a": {Data: []byte("four"), Mode: 0o644}}}
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	require.NoError(t, err)
	defer f.Close()
	require.ErrorContains(t, build.WriteEROFS(t.Context(), f, tree, build.EROFSOptions{TempDir: t.TempDir()}), "/a: the file changed: 1 bytes, want 4 as in its directory")
	require.ErrorContains(t, build.WriteInitrd(t.Context(), io.Discard, tree, osmith.TreeOptions{}), "a: the file changed: 1 bytes, want 4 as in its directory")
	require.ErrorContains(t, build.WriteEROFS(t.Context(), f, fstest.MapFS{}, build.EROFSOptions{TempDir: t.TempDir(), Label: strings.Repeat("x", 17)}), "want at most 16")
	device := fstest.MapFS{"d": {Mode: fs.ModeDevice | 0o600, Sys: &osmith.Node{Major: 1, Minor: 1 << 20}}}
	require.ErrorContains(t, build.WriteInitrd(t.Context(), io.Discard, device, osmith.TreeOptions{}), "d: device number 1:1048576: want at most 4095:1048575")
	require.ErrorContains(t, build.WriteEROFS(t.Context(), io.NewOffsetWriter(&file{}, 0), device, build.EROFSOptions{TempDir: t.TempDir()}), "/d: device number 1:1048576: want at most 4095:1048575")
	require.ErrorContains(t, build.WriteInitrd(t.Context(), io.Discard, noLinks{fstest.MapFS{"l": {Mode: fs.ModeSymlink}}}, osmith.TreeOptions{}), "the file system does not support reading symbolic links")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, build.WriteInitrd(ctx, io.Discard, host, osmith.TreeOptions{}), context.Canceled)
	require.ErrorIs(t, build.WriteEROFS(ctx, f, host, build.EROFSOptions{TempDir: t.TempDir()}), context.Canceled)
	require.ErrorIs(t, build.WriteInitrd(t.Context(), failing{}, host, osmith.TreeOptions{}), errFull)
}

// Times are no later than the one that is given, and 1970 without one; files of 4 GiB do not fit
// into an initrd.
func TestTreeTimes(t *testing.T) {
	at := func(modified, latest time.Time) string {
		var b bytes.Buffer
		require.NoError(t, build.WriteInitrd(t.Context(), &b, fstest.MapFS{"a": {ModTime: modified, Mode: 0o644}}, osmith.TreeOptions{Time: latest}))
		return string(b.Bytes()[46:54])
	}
	require.Equal(t, "00000000", at(time.Unix(100, 0), time.Time{}))
	require.Equal(t, "00000064", at(time.Unix(100, 0), time.Unix(200, 0)))
	require.Equal(t, "000000C8", at(time.Unix(300, 0), time.Unix(200, 0)))
	require.Equal(t, "00000000", at(time.Unix(-5, 0), time.Unix(200, 0)))
	require.ErrorContains(t, build.WriteInitrd(t.Context(), io.Discard, huge{fstest.MapFS{"a": {Mode: 0o644}}}, osmith.TreeOptions{}), "a: 4294967296 bytes: the format has at most 4294967295 a file")
}

// huge is a file system of files of 4 GiB.
type huge struct{ fstest.MapFS }

func (h huge) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := h.MapFS.ReadDir(name)
	for i, e := range list {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		list[i] = fs.FileInfoToDirEntry(hugeInfo{info})
	}
	return list, err
}

type hugeInfo struct{ fs.FileInfo }

func (hugeInfo) Size() int64 { return 1 << 32 }

type noLinks struct{ m fstest.MapFS }

func (n noLinks) Open(name string) (fs.File, error) { return n.m.Open(name) }

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

// Whether an add-on counts is for the machine's variables to say: those that it refuses are left
// out, and without variables it is not known.
func TestBootAddons(t *testing.T) {
	addon := func(signed bool) osmith.Source {
		a := uki.Addon{Stub: bytes.NewReader(petest.AddonStub("262")), Cmdline: "debug"}
		made, err := a.Assemble()
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = made.WriteTo(&b)
		require.NoError(t, err)
		if !signed {
			return bytes.NewReader(b.Bytes())
		}
		out, err := build.SignLoader(bytes.NewReader(b.Bytes()), testKeys())
		require.NoError(t, err)
		return out
	}
	values := map[string][]byte{}
	for _, name := range []string{"none", "signed", "unsigned"} {
		p := parts()
		if name != "none" {
			p.Addons = []release.Addon{{Name: "debug.addon.efi", Content: addon(name == "signed")}}
		}
		set := system(t, p)
		d, err := build.Disk(t.Context(), &set.Release, enrolling(build.DiskOptions{}))
		require.NoError(t, err)
		ways, err := build.Boot(t.Context(), d, build.BootOptions{Variables: &d.Enrollment.Variables, NoBootSecret: true, NoShim: true})
		require.NoError(t, err)
		all, err := ways.Values(tpm.Banks()[0])
		require.NoError(t, err)
		require.Len(t, all[4], 1)
		values[name] = all[4][0]
		if name != "none" {
			_, err = build.Boot(t.Context(), d, build.BootOptions{})
			require.ErrorContains(t, err, "whether the machine starts the add-on debug.addon.efi is unknown")
		}
	}
	require.Equal(t, values["none"], values["unsigned"])
	require.NotEqual(t, values["none"], values["signed"])
}
