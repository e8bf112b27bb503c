package fec

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/verity"
)

// errNone is the error for a device that is not given at all.
func errNone(device string) error { return fmt.Errorf("%s: not given", device) }

// A ParamError says that a parameter is outside of the limits of the code or of dm-verity.
type ParamError struct {
	Param string // "roots", "block size", ...
	Value int64
	Want  string // valid values
}

func (e *ParamError) Error() string {
	return fmt.Sprintf("%s: %d: want %s", e.Param, e.Value, e.Want)
}

// Rounds is a run of rounds of the code. Round n covers the blocks n, n+R, n+2R, ... of data and
// hash area taken together, where R is the number of rounds; its parity has BlockSize times Roots
// bytes and lies at n times that many bytes.
type Rounds struct {
	First, Count int64
}

func (r Rounds) String() string {
	if r.Count == 1 {
		return fmt.Sprintf("round %d", r.First)
	}
	return fmt.Sprintf("rounds %d-%d", r.First, r.First+r.Count-1)
}

// A ParityError is the answer of [Check] for parity that does not match the data and the hash area.
type ParityError struct {
	Rounds []Rounds // rounds that differ, in order, at most verity.MaxRanges runs
	Differ int64    // number of all rounds that differ
	Total  int64    // number of all rounds
	Offset int64    // offset of the first byte that differs, in the FEC area
	Blocks []int64  // blocks the code says are damaged in the first of the rounds; see Check
}

func (e *ParityError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "parity: does not agree with data and hash area in %d of %d rounds, first at %#x", e.Differ, e.Total, e.Offset)
	const shown = 4
	for i, r := range e.Rounds {
		switch {
		case i == shown:
			b.WriteString(", ...")
		case i == 0:
			b.WriteString(": " + r.String())
		case i < shown:
			b.WriteString(", " + r.String())
		}
	}
	return b.String()
}

// An UnrepairedError says that some blocks are still damaged. All other damaged blocks were
// repaired.
//
// errors.Is answers to verity.ErrData and verity.ErrTree for the blocks that are left, and only to
// verity.ErrRootHash if the parity agrees with a tree that does not have the root hash: it is then
// the root hash of a different image.
type UnrepairedError struct {
	Report
	RootHash bool // the root hash does not belong to this image
}

func (e *UnrepairedError) Error() string {
	if e.RootHash {
		return "repair: " + verity.ErrRootHash.Error() + ": the parity agrees with the hash tree, so the root hash belongs to a different image"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "repair: %d blocks have more damage than the parity can correct; %d blocks were repaired", e.UnrepairedBlocks, e.RepairedBlocks)
	const shown = 4
	for i, r := range e.Unrepaired {
		switch {
		case i == shown:
			b.WriteString(", ...")
		case i == 0:
			b.WriteString("; left: " + r.String())
		case i < shown:
			b.WriteString(", " + r.String())
		}
	}
	if e.UnprovenBlocks > 0 {
		fmt.Fprintf(&b, "; %d blocks under them cannot be verified", e.UnprovenBlocks)
	}
	return b.String()
}

// Is reports whether the target is one of verity's findings.
func (e *UnrepairedError) Is(target error) bool {
	switch target {
	case verity.ErrRootHash:
		return e.RootHash
	case verity.ErrData:
		return !e.RootHash && e.has(func(level int) bool { return level == 0 })
	case verity.ErrTree:
		return !e.RootHash && e.has(func(level int) bool { return level > 0 })
	}
	return false
}

func (e *UnrepairedError) has(level func(int) bool) bool {
	for _, r := range e.Unrepaired {
		if level(r.Level) {
			return true
		}
	}
	return false
}
