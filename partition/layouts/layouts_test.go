package layouts_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/layouts"
)

// Every layout is a disk that sgdisk and sfdisk find good, and comes back from its layout file as
// it was.
func TestLayouts(t *testing.T) {
	for name, layout := range map[string]func() partition.Layout{
		"ParticleOS": layouts.ParticleOS, "GNOMEOS": layouts.GNOMEOS, "IncusOS": layouts.IncusOS, "KairosUKI": layouts.KairosUKI,
		"Talos": layouts.Talos, "Bottlerocket": layouts.Bottlerocket, "Flatcar": layouts.Flatcar, "ChromeOS": layouts.ChromeOS,
	} {
		t.Run(name, func(t *testing.T) {
			l := layout()
			text, err := json.Marshal(l)
			require.NoError(t, err)
			back, err := partition.ReadLayout(bytes.NewReader(text))
			require.NoError(t, err)
			require.Equal(t, l, back)
			l.Seed = osmith.GUID{1, 2, 3}
			if l.Size == 0 {
				l.Size = 64 << 30
			}
			im, err := partition.Plan(l)
			require.NoError(t, err)
			d := faultio.NewDisk(im.Size)
			require.NoError(t, partition.WriteImage(d, im, partition.WriteOptions{TargetIsZero: true}))
			table, err := partition.Read(d, partition.ReadOptions{})
			require.NoError(t, err)
			again, err := partition.PlanOnto(table, l)
			require.NoError(t, err)
			for _, o := range again.Operations() {
				require.Equal(t, partition.OperationKeep, o.Kind, again.Operations().String())
			}
			testtools.Require(t, "sgdisk")
			f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
			require.NoError(t, err)
			defer f.Close()
			require.NoError(t, f.Truncate(im.Size))
			require.NoError(t, partition.WriteImage(f, im, partition.WriteOptions{TargetIsZero: true}))
			require.Contains(t, testtools.Run(t, "sgdisk", "-v", f.Name()), "No problems found")
			require.Contains(t, testtools.Run(t, "sfdisk", "--verify", f.Name()), "No errors detected")
		})
	}
}
