package sealing_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log"

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

func ExampleLockout_Wait() {
	l := sealing.Lockout{Locked: true, Failed: 32, Most: 32, Interval: 600e9}
	fmt.Println(l.Left(), l.Wait(), &sealing.LockoutError{Lockout: l})
	// Output: 0 10m0s sealing: the TPM is locked out after 32 of 32 failed attempts: the next one is allowed in at most 10m0s; the secret itself is unharmed
}

func ExamplePolicyError() {
	fmt.Println(&sealing.PolicyError{
		Bank: crypto.SHA256, PCRs: []int{7},
		Actual: map[int][]byte{7: {0xaa}}, Expected: map[int][]byte{7: {0xbb}},
	})
	// Output: sealing: the policy does not hold: sha256 PCR 7 is aa, sealed for bb
}

func ExamplePassphrase() {
	fmt.Printf("%s\n", sealing.Passphrase([]byte("0123456789abcdef0123456789abcdef")))
	// Output: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=
}
