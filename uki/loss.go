package uki

import (
	"fmt"
	"strings"
)

// A Loss is something that an image can have and that does not survive a change of the image.
type Loss int

// What an [Edit] may be told to lose.
const (
	// LoseSignatures: the Secure Boot signatures, which cover all bytes.
	LoseSignatures Loss = iota + 1
	// LosePCRSignatures: each .pcrsig whose policies no longer match, because something that it covers changes and it is
	// not replaced in the same edit. The section stays, blank, as room for a new one.
	LosePCRSignatures
	// LoseTrailingData: bytes behind the last section that belong to none, if sections have to move.
	LoseTrailingData
	// LoseSymbols: the COFF symbol table, if it stands where sections have to move.
	LoseSymbols
	// LoseDebugDirectory: the debug directory, if what it points to has to move.
	LoseDebugDirectory
)

var lossNames = map[Loss]string{
	LoseSignatures:     "its Secure Boot signatures (LoseSignatures)",
	LosePCRSignatures:  "PCR signatures for what it contained before (LosePCRSignatures)",
	LoseTrailingData:   "the data behind its last section (LoseTrailingData)",
	LoseSymbols:        "its COFF symbol table (LoseSymbols)",
	LoseDebugDirectory: "its debug directory (LoseDebugDirectory)",
}

func (l Loss) String() string {
	if s, ok := lossNames[l]; ok {
		return s
	}
	return fmt.Sprintf("loss %d", int(l))
}

// LossError is returned for an [Edit] that would lose what it was not told to lose.
type LossError struct {
	Losses []Loss // all of them, in the order of the constants
}

func (e *LossError) Error() string {
	var names []string
	for _, l := range e.Losses {
		names = append(names, l.String())
	}
	return "uki: edit: the image would lose " + strings.Join(names, ", ") + ": Edit.Lose allows that"
}
