package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// NVPCR is an NV index that systemd 259 and later extend in the way of a PCR. Its initialisation is
// measured into PCR 9; only systemd's log lists what it is extended with.
type NVPCR struct {
	Name  string // the name of its definition in /usr/lib/nvpcr: "verity"
	Index uint32 // 0: unknown
	// TPM 2.0 Name of the NV index, a hash of its public area; nil if no word of its initialisation
	// is known
	IndexName []byte
	// what it is extended with, in order; nil: unknown; empty: only initialised
	Words []Word
}

// ErrNVPCRUnknown says that the extensions of an NvPCR are not known.
var ErrNVPCRUnknown = errors.New("what extends it is unknown")

// Bank is the hash of the index, which is the first field of its Name. ok is false if the Name is
// unknown or its hash is not one of [Banks].
func (n *NVPCR) Bank() (h crypto.Hash, ok bool) {
	if len(n.IndexName) < 2 {
		return 0, false
	}
	a, ok := pcrbank.ByID(uint16(n.IndexName[0])<<8 | uint16(n.IndexName[1]))
	if !ok || len(n.IndexName) != 2+a.Hash.Size() {
		return 0, false
	}
	return a.Hash, true
}

// Value is what TPM2_NV_Read returns for the index after all extensions: TPM2_NV_Extend hashes as a
// PCR does. start is the value after the initialisation; nil is the start value of systemd 262,
// zeros extended with as many zeros. If the index belongs to a bank other than bank, or a word has
// no digest of bank, the error is [ErrBank]; if its words are unknown, the error is
// [ErrNVPCRUnknown].
func (n *NVPCR) Value(bank crypto.Hash, start []byte) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("NvPCR %s: %w", escape(n.Name), err) }
	if err := pcrbank.Check(bank); err != nil {
		return fail(err)
	}
	if own, ok := n.Bank(); n.IndexName != nil && (!ok || own != bank) {
		return fail(fmt.Errorf("its index is of the hash with the Name %x…, not of %s: %w", n.IndexName[:min(2, len(n.IndexName))], BankName(bank), ErrBank))
	}
	if n.Words == nil {
		return fail(ErrNVPCRUnknown)
	}
	if start == nil {
		zero := make([]byte, bank.Size())
		start = pcrbank.Sum(bank, zero, zero)
	}
	if len(start) != bank.Size() {
		return fail(fmt.Errorf("a start of %d bytes, want %d for %s", len(start), bank.Size(), BankName(bank)))
	}
	value := bytes.Clone(start)
	for _, w := range n.Words {
		digest := w.in([]crypto.Hash{bank})[bank]
		if len(digest) != bank.Size() {
			return fail(fmt.Errorf("\"%s\": no %s digest: %w", escape(w.Text), BankName(bank), ErrBank))
		}
		value = pcrbank.Sum(bank, value, digest)
	}
	return value, nil
}

// NVPCRs are the NvPCRs that the log mentions, in the order of their first mention. An NvPCR that
// has no record of its own was only initialised.
func (u *UserspaceLog) NVPCRs() []NVPCR { return nvpcrsOf(u.Records) }

func nvpcrsOf(records []Record) []NVPCR {
	var out []NVPCR
	at := make(map[uint32]int) // by index
	for _, r := range records {
		switch {
		case r.PCR == 9:
			n, ok := initialised(r.Word)
			if _, twice := at[n.Index]; ok && !twice {
				n.Words, at[n.Index] = []Word{}, len(out)
				out = append(out, n)
			}
		case r.PCR < 0:
			i, ok := at[r.NVIndex]
			if !ok {
				i = len(out)
				at[r.NVIndex] = i
				out = append(out, NVPCR{Name: r.NVName, Index: r.NVIndex})
			}
			out[i].Words = append(out[i].Words, r.word())
		}
	}
	return out
}

// initialised reads the word of an initialisation, "nvpcr-init:verity:0x1d10202:000b…".
func initialised(word string) (n NVPCR, ok bool) {
	fields := strings.Split(strings.TrimPrefix(word, wordNVInit), ":")
	if !strings.HasPrefix(word, wordNVInit) || len(fields) != 3 || !strings.HasPrefix(fields[1], "0x") {
		return n, false
	}
	index, err := strconv.ParseUint(fields[1][2:], 16, 32)
	if err != nil {
		return n, false
	}
	name, err := hex.DecodeString(fields[2])
	if err != nil || len(name) == 0 {
		return n, false
	}
	return NVPCR{Name: fields[0], Index: uint32(index), IndexName: name}, true
}

// NVPCRs are the NvPCRs that userspace initialises in this boot up to its moment, with what is
// known of their extensions, and those for which Userspace.NVWords has words. Words in NVWords
// replace those of an earlier log, unless the log has the NvPCR only after that moment; nil says
// that the words are unknown.
func (b *Boot) NVPCRs() (_ []NVPCR, err error) {
	defer prefix.Add(pkg, &err)
	if err := b.checkUserspace(); err != nil {
		return nil, err
	}
	m, err := b.userspace()
	if err != nil {
		return nil, err
	}
	out := nvpcrsOf(m.records)
	for _, w := range m.NVPCRs {
		if n, ok := initialised(w); ok {
			out = append(out, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.NVWords)) {
		words := slices.Clone(m.NVWords[name])
		i := slices.IndexFunc(out, func(n NVPCR) bool { return n.Name == name })
		later := slices.ContainsFunc(m.later, func(r Record) bool { return r.PCR < 0 && r.NVName == name })
		switch {
		case i < 0 && !later:
			out = append(out, NVPCR{Name: name, Words: words})
		case i >= 0 && (len(out[i].Words) > 0 || !later):
			out[i].Words = words
		}
	}
	return out, nil
}

// VerityWord is what systemd extends the NvPCR "verity" with as it sets up a volume ("usr", "root")
// by its root hash alone. With a signature of the root hash, the word also lists the signers; take
// that word from an earlier log.
func VerityWord(volume string, rootHash []byte) string {
	return fmt.Sprintf("verity:%s:%x:", volume, rootHash)
}

// KeyslotWord is what systemd extends the NvPCR "cryptsetup" with as it unlocks a volume: the
// volume's name and UUID, the mechanism ("tpm2") and the number of the key slot.
func KeyslotWord(volume, uuid, mechanism string, slot int) string {
	return fmt.Sprintf("cryptsetup-keyslot:%s:%s:%s:%d", volume, uuid, mechanism, slot)
}
