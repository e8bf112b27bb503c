package sealing

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/osmith-dev/osmith/tpm"
)

// TPM is a TPM 2.0 behind a [Transport]. It is for one goroutine at a time.
type TPM struct {
	transport transport.TPM
}

// New talks to the TPM behind a transport, which stays the caller's to close. Nothing is sent yet.
func New(t Transport) *TPM { return &TPM{transport: checked{t}} }

// execute runs a command. go-tpm decodes responses by reflection and panics on some that a TPM must not give; what a
// hostile one gives is an error here.
func execute[R any](t *TPM, cmd interface {
	Execute(transport.TPM, ...tpm2.Session) (*R, error)
}, sessions ...tpm2.Session) (*R, error) {
	return guard(func() (*R, error) { return cmd.Execute(t.transport, sessions...) })
}

func guard[R any](do func() (R, error)) (r R, err error) {
	defer func() {
		if p := recover(); p != nil {
			var none R
			r, err = none, fmt.Errorf("%w: %v", ErrResponse, p)
		}
	}()
	r, err = do()
	if err != nil {
		var none R
		return none, err
	}
	return r, nil
}

// algorithms are the TPM's numbers of the banks.
var algorithms = map[crypto.Hash]tpm2.TPMAlgID{
	crypto.SHA1: tpm2.TPMAlgSHA1, crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512,
}

func selection(bank crypto.Hash, pcrs []int) tpm2.TPMLPCRSelection {
	numbers := make([]uint, len(pcrs))
	for i, n := range pcrs {
		numbers[i] = uint(n)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: algorithms[bank], PCRSelect: tpm2.PCClientCompatible.PCRs(numbers...)},
	}}
}

// Banks are the PCR banks that are allocated, in the order of [tpm.Banks]. Banks that package tpm does not know are left
// out.
func (t *TPM) Banks() ([]crypto.Hash, error) {
	rsp, err := execute(t, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1})
	if err != nil {
		return nil, fmt.Errorf("sealing: read the PCR banks: %w", err)
	}
	assigned, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("sealing: read the PCR banks: %w: %w", ErrResponse, err)
	}
	banks := []crypto.Hash{}
	for _, h := range tpm.Banks() {
		for _, s := range assigned.PCRSelections {
			if s.Hash == algorithms[h] && !allBytes(s.PCRSelect, 0) {
				banks = append(banks, h)
				break
			}
		}
	}
	return banks, nil
}

// PCRs reads PCRs of one bank, all 24 without numbers. A bank that the TPM does not have is a [*BankError].
func (t *TPM) PCRs(bank crypto.Hash, pcrs ...int) (map[int][]byte, error) {
	if _, ok := algorithms[bank]; !ok {
		return nil, fmt.Errorf("sealing: read PCRs of bank %v: %w", bank, tpm.ErrBank)
	}
	if len(pcrs) == 0 {
		for n := range tpm.PCRCount {
			pcrs = append(pcrs, n)
		}
	}
	if err := checkPCRs(pcrs); err != nil {
		return nil, fmt.Errorf("sealing: read PCRs: %w", err)
	}
	for range maxTries {
		values, err := t.readPCRs(bank, pcrs)
		if !errors.Is(err, errMoved) {
			return values, err
		}
	}
	return nil, fmt.Errorf("sealing: read PCRs: %w", errMoved)
}

var errMoved = errors.New("they are extended all the time")

// readPCRs reads in as many steps as the TPM wants, all of one state.
func (t *TPM) readPCRs(bank crypto.Hash, pcrs []int) (map[int][]byte, error) {
	values := make(map[int][]byte, len(pcrs))
	var state uint32
	for first := true; ; first = false {
		left := missing(values, pcrs)
		if len(left) == 0 {
			return values, nil
		}
		rsp, err := execute(t, tpm2.PCRRead{PCRSelectionIn: selection(bank, left)})
		if err != nil {
			return nil, fmt.Errorf("sealing: read PCRs: %w", err)
		}
		if !first && rsp.PCRUpdateCounter != state {
			return nil, errMoved
		}
		state = rsp.PCRUpdateCounter
		if err := takePCRs(values, left, bank, rsp); err != nil {
			return nil, err
		}
	}
}

// takePCRs adds what a response says, in ascending order of its own selection.
func takePCRs(values map[int][]byte, asked []int, bank crypto.Hash, rsp *tpm2.PCRReadResponse) error {
	digests := rsp.PCRValues.Digests
	for _, s := range rsp.PCRSelectionOut.PCRSelections {
		for n := range 8 * min(len(s.PCRSelect), tpm.PCRCount/8) {
			if s.PCRSelect[n/8]&(1<<(n%8)) == 0 {
				continue
			}
			if s.Hash != algorithms[bank] || !slices.Contains(asked, n) || len(digests) == 0 || len(digests[0].Buffer) != bank.Size() {
				return fmt.Errorf("sealing: read PCRs: not what was asked for: %w", ErrResponse)
			}
			values[n], digests = digests[0].Buffer, digests[1:]
		}
	}
	if len(missing(values, asked)) == len(asked) {
		return &BankError{Bank: bank, State: BankAbsent}
	}
	return nil
}

func missing(values map[int][]byte, pcrs []int) (left []int) {
	for _, n := range pcrs {
		if _, ok := values[n]; !ok {
			left = append(left, n)
		}
	}
	return left
}

// CheckBank is a [*BankError] unless PCRs of the bank can stand for a boot: it is allocated, and firmware has measured
// something into PCRs 0 to 15 of it. In a bank that firmware left alone, a policy holds nothing back.
func (t *TPM) CheckBank(bank crypto.Hash) error {
	allocated, err := t.Banks()
	if err != nil {
		return err
	}
	if !slices.Contains(allocated, bank) {
		return &BankError{Bank: bank, State: BankAbsent}
	}
	boot := make([]int, 16)
	for n := range boot {
		boot[n] = n
	}
	values, err := t.PCRs(bank, boot...)
	if err != nil {
		return err
	}
	state := BankZero
	for _, v := range values {
		switch {
		case allBytes(v, 0):
		case allBytes(v, 0xff):
			state = BankOnes
		default:
			return nil
		}
	}
	return &BankError{Bank: bank, State: state}
}

// chooseBank is the bank to seal to when the caller names none: the first of SHA-256, SHA-384 and SHA-512 that is in
// use, the order of systemd 262 without SHA-1.
func (t *TPM) chooseBank() (crypto.Hash, error) {
	var first error
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		err := t.CheckBank(h)
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
