package partition

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// Whatever the layout, a plan onto a disk keeps what is there: nothing gets smaller, moves, or
// changes but by growing.
func TestPlanOntoKeeps(t *testing.T) {
	runs, r := grid(t, 600)
	fits := 0
	for range runs {
		first := randomLayout(t, r)
		first.Seed, first.Size = repartSeed, (100<<20+int64(r.IntN(500<<20)))/4096*4096
		first.SectorSize = []int{512, 4096}[r.IntN(2)]
		first.Align = []int64{4096, 1 << 20}[r.IntN(2)]
		im, err := Plan(first)
		if err != nil {
			var space *SpaceError
			require.ErrorAs(t, err, &space)
			require.Positive(t, space.Missing())
			require.NotEmpty(t, space.Partition)
			continue
		}
		again, err := Plan(first)
		require.NoError(t, err)
		require.Equal(t, im, again)
		second := randomLayout(t, r)
		second.Seed = first.Seed
		before := show(im.Table)
		im.Table.FirstUsableLBA += uint64(r.IntN(2)) // need not be where we would put it
		next, err := PlanOnto(im.Table, second)
		im.Table.FirstUsableLBA = im.Table.FirstUsableLBA / 2 * 2
		if before != show(im.Table) {
			t.Fatal("the table was changed")
		}
		if err != nil {
			continue
		}
		fits++
		require.NoError(t, next.Table.Check())
		for i, p := range im.Table.Partitions {
			q := next.Table.Partitions[i]
			require.GreaterOrEqual(t, q.LastLBA, p.LastLBA)
			q.LastLBA = p.LastLBA
			if p.Name == "" {
				q.Name = "" // it may get one
			}
			require.Equal(t, p, q)
		}
	}
	require.Positive(t, fits)
}

func TestSpaceErrors(t *testing.T) {
	l := abLayout()
	l.Size = 64 << 20
	_, err := Plan(l)
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	require.Equal(t, "esp", space.Partition)

	l = Layout{Seed: repartSeed, Size: 32 << 20, Partitions: []Spec{
		{Type: ESP, Name: "esp", Size: 8 << 20}, {Type: Home, Name: "home", MinSize: 30 << 20, Weight: 1, Priority: 7}}}
	im, err := Plan(l)
	require.NoError(t, err)
	require.Len(t, im.Table.Partitions, 1)
	require.Equal(t, "+   1  esp   esp   8 MiB at 1 MiB\n!   -  home  home  left out: needs 30 MiB\n", im.Operations().String())
	l.Partitions[1].Priority = 0
	_, err = Plan(l)
	require.ErrorAs(t, err, &space)
	require.Equal(t, int64(39<<20+33*512), space.Need)

	im, err = Plan(abLayout())
	require.NoError(t, err)
	_, err = PlanOnto(im.Table, Layout{Seed: repartSeed, Partitions: []Spec{{Type: ESP, Name: "esp", Size: 65 << 20}}})
	require.ErrorAs(t, err, &space)
	require.Equal(t, SpaceError{Need: 65 << 20, Have: 64 << 20, Partition: "esp"}, *space)
}

func TestReadLayoutRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                                      "EOF",
		`{}`:                                    `schema ""`,
		`{"schema":"osmith.layout/2"}`:          "osmith.layout/2",
		`{"schema":"osmith.layout/1"} 1`:        "something follows",
		`{"schema":"osmith.layout/1","disk":1}`: `key "disk" is not known`,
		`{"schema":"osmith.layout/1","partitions":[{"type":"rot"}]}`:                                          "neither the name",
		`{"schema":"osmith.layout/1","partitions":[{"type":"esp","flags":["bit-64"]}]}`:                       `unknown flag "bit-64"`,
		`{"schema":"osmith.layout/1","partitions":[{"type":"esp","content":{}}]}`:                             "want one of",
		`{"schema":"osmith.layout/1","partitions":[{"type":"esp","size":1.5}]}`:                               "1.5 does not fit",
		`{"schema":"osmith.layout/1","partitions":[{"type":"esp","name":"` + strings.Repeat("x", 37) + `"}]}`: "37 UTF-16 units",
		`{"schema":"osmith.layout/1","partitions":"` + strings.Repeat("x", maxLayout) + `"}`:                  "more than",
	} {
		_, err := ReadLayout(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%.80s", text)
	}
}

// A target that loses or changes a byte is found out by reading back, and then has no new table.
func TestReadBack(t *testing.T) {
	im, d := image(t, abLayout())
	require.NoError(t, WriteImage(d, im, WriteOptions{ReadBack: true}))
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		off := 1<<20 + r.Int64N(im.Size-2<<20)
		bad := &flipping{Disk: faultio.NewDisk(im.Size), at: off}
		err := WriteImage(bad, im, WriteOptions{ReadBack: true})
		var back *ReadBackError
		require.ErrorAs(t, err, &back)
		require.Equal(t, off, back.Offset)
		_, err = Read(bad.Disk, ReadOptions{})
		require.ErrorIs(t, err, ErrNoTable)
	}
	require.Error(t, WriteImage(writeOnly{d}, im, WriteOptions{ReadBack: true}))
}

type flipping struct {
	*faultio.Disk
	at int64
}

func (f *flipping) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.Disk.ReadAt(p, off)
	if f.at >= off && f.at < off+int64(n) {
		p[f.at-off] ^= 1
	}
	return n, err
}

type writeOnly struct{ d *faultio.Disk }

func (w writeOnly) WriteAt(p []byte, off int64) (int, error) { return w.d.WriteAt(p, off) }

// A plan is for the table that it was made for; and until it is written in full the old partitions
// are there.
func TestWriteOnto(t *testing.T) {
	im, d := image(t, abLayout())
	old := show(im.Table)
	grown := faultio.NewDisk(im.Size + 64<<20)
	content := make([]byte, im.Size)
	_, err := d.ReadAt(content, 0)
	require.NoError(t, err)
	_, err = grown.WriteAt(content, 0)
	require.NoError(t, err)
	table, err := Read(grown, ReadOptions{})
	require.NoError(t, err)
	require.NoError(t, table.Resize(grown.Size()))
	next, err := PlanOnto(table, Layout{Seed: repartSeed, Partitions: []Spec{
		{Type: Var, Name: "var", MinSize: 20 << 20, MaxSize: 24 << 20}, {Type: Home, Name: "home", Content: bytes.NewReader([]byte("home sweet home"))}}})
	require.NoError(t, err)
	text, err := json.Marshal(next)
	require.NoError(t, err)
	require.Contains(t, string(text), `"op":"grow"`)
	disk := grown.Clone()
	disk.Record()
	require.NoError(t, WriteImage(disk, next, WriteOptions{ReadBack: true}))
	for k := range len(disk.Writes()) + 1 {
		got, err := Read(disk.Prefix(k), ReadOptions{})
		require.NoError(t, err)
		got.Size = im.Size
		if s := show(got); s != old {
			got.Size = disk.Size()
			require.Equal(t, show(next.Table), show(got))
		}
	}
	got, err := Read(disk, ReadOptions{})
	require.NoError(t, err)
	home := make([]byte, 15)
	_, err = got.Section(disk, got.Find(next.Table.Partitions[6].ID)).ReadAt(home, 0)
	require.NoError(t, err)
	require.Equal(t, "home sweet home", string(home))
	err = WriteImage(disk, next, WriteOptions{})
	require.True(t, errors.Is(err, ErrChanged), err)
}

func FuzzReadLayout(f *testing.F) {
	text, err := json.Marshal(abLayout())
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"schema":"osmith.layout/1","seed":"11111111-2222-3333-4444-555555555555","size":104857600,"partitions":[{"type":"esp","flags":["bit-57","no-auto"],"content":{"fat":{"label":"E","files":[{"source":"a","target":"/b"}]}},"minSize":1,"weight":3,"paddingWeight":7}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ReadLayout(bytes.NewReader(b))
		if err != nil {
			require.Zero(t, l)
			return
		}
		text, err := json.Marshal(l)
		require.NoError(t, err)
		again, err := ReadLayout(bytes.NewReader(text))
		require.NoError(t, err)
		text2, err := json.Marshal(again) // an empty list and none are the same
		require.NoError(t, err)
		require.Equal(t, string(text), string(text2))
		for i := range l.Partitions {
			l.Partitions[i].Fill = nil
		}
		if im, err := Plan(l); l.DiskID.IsZero() && l.Seed.IsZero() {
			require.ErrorContains(t, err, "neither a DiskID nor a Seed")
			require.Nil(t, im)
			l.Seed = repartSeed
		}
		im, err := Plan(l)
		require.Equal(t, err == nil, im != nil)
		if err == nil {
			require.NoError(t, im.Table.Check())
			_, err = PlanOnto(im.Table, l)
			require.NoError(t, err)
		}
	})
}
