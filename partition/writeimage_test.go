package partition

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

func TestImage(t *testing.T) {
	im, d := image(t, abLayout())
	require.Equal(t, int64(97<<20), im.Size)
	requireVerified(t, d)
	got, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, diskID, got.DiskID)
	require.False(t, got.UsedBackup)
	require.NoError(t, got.BackupErr)
	require.Len(t, got.Partitions, 6)
	for i, s := range abLayout().Partitions {
		p := got.Partitions[i]
		require.Equal(t, []any{s.Type, s.ID, s.Name, s.Attributes, i + 1}, []any{p.Type, p.ID, p.Name, p.Attributes, p.Number})
		if s.Content != nil {
			want := make([]byte, s.Content.Size())
			s.Content.ReadAt(want, 0)
			have := make([]byte, len(want))
			_, err := got.Section(d, i).ReadAt(have, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, have))
		}
	}
}

// The text that sfdisk prints for the image, reviewed by eye.
func TestGoldenDump(t *testing.T) {
	_, d := image(t, abLayout())
	name := dump(t, d)
	out := testtools.Run(t, "sfdisk", "--dump", name)
	out = strings.ReplaceAll(out, name, "disk.img")
	golden := "testdata/ab.sfdisk"
	if os.Getenv("OSMITH_UPDATE") == "1" {
		require.NoError(t, os.WriteFile(golden, []byte(out), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), out)
}

// Holes, dirty targets and runs make no difference.
func TestImageSameBytes(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		l := abLayout()
		l.SectorSize = ss
		im, clean := image(t, l)
		dirty := faultio.NewDisk(im.Size)
		dirty.WriteAt(bytes.Repeat([]byte{0x77}, int(im.Size)), 0)
		last := int64(0)
		require.NoError(t, WriteImage(dirty, im, WriteOptions{Progress: func(done, total int64) {
			require.LessOrEqual(t, last, done)
			require.Equal(t, im.Size, total)
			last = done
		}}))
		require.Equal(t, im.Size, last)
		a, b := make([]byte, im.Size), make([]byte, im.Size)
		clean.ReadAt(a, 0)
		dirty.ReadAt(b, 0)
		require.True(t, bytes.Equal(a, b), ss)
	}
}

// go-diskfs as a second opinion, with both sector sizes.
func TestSecondOpinion(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		l := abLayout()
		l.SectorSize = ss
		im, d := image(t, l)
		name := dump(t, d)
		b, err := file.OpenFromPath(name, true)
		require.NoError(t, err)
		other, err := gpt.Read(b, ss, ss)
		require.NoError(t, err)
		require.NoError(t, other.Verify(b, uint64(im.Size)))
		require.True(t, strings.EqualFold(diskID.String(), other.GUID))
		n := 0
		for _, p := range other.Partitions {
			if p.Type == gpt.Unused {
				continue
			}
			ours := im.Table.Partitions[n]
			n++
			require.True(t, strings.EqualFold(ours.ID.String(), p.GUID))
			require.Equal(t, []any{ours.Name, ours.FirstLBA, ours.LastLBA, ours.Attributes}, []any{p.Name, p.Start, p.End, p.Attributes})
		}
		require.Equal(t, len(im.Table.Partitions), n)
		require.NoError(t, b.Close())
	}
}

func TestPlanSpace(t *testing.T) {
	l := abLayout()
	need := int64(0)
	{
		im, err := Plan(l)
		require.NoError(t, err)
		_, b, err := im.Table.geometry()
		require.NoError(t, err)
		p := im.Table.Partitions[5]
		need = int64(p.LastLBA+1+33) * 512
		require.Less(t, int64(p.LastLBA), int64(b.entriesLBA))
	}
	l.Size = need
	_, err := Plan(l)
	require.NoError(t, err, "exactly enough")
	l.Size = need - 512
	_, err = Plan(l)
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	require.Equal(t, SpaceError{Need: need, Have: need - 512, Partition: "var 𝄞"}, *space)
	require.EqualValues(t, 512, space.Missing())
	l.Size = 66 << 20 // root_1.0 is the first that does not fit
	_, err = Plan(l)
	require.ErrorAs(t, err, &space)
	require.Equal(t, "root_1.0", space.Partition)

	l = abLayout()
	l.Partitions[1].Size = 4 << 20
	_, err = Plan(l)
	require.ErrorAs(t, err, &space)
	require.Equal(t, SpaceError{Need: 5 << 20, Have: 4 << 20, Partition: "root_1.0"}, *space)
}

func TestPlanRefuses(t *testing.T) {
	for name, change := range map[string]func(*Layout){
		"sector size":   func(l *Layout) { l.SectorSize = 1024 },
		"size":          func(l *Layout) { l.Size = 1<<30 + 1 },
		"negative size": func(l *Layout) { l.Size = -512 },
		"align":         func(l *Layout) { l.Align = 1000 },
		"nothing":       func(l *Layout) { l.Partitions[0].Size, l.Partitions[0].Content = 0, nil },
		"huge":          func(l *Layout) { l.Partitions[0].Size = 1<<63 - 1 },
		"huge sum":      func(l *Layout) { l.Partitions[0].Size, l.Partitions[3].Size = 1<<62, 1<<62 },
		"negative part": func(l *Layout) { l.Partitions[0].Size = -1 },
		"name":          func(l *Layout) { l.Partitions[0].Name = strings.Repeat("𝄞", 19) },
		"no type":       func(l *Layout) { l.Partitions[0].Type = osmith.GUID{} },
		"no ID":         func(l *Layout) { l.Partitions[0].ID = osmith.GUID{} },
	} {
		l := abLayout()
		change(&l)
		im, err := Plan(l)
		require.Error(t, err, name)
		require.Nil(t, im)
	}
	l := abLayout()
	l.Partitions[3].ID = l.Partitions[1].ID
	_, err := Plan(l)
	require.ErrorIs(t, err, ErrDuplicateID)
}

func TestWriteImageErrors(t *testing.T) {
	im, err := Plan(abLayout())
	require.NoError(t, err)
	d := faultio.NewDisk(im.Size)
	d.CutAfter(3)
	require.ErrorIs(t, WriteImage(d, im, WriteOptions{TargetIsZero: true}), faultio.ErrCut)
	im.Table.Partitions[2].FirstLBA = im.Table.Partitions[1].FirstLBA
	require.True(t, errors.Is(WriteImage(faultio.NewDisk(im.Size), im, WriteOptions{}), ErrOverlap))
}
