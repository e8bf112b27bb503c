package fat

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

var (
	// ErrReadOnly: the volume was opened for reading, or is laid out as FAT32 with fewer than
	// 65,525 clusters: Linux takes such a volume for FAT32, other systems may take it for FAT16,
	// and a write by one would damage it for the other.
	ErrReadOnly = errors.New("volume cannot be written")
	// ErrCrossDirectory: old and new name of a rename are in different directories. FAT cannot do
	// that with one sector write, so a power cut would leave both names on one chain or none. Write
	// the new file, then remove the old one.
	ErrCrossDirectory = errors.New("rename to another directory")
	// ErrNotEmpty: a directory that is not empty cannot be removed.
	ErrNotEmpty = errors.New("directory is not empty")
	// ErrNoRoom: a directory cannot be renamed, because its sector of the parent directory has no
	// room for the longer name, and the cluster with that sector cannot be moved ([FS.Rename]) or
	// there is no free cluster.
	ErrNoRoom = errors.New("no room in the directory sector for the new name")
	// ErrDirectoryFull: a directory has 65,536 entries, or is the root directory of a FAT12 or
	// FAT16, which cannot grow.
	ErrDirectoryFull = errors.New("directory is full")
	// ErrNotDirectory: a path goes through a file.
	ErrNotDirectory = errors.New("not a directory")
	// ErrAmbiguous: a name can mean several entries, which differ only in case, or because it is
	// the name of one entry and the 8.3 alias of a second. Reading takes the first one, as drivers
	// do; for a change, give the name in its exact case.
	ErrAmbiguous = errors.New("name is ambiguous")
	// ErrFATsDiffer: the copies of the FAT differ, and the tree of directories does not show which
	// one is right. Nothing is written, because a write would copy one over the other.
	ErrFATsDiffer = errors.New("copies of the FAT differ, and which of them fits the files is unclear")
	// ErrFATDamaged: the FAT does not begin with the media byte, and it does not match the files.
	// Nothing is written, because clusters that the FAT says are free may hold files.
	ErrFATDamaged = errors.New("FAT is damaged")
	// ErrIsDirectory: the name of a directory was given in place of a file.
	ErrIsDirectory = errors.New("is a directory")
)

func badFormat(off int64, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: off, Field: field, Err: fmt.Errorf(format, args...)}
}

// SpaceError: the content does not fit.
type SpaceError struct {
	// bytes that are needed: of the whole volume when building, of free clusters when updating
	Need int64
	Have int64 // bytes that are available
	What string
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s: needs %d bytes, has %d: %d bytes are missing", e.What, e.Need, e.Have, e.Need-e.Have)
}

// NameError is a name or path that FAT cannot hold.
type NameError struct {
	Name string
	Why  string
}

func (e *NameError) Error() string { return fmt.Sprintf("name %q: %s", e.Name, e.Why) }
