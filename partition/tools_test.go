package partition

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

var (
	diskID = osmith.MustParseGUID("d15c0000-0000-4000-8000-000000000001")
	idN    = func(n byte) osmith.GUID { return osmith.GUID{0: 0x1d, 6: 0x40, 8: 0x80, 15: n} }
	rootH  = []byte("\xa1first half of hash\xb2second half.")
)

func dump(t testing.TB, d *faultio.Disk) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, d.Save(name))
	return name
}

func load(t testing.TB, name string) *faultio.Disk {
	t.Helper()
	d, err := faultio.Load(name)
	require.NoError(t, err)
	return d
}

// requireVerified asks sgdisk and sfdisk about a disk with 512-byte sectors.
func requireVerified(t testing.TB, d *faultio.Disk) {
	t.Helper()
	name := dump(t, d)
	out := testtools.Run(t, "sgdisk", "-v", name)
	require.Contains(t, out, "No problems found", out)
	out = testtools.Run(t, "sfdisk", "--verify", name)
	require.Contains(t, out, "No errors detected", out)
}

func abLayout() Layout {
	data, tree, err := VerityIDs(rootH)
	if err != nil {
		panic(err)
	}
	return Layout{DiskID: diskID, Partitions: []Spec{
		{Type: ESP, ID: idN(1), Name: "esp", Size: 64 << 20, Content: strings.NewReader("esp")},
		{Type: RootX8664, ID: data, Name: "root_1.0", Content: bytes.NewReader(bytes.Repeat([]byte("root"), 5<<18)), Attributes: AttrReadOnly},
		{Type: RootX8664Verity, ID: tree, Name: "root_1.0", Content: bytes.NewReader(bytes.Repeat([]byte("tree"), 50_000)), Attributes: AttrReadOnly},
		{Type: RootX8664, ID: idN(4), Name: EmptyName, Size: 8 << 20, Attributes: AttrReadOnly | AttrNoAuto},
		{Type: RootX8664Verity, ID: idN(5), Name: EmptyName, Size: 1 << 20},
		{Type: Var, ID: idN(6), Name: "var 𝄞", Size: 16 << 20, Attributes: AttrGrowFileSystem},
	}}
}

func image(t testing.TB, l Layout) (*Image, *faultio.Disk) {
	t.Helper()
	im, err := Plan(l)
	require.NoError(t, err)
	d := faultio.NewDisk(im.Size)
	require.NoError(t, WriteImage(d, im, WriteOptions{TargetIsZero: true}))
	return im, d
}
