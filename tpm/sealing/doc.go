// Package sealing seals secrets with a TPM 2.0 so that they survive upgrades, in the form that
// systemd keeps in LUKS2 volumes, and asks a TPM to vouch for its PCRs.
//
//	device, err := sealing.Open("/dev/tpmrm0")
//	t := sealing.New(device)
//	policy := sealing.Policy{PublicKey: vendor, PIN: "1234"} // PCR 11 in any state that the vendor signs for
//	secret := policy.NewSecret()
//	token, err := t.Seal(secret, policy, sealing.Unlock{Signatures: signatures})
//	text, err := token.MarshalJSON() // the systemd-tpm2 token of a LUKS2 header; sealing.Passphrase(secret) opens the slot
//	token, err = sealing.ParseToken(text) // or a token of systemd-cryptenroll
//	secret, err = t.Unseal(token, sealing.Unlock{Signatures: signatures, PIN: "1234"})
//
// [Token.Check] says, without the TPM, whether a token opens in a state of the machine that an
// event log, a prediction or values describe.
//
// A [Policy] combines values of PCRs, PCRs in any state that a key has signed for (.pcrsig), a
// policy of systemd-pcrlock, a PIN, several alternative states, and a counter that prevents a
// rollback. [TPM.Reseal] makes tokens for the running, the staged and the previous system.
// [TPM.Quote] and [NewChallenge] are the two sides of remote attestation; [Quote.Verify] completes
// it.
//
// # What it follows
//
//   - commands, sessions, policies and names: [TPM 2.0 Library], parts 1 to 3, spoken by [go-tpm];
//   - the token, its blobs, PINs and the storage root key: what systemd-cryptenroll and
//     systemd-repart of 252, 257 and 262 write and read, field by field; for a token without a
//     bank, the bank that systemd 262 chooses at unlock;
//   - pcrlock.json and its NV index: systemd 262.
//
// # Guarantees
//
// A secret is bound only to PCRs that the policy names. Banks that firmware does not measure into
// are refused ([BankError]). Sessions are always salted with the storage root key, whose name the
// token holds, and parameters that hold a secret are encrypted: an attacker on the bus or with a
// false key learns nothing. Current values of PCRs to seal to are read in such a session: if they
// are changed on the way, the error is [ErrTampered]. Secrets without a PIN are exempt from the
// TPM's protection against guessing, which power cuts trip. [TPM.Seal] unseals what it sealed
// before it returns, if the policy can hold at that moment. A policy that does not hold is a
// [PolicyError], which names PCRs and, with logs, events; a [LockoutError] says how long the
// lockout lasts.
//
// # Limits
//
// Sealing trusts the storage root key that the TPM shows; unsealing compares that key with the name
// in the token. Keys that sign policies are RSA, the only kind that systemd verifies. A storage
// root key must be RSA or on a NIST curve, with AES; any other key is refused, not replaced. The
// authorisations of owner and endorsement hierarchy must be empty. Sealing needs the TPM at hand;
// tokens that systemd sealed without the TPM are unsealed. The package does not read or write the
// volume. A command that the TPM does not answer is given up after 5 minutes, or when the context
// of [TPM.WithContext] ends; after that the connection cannot be used, and without a resource
// manager loaded objects stay in the TPM. The package draws random bytes for salts, nonces and
// [Policy.NewSecret]; it waits for a second at most when a TPM asks to try again. Devices are
// opened on Linux; on other systems, supply a [Transport].
//
// [TPM 2.0 Library]: https://trustedcomputinggroup.org/resource/tpm-library-specification/
// [go-tpm]: https://github.com/google/go-tpm
package sealing
