package compare

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

const (
	upgradeRoot = 1024 * mib
	upgradeUKI  = 119 * mib
)

// machine is a disk image with version 1, a small one, and a release of 1 GiB with a UKI of 119 MB.
func machine(b *testing.B) (disk *osmith.Device, facts upgrade.Machine, r *release.Release, files [2]string) {
	dir := b.TempDir()
	when := time.Unix(1_767_225_600, 0)
	keys, err := acmeos.GenerateKeys(when)
	require.NoError(b, err)
	builder := &acmeos.Builder{Keys: keys, Parts: acmeos.StandIns(), Seed: osmith.GUID{1}, Time: when}
	facts, err = builder.Machine()
	require.NoError(b, err)
	small := filepath.Join(dir, "1.raw")
	require.NoError(b, acmeos.WriteRoot(small, "1", nil))
	one, err := builder.Build(context.Background(), dir, "1", small)
	require.NoError(b, err)
	b.Cleanup(func() { one.Close() })
	noise(b, filepath.Join(dir, "2.raw"), upgradeRoot)
	builder.Parts.Initrd = source(noise(b, filepath.Join(dir, "initrd"), upgradeUKI))
	two, err := builder.Build(context.Background(), dir, "2", filepath.Join(dir, "2.raw"))
	require.NoError(b, err)
	b.Cleanup(func() { two.Close() })
	image, err := builder.Disk(one, acmeos.DiskOptions{RootSize: upgradeRoot, ESPSize: 512 * mib})
	require.NoError(b, err)
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	require.NoError(b, err)
	require.NoError(b, f.Truncate(image.Size))
	require.NoError(b, partition.WriteImage(f, image, partition.WriteOptions{TargetIsZero: true}))
	disk, err = osmith.NewDevice(f)
	require.NoError(b, err)
	b.Cleanup(func() { disk.Close() })
	return disk, facts, two.Release(), [2]string{two.Root.(*osmith.Device).File().Name(), two.Tree.(*osmith.Device).File().Name()}
}

// planOptions leave out what has no counterpart: reading the file system that the machine returns
// to.
var planOptions = upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true}

// upgradeFromFiles plans, writes, verifies and makes bootable, and takes it back; the reference
// writes and verifies.
func upgradeFromFiles(b *testing.B) sides {
	disk, facts, r, files := machine(b)
	target := filepath.Join(b.TempDir(), "slot")
	script := "dd if=" + files[0] + " of=" + target + " bs=1M conv=fsync,notrunc status=none; dd if=" + files[1] + " of=" + target + ".tree bs=1M conv=fsync,notrunc status=none; " +
		"veritysetup verify " + target + " " + target + ".tree " + hex.EncodeToString(r.RootHash)
	return sides{
		ours: func() error {
			plan, err := upgrade.NewPlan(context.Background(), disk, r, facts, planOptions)
			if err != nil {
				return err
			}
			if err := plan.Apply(context.Background(), nil); err != nil {
				return err
			}
			_, err = upgrade.Cancel(disk, facts)
			return err
		},
		reference: host(b, script, "dd", "veritysetup"),
	}
}

// upgradePlan judges an upgrade; the reference verifies the file system of the release and hashes
// its UKI.
func upgradePlan(b *testing.B) sides {
	disk, facts, r, files := machine(b)
	uki := filepath.Join(filepath.Dir(files[0]), "acme_2.efi")
	return sides{
		ours: func() error {
			_, err := upgrade.NewPlan(context.Background(), disk, r, facts, planOptions)
			return err
		},
		reference: host(b, "veritysetup verify "+files[0]+" "+files[1]+" "+hex.EncodeToString(r.RootHash)+"; sha256sum "+uki, "veritysetup", "sha256sum"),
	}
}
