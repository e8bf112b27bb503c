package tpm

import (
	"crypto"
	_ "crypto/sha1"   // the banks of this package, linked in so that Available holds
	_ "crypto/sha256" // (also the hash of every policy)
	_ "crypto/sha512"
	"fmt"
	"strings"
)

// algorithm is one row of the TCG Algorithm Registry (revision 01.34, table 3) as far as PCR banks go.
type algorithm struct {
	id   uint16
	hash crypto.Hash
	name string
}

// algorithms are the banks that systemd and this package compute, in the order in which systemd-measure lists them.
var algorithms = []algorithm{
	{0x0004, crypto.SHA1, "sha1"},
	{0x000b, crypto.SHA256, "sha256"},
	{0x000c, crypto.SHA384, "sha384"},
	{0x000d, crypto.SHA512, "sha512"},
}

// Banks are the PCR banks of this package: sha1, sha256, sha384 and sha512. The order is that of systemd-measure.
func Banks() []crypto.Hash {
	hs := make([]crypto.Hash, 0, len(algorithms))
	for _, a := range algorithms {
		hs = append(hs, a.hash)
	}
	return hs
}

// BankName is the name of a bank as systemd and the kernel write it ("sha256"). Of a hash that is no bank of this
// package it is the hash's own name.
func BankName(h crypto.Hash) string {
	if a, ok := byHash(h); ok {
		return a.name
	}
	return h.String()
}

// BankByName is the inverse of [BankName]; letter case does not matter.
func BankByName(name string) (crypto.Hash, error) {
	for _, a := range algorithms {
		if strings.EqualFold(a.name, name) {
			return a.hash, nil
		}
	}
	return 0, fmt.Errorf("tpm: bank %q: want sha1, sha256, sha384 or sha512", name)
}

func byHash(h crypto.Hash) (algorithm, bool) {
	for _, a := range algorithms {
		if a.hash == h {
			return a, true
		}
	}
	return algorithm{}, false
}

func byID(id uint16) (algorithm, bool) {
	for _, a := range algorithms {
		if a.id == id {
			return a, true
		}
	}
	return algorithm{}, false
}

// checkBank is the error for a hash that is no bank.
func checkBank(h crypto.Hash) error {
	if _, ok := byHash(h); !ok {
		return fmt.Errorf("tpm: bank %v: %w", h, ErrBank)
	}
	return nil
}

// checkBanks is [checkBank] for a list, which must not be empty nor name a bank twice.
func checkBanks(hs []crypto.Hash) error {
	for i, h := range hs {
		if err := checkBank(h); err != nil {
			return err
		}
		for _, other := range hs[:i] {
			if other == h {
				return fmt.Errorf("tpm: bank %s: named twice", BankName(h))
			}
		}
	}
	return nil
}

// sum hashes the concatenation of parts. The caller has checked h.
func sum(h crypto.Hash, parts ...[]byte) []byte {
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}
