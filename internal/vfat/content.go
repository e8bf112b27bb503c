package vfat

import (
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
)

// maxFile is the largest file of a FAT.
const maxFile = 1<<32 - 1

// readError is one of the content.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// fill gives an empty file its data: the first half of its clusters, after which the inode is
// written back once before it is final, then the others. The inode of a file of one cluster is
// written back before its size is known.
func (v *Volume) fill(e *entry, content osmith.Source, size int64) error {
	n := int((size + v.cluster - 1) / v.cluster)
	half := (n + 1) / 2
	var all []uint32
	for _, step := range []int{half, n - half} {
		if step == 0 {
			continue
		}
		last := uint32(0)
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		got, full := v.extend(last, step, false)
		if full != nil && !errors.Is(full, ErrNoSpace) {
			return full
		}
		done := int64(len(all)) * v.cluster
		all = append(all, got...)
		if len(all) == 0 {
			return full
		}
		there := min(int64(len(all))*v.cluster, size)
		if err := v.copy(got, content, done, there); err != nil {
			var source readError
			if errors.As(err, &source) {
				err = errors.Join(err, e.writeBack(all[0], 0), v.empty(e))
			}
			return err
		}
		if n == 1 {
			if err := e.writeBack(all[0], 0); err != nil {
				return err
			}
		}
		if err := e.writeBack(all[0], there); err != nil {
			return err
		}
		if full != nil {
			return full
		}
	}
	return nil
}

// copy writes the content from done to end to clusters: of the last one, the sectors that have
// data.
func (v *Volume) copy(clusters []uint32, content osmith.Source, done, end int64) error {
	for _, c := range clusters {
		n := min(v.cluster, end-done)
		b := make([]byte, (n+v.sector-1)/v.sector*v.sector)
		if got, err := content.ReadAt(b[:n], done); int64(got) < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return readError{fmt.Errorf("the content at %d: %w", done, err)}
		}
		if err := v.write(b, v.offset(c)); err != nil {
			return err
		}
		done += n
	}
	return nil
}
