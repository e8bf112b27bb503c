package sealing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

const enrolled = `{"type":"systemd-tpm2","keyslots":["1"],"tpm2-blob":"AJ4AIPLHiwAmSMofIP/gr0w+6++orq4mOZf2ePcNaYb44fAHABABrpvTdPYzynuQ8v08yrtaDeHDE2eMHixyXCIL5k16gmT73TpAkHeMYKS1kTQ8H2pZSjrgaNZqtW9S4jH3cd6A5mp1p8NQUFLzDVKUGZsMOKr/skeI04hxC9h9gQLLVQjNlfYBsQb24Sl1p3clDuwqcu+o+vO1yT9svABOAAgACwAABBIAIPL8wq09zmQ1f8tzPmsWIrbwAkMRCmhe2P7KiHfTanhoABAAIK4q4KpSBb4N5aP+nazEI/AWsSj4OmodjX8h/rkr2s/f","tpm2-pcrs":[7],"tpm2-pcr-bank":"sha256","tpm2-primary-alg":"ecc","tpm2-policy-hash":"f2fcc2ad3dce64357fcb733e6b1622b6f00243110a685ed8feca8877d36a7868"}`

// What `cryptsetup token export` prints.
func ExampleParseToken() {
	token, err := sealing.ParseToken([]byte(enrolled))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("slots", token.Keyslots, "PCRs", token.PCRs, "of", tpm.BankName(token.Bank), "PIN", token.PIN)
	// Output: slots [1] PCRs [7] of sha256 PIN false
}

// Before an upgrade is rolled out: would the volume be unlocked by what the new version is
// predicted to measure? No TPM is needed.
func ExampleToken_Check() {
	token, err := sealing.ParseToken([]byte(enrolled))
	if err != nil {
		log.Fatal(err)
	}
	// of tpm.Predict
	predicted := &tpm.Log{Coverage: []tpm.Coverage{{PCR: 7, Note: "whether firmware measures dbr is not known"}}}
	state, err := sealing.StateOf(predicted, nil)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := token.Check(state)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Verdict)
	for _, r := range answer.Reasons {
		fmt.Println(r)
	}

	// of a machine
	state.PCRs = map[crypto.Hash]map[int][]byte{crypto.SHA256: {7: make([]byte, 32)}}
	if answer, err = token.Check(state); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Verdict)
	// Output:
	// not known
	// sha256 PCR 7: its value is not known: not predicted: whether firmware measures dbr is not known
	// does not open
}

// A secret for a volume, which only a vendor's kernels may unlock. It needs a TPM.
func ExampleTPM_Seal() {
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048) // the vendor's
	if err != nil {
		log.Fatal(err)
	}
	policy := sealing.Policy{PublicKey: &key.PublicKey}
	secret := policy.NewSecret()
	token, err := sealing.New(device).Seal(secret, policy, sealing.Unlock{})
	if err != nil {
		log.Fatal(err)
	}
	text, err := token.MarshalJSON()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s opens a slot with %s\n", text, sealing.Passphrase(secret))
}

// An error says what to do about it.
func ExampleTPM_Unseal() {
	token, err := sealing.ParseToken([]byte(enrolled))
	if err != nil {
		log.Fatal(err)
	}
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	_, err = sealing.New(device).Unseal(token, sealing.Unlock{PIN: "1234"})
	var policy *sealing.PolicyError
	var lockout *sealing.LockoutError
	switch {
	case errors.As(err, &policy):
		fmt.Println("another boot than it was sealed for: PCRs", policy.PCRs)
	case errors.As(err, &lockout):
		fmt.Println("try again in", lockout.Wait())
	case errors.Is(err, sealing.ErrMissingKey):
		fmt.Println("another TPM, or a cleared one: use the recovery key")
	}
}

// A boot that must not wait for a TPM that has died.
func ExampleTPM_WithContext() {
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	token, err := sealing.ParseToken([]byte(enrolled))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = sealing.New(device).WithContext(ctx).Unseal(token, sealing.Unlock{})
	var interrupted *sealing.InterruptedError
	if errors.As(err, &interrupted) {
		fmt.Println("ask for the recovery key:", err)
	}
}

func ExampleLockout_Wait() {
	l := sealing.Lockout{Locked: true, Failed: 32, Most: 32, Interval: 600e9}
	fmt.Println(l.Left(), l.Wait(), &sealing.LockoutError{Lockout: l})
	// Output: 0 10m0s the TPM is locked out after 32 of 32 failed attempts: the next attempt is allowed in at most 10m0s; the secret itself is intact
}

func ExamplePolicyError() {
	fmt.Println(&sealing.PolicyError{
		Bank: crypto.SHA256, PCRs: []int{7},
		Got: map[int][]byte{7: {0xaa}}, Want: map[int][]byte{7: {0xbb}},
	})
	// Output: the policy does not hold: sha256 PCR 7 is aa, sealed for bb
}

func ExamplePassphrase() {
	fmt.Printf("%s\n", sealing.Passphrase([]byte("0123456789abcdef0123456789abcdef")))
	// Output: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=
}

// Before an upgrade: tokens for the system that runs and the one that is staged, which open one key
// slot. Take the values of the staged one from its predicted log.
func ExampleTPM_Reseal() {
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	running, err := sealing.ParseToken([]byte(enrolled))
	if err != nil {
		log.Fatal(err)
	}
	var staged *tpm.Log // of tpm.Predict
	values, err := staged.Values(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := sealing.New(device).Reseal(running, sealing.Unlock{},
		sealing.Policy{PCRs: []int{4, 7}},
		sealing.Policy{PCRs: []int{4, 7}, Bank: crypto.SHA256, Values: map[int][]byte{4: values[4], 7: values[7]}},
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(tokens), "tokens for slots", tokens[0].Keyslots)
}

// A floor under a secret of version 7: once version 8 has proved itself, the counter is raised, and
// the way back is closed.
func ExampleTPM_RaiseCounter() {
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	const index = 0x01800100
	t := sealing.New(device)
	now, err := t.Counter(index)
	if errors.Is(err, sealing.ErrNoIndex) {
		now, err = t.DefineCounter(index)
	}
	if err != nil {
		log.Fatal(err)
	}
	policy := sealing.Policy{Floor: &sealing.Floor{Index: index, Most: now}}
	if _, err := t.Seal(policy.NewSecret(), policy, sealing.Unlock{}); err != nil {
		log.Fatal(err)
	}
	if _, err := t.RaiseCounter(index, now+1); err != nil {
		log.Fatal(err)
	}
}

// Remote attestation, both sides in one place: the verifier makes a challenge for the machine's
// endorsement key, the machine answers it and quotes.
func ExampleTPM_Quote() {
	device, err := sealing.Open("/dev/tpmrm0")
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	t := sealing.New(device)
	key, err := t.CreateAttestationKey()
	if err != nil {
		log.Fatal(err)
	}
	ek, err := t.EndorsementKey()
	if err != nil {
		log.Fatal(err)
	}

	name, err := key.Name() // of key.Public, which the machine sends with ek
	if err != nil {
		log.Fatal(err)
	}
	challenge, want, err := sealing.NewChallenge(ek, name)
	if err != nil {
		log.Fatal(err)
	}
	nonce := []byte("fresh and random")

	got, err := t.Answer(key, challenge)
	if err != nil {
		log.Fatal(err)
	}
	quote, err := t.Quote(key, nonce, map[crypto.Hash][]int{crypto.SHA256: {4, 7, 11}})
	if err != nil {
		log.Fatal(err)
	}

	public, err := key.PublicKey()
	if err != nil {
		log.Fatal(err)
	}
	_, pcrs, err := quote.Verify(public, nonce) // of the quote as it was sent, in JSON
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the TPM's own key: %v, PCR 7: %x\n", bytes.Equal(got, want), pcrs[crypto.SHA256][7])
}
