// Package pcrbank is the one table of the hash algorithms that PCR banks have: what event logs,
// policies and the commands to a TPM share. Errors carry no prefix: the package that returns them
// adds its own.
package pcrbank

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Count is how many PCRs a bank of a PC client TPM has: 0 to 23.
const Count = 24

// Algorithm is one row of the TCG Algorithm Registry (revision 01.34, table 3) as far as PCR banks
// go.
type Algorithm struct {
	ID   uint16 // TPM_ALG_ID
	Hash crypto.Hash
	Name string // as systemd and the kernel write it
}

// All are the banks that systemd computes, in the order in which systemd-measure lists them.
var All = []Algorithm{
	{0x0004, crypto.SHA1, "sha1"},
	{0x000b, crypto.SHA256, "sha256"},
	{0x000c, crypto.SHA384, "sha384"},
	{0x000d, crypto.SHA512, "sha512"},
}

// ErrUnknown is the cause of every error about a hash that is not in [All].
var ErrUnknown = errors.New("not a PCR bank that is known here")

// Hashes are the hashes of [All], in its order.
func Hashes() []crypto.Hash {
	hs := make([]crypto.Hash, 0, len(All))
	for _, a := range All {
		hs = append(hs, a.Hash)
	}
	return hs
}

// ByHash finds the row of a hash.
func ByHash(h crypto.Hash) (Algorithm, bool) {
	return find(func(a Algorithm) bool { return a.Hash == h })
}

// ByID finds the row of a TPM_ALG_ID.
func ByID(id uint16) (Algorithm, bool) {
	return find(func(a Algorithm) bool { return a.ID == id })
}

func find(is func(Algorithm) bool) (Algorithm, bool) {
	if i := slices.IndexFunc(All, is); i >= 0 {
		return All[i], true
	}
	return Algorithm{}, false
}

// Name is the name of a bank ("sha256"); of a hash that is no bank it is the hash's own name.
func Name(h crypto.Hash) string {
	if a, ok := ByHash(h); ok {
		return a.Name
	}
	return h.String()
}

// ByName is the inverse of [Name]; letter case does not matter.
func ByName(name string) (crypto.Hash, error) {
	a, ok := find(func(a Algorithm) bool { return strings.EqualFold(a.Name, name) })
	if !ok {
		return 0, fmt.Errorf("bank %q: want sha1, sha256, sha384 or sha512", name)
	}
	return a.Hash, nil
}

// Check is the error for a hash that is no bank.
func Check(h crypto.Hash) error {
	if _, ok := ByHash(h); !ok {
		return fmt.Errorf("bank %v: %w", h, ErrUnknown)
	}
	return nil
}

// CheckAll is [Check] for a list, which must not name a bank twice.
func CheckAll(hs []crypto.Hash) error {
	for i, h := range hs {
		if err := Check(h); err != nil {
			return err
		}
		if slices.Contains(hs[:i], h) {
			return fmt.Errorf("bank %s: named twice", Name(h))
		}
	}
	return nil
}

// CheckPCRs wants ascending numbers of PCRs.
func CheckPCRs(pcrs []int) error {
	last := -1
	for _, n := range pcrs {
		if n <= last || n >= Count {
			return fmt.Errorf("%v: want ascending numbers from 0 to %d", pcrs, Count-1)
		}
		last = n
	}
	return nil
}

// Sum hashes the concatenation of parts. The caller has checked h.
func Sum(h crypto.Hash, parts ...[]byte) []byte {
	if len(parts) == 1 { // most of what a log asks for, and several times faster
		switch h {
		case crypto.SHA1:
			d := sha1.Sum(parts[0])
			return d[:]
		case crypto.SHA256:
			d := sha256.Sum256(parts[0])
			return d[:]
		case crypto.SHA384:
			d := sha512.Sum384(parts[0])
			return d[:]
		case crypto.SHA512:
			d := sha512.Sum512(parts[0])
			return d[:]
		}
	}
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}

// PCRs are the keys of a map by PCR, ascending.
func PCRs[V any](values map[int]V) []int { return slices.Sorted(maps.Keys(values)) }
