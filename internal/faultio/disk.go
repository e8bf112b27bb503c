package faultio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
)

// ErrCut is returned by every write and sync after the power was cut.
var ErrCut = errors.New("faultio: power is cut")

// ErrUnreadable is returned by reads of a physical sector that a power cut has destroyed
// ([LostUnreadable]), and by writes of a part of one.
var ErrUnreadable = errors.New("faultio: sector is unreadable")

const pageSize = 4096

var zeroPage [pageSize]byte

// Write is one recorded WriteAt.
type Write struct {
	Offset int64
	Data   []byte // must not be changed
	Epoch  int    // number of Sync calls since Record that came before it
}

// Disk implements [io.ReaderAt], [io.WriterAt] and Sync() error in memory. Its methods may be used
// concurrently.
type Disk struct {
	mu    sync.Mutex
	size  int64
	under map[int64][]byte // page number -> 4096 bytes; shared with other disks and never changed
	// pages that differ from under; what a page holds is never changed in place
	pages map[int64][]byte

	armed bool
	left  int // writes until the cut

	failures    []Failure
	failed      int
	cache       map[int64]cached // nil: there is no page cache
	mediumReads int64

	recording bool
	base      map[int64][]byte
	writes    []Write
	epoch     int
}

// NewDisk returns a disk of size bytes, all zero.
func NewDisk(size int64) *Disk {
	if size < 0 {
		panic("faultio: negative size")
	}
	return &Disk{size: size, pages: map[int64][]byte{}}
}

// unreadable is the page of an unreadable physical sector: it is recognised by its length.
var unreadable = []byte{}

// page returns a page of the medium, or nil for zeros.
func (d *Disk) page(number int64) []byte {
	if page, ok := d.pages[number]; ok {
		return page
	}
	return d.under[number]
}

// Size is the size of the disk in bytes.
func (d *Disk) Size() int64 { return d.size }

// ReadAt implements [io.ReaderAt]. Reading goes on after a cut: the caller looks at what is left.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("faultio: read at %d", off)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.strike(OpRead); f != nil {
		n, err := d.read(p[:f.reach(len(p))], off)
		if err == nil || err == io.EOF {
			err = f.err()
		}
		return n, err
	}
	return d.read(p, off)
}

func (d *Disk) read(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < d.size {
		in := off % pageSize
		want := min(int64(len(p)-n), pageSize-in, d.size-off)
		switch page := d.seen(off / pageSize); len(page) {
		case pageSize:
			copy(p[n:n+int(want)], page[in:])
		default:
			if page != nil {
				return n, fmt.Errorf("%w: read at %d", ErrUnreadable, off)
			}
			clear(p[n : n+int(want)])
		}
		if d.cache == nil {
			d.mediumReads += want
		}
		n += int(want)
		off += want
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements [io.WriterAt]. A write that would leave the disk is refused whole.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > d.size || int64(len(p)) > d.size-off {
		return 0, fmt.Errorf("faultio: write of %d bytes at %d on a disk of %d bytes", len(p), off, d.size)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed {
		if d.left == 0 {
			return 0, ErrCut
		}
		d.left--
	}
	if f := d.strike(OpWrite); f != nil {
		n := f.reach(len(p))
		if n > 0 {
			if err := d.write(p[:n], off); err != nil {
				return 0, err
			}
		}
		if f.Lie {
			return len(p), nil
		}
		return n, f.err()
	}
	if err := d.write(p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (d *Disk) write(p []byte, off int64) error {
	data := bytes.Clone(p)
	if err := d.put(data, off); err != nil {
		return err
	}
	if d.recording {
		d.writes = append(d.writes, Write{Offset: off, Data: data, Epoch: d.epoch})
	}
	return nil
}

// Sync marks a point that all earlier writes have reached the medium. One that fails or lies
// ([Failure]) marks none.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed && d.left == 0 {
		return ErrCut
	}
	f := d.strike(OpSync)
	d.clean(f)
	switch {
	case f == nil:
		d.epoch++
	case !f.Lie:
		return f.err()
	}
	return nil
}

// put stores data, which is never changed afterwards: whole pages alias it.
func (d *Disk) put(data []byte, off int64) error {
	for len(data) > 0 {
		number, in := off/pageSize, off%pageSize
		n := min(int64(len(data)), pageSize-in)
		page := data[:n:n]
		if n < pageSize {
			old := d.seen(number)
			if old != nil && len(old) == 0 {
				return fmt.Errorf("%w: write of %d bytes at %d", ErrUnreadable, n, off)
			}
			page = make([]byte, pageSize)
			copy(page, old)
			copy(page[in:], data[:n])
		}
		d.keep(number, page)
		data, off = data[n:], off+n
	}
	return nil
}

// set stores a page on the medium, where it is never changed afterwards.
func (d *Disk) set(number int64, page []byte) {
	zero := bytes.Equal(page, zeroPage[:])
	if _, below := d.under[number]; zero && !below {
		delete(d.pages, number)
	} else if zero {
		d.pages[number] = nil
	} else {
		d.pages[number] = page
	}
}

// freeze moves all pages below, where clones share them, and returns them.
func (d *Disk) freeze() map[int64][]byte {
	if len(d.pages) == 0 && d.under != nil {
		return d.under
	}
	all := make(map[int64][]byte, len(d.under)+len(d.pages))
	maps.Copy(all, d.under)
	for number, page := range d.pages {
		if page == nil {
			delete(all, number)
		} else {
			all[number] = page
		}
	}
	d.under, d.pages = all, map[int64][]byte{}
	return all
}

// CutAfter cuts the power after k more writes: the next one and all that follow return [ErrCut] and
// change nothing.
func (d *Disk) CutAfter(k int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.left = true, k
}

// Clone returns an independent disk with the same contents, in the page cache too if there is one,
// powered, without a record and without failures to come.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{size: d.size, under: d.under, pages: maps.Clone(d.pages), cache: maps.Clone(d.cache)}
}

// Record forgets earlier records and starts to keep the writes that follow. With a page cache
// ([Disk.Cached]) these are the calls of WriteAt too, not what is written back, and the disk as it
// was is what reads show.
func (d *Disk) Record() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording, d.writes, d.epoch = true, nil, 0
	if d.base = d.freeze(); len(d.cache) > 0 {
		d.base = d.shown().freeze()
	}
}

// Writes returns the writes since Record, in order.
func (d *Disk) Writes() []Write {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes[:len(d.writes):len(d.writes)]
}

// Prefix returns the disk as it was at Record plus the first k writes since then.
func (d *Disk) Prefix(k int) *Disk {
	return d.replay(k, func(int) bool { return true })
}

// Torn is Prefix(k) plus the first n bytes of the next write: a cut in the middle of it. n should
// be a multiple of the sector size unless the test means to break the sector too.
func (d *Disk) Torn(k, n int) *Disk {
	t := d.Prefix(k)
	next := d.Writes()[k]
	t.replayWrite(next.Data[:n:n], next.Offset)
	return t
}

// Lossy is a cut after k writes on a medium that reorders: the writes of earlier epochs are all
// there, those after the last Sync only if keep(i) says so, i being the index in [Disk.Writes].
func (d *Disk) Lossy(k int, keep func(i int) bool) *Disk {
	writes := d.Writes()
	if k == 0 {
		return d.Prefix(0)
	}
	last := writes[k-1].Epoch
	return d.replay(k, func(i int) bool { return writes[i].Epoch < last || keep(i) })
}

func (d *Disk) replay(k int, keep func(i int) bool) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.recording {
		panic("faultio: Record was not called")
	}
	r := &Disk{size: d.size, under: d.base, pages: map[int64][]byte{}}
	for i, w := range d.writes[:k] {
		if keep(i) {
			r.replayWrite(w.Data, w.Offset)
		}
	}
	return r
}

// replayWrite is put for a write that has succeeded once.
func (d *Disk) replayWrite(data []byte, off int64) {
	if err := d.put(data, off); err != nil {
		panic("faultio: " + err.Error())
	}
}

// WriteTo writes the whole disk, zeros included. Where w also is an [io.Seeker] (a new file), zero
// pages are skipped and become holes.
func (d *Disk) WriteTo(w io.Writer) (int64, error) {
	d.mu.Lock()
	pages := d.shown()
	d.mu.Unlock()
	seeker, sparse := w.(io.WriteSeeker)
	var done, skip int64
	for done < d.size {
		n := min(d.size-done, pageSize)
		page := pages.page(done / pageSize)
		if page == nil && sparse && done+n < d.size {
			skip += n
			done += n
			continue
		}
		if skip > 0 {
			if _, err := seeker.Seek(skip, io.SeekCurrent); err != nil {
				return done - skip, err
			}
			skip = 0
		}
		switch {
		case page == nil:
			page = zeroPage[:]
		case len(page) == 0:
			return done, fmt.Errorf("%w: read at %d", ErrUnreadable, done)
		}
		if _, err := w.Write(page[:n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
