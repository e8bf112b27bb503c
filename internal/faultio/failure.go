package faultio

import (
	"fmt"
	"syscall"
)

// ErrIO is what operations fail with that [Disk.Faulty] struck. It matches [syscall.EIO], as what a
// file returns does.
var ErrIO = fmt.Errorf("faultio: %w", syscall.EIO)

// Op is a kind of operation of a disk.
type Op int

// The kinds of operations.
const (
	OpAny   Op = iota // any of the others, counted together
	OpRead            // [Disk.ReadAt]
	OpWrite           // [Disk.WriteAt]
	OpSync            // [Disk.Sync]
)

// String is the kind's name.
func (o Op) String() string { return [...]string{"any", "read", "write", "sync"}[o] }

// Failure says which operation of a disk fails, and how. The zero value is one EIO at the next
// operation of any kind, which changes nothing: of a write nothing is written, of a read nothing is
// read.
type Failure struct {
	// Op is the kind of operations that are counted, and of which one fails.
	Op Op
	// After is how many operations of the kind do not fail before.
	After int
	// Always has all that follow fail too. Otherwise the disk works again.
	Always bool
	// Short has the operation do the first half of its work: a write or a read that of its sectors,
	// rounded down, and a sync that of the dirty pages of the page cache.
	Short bool
	// Sector is the size in bytes of the sectors that Short counts; 0: 512.
	Sector int
	// Lie has a write or a sync say that it succeeded, although nothing was done, or half of it
	// with Short. A read does not lie.
	Lie bool
	// Err is what the operation fails with; nil: [ErrIO].
	Err error
}

// reach is how many of n bytes the failing operation transfers.
func (f *Failure) reach(n int) int {
	if !f.Short {
		return 0
	}
	sector := f.Sector
	if sector == 0 {
		sector = 512
	}
	return (n + sector - 1) / sector / 2 * sector
}

func (f *Failure) err() error {
	if f.Err == nil {
		return ErrIO
	}
	return f.Err
}

// Faulty has the disk fail: each failure counts the operations from now on by itself. Failures of
// an earlier call, and how often they struck, are forgotten, so that a call without any makes the
// disk whole. Calls that make no sense, as a write beyond the end, and those after a power cut are
// not counted.
func (d *Disk) Faulty(failures ...Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures, d.failed = append([]Failure(nil), failures...), 0
}

// Failed is how many operations failed or lied since [Disk.Faulty]: 0 ends a loop over all places
// where a failure can strike.
func (d *Disk) Failed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// strike counts an operation, and returns the failure that strikes it.
func (d *Disk) strike(op Op) *Failure {
	var hit *Failure
	kept := d.failures[:0]
	for _, f := range d.failures {
		switch {
		case f.Op != OpAny && f.Op != op:
		case f.After > 0:
			f.After--
		case hit == nil:
			if hit = &f; !f.Always {
				continue
			}
		}
		kept = append(kept, f)
	}
	d.failures = kept
	if hit != nil {
		d.failed++
	}
	return hit
}
