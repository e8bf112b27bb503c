package partition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// WriteOptions are the options of [WriteImage].
type WriteOptions struct {
	// TargetIsZero promises that the target holds zeros everywhere, as a new file does: zeros are
	// then not written and become holes of the file. The caller sets the size of the file. Do not
	// set it for a plan onto an existing table.
	TargetIsZero bool
	// ReadBack reads all written data and compares it, the contents before the table is written; if
	// anything differs, the error is a [*ReadBackError]. The target must have ReadAt. Whether the
	// reads reach the medium depends on the target: reads of a file usually come from the page
	// cache.
	ReadBack bool
	// Progress is called now and then with bytes of the disk (of the new partitions, in a plan onto
	// an existing table), by one goroutine at a time. With ReadBack the total counts them twice.
	Progress func(done, total int64)
}

// ErrChanged: the table of the disk has changed since the plan was made.
var ErrChanged = errors.New("the partition table has changed since the plan was made")

// ReadBackError: the target does not hold the bytes that were written to it.
type ReadBackError struct {
	Offset int64 // offset of the first different byte on the disk
	// name of the partition with that byte; "": it has no name, or the byte is in the table
	Partition string
}

func (e *ReadBackError) Error() string {
	if e.Partition == "" {
		return fmt.Sprintf("read back: byte %d differs from what was written", e.Offset)
	}
	return fmt.Sprintf("read back: byte %d, in %q, differs from what was written", e.Offset, e.Partition)
}

// WriteImage writes a planned disk: contents and the zeros between them, in ascending order but
// several at a time, then Sync (if w has a method Sync() error), then the table, and Sync again.
// Zeros are written unless TargetIsZero is set or w has a method
//
//	ZeroRange(off, n int64) error
//
// and holes of the contents ([osmith.Source]) are not read. The bytes are the same in every case.
//
// For a plan onto an existing table ([PlanOnto]), only the new partitions and the table are
// written. The target must have ReadAt. If its table has changed since the plan was made, the error
// matches [ErrChanged] and nothing is written. Until the table is written, the disk has its old
// partitions.
func WriteImage(w io.WriterAt, im *Image, o WriteOptions) (err error) {
	defer prefix.Add("partition", &err)
	t := im.Table
	if err := t.Check(); err != nil {
		return err
	}
	if len(im.contents) != len(t.Partitions) {
		return fmt.Errorf("%d partitions in the table, want the %d of the plan", len(t.Partitions), len(im.contents))
	}
	r, readable := w.(io.ReaderAt)
	if !readable && (o.ReadBack || im.base != nil) {
		return errors.New("the target cannot be read: it has no ReadAt")
	}
	if im.base != nil {
		if o.TargetIsZero {
			return errors.New("TargetIsZero is set, but the disk has partitions")
		}
		if err := im.unchanged(r); err != nil {
			return err
		}
	}
	jobs, err := im.jobs()
	if err != nil {
		return err
	}
	total := im.Size
	if im.base != nil {
		total = 0
		for _, j := range jobs {
			total += j.size
		}
	}
	if o.ReadBack {
		total *= 2
	}
	run := &runner{total: total, progress: o.Progress}
	if im.base == nil {
		run.done = jobs[0].off // what the table takes counts as done
	}
	if err := run.all(jobs, func(j job) error { return j.write(w, o.TargetIsZero, run.add) }); err != nil {
		return err
	}
	if err := syncTarget(w); err != nil {
		return err
	}
	if o.ReadBack {
		if err := run.all(jobs, func(j job) error { return j.compare(r, run.add) }); err != nil {
			return err
		}
	}
	if err := t.Write(w); err != nil {
		return err
	}
	if o.ReadBack {
		if err := im.compareTable(r); err != nil {
			return err
		}
	}
	run.add(total - run.done)
	return nil
}

// unchanged compares the table of the disk with the one that was planned onto.
func (im *Image) unchanged(r io.ReaderAt) error {
	now, err := read(io.NewSectionReader(r, 0, im.base.Size), im.base.SectorSize)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if !sameTable(now, im.base) {
		return ErrChanged
	}
	return nil
}

func sameTable(a, b *Table) bool {
	return a.DiskID == b.DiskID && slices.EqualFunc(a.Partitions, b.Partitions, func(a, b Partition) bool {
		return a.Number == b.Number && a.Type == b.Type && a.ID == b.ID && a.Name == b.Name &&
			a.FirstLBA == b.FirstLBA && a.LastLBA == b.LastLBA && a.Attributes == b.Attributes
	})
}

func (im *Image) compareTable(r io.ReaderAt) error {
	now, err := read(io.NewSectionReader(r, 0, im.Size), im.Table.SectorSize)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", &ReadBackError{}, err)
	case now.UsedBackup:
		return fmt.Errorf("%w: %w", &ReadBackError{}, now.PrimaryErr)
	case now.BackupErr != nil:
		return fmt.Errorf("%w: %w", &ReadBackError{Offset: im.Size - 1}, now.BackupErr)
	}
	want := *im.Table
	want.Partitions = slices.Clone(im.Table.Partitions)
	slices.SortFunc(want.Partitions, func(a, b Partition) int { return a.Number - b.Number })
	if !sameTable(now, &want) {
		return &ReadBackError{}
	}
	return nil
}

// jobs cuts what is to be written into pieces, in ascending order.
func (im *Image) jobs() ([]job, error) {
	t := im.Table
	p, b, err := t.geometry()
	if err != nil {
		return nil, err
	}
	ss := int64(t.SectorSize)
	var out []job
	if im.base != nil {
		for i, p := range t.Partitions {
			if off, size := t.Extent(i); im.fresh[i] {
				out = appendJobs(out, off, size, im.contents[i], p.Name)
			}
		}
		return out, nil
	}
	pos := int64(p.entriesLBA+p.arraySectors(ss)) * ss
	for i := range t.Partitions {
		off, size := t.Extent(i)
		name := t.Partitions[i].Name
		if off < pos {
			return nil, fmt.Errorf("%q starts at %d, before the previous partition ends (%d)", name, off, pos)
		}
		out = append(out, job{off: pos, size: off - pos})
		out = appendJobs(out, off, size, im.contents[i], name)
		pos = off + size
	}
	return append(out, job{off: pos, size: int64(b.entriesLBA)*ss - pos}), nil
}

// jobSize is what one worker copies at a time, in bytes.
const jobSize = 16 << 20

func appendJobs(out []job, off, size int64, content osmith.Source, name string) []job {
	if content == nil {
		return append(out, job{off: off, size: size, name: name})
	}
	n := content.Size()
	for pos := int64(0); pos < n; pos += jobSize {
		k := min(jobSize, n-pos)
		out = append(out, job{off: off + pos, size: k, content: io.NewSectionReader(content, pos, k), name: name})
	}
	return append(out, job{off: off + n, size: size - n, name: name})
}

// job is a range of the disk to be written: content, or zeros.
type job struct {
	off, size int64
	content   osmith.Source // of exactly size bytes; nil: zeros
	name      string        // of the partition; "": between partitions
}

func (j job) fail(err error) error {
	if j.name == "" {
		return fmt.Errorf("zeros at %d: %w", j.off, err)
	}
	return fmt.Errorf("content of %q: %w", j.name, err)
}

func (j job) write(w io.WriterAt, zero bool, progress func(int64)) error {
	to := sparse.Target{W: w, Zero: zero, Sync: true, Progress: progress} // WriteImage syncs
	var err error
	if j.content == nil {
		err = to.Zeros(j.off, j.size)
	} else {
		err = to.Copy(j.off, j.content, j.size)
	}
	if err != nil {
		return j.fail(err)
	}
	return nil
}

// compare reads the range back.
func (j job) compare(r io.ReaderAt, progress func(int64)) error {
	const piece = 256 << 10
	have, want := make([]byte, piece), make([]byte, piece)
	for pos := int64(0); pos < j.size; pos += piece {
		n := min(piece, j.size-pos)
		h, w := have[:n], want[:n]
		if err := sparse.ReadFull(r, h, j.off+pos); err != nil {
			return j.fail(err)
		}
		if j.content != nil {
			if err := sparse.ReadFull(j.content, w, pos); err != nil {
				return j.fail(err)
			}
		}
		if !bytes.Equal(h, w) {
			k := 0
			for h[k] == w[k] {
				k++
			}
			return &ReadBackError{Offset: j.off + pos + int64(k), Partition: j.name}
		}
		progress(n)
	}
	return nil
}

// runner does jobs with a few workers and counts what is done.
type runner struct {
	total    int64
	progress func(done, total int64)

	mu   sync.Mutex
	done int64
}

func (r *runner) add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.progress != nil {
		r.progress(r.done, r.total)
	}
}

// maxWorkers bounds memory: each worker has a buffer of 1 MiB.
const maxWorkers = 8

// all runs the jobs, taken in order. No new one starts after an error; the error of the first job
// in order is returned.
func (r *runner) all(jobs []job, do func(job) error) error {
	var (
		mu     sync.Mutex
		next   int
		failed = len(jobs)
		first  error
		group  sync.WaitGroup
	)
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || next == len(jobs) {
			return -1
		}
		next++
		return next - 1
	}
	for range min(runtime.GOMAXPROCS(0), maxWorkers, len(jobs)) {
		group.Go(func() {
			for k := take(); k >= 0; k = take() {
				if err := do(jobs[k]); err != nil {
					mu.Lock()
					if k < failed {
						failed, first = k, err
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return first
}
