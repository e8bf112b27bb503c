package tpm

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
)

// ErrBank is the cause of every error about a hash that is not one of [Banks], or that a log or measurement lacks.
var ErrBank = errors.New("not a PCR bank that is known here")

// ErrKey is the cause of every error about a key that cannot sign PCR policies. systemd accepts RSA keys with the
// exponent 65537 and nothing else.
var ErrKey = errors.New("not an RSA key with exponent 65537")

// FormatError says where an event log or a .pcrsig does not follow its format.
type FormatError struct {
	Offset int64  // in bytes from the start of the input
	Field  string // what was being read
	Err    error  // what is wrong with it
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("tpm: %s at 0x%x: %s", e.Field, e.Offset, bare(e.Err))
}

func (e *FormatError) Unwrap() error { return e.Err }

// ReplayError says that a log does not lead to the values that a TPM reports.
type ReplayError struct {
	Bank     crypto.Hash
	PCRs     []int          // those that differ, ascending
	Replayed map[int][]byte // what the log gives for them
	Actual   map[int][]byte // what the TPM has
}

func (e *ReplayError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tpm: the event log does not explain the TPM's %s bank:", BankName(e.Bank))
	for i, n := range e.PCRs {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " PCR %d is %x, the log gives %x", n, e.Actual[n], e.Replayed[n])
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
