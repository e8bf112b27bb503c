package sparse

import (
	"errors"
	"io"
	"os"
)

// WritebackStarter is a target that can begin to put n written bytes at off on its medium, without
// waiting.
type WritebackStarter interface {
	StartWriteback(off, n int64)
}

// StartWriteback has a target begin to put n written bytes at off on its medium, without waiting.
// The sync that ends the writing of an image then has little left to do: on Linux it takes a third
// of the time. It is advice, and so has no error.
func StartWriteback(w io.WriterAt, off, n int64) {
	switch w := w.(type) {
	case WritebackStarter:
		w.StartWriteback(off, n)
	case *os.File:
		startWriteback(w, off, n)
	case interface{ File() *os.File }:
		startWriteback(w.File(), off, n)
	}
}

// CacheDropper is a target that can forget what it has cached of n bytes at off, so that the next
// read is of the medium. What was not synced may stay. An error that matches
// [errors.ErrUnsupported] says that it cannot.
type CacheDropper interface {
	DropCache(off, n int64) error
}

// DropCache has the next read of n bytes at off be of the medium, where the source can be told so:
// through [CacheDropper], and a file through posix_fadvise(2). What was not synced before may stay
// in the cache. known is false where it is not known whether anything is cached.
func DropCache(src any, off, n int64) (known bool, err error) {
	switch src := src.(type) {
	case CacheDropper:
		if err := src.DropCache(off, n); err != nil {
			if errors.Is(err, errors.ErrUnsupported) {
				err = nil
			}
			return false, err
		}
		return true, nil
	case *os.File:
		return dropCache(src, off, n)
	case interface{ File() *os.File }:
		return dropCache(src.File(), off, n)
	}
	return false, nil
}

// Locker is a target that this program can have alone until unlock is called. An error that matches
// [errors.ErrUnsupported] says that it cannot be locked.
type Locker interface {
	Lock() (unlock func() error, err error)
}

// Lock has a target alone until unlock is called, where that can be had: one that is no [Locker],
// or of something that is none, is not locked.
func Lock(target any) (unlock func() error, err error) {
	if l, ok := target.(Locker); ok {
		if unlock, err = l.Lock(); !errors.Is(err, errors.ErrUnsupported) {
			return unlock, err
		}
	}
	return func() error { return nil }, nil
}
