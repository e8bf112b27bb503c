package policy_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// exampleKey is a key for examples; everybody has it.
func exampleKey() *rsa.PrivateKey {
	text, err := os.ReadFile("../testdata/example-key.pem")
	if err != nil {
		log.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// measurements are of a UKI with small sections. Package uki makes them of real ones.
func measurements() []osmith.Measurement {
	var out []osmith.Measurement
	for _, s := range [][2]string{{".linux", "kernel"}, {".osrel", "ID=test\nVERSION_ID=1\n"}, {".cmdline", "quiet ro"}, {".initrd", "\x00\x00\x00"}} {
		digest := sha256.Sum256([]byte(s[1]))
		out = append(out, osmith.Measurement{Section: s[0], Size: int64(len(s[1])), Digests: map[crypto.Hash][]byte{crypto.SHA256: digest[:]}})
	}
	return out
}

func ExampleSign() {
	states, err := tpm.PCR11States(measurements(), []crypto.Hash{crypto.SHA256}, [][]string{{tpm.PhaseEnterInitrd}})
	if err != nil {
		log.Fatal(err)
	}
	signatures, err := policy.Sign(exampleKey(), states, "")
	if err != nil {
		log.Fatal(err)
	}
	pcrsig, err := signatures.MarshalJSON()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.240s...\n", pcrsig)
	// Output: {"sha256": [{"pcrs": [11], "pkfp": "601384dbcad064d25593cfab7daa36c1b4b905ff85bfabe1d6fb32912048a633", "pol": "b162986d4e896d9b209de8d3df8f0fdf6e6387f6697ba4fbf6d484fe3ba81728", "sig": "Hm7Zd7mBNFOsUttl6ngF0/BkVp/o7eB/oNdFrKGt7c+JkcPJoSi0pU...
}

// The private key is elsewhere: only bytes to sign leave this program, and only signatures come
// back.
func ExamplePCRPolicies_Join() {
	key := exampleKey()
	states, err := tpm.PCR11States(measurements(), []crypto.Hash{crypto.SHA256}, nil)
	if err != nil {
		log.Fatal(err)
	}
	policies, err := policy.Prepare(&key.PublicKey, states, "")
	if err != nil {
		log.Fatal(err)
	}
	var made [][]byte
	for _, p := range policies { // on the machine with the key
		digest := sha256.Sum256(p.TBS())
		s, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		if err != nil {
			log.Fatal(err)
		}
		made = append(made, s)
	}
	signatures, err := policies.Join(&key.PublicKey, made)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(signatures), "signed policies, the first is", signatures[0].Digest)
	// Output: 4 signed policies, the first is b162986d4e896d9b209de8d3df8f0fdf6e6387f6697ba4fbf6d484fe3ba81728
}

func ExamplePolicyAuthorize() {
	sealed, err := policy.PolicyAuthorize(&exampleKey().PublicKey, policy.PolicyRef(""))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed)
	// Output: 1ed73e93fd746804f3f51258b8c82ebfe6d0d1fdbf5bc768545a38fd4b506bde
}

// A secret is to survive the upgrade that is staged, the way back from it, and the firmware update
// that its vendor has announced.
func ExampleNewUnion() {
	// of a bank with short values, for this page
	value := func(b byte) []byte { return bytes.Repeat([]byte{b}, 4) }
	pad := func(values map[int][]byte) map[int][]byte {
		for n, v := range values {
			values[n] = append(v, make([]byte, 28)...)
		}
		return values
	}
	states := []policy.NamedState{
		// of the machine
		{Name: "2.0.0", Values: pad(map[int][]byte{0: value(0xa0), 4: value(0x20)})},
		// of tpm.Predict
		{Name: "2.1.0", Values: pad(map[int][]byte{0: value(0xa0), 4: value(0x21)})},
	}
	states = policy.WithUpdate(states, "firmware 1.7", pad(map[int][]byte{0: value(0xa7)}))
	union, err := policy.NewUnion(crypto.SHA256, []int{0, 4}, states...)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range union.States {
		fmt.Println(s.Names, s.Differs)
	}
	// Output:
	// [2.0.0] []
	// [2.1.0] [4]
	// [2.0.0, firmware 1.7] [0]
	// [2.1.0, firmware 1.7] [0 4]
}

func ExampleParseSignatures() {
	raw, err := os.ReadFile("../testdata/boot/a-sb-sdboot-262/tpm2-pcr-signature.json")
	if err != nil {
		log.Fatal(err)
	}
	signatures, err := policy.ParseSignatures(raw)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range signatures {
		fmt.Println(tpm.BankName(s.Bank), s.PCRs, s.Digest)
	}
	// Output:
	// sha256 [11] 26216e87ce4234c0c23f901613462a9c4eed4f46df2af0e0ac7b45bc66991983
	// sha256 [11] 10a8ec2c4a3184f941e2b318aa6d838129b1f562489519bf33be49c733f28fb0
	// sha256 [11] 5e69c8bbdabbc38c680cfb3dd19b69eb8d005f5fb1f4f48b87dddfe29366b20c
	// sha256 [11] b317c5acace350512a678aafb1ff9963f1a76ece25947ede0fd27b04323c35a3
}
