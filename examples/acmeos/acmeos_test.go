package acmeos

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
)

func TestFindParts(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	for _, step := range []struct{ name, missing string }{
		{"linuxaa64.efi.stub", "no boot stub: looked for"},
		{"systemd-bootaa64.efi", "no boot loader: looked for"},
		{"vmlinuz-1", "no kernel: looked for"},
		{"initrd.img-1", "no initrd: looked for"},
	} {
		_, err := FindParts(dir)
		var missing *MissingPartError
		require.ErrorAs(t, err, &missing)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, step.missing)
		require.NotEmpty(t, missing.Get)
		write(step.name, []byte(step.name))
	}
	p, err := FindParts(dir)
	require.NoError(t, err)
	require.Equal(t, "aa64", p.Architecture)
	require.EqualValues(t, len("vmlinuz-1"), p.Linux.Size())
	require.NoError(t, p.Close())
}

// TestBadInput: what cannot be built is refused with the package's typed error, and no file is
// left.
func TestBadInput(t *testing.T) {
	when := time.Unix(1_767_225_600, 0)
	keys, err := GenerateKeys(when)
	require.NoError(t, err)
	b := &Builder{Keys: keys, Parts: StandIns(), Seed: osmith.GUID{1}, Time: when}
	dir := t.TempDir()
	root := filepath.Join(dir, "root.raw")
	require.NoError(t, WriteRoot(root, "1", nil))

	good := b.Parts.Linux
	b.Parts.Linux = b.Parts.Initrd
	_, err = b.Build(t.Context(), dir, "1", root)
	require.ErrorIs(t, err, uki.ErrNotPE)
	var part *uki.PartError
	require.ErrorAs(t, err, &part)
	require.Equal(t, "Linux", part.Part)
	require.NoFileExists(t, filepath.Join(dir, "acme_1.efi"))
	b.Parts.Linux = good

	b.Parts.Loader = b.Parts.Initrd
	set, err := b.Build(t.Context(), dir, "1", root)
	require.NoError(t, err)
	defer set.Close()
	_, err = b.Disk(set, DiskOptions{})
	require.ErrorContains(t, err, "boot loader")
	b.Parts.Loader = StandIns().Loader

	_, err = b.Disk(set, DiskOptions{ESPSize: 1 << 20})
	var space *partition.SpaceError
	require.ErrorAs(t, err, &space)
	require.Equal(t, "esp", space.Partition)
	require.Greater(t, space.Need, space.Have)
	_, err = b.Disk(set, DiskOptions{RootSize: 4096})
	var slot *partition.SpaceError
	require.ErrorAs(t, err, &slot)
	require.Equal(t, "acme_1", slot.Partition)

	_, err = b.Build(t.Context(), dir, "2", filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestStandInsHaveTheForm(t *testing.T) {
	p := StandIns()
	require.EqualValues(t, len(petest.Stub("262")), p.Stub.Size())
	require.NoError(t, p.Close())
}
