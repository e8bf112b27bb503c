package sealing

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// TPM is a TPM 2.0 behind a [Transport]. It is for one goroutine at a time.
type TPM struct {
	transport sender
}

// New returns the TPM behind a transport, which the caller still has to close. New sends no
// command. A command that is not answered for 5 minutes is given up; see [TPM.WithContext].
func New(t Transport) *TPM { return &TPM{sender{&link{Transport: t}, context.Background()}} }

// WithContext returns the same TPM with commands that are given up when the context ends: the error
// is an [*InterruptedError]. If the TPM has already received the command, the connection cannot be
// used any more, by either TPM value ([ErrUnusable]), because the late answer must not be taken for
// that of the next command; if the transport has a method Close, it is closed.
func (t *TPM) WithContext(ctx context.Context) *TPM { return &TPM{sender{t.transport.link, ctx}} }

// execute runs a command. go-tpm decodes responses by reflection and panics on some that a TPM must
// not give; what a hostile one gives is an error here.
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

// algorithm is the TPM's number of a bank, 0 for a hash that is none.
func algorithm(bank crypto.Hash) tpm2.TPMAlgID {
	a, _ := pcrbank.ByHash(bank)
	return tpm2.TPMAlgID(a.ID)
}

func selection(bank crypto.Hash, pcrs []int) tpm2.TPMLPCRSelection {
	numbers := make([]uint, len(pcrs))
	for i, n := range pcrs {
		numbers[i] = uint(n)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: algorithm(bank), PCRSelect: tpm2.PCClientCompatible.PCRs(numbers...)},
	}}
}

// Banks are the PCR banks that are allocated, in the order of [tpm.Banks]. Banks that package tpm
// does not know are left out.
func (t *TPM) Banks() (_ []crypto.Hash, err error) {
	defer prefix.Add(pkg, &err)
	rsp, err := execute(t, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1})
	if err != nil {
		return nil, fmt.Errorf("read the PCR banks: %w", err)
	}
	assigned, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("read the PCR banks: %w: %w", ErrResponse, err)
	}
	banks := []crypto.Hash{}
	for _, h := range pcrbank.Hashes() {
		for _, s := range assigned.PCRSelections {
			if s.Hash == algorithm(h) && !allBytes(s.PCRSelect, 0) {
				banks = append(banks, h)
				break
			}
		}
	}
	return banks, nil
}

// PCRs reads PCRs of one bank, all 24 if no numbers are given. If the TPM lacks the bank, the error
// is a [*BankError]. The values are not protected on their way from the TPM: for that see
// [TPM.VouchedPCRs], and for values to be shown to a verifier see [TPM.Quote].
func (t *TPM) PCRs(bank crypto.Hash, pcrs ...int) (_ map[int][]byte, err error) {
	defer prefix.Add(pkg, &err)
	return t.readAllPCRs(bank, pcrs)
}

// VouchedPCRs is [TPM.PCRs] in a session in which only the TPM can answer, by its storage root key,
// which is made if there is none: an attacker on the way to the TPM cannot change the values
// ([ErrTampered]). Seal to these values.
func (t *TPM) VouchedPCRs(bank crypto.Hash, pcrs ...int) (_ map[int][]byte, err error) {
	defer prefix.Add(pkg, &err)
	srk, err := t.srk()
	if err != nil {
		return nil, err
	}
	audit, err := t.startAudit(srk)
	if err != nil {
		return nil, t.explain("start a session", err)
	}
	defer t.flush(audit.handle)
	return t.vouchedPCRs(audit)(bank, pcrs...)
}

// A pcrReader reads PCRs of one bank.
type pcrReader func(bank crypto.Hash, pcrs ...int) (map[int][]byte, error)

// vouchedPCRs reads PCRs in a session that only the TPM can answer in.
func (t *TPM) vouchedPCRs(audit *saltedSession) pcrReader {
	return func(bank crypto.Hash, pcrs ...int) (map[int][]byte, error) { return t.readAllPCRs(bank, pcrs, audit) }
}

func (t *TPM) readAllPCRs(bank crypto.Hash, pcrs []int, sessions ...tpm2.Session) (map[int][]byte, error) {
	if err := pcrbank.Check(bank); err != nil {
		return nil, fmt.Errorf("read PCRs: %w", err)
	}
	if len(pcrs) == 0 {
		for n := range pcrbank.Count {
			pcrs = append(pcrs, n)
		}
	}
	if err := pcrbank.CheckPCRs(pcrs); err != nil {
		return nil, fmt.Errorf("read PCRs: %w", err)
	}
	for range maxTries {
		values, err := t.readPCRs(bank, pcrs, sessions)
		if !errors.Is(err, errMoved) {
			return values, err
		}
	}
	return nil, fmt.Errorf("read PCRs: %w", errMoved)
}

var errMoved = errors.New("the PCRs changed during every read")

// readPCRs reads in as many steps as the TPM wants, all of one state.
func (t *TPM) readPCRs(bank crypto.Hash, pcrs []int, sessions []tpm2.Session) (map[int][]byte, error) {
	values := make(map[int][]byte, len(pcrs))
	var state uint32
	for first := true; ; first = false {
		left := missing(values, pcrs)
		if len(left) == 0 {
			return values, nil
		}
		rsp, err := execute(t, tpm2.PCRRead{PCRSelectionIn: selection(bank, left)}, sessions...)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
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
		for n := range 8 * min(len(s.PCRSelect), pcrbank.Count/8) {
			if s.PCRSelect[n/8]&(1<<(n%8)) == 0 {
				continue
			}
			if s.Hash != algorithm(bank) || !slices.Contains(asked, n) || len(digests) == 0 || len(digests[0].Buffer) != bank.Size() {
				return fmt.Errorf("read PCRs: the TPM returned other PCRs than requested: %w", ErrResponse)
			}
			values[n], digests = digests[0].Buffer, digests[1:]
		}
	}
	if len(missing(values, asked)) == len(asked) {
		return &BankError{Bank: bank, State: BankStateAbsent}
	}
	return nil
}

func allBytes(b []byte, value byte) bool { return bytes.Count(b, []byte{value}) == len(b) }

func missing(values map[int][]byte, pcrs []int) (left []int) {
	for _, n := range pcrs {
		if _, ok := values[n]; !ok {
			left = append(left, n)
		}
	}
	return left
}
