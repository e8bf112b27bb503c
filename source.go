package osmith

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// Source is sized random-access input. [*bytes.Reader], [*strings.Reader] and [*io.SectionReader]
// are Sources; [OpenFile] makes one of a file or a block device. A Source must not change while it
// is in use.
//
// A Source may also have the method NextData of [Device], and knows its holes then.
type Source interface {
	io.ReaderAt
	Size() int64 // in bytes
}

// Disk is a block device, a partition of one, or an image in a file or in memory: a [Source] that
// can be written to. What writes to one uses these methods where it has them:
//
//	Sync() error                   // returns when all that was written is on stable storage
//	ZeroRange(off, n int64) error  // makes n bytes zero faster than writing them does, or fails with errors.ErrUnsupported
//	StartWriteback(off, n int64)   // begins to put n written bytes on stable storage, without waiting
//	SectorSize() int               // the logical sector size in bytes, 0: not known
//	DropCache(off, n int64) error  // forgets what is cached of n synced bytes, so that the next read is of the medium, or fails with errors.ErrUnsupported
//	Lock() (unlock func() error, err error) // has the disk alone; a *LockedError, at once, if another has it, or fails with errors.ErrUnsupported
//	Exclusive(off, n int64) (release func() error, err error) // keeps the system from using n bytes; an error if it does, or fails with errors.ErrUnsupported
//
// Without Sync a power cut may undo writes in any order.
type Disk interface {
	Source
	io.WriterAt
}

// ESPFile is a file to be put on an EFI system partition.
type ESPFile struct {
	// slash-separated, relative to the root of the file system: "EFI/Linux/acme_1.efi"
	Path    string
	Content Source
}

// Device is an open file or block device: a [Disk] that knows its holes. Wrapping a Device in a
// type without its methods loses the holes and, on Linux, the early start of writing to the medium.
type Device struct {
	file   *os.File
	size   int64
	locked atomic.Bool // by this Device; flock(2) does not tell two owners of one open file apart
}

// LockedError says that a disk is in use by something that changes it.
type LockedError struct {
	Name string // of the file or device
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is locked by another program, which changes it or reads its partition table: try again later", e.Name)
}

// OpenFile opens a file or a block device for reading. Close it after use. For writing, open it
// with [os.OpenFile] and call [NewDevice].
func OpenFile(path string) (*Device, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d, err := NewDevice(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// NewDevice makes a Device of an open file or block device, whose size is found now and taken not
// to change. It is an error for what has no size: a pipe, a directory, a block device whose size
// the system does not tell. The Device takes over f: [Device.Close] closes it.
func NewDevice(f *os.File) (*Device, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		return &Device{file: f, size: info.Size()}, nil
	}
	if info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return nil, fmt.Errorf("%s: neither a file nor a block device", f.Name())
	}
	size, err := blockSize(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return &Device{file: f, size: size}, nil
}

// blockSize is the size of a block device, which is its end where the system lets one seek there.
// macOS says 0 for every device, and so does Linux for a loop device without a file: neither is a
// disk without bytes.
func blockSize(f io.Seeker) (int64, error) {
	old, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	if size == 0 {
		return 0, errors.New("the system reports no size for this device: nothing may be attached to it")
	}
	_, err = f.Seek(old, io.SeekStart)
	return size, err
}

// ReadAt implements [io.ReaderAt].
func (d *Device) ReadAt(p []byte, off int64) (int, error) { return d.file.ReadAt(p, off) }

// WriteAt implements [io.WriterAt]. It fails for a Device of [OpenFile], which is open for reading.
func (d *Device) WriteAt(p []byte, off int64) (int, error) { return d.file.WriteAt(p, off) }

// Size is the number of bytes that there were when the Device was made.
func (d *Device) Size() int64 { return d.size }

// SectorSize is the logical sector size of a block device in bytes, where the system tells it;
// else, and for a file, 0.
func (d *Device) SectorSize() int { return sectorSize(d.file) }

// Sync returns when all that was written is on stable storage (fsync(2)).
func (d *Device) Sync() error { return d.file.Sync() }

// Lock takes the file or device for this Device alone until unlock is called, without waiting: what
// another Device has is a [*LockedError]. On Linux it is the exclusive flock(2) that systemd asks
// for of a program that changes a disk ("Locking Block Device Access",
// https://systemd.io/BLOCK_DEVICE_LOCKING), so that udev does not look at the disk meanwhile: the
// Device must be of the whole disk's node then. On other systems it keeps out only who locks this
// same Device. What does not lock is not kept out.
func (d *Device) Lock() (unlock func() error, err error) {
	if !d.locked.CompareAndSwap(false, true) {
		return nil, &LockedError{d.file.Name()}
	}
	if err := flock(d.file); err != nil {
		d.locked.Store(false)
		return nil, err
	}
	return sync.OnceValue(func() error {
		defer d.locked.Store(false)
		return funlock(d.file)
	}), nil
}

// Close closes the file.
func (d *Device) Close() error { return d.file.Close() }

// File is the file itself. It is closed with the Device.
func (d *Device) File() *os.File { return d.file }

// NextData returns the first range [start, end) at or behind off that may hold anything but zeros,
// in bytes. When there is none, start and end are the size. Where the system cannot tell, all the
// rest is data.
func (d *Device) NextData(off int64) (start, end int64, err error) {
	if off >= d.size {
		return d.size, d.size, nil
	}
	if start, end, ok := nextData(d.file, off, d.size); ok {
		return start, end, nil
	}
	return off, d.size, nil
}
