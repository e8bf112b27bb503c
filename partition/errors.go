package partition

import (
	"errors"
	"fmt"
)

var (
	// ErrNoTable: the disk shows no trace of a GPT. Errors of [Read] wrap it.
	ErrNoTable = errors.New("no GPT")
	// ErrDamaged: the disk has, or had, a GPT, but neither of its tables can be read. Errors of
	// [Read] wrap it together with the reasons.
	ErrDamaged = errors.New("the GPT cannot be read")
	// ErrOverlap: two partitions share a sector.
	ErrOverlap = errors.New("overlaps")
	// ErrRange: a partition lies outside of the usable sectors.
	ErrRange = errors.New("is outside of the usable range")
	// ErrUnaligned: a partition does not start at a multiple of 4096 bytes.
	ErrUnaligned = errors.New("is not aligned")
	// ErrDuplicateID: two partitions have one ID.
	ErrDuplicateID = errors.New("has the same ID as another partition")
	// ErrHybridMBR: the MBR lists partitions besides the protective one. If only the GPT were
	// changed, the two would disagree.
	ErrHybridMBR = errors.New("hybrid MBR")
	// ErrNoRoom: a partition takes the last sectors of the disk, where a backup table belongs.
	ErrNoRoom = errors.New("no room for a backup table at the end of the disk")
	// ErrUnfilled: a partition that a plan makes is to be filled ([Spec.Fill]), but its Content is
	// not set. With [Layout.LayoutOnly] the caller fills it.
	ErrUnfilled = errors.New("its content is not set")
	// ErrRootHash: a root hash that is too short to make two different IDs from.
	ErrRootHash = errors.New("root hash")
)

// EntryError says why a partition must not be written.
type EntryError struct {
	Number int    // entry number, from 1; 0: the partition has none yet
	Name   string // partition name
	Err    error
}

func (e *EntryError) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("%q: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("number %d (%q): %v", e.Number, e.Name, e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }

// SpaceError: something does not fit.
type SpaceError struct {
	// bytes that are needed: by the partition's content, or of the disk up to the end of the whole
	// layout
	Need      int64
	Have      int64  // bytes that the partition, or the disk, has
	Partition string // name of the first partition that does not fit
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%q does not fit: needs %d bytes, has %d: %d bytes are missing", e.Partition, e.Need, e.Have, e.Missing())
}

// Missing is how many bytes are missing.
func (e *SpaceError) Missing() int64 { return e.Need - e.Have }
