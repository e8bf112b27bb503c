package verity

import (
	"context"
	"fmt"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

const (
	readSize = 256 << 10 // bytes per read of the data; a larger data block is one read
	jobSize  = 2 << 20   // bytes of data per job; a power of two, as all block sizes are
)

// jobBlocks returns the number of data blocks of a job. It fills whole hash blocks,
// or a hash block is filled by whole jobs.
func (l *layout) jobBlocks() int64 { return jobSize / int64(l.DataBlockSize) }

// jobs returns the number of jobs.
func (l *layout) jobs() int64 { return (l.dataBlocks-1)/l.jobBlocks() + 1 }

// wide reports whether a hash block of level 1 covers more than one job.
func (l *layout) wide() bool { return l.perBlock > l.jobBlocks() }

// A dataReader hashes data, by several goroutines.
type dataReader struct {
	*layout
	src osmith.Source

	mu sync.Mutex // looking for holes may move a file's position for a moment
}

// nextData returns where data starts again at or after off, and where it ends.
func (d *dataReader) nextData(off int64) (start, end int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	start, end, err = sparse.NextData(d.src, off)
	if err != nil {
		return 0, 0, fmt.Errorf("verity: data: find data at %#x: %w", off, err)
	}
	return start, end, nil
}

// appendSlots appends the slots of the data blocks of a job.
func (d *dataReader) appendSlots(ctx context.Context, slots []byte, job int64, hash *hasher, buf []byte) ([]byte, error) {
	size := int64(d.DataBlockSize)
	off := job * jobSize
	end := min(off+jobSize, d.dataSize())
	for off < end {
		start, stop, err := d.nextData(off)
		if err != nil {
			return nil, err
		}
		hole := (min(start, end) - off) / size // whole blocks
		slots = hash.appendHole(slots, hole)
		off += hole * size
		if stop < end {
			stop = (stop + size - 1) / size * size
		}
		stop = min(stop, end)
		for off < stop {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b := buf[:min(stop-off, int64(len(buf)))]
			if err := readFull(d.src, b, off, "data"); err != nil {
				return nil, err
			}
			slots = hash.appendData(slots, b)
			off += int64(len(b))
		}
	}
	return slots, nil
}

// newBuffer returns a buffer for reading whole data blocks.
func (l *layout) newBuffer() []byte { return make([]byte, max(readSize, l.DataBlockSize)) }
