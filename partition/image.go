package partition

import (
	"fmt"
	"io"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// WriteOptions are the options of [WriteImage].
type WriteOptions struct {
	// TargetIsZero promises that the target holds zeros everywhere, as a file that was just made does: zeros are then
	// not written and become holes of the file. The size of the file is the caller's business.
	TargetIsZero bool
	// Progress is called now and then with bytes of the disk.
	Progress func(done, total int64)
}

// WriteImage writes a planned disk in ascending order: contents and the zeros between them, then Sync (if w has a
// method Sync() error), then the table. Zeros are written unless TargetIsZero is set or w has a method
//
//	ZeroRange(off, n int64) error
//
// and holes of the contents ([Source]) are not read. The bytes are the same in every case.
func WriteImage(w io.WriterAt, im *Image, o WriteOptions) error {
	t := im.Table
	if err := t.Check(); err != nil {
		return err
	}
	if len(im.contents) != len(t.Partitions) {
		return fmt.Errorf("partition: %d partitions in the table, %d were planned", len(t.Partitions), len(im.contents))
	}
	p, b, err := t.geometry()
	if err != nil {
		return err
	}
	ss := int64(t.SectorSize)
	var done int64
	to := sparse.Target{W: w, Zero: o.TargetIsZero, Progress: func(n int64) {
		done += n
		if o.Progress != nil {
			o.Progress(done, im.Size)
		}
	}}
	pos := int64(p.entriesLBA+p.arraySectors(ss)) * ss
	done = pos // what the table takes counts as done
	for i := range t.Partitions {
		off, size := t.Extent(i)
		if off < pos {
			return fmt.Errorf("partition: %q starts at %d, before the end of what comes first (%d)", t.Partitions[i].Name, off, pos)
		}
		if err := to.Zeros(pos, off-pos); err != nil {
			return fmt.Errorf("partition: zeros before %q: %w", t.Partitions[i].Name, err)
		}
		if content := im.contents[i]; content != nil {
			err = to.Copy(off, content, size)
		} else {
			err = to.Zeros(off, size)
		}
		if err != nil {
			return fmt.Errorf("partition: content of %q: %w", t.Partitions[i].Name, err)
		}
		pos = off + size
	}
	tail := int64(b.entriesLBA) * ss
	if err := to.Zeros(pos, tail-pos); err != nil {
		return fmt.Errorf("partition: zeros at the end: %w", err)
	}
	if err := syncTarget(w); err != nil {
		return err
	}
	if err := t.Write(w); err != nil {
		return err
	}
	to.Progress(im.Size - done)
	return nil
}
