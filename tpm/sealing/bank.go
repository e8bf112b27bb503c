package sealing

import (
	"crypto"
	"errors"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// CheckBank returns a [*BankError] unless the PCRs of the bank describe a boot: the bank is
// allocated, and firmware has measured something into its PCRs 0 to 15. In a bank that firmware did
// not measure into, a policy protects nothing.
func (t *TPM) CheckBank(bank crypto.Hash) (err error) {
	defer prefix.Add(pkg, &err)
	return t.checkBank(bank, t.PCRs)
}

func (t *TPM) checkBank(bank crypto.Hash, read pcrReader) error {
	allocated, err := t.Banks()
	if err != nil {
		return err
	}
	if !slices.Contains(allocated, bank) {
		return &BankError{Bank: bank, State: BankStateAbsent}
	}
	boot := make([]int, 16)
	for n := range boot {
		boot[n] = n
	}
	values, err := read(bank, boot...)
	if err != nil {
		return err
	}
	state := BankStateZero
	for _, v := range values {
		switch {
		case allBytes(v, 0):
		case allBytes(v, 0xff):
			state = BankStateOnes
		default:
			return nil
		}
	}
	return &BankError{Bank: bank, State: state}
}

// chooseBank is the bank to seal to when the caller names none: the first of SHA-256, SHA-384 and
// SHA-512 that is in use, the order of systemd 262 without SHA-1.
func (t *TPM) chooseBank(read pcrReader) (crypto.Hash, error) {
	var first error
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		err := t.checkBank(h, read)
		var unfit *BankError
		if err == nil || !errors.As(err, &unfit) {
			return h, err
		}
		if first == nil {
			first = err
		}
	}
	return 0, first
}

// unlockBank is the bank of a token that names none, as systemd-repart writes them: the one that
// systemd 262 takes at unlock. It is the first of SHA-256, SHA-384, SHA-512 and SHA-1 that the TPM
// has allocated and in which one of the PCRs is neither zero nor all ones; where there is no such
// bank, the first that is allocated.
func (t *TPM) unlockBank(pcrs []int) (crypto.Hash, error) {
	allocated, err := t.Banks()
	if err != nil {
		return 0, err
	}
	var first crypto.Hash
	for _, h := range unlockOrder {
		if !slices.Contains(allocated, h) {
			continue
		}
		values, err := t.PCRs(h, pcrs...)
		if err != nil {
			return 0, err
		}
		for _, v := range values {
			if !allBytes(v, 0) && !allBytes(v, 0xff) {
				return h, nil
			}
		}
		if first == 0 {
			first = h
		}
	}
	if first == 0 {
		return 0, &BankError{Bank: unlockOrder[0], State: BankStateAbsent}
	}
	return first, nil
}

// unlockOrder is in which order systemd 262 looks for a bank.
var unlockOrder = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA1}

// withBank is the token with the bank that its PCRs are of on this TPM.
func (t *TPM) withBank(token *Token) (*Token, error) {
	pcrs := token.allPCRs()
	if token.Bank != 0 || len(pcrs) == 0 {
		return token, nil
	}
	bank, err := t.unlockBank(pcrs)
	if err != nil {
		return nil, err
	}
	return token.inBank(bank), nil
}

// allPCRs are the literal PCRs of a token and those that are signed for, ascending.
func (t *Token) allPCRs() []int {
	pcrs := slices.Concat(t.PCRs, t.PublicKeyPCRs)
	slices.Sort(pcrs)
	return slices.Compact(pcrs)
}

// inBank is a copy of a token that names no bank, with this one.
func (t *Token) inBank(bank crypto.Hash) *Token {
	chosen := *t
	chosen.Bank = bank
	return &chosen
}
