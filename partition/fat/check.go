package fat

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// ProblemKind is a kind of [Problem].
type ProblemKind int

// The kinds of problems of files and directories. [FS.Repair] puts right those of ProblemTwin,
// ProblemDots and ProblemLongName, leaves ProblemSize alone, and refuses a volume with the others.
const (
	// a chain has no first cluster, leads to a cluster that is free, bad or missing, or is a loop
	ProblemChain  ProblemKind = iota
	ProblemShared             // a chain leads to a cluster of a second chain
	// a chain starts at a cluster of a second chain: two names for one file, after an interrupted
	// rename
	ProblemTwin
	ProblemSize     // the size of a file does not match its chain
	ProblemDots     // '.' or '..' is missing, or has the wrong cluster
	ProblemLongName // a piece of a long name without its short entry
)

// chains reports whether problems of the kind are about chains, which the FAT decides.
func (k ProblemKind) chains() bool { return k <= ProblemSize }

// String is the name of the kind.
func (k ProblemKind) String() string {
	return [...]string{"chain", "shared cluster", "two names", "size", "dot entries", "long name"}[k]
}

// Problem is something wrong with a file or directory.
type Problem struct {
	Kind ProblemKind
	Path string // empty for the root directory
	Text string
}

// String is "/path: what is wrong".
func (p Problem) String() string { return "/" + p.Path + ": " + p.Text }

// Findings is the result of [FS.Check].
type Findings struct {
	// InUse: a driver marked the volume as in use and never removed the mark, in FAT[1] (Windows)
	// or in the boot sector (Linux, Windows). So data may be missing. This package neither depends
	// on the mark nor changes it.
	InUse bool
	// IOErrors: a driver recorded disk errors in one of these places.
	IOErrors bool
	// FATs are the copies of the FAT that are in use, first the copy that is read.
	FATs []FATCopy
	// FATsErr is why the volume cannot be written because of its FATs: [ErrFATsDiffer],
	// [ErrFATDamaged] or nil.
	FATsErr error
	// LostClusters is how many clusters are marked as in use but belong to no file.
	LostClusters int64
	// Problems are those of files and directories, at most 2,000.
	Problems []Problem
}

// FATCopy is one copy of the FAT.
type FATCopy struct {
	Number  int  // from 0
	Head    bool // it begins with the media byte
	Differs int  // number of sectors that differ from the copy that is read
	Damaged int  // number of chains of the tree that it contradicts
}

// Check reads all directories and the FATs and says what is wrong. The error is one of reading:
// damage is in the result.
func (f *FS) Check() (found *Findings, err error) {
	defer prefix.Add("fat", &err)
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.under(f.geo.active) // looking changes nothing of f
	s, err := v.settle()
	if err != nil {
		if !isFATs(err) {
			return nil, err
		}
		found = &Findings{FATsErr: prefix.Error("fat", err)}
		if s, err = v.survey(walk{}); err != nil {
			return nil, err
		}
	} else {
		found = &Findings{}
	}
	found.Problems = s.problems
	for _, k := range v.geo.copies() {
		h := v.readHead(k)
		c := FATCopy{Number: k, Head: h.right()}
		if c.Differs, err = v.compareFATs(v.geo.active, k, nil); err != nil {
			return nil, err
		}
		under := s
		if c.Differs > 0 {
			if under, err = v.under(k).survey(walk{}); err != nil {
				return nil, err
			}
		}
		c.Damaged = len(under.worse())
		found.FATs = append(found.FATs, c)
	}
	h := v.readHead(v.geo.active)
	inUse, errs := v.geo.state&1 != 0, v.geo.state&2 != 0
	switch v.geo.kind { // FAT12 has no such bits
	case 16:
		inUse, errs = inUse || h.second&0x8000 == 0, errs || h.second&0x4000 == 0
	case 32:
		inUse, errs = inUse || h.second&0x08000000 == 0, errs || h.second&0x04000000 == 0
	}
	found.InUse, found.IOErrors = inUse, errs
	if err := v.load(); err != nil {
		return nil, err
	}
	lost, err := v.lostClusters(s)
	found.LostClusters = count(lost)
	return found, err
}

// Clean reports whether the volume needs no repair and has no warnings.
func (f *Findings) Clean() bool {
	for _, c := range f.FATs {
		if !c.Head || c.Differs > 0 {
			return false
		}
	}
	return !f.InUse && !f.IOErrors && f.FATsErr == nil && f.LostClusters == 0 && len(f.Problems) == 0
}

// String is for people: one line for each finding, nothing if there is none.
func (f *Findings) String() string {
	var b strings.Builder
	if f.InUse {
		b.WriteString("a driver had the volume in use and did not finish: files may be incomplete\n")
	}
	if f.IOErrors {
		b.WriteString("a driver met errors of the disk\n")
	}
	for _, c := range f.FATs {
		if !c.Head {
			fmt.Fprintf(&b, "FAT %d does not begin with the media byte\n", c.Number)
		}
		if c.Differs > 0 {
			fmt.Fprintf(&b, "FAT %d differs from FAT %d in %d sectors, and contradicts %d chains\n", c.Number, f.FATs[0].Number, c.Differs, c.Damaged)
		}
	}
	if f.FATsErr != nil {
		fmt.Fprintf(&b, "%v\n", f.FATsErr)
	}
	if f.LostClusters > 0 {
		fmt.Fprintf(&b, "%d lost clusters\n", f.LostClusters)
	}
	for _, p := range f.Problems {
		fmt.Fprintf(&b, "%v\n", p)
	}
	return b.String()
}
