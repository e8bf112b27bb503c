package upgradetest

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Faults are what happens to a disk while something is done to it. The zero value is a power cut
// behind every write.
type Faults struct {
	// MaxCuts bounds how many power cuts are tried, spread over all; 0: each.
	MaxCuts int

	// Reordered is how many states are tried besides, in which some of the writes since the last
	// sync are on the medium and some are not, and writes are torn between sectors.
	Reordered int

	// Errors has every write and every sync fail once, and do half of its work; LyingSyncs has
	// every sync say once that all is on the medium when nothing of it is. The power is cut when
	// what was done has returned. A page cache goes on showing what the medium does not have.
	Errors, LyingSyncs bool
}

// Cut is a disk after a fault, and what became of the machine.
type Cut struct {
	Fault string  // what has happened to the disk, in words
	Err   error   // of what was done, for a fault that it could see
	Boots []*Boot // of the machine that is switched on with that disk, until it is up or stuck
}

// Last is the boot that the machine has ended with.
func (c *Cut) Last() *Boot { return c.Boots[len(c.Boots)-1] }

// maxBoots is how often a machine is switched on with a disk.
const maxBoots = 20

// Cuts does something to copies of the disk in memory, with faults, and switches the machine on
// with what is left. It is a test of code that changes bootable disks: whatever happens, one of the
// versions must come up. What is done is given a disk that has everything that [osmith.Disk] may
// have but a lock. The machine's own disk is only read.
//
// An error ends it: of a disk that cannot be read, or of what was done without any fault.
func (m *Machine) Cuts(ctx context.Context, do func(osmith.Disk) error, f Faults) iter.Seq2[*Cut, error] {
	return func(yield func(*Cut, error) bool) {
		before, err := copyOf(m.Disk)
		if err != nil {
			yield(nil, err)
			return
		}
		whole := before.Clone()
		whole.Record()
		if err := do(whole); err != nil {
			yield(nil, err)
			return
		}
		try := func(disk *faultio.Disk, fault string, failed error) bool {
			on := *m
			on.Disk = disk
			boots, err := on.BootUntilUp(ctx, maxBoots)
			if err != nil {
				err = fmt.Errorf("%s: %w", fault, err)
			}
			return yield(&Cut{Fault: fault, Err: failed, Boots: boots}, err) && err == nil
		}
		n := len(whole.Writes())
		for i := range f.cuts(n) {
			if !try(whole.Prefix(i), fmt.Sprintf("power cut behind write %d of %d", i, n), nil) {
				return
			}
		}
		if f.Reordered > 0 && !f.reordered(whole, try) {
			return
		}
		for _, failure := range f.failures() {
			for after := 0; ; after++ {
				disk := before.Clone()
				disk.Cached()
				failure.After = after
				disk.Faulty(failure.Failure)
				err := do(disk)
				if disk.Failed() == 0 {
					break
				}
				if !try(disk.Medium(), fmt.Sprintf("%s %d %s", failure.Op, after+1, failure.how), err) {
					return
				}
			}
		}
	}
}

// cuts are numbers of writes behind which the power is cut, from none to all.
func (f Faults) cuts(writes int) iter.Seq[int] {
	return func(yield func(int) bool) {
		step := 1.0
		if f.MaxCuts > 1 && writes+1 > f.MaxCuts {
			step = float64(writes) / float64(f.MaxCuts-1)
		}
		last := -1
		for at := 0.0; ; at += step {
			i := min(int(at+0.5), writes)
			if i != last && !yield(i) || i == writes {
				return
			}
			last = i
		}
	}
}

func (f Faults) reordered(whole *faultio.Disk, try func(*faultio.Disk, string, error) bool) bool {
	faults, err := whole.Faults(faultio.FaultOptions{Limit: f.Reordered})
	if err != nil {
		return try(whole, "reordered writes", errors.Join(errNotWhole, err))
	}
	for state := range faults.States() {
		if state.Kind != faultio.FaultPrefix && !try(state.Disk, fmt.Sprintf("%v of the writes behind sync %d", state.Kind, state.Epoch), nil) {
			return false
		}
	}
	return true
}

// errNotWhole says that something wrote parts of sectors, which no disk does.
var errNotWhole = errors.New("not every write is of whole sectors")

type namedFailure struct {
	faultio.Failure
	how string
}

func (f Faults) failures() (list []namedFailure) {
	if f.Errors {
		list = append(list, namedFailure{faultio.Failure{Op: faultio.OpWrite}, "fails"}, namedFailure{faultio.Failure{Op: faultio.OpWrite, Short: true}, "fails half-way"},
			namedFailure{faultio.Failure{Op: faultio.OpSync}, "fails"}, namedFailure{faultio.Failure{Op: faultio.OpSync, Short: true}, "fails half-way"})
	}
	if f.LyingSyncs {
		list = append(list, namedFailure{faultio.Failure{Op: faultio.OpSync, Lie: true}, "lies"})
	}
	return list
}

// copyOf is a copy of a disk in memory, without its zeros.
func copyOf(disk osmith.Source) (*faultio.Disk, error) {
	to := faultio.NewDisk(disk.Size())
	target := sparse.Target{W: to, Zero: true}
	return to, target.Copy(0, disk, disk.Size())
}
