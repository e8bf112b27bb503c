package sealing

import (
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Lockout is the state of the TPM's protection against guessing (TPM 2.0 Library, part 1, section
// 19.8). It concerns secrets with a PIN; secrets without a PIN are sealed so that failed attempts
// do not count.
type Lockout struct {
	Locked bool   // PINs are refused
	Failed uint32 // attempts that count now
	Most   uint32 // attempts at which the TPM locks out
	// time with power on after which one failed attempt is forgotten; 0: never
	Interval time.Duration
	// waiting time after a failed lockout authorization; 0: until the next restart
	Recovery time.Duration
}

// Left is how many more PINs may be tried.
func (l Lockout) Left() uint32 {
	if l.Locked || l.Failed >= l.Most {
		return 0
	}
	return l.Most - l.Failed
}

// Wait is the longest time until the next PIN may be tried; 0 if a PIN may be tried now, or never
// (if Interval is 0). The TPM does not say how much of the present interval has passed.
func (l Lockout) Wait() time.Duration {
	if l.Left() > 0 {
		return 0
	}
	if l.Failed < l.Most { // locked for another reason
		return l.Interval
	}
	return time.Duration(l.Failed-l.Most+1) * l.Interval
}

// Lockout reads the state of the protection against guessing.
func (t *TPM) Lockout() (_ Lockout, err error) {
	defer prefix.Add(pkg, &err)
	values := map[tpm2.TPMPT]uint32{}
	for _, p := range []tpm2.TPMPT{tpm2.TPMPTPermanent, tpm2.TPMPTLockoutCounter, tpm2.TPMPTMaxAuthFail, tpm2.TPMPTLockoutInterval, tpm2.TPMPTLockoutRecovery} {
		v, err := t.property(p)
		if err != nil {
			return Lockout{}, err
		}
		values[p] = v
	}
	const inLockout = 1 << 9 // of TPMA_PERMANENT (part 2, section 8.6)
	return Lockout{
		Locked:   values[tpm2.TPMPTPermanent]&inLockout != 0,
		Failed:   values[tpm2.TPMPTLockoutCounter],
		Most:     values[tpm2.TPMPTMaxAuthFail],
		Interval: time.Duration(values[tpm2.TPMPTLockoutInterval]) * time.Second,
		Recovery: time.Duration(values[tpm2.TPMPTLockoutRecovery]) * time.Second,
	}, nil
}

func (t *TPM) property(p tpm2.TPMPT) (uint32, error) {
	rsp, err := execute(t, tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1})
	if err != nil {
		return 0, fmt.Errorf("read the TPM's property 0x%x: %w", uint32(p), err)
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil || len(list.TPMProperty) == 0 || list.TPMProperty[0].Property != p {
		return 0, fmt.Errorf("read the TPM's property 0x%x: %w", uint32(p), ErrResponse)
	}
	return list.TPMProperty[0].Value, nil
}
