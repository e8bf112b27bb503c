package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// session is what the verifier remembers between a challenge and the evidence.
type session struct {
	endorsementKey []byte
	key            crypto.PublicKey
	nonce, answer  []byte
}

func fingerprint(ek []byte) string {
	digest := sha256.Sum256(ek)
	return hex.EncodeToString(digest[:])
}

// begin checks the keys of a machine and makes its challenge.
func (r *reference) begin(q challengeRequest, nonce []byte) (*session, *sealing.Challenge, error) {
	ak := &sealing.AttestationKey{Public: q.AttestationKey}
	key, err := ak.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	name, err := ak.Name()
	if err != nil {
		return nil, nil, err
	}
	challenge, answer, err := sealing.NewChallenge(q.EndorsementKey, name)
	if err != nil {
		return nil, nil, err
	}
	return &session{q.EndorsementKey, key, nonce, answer}, challenge, nil
}

// judge comes to a verdict. What is wrong is said in the order in which trust is built: the TPM,
// its key, what it signed, the log, the boot. A later step rests on the ones before.
func (r *reference) judge(s *session, e *evidence) verdict {
	v := verdict{EndorsementKey: fingerprint(s.endorsementKey), Problems: []problem{}, Differences: []difference{}}
	if r.keys != nil && !r.keys[v.EndorsementKey] {
		return v.because("endorsement-key", fmt.Errorf("no TPM that is known has the endorsement key %s", v.EndorsementKey))
	}
	if subtle.ConstantTimeCompare(s.answer, e.Answer) != 1 {
		return v.because("challenge", errors.New("the TPM did not show that the attestation key is its own"))
	}
	values, err := r.quoted(s, e)
	if err != nil {
		return v.because("quote", err)
	}
	v.PCRs = encodePCRs(values)
	log, err := eventLog(e)
	if err == nil {
		err = log.Verify(r.bank, values)
	}
	// A boot that is known need not be explained.
	for _, b := range r.boots {
		if len(differing(b.values, values)) == 0 {
			v.Reference, v.Trusted = b.name, true
			return v
		}
	}
	return r.explain(v, values, log, err)
}

func (v verdict) because(code string, err error) verdict {
	v.Problems = append(v.Problems, problem{Code: code, Text: err.Error()})
	return v
}

// quoted are the PCRs that count, which the TPM has signed for.
func (r *reference) quoted(s *session, e *evidence) (map[int][]byte, error) {
	values, err := decodePCRs(e.PCRs)
	if err != nil {
		return nil, err
	}
	q, err := tpm.VerifyQuote(s.key, e.Attest, e.Signature, s.nonce)
	if err != nil {
		return nil, err
	}
	if !q.Has(r.bank, r.pcrs...) {
		return nil, fmt.Errorf("the quote does not cover the %s PCRs %v", tpm.BankName(r.bank), r.pcrs)
	}
	if err := q.Check(map[crypto.Hash]map[int][]byte{r.bank: values}); err != nil {
		return nil, err
	}
	counted := map[int][]byte{}
	for _, n := range r.pcrs {
		counted[n] = values[n]
	}
	return counted, nil
}

// eventLog is the firmware's log, with what userspace measured.
func eventLog(e *evidence) (*tpm.Log, error) {
	log, err := tpm.ParseLog(e.Log)
	if err != nil || len(e.UserspaceLog) == 0 {
		return log, err
	}
	user, err := tpm.ParseUserspaceLog(e.UserspaceLog)
	if err != nil {
		return nil, err
	}
	return log.WithUserspace(user), nil
}

// explain says how the boot differs from the reference that is closest, by PCRs and, if the log is
// what was measured, by events.
func (r *reference) explain(v verdict, values map[int][]byte, log *tpm.Log, logErr error) verdict {
	closest := r.boots[0]
	for _, b := range r.boots[1:] {
		if len(differing(b.values, values)) < len(differing(closest.values, values)) {
			closest = b
		}
	}
	v.Reference = closest.name
	bad := differing(closest.values, values)
	for _, n := range bad {
		v.Problems = append(v.Problems, problem{"pcr", &n, fmt.Sprintf("%s PCR %d is %x, and %x in %s", tpm.BankName(r.bank), n, values[n], closest.values[n], closest.name)})
	}
	if logErr != nil {
		return v.because("log", logErr)
	}
	// First the PCRs, then the causes: what follows from an event in a PCR that does not count is
	// not explained by it.
	counted := slices.DeleteFunc(tpm.Diff(closest.log, log), func(d tpm.Difference) bool { return !slices.Contains(bad, d.PCR) })
	for _, d := range tpm.Causes(counted) {
		v.Differences = append(v.Differences, difference{d.PCR, d.Kind(), d.String()})
	}
	return v
}

func differing(want, got map[int][]byte) (pcrs []int) {
	for n := range tpm.PCRCount {
		if w, ok := want[n]; ok && !bytes.Equal(w, got[n]) {
			pcrs = append(pcrs, n)
		}
	}
	return pcrs
}
