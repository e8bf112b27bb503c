package tpm

import (
	"crypto"
	"fmt"
	"strings"
)

// pkg is what errors of this package begin with.
const pkg = "tpm"

// ReplayError says that a log does not lead to the values that a TPM reports.
type ReplayError struct {
	Bank crypto.Hash
	PCRs []int          // those that differ, ascending
	Want map[int][]byte // what the TPM has for them
	Got  map[int][]byte // what the log gives
}

func (e *ReplayError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the event log does not explain the TPM's %s bank:", BankName(e.Bank))
	for i, n := range e.PCRs {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " PCR %d is %x, the log gives %x", n, e.Want[n], e.Got[n])
	}
	return b.String()
}

// bare is an error's text without the name of this package, which the error around it begins with.
func bare(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tpm: "), "predict: ")
}

// wrapError puts a text before an error of this package.
type wrapError struct {
	text string // after "tpm: "
	err  error
}

func (e *wrapError) Error() string { return "tpm: " + e.text + ": " + bare(e.err) }

func (e *wrapError) Unwrap() error { return e.err }
