package faultio

import (
	"fmt"
	"maps"
	"slices"
)

// cached is a page in the page cache.
type cached struct {
	data  []byte // nil: zeros; what it holds is never changed in place
	dirty bool
}

// Cached puts the page cache of an operating system before the disk, which is empty at first:
// [Disk.WriteAt] changes the cache, [Disk.Sync] brings what is dirty to the medium, and
// [Disk.ReadAt] reads the medium only where the cache has nothing. A sync that fails takes the
// dirty pages for clean although they are not on the medium, as Linux does: reads go on to show
// what was written, and no later sync, which may well succeed, writes it.
func (d *Disk) Cached() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cache == nil {
		d.cache = map[int64]cached{}
	}
}

// Medium returns an independent disk, without page cache, with what is on the medium: what a power
// cut leaves before anything more is written back. Without the page cache it is [Disk.Clone].
func (d *Disk) Medium() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{size: d.size, under: d.under, pages: maps.Clone(d.pages)}
}

// MediumReads is how many bytes were read from the medium since the disk was made. The page cache
// reads whole pages, also those of which a write changes a part.
func (d *Disk) MediumReads() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mediumReads
}

// DropCache forgets what is cached of n bytes at off, so that the next read is of the medium: all
// pages of 4096 bytes of which a part is in the range. As with POSIX_FADV_DONTNEED of Linux, what
// was not synced stays. Without the page cache there is nothing to forget.
func (d *Disk) DropCache(off, n int64) error {
	if off < 0 || n < 0 || off > d.size || n > d.size-off {
		return fmt.Errorf("faultio: drop the cache of %d bytes at %d on a disk of %d bytes", n, off, d.size)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	end := off + n
	maps.DeleteFunc(d.cache, func(number int64, c cached) bool {
		first, last := number*pageSize, min((number+1)*pageSize, d.size)
		return !c.dirty && first < end && last > off
	})
	return nil
}

// seen returns a page as reads show it, or nil for zeros. One that is not in the cache is read into
// it.
func (d *Disk) seen(number int64) []byte {
	if c, ok := d.cache[number]; ok {
		return c.data
	}
	page := d.page(number)
	if d.cache != nil && (page == nil || len(page) == pageSize) {
		d.mediumReads += min(pageSize, d.size-number*pageSize)
		d.cache[number] = cached{data: page}
	}
	return page
}

// keep stores a page, which is never changed afterwards, where writes go.
func (d *Disk) keep(number int64, page []byte) {
	if d.cache != nil {
		d.cache[number] = cached{data: page, dirty: true}
		return
	}
	d.set(number, page)
}

// clean takes all dirty pages for clean. Only where a failure has nothing against it are they
// written.
func (d *Disk) clean(f *Failure) {
	var dirty []int64
	for number, c := range d.cache {
		if c.dirty {
			dirty = append(dirty, number)
		}
	}
	slices.Sort(dirty)
	written := len(dirty)
	if f != nil {
		written = 0
		if f.Short {
			written = len(dirty) / 2
		}
	}
	for i, number := range dirty {
		data := d.cache[number].data
		d.cache[number] = cached{data: data}
		if i < written {
			d.set(number, data)
		}
	}
}

// shown returns a disk, without page cache, with what reads show.
func (d *Disk) shown() *Disk {
	r := &Disk{size: d.size, under: d.under, pages: maps.Clone(d.pages)}
	for number, c := range d.cache {
		if c.data == nil {
			r.set(number, zeroPage[:])
		} else {
			r.set(number, c.data)
		}
	}
	return r
}
