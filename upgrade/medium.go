package upgrade

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// ErrNoSync is returned for a disk that is to be changed and has no method Sync: a power cut might undo writes in any order, so that no order of them is safe.
var ErrNoSync = errors.New("the disk has no method Sync: in what order writes reach the medium is not known; give an *osmith.Device, or a disk that has it")

type syncer interface{ Sync() error }

type locker interface {
	Lock() (unlock func() error, err error)
}

// take makes a disk ready to be changed: it must be able to sync, is locked where it can be, and is read from the medium afterwards.
func take(disk osmith.Disk) (release func() error, err error) {
	if _, ok := disk.(syncer); !ok {
		return nil, ErrNoSync
	}
	release = func() error { return nil }
	if l, ok := disk.(locker); ok {
		if release, err = l.Lock(); err != nil {
			return nil, err
		}
	}
	if err := toMedium(disk); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// toMedium has what was written reach the medium, and what is read next come from there. After a failed sync the cache shows what the medium may not have, and
// the next sync succeeds nevertheless.
func toMedium(disk osmith.Disk) error {
	if s, ok := disk.(syncer); ok {
		if err := s.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return pastCache(disk)
}

// pastCache has all that is read next come from the medium, where the disk can be told so.
func pastCache(disk osmith.Disk) error {
	_, err := sparse.DropCache(disk, 0, disk.Size())
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
