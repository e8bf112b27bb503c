package faultio

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// outcomes says of each operation whether it failed.
func outcomes(d *Disk, ops string) string {
	b, out := make([]byte, 2048), ""
	for _, op := range ops {
		var err error
		switch op {
		case 'r':
			_, err = d.ReadAt(b, 0)
		case 'w':
			_, err = d.WriteAt(b, 0)
		case 's':
			err = d.Sync()
		}
		switch {
		case err == nil:
			out += "."
		case errors.Is(err, ErrIO):
			out += "X"
		default:
			out += "?"
		}
	}
	return out
}

func TestFailuresAreCounted(t *testing.T) {
	require.ErrorIs(t, ErrIO, syscall.EIO)
	for _, c := range []struct {
		name     string
		failures []Failure
		ops      string
		want     string
		failed   int
	}{
		{"none", nil, "rws", "...", 0},
		{"the next", []Failure{{}}, "rws", "X..", 1},
		{"the third of any", []Failure{{After: 2}}, "rwsrws", "..X...", 1},
		{"the second write", []Failure{{Op: OpWrite, After: 1}}, "wrswrsw", "...X...", 1},
		{"a sync", []Failure{{Op: OpSync}}, "wrss", "..X.", 1},
		{"a read", []Failure{{Op: OpRead}}, "wsrr", "..X.", 1},
		{"all that follow", []Failure{{After: 1, Always: true}}, "rwsr", ".XXX", 3},
		{"all reads", []Failure{{Op: OpRead, Always: true}}, "rwsr", "X..X", 2},
		// the second strikes at the next
		{"two at one operation", []Failure{{Op: OpWrite}, {Op: OpSync, After: 1}, {After: 3}}, "wswsrs", "X..XX.", 3},
		{"one after another", []Failure{{}, {}}, "rws", "XX.", 2},
		{"an error of its own", []Failure{{Err: io.ErrShortWrite}}, "ww", "?.", 1},
		{"lies", []Failure{{Op: OpWrite, Lie: true}, {Op: OpSync, Lie: true}, {Op: OpRead, Lie: true}}, "wsrwsr", "..X...", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDisk(4096)
			d.Faulty(c.failures...)
			require.Equal(t, c.want, outcomes(d, c.ops))
			require.Equal(t, c.failed, d.Failed())
			require.Equal(t, "...", outcomes(d.Clone(), "rws"), "a clone does not fail")
			require.Equal(t, "...", outcomes(d.Medium(), "rws"), "nor does the medium by itself")
			d.Faulty()
			require.Zero(t, d.Failed())
			require.Equal(t, "...", outcomes(d, "rws"))
		})
	}
}

func TestFailuresDoNotCountNonsense(t *testing.T) {
	d := NewDisk(4096)
	d.Faulty(Failure{})
	_, err := d.WriteAt(make([]byte, 512), 4096)
	require.NotErrorIs(t, err, ErrIO)
	_, err = d.ReadAt(make([]byte, 512), -1)
	require.NotErrorIs(t, err, ErrIO)
	d.CutAfter(0)
	require.Equal(t, "??", outcomes(d, "ws"))
	require.Equal(t, "X", outcomes(d, "r"))
}

func TestShort(t *testing.T) {
	for _, c := range []struct {
		sector, n, want int
	}{{0, 512, 0}, {0, 1024, 512}, {0, 1536, 512}, {0, 2048, 1024}, {0, 700, 512}, {4096, 4096, 0}, {4096, 12288, 4096}, {0, 0, 0}} {
		d := NewDisk(4 * pageSize)
		p := make([]byte, c.n)
		for i := range p {
			p[i] = 7
		}
		d.Record()
		d.Faulty(Failure{Op: OpWrite, Short: true, Sector: c.sector, Err: io.ErrShortWrite})
		n, err := d.WriteAt(p, 0)
		require.ErrorIs(t, err, io.ErrShortWrite)
		require.Equal(t, c.want, n)
		b := contents(t, d)
		for i := range b {
			require.Equal(t, i < c.want, b[i] == 7, i)
		}
		if c.want > 0 {
			require.Len(t, d.Writes(), 1)
			require.Len(t, d.Writes()[0].Data, c.want, "what is recorded is what was written")
		} else {
			require.Empty(t, d.Writes())
		}
	}
	d := NewDisk(pageSize)
	write(t, d, 7, 0, pageSize)
	d.Faulty(Failure{Short: true})
	b := make([]byte, 2048)
	n, err := d.ReadAt(b, 0)
	require.ErrorIs(t, err, ErrIO)
	require.Equal(t, 1024, n)
	require.Equal(t, []byte{7, 0}, []byte{b[1023], b[1024]})
	d.Faulty(Failure{})
	n, err = d.ReadAt(b, 0)
	require.ErrorIs(t, err, ErrIO)
	require.Zero(t, n)
	d.Faulty(Failure{Short: true, Lie: true})
	n, err = d.WriteAt(make([]byte, 1024), 0)
	require.NoError(t, err)
	require.Equal(t, 1024, n)
	require.Equal(t, []byte{0, 7}, []byte{contents(t, d)[511], contents(t, d)[512]})
}

// A sync that fails or lies orders nothing: the writes before it are still at stake.
func TestFaultsWithoutSync(t *testing.T) {
	for _, f := range []Failure{{Op: OpSync}, {Op: OpSync, Lie: true}} {
		d := NewDisk(16 * pageSize)
		d.Record()
		d.Faulty(f)
		write(t, d, 1, 0, 512)
		_ = d.Sync()
		write(t, d, 2, 8192, 512)
		flush(t, d)
		counts, all := states(t, d, FaultOptions{})
		require.Equal(t, FaultCounts{States: [4]int{3, 1}, Epochs: 1}, counts)
		require.Contains(t, all, "02")
	}
}
