package tpm

import (
	"bytes"
	"crypto"
	"fmt"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sm3"
)

// ErrBank is the cause of every error about a hash that is not one of [Banks], or that a log or
// measurement lacks.
var ErrBank = pcrbank.ErrUnknown

// Banks are the PCR banks of this package: sha1, sha256, sha384 and sha512. The order is that of
// systemd-measure.
func Banks() []crypto.Hash { return pcrbank.Hashes() }

// BankName is the name of a bank as systemd and the kernel write it ("sha256"). For a hash that is
// not in [Banks], it is the hash's own name.
func BankName(h crypto.Hash) string { return pcrbank.Name(h) }

// BankByName is the inverse of [BankName]; letter case does not matter.
func BankByName(name string) (crypto.Hash, error) {
	h, err := pcrbank.ByName(name)
	return h, prefix.Error(pkg, err)
}

// PCRCount is how many PCRs a bank of a PC client TPM has: 0 to 23.
const PCRCount = pcrbank.Count

// Bank is the PCRs of one hash algorithm as a TPM holds them after a reset: all zero, but 17 to 22,
// which hold all ones until a dynamic launch (TCG PC Client Platform TPM Profile 1.05, table 7).
type Bank struct {
	hash crypto.Hash
	sm3  bool // of SM3, and hash is 0
	pcrs [PCRCount][]byte
}

// NewBank returns a bank after a TPM reset. h is one of [Banks]; with any other hash, every use of
// the bank is an error.
func NewBank(h crypto.Hash) *Bank {
	b := &Bank{hash: h}
	b.reset()
	return b
}

// reset makes the PCRs what they are after a reset of the TPM.
func (b *Bank) reset() {
	if b.check() != nil {
		return
	}
	for i := range b.pcrs {
		b.pcrs[i] = make([]byte, b.size())
		if i >= 17 && i <= 22 {
			for j := range b.pcrs[i] {
				b.pcrs[i][j] = 0xff
			}
		}
	}
}

// Hash is the algorithm of the bank, 0 for a bank of [Log.ReplaySM3].
func (b *Bank) Hash() crypto.Hash { return b.hash }

// nameSM3 is the name of the bank of SM3, as the kernel writes it.
const nameSM3 = "sm3_256"

// Name is the bank's name as systemd and the kernel write it: "sha256", "sm3_256".
func (b *Bank) Name() string {
	if b.sm3 {
		return nameSM3
	}
	return BankName(b.hash)
}

func (b *Bank) check() error {
	if b.sm3 {
		return nil
	}
	return pcrbank.Check(b.hash)
}

// size and sum are the bank's hash, which check knows.
func (b *Bank) size() int {
	if b.sm3 {
		return sm3.Size
	}
	return b.hash.Size()
}

func (b *Bank) sum(parts ...[]byte) []byte {
	if b.sm3 {
		d := sm3.Sum(parts...)
		return d[:]
	}
	return pcrbank.Sum(b.hash, parts...)
}

// Extend replaces the PCR by the hash of itself and the digest, which must have the length of the
// bank's hash.
func (b *Bank) Extend(pcr int, digest []byte) error {
	return prefix.Error(pkg, b.extend(pcr, digest))
}

func (b *Bank) extend(pcr int, digest []byte) error {
	switch {
	case b.check() != nil:
		return b.check()
	case pcr < 0 || pcr >= PCRCount:
		return fmt.Errorf("PCR %d: want 0 to %d", pcr, PCRCount-1)
	case len(digest) != b.size():
		return fmt.Errorf("PCR %d: a digest of %d bytes, want %d for %s", pcr, len(digest), b.size(), b.Name())
	}
	b.pcrs[pcr] = b.sum(b.pcrs[pcr], digest)
	return nil
}

// Measure hashes data and extends the PCR with the digest.
func (b *Bank) Measure(pcr int, data []byte) error {
	if err := b.check(); err != nil {
		return prefix.Error(pkg, err)
	}
	return b.Extend(pcr, b.sum(data))
}

// PCR returns a copy of the value of a PCR, nil if there is no such PCR.
func (b *Bank) PCR(pcr int) []byte {
	if pcr < 0 || pcr >= PCRCount {
		return nil
	}
	return bytes.Clone(b.pcrs[pcr])
}

// Values returns copies of the given PCRs, or of all PCRs if none is given. PCRs that do not exist
// are left out.
func (b *Bank) Values(pcrs ...int) map[int][]byte {
	if len(pcrs) == 0 {
		for i := range PCRCount {
			pcrs = append(pcrs, i)
		}
	}
	m := make(map[int][]byte, len(pcrs))
	for _, i := range pcrs {
		if v := b.PCR(i); v != nil {
			m[i] = v
		}
	}
	return m
}

// setLocality makes PCR 0 what it is when the TPM was started from locality 3 or 4: its last byte
// holds the number (TCG PC Client Platform Firmware Profile 1.06, section 10.4.5.3).
func (b *Bank) setLocality(locality byte) {
	if b.check() == nil {
		b.pcrs[0][b.size()-1] = locality
	}
}

// dynamicLaunch makes PCRs 17 to 22 what they are after one (TCG PC Client Platform TPM Profile
// 1.05, table 7).
func (b *Bank) dynamicLaunch() {
	for i := 17; i <= 22 && b.check() == nil; i++ {
		b.pcrs[i] = make([]byte, b.size())
	}
}

// PCRIMA is the PCR that Linux' integrity measurement architecture extends with every file that it
// measures.
const PCRIMA = 10

// BootAggregate is what IMA measures first: the hash of PCRs 0 to 9 as the kernel found them, of
// PCRs 0 to 7 in the sha1 bank (security/integrity/ima/ima_crypto.c, Linux 5.8 and later). It ties
// IMA's own log, which firmware does not know, to the firmware's log.
func (b *Bank) BootAggregate() []byte {
	if b.check() != nil {
		return nil
	}
	last := 9
	if b.hash == crypto.SHA1 {
		last = 7
	}
	return b.sum(b.pcrs[:last+1]...)
}
