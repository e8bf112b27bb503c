// Package policy computes the policies of a TPM 2.0 that secrets are sealed to, without a TPM: from
// the values of PCRs, the keys that may sign further values, and the contents of NV indices. It
// writes, signs and reads the .pcrsig of a UKI.
//
// Values come from package tpm. The two packages do not import each other, so a program that only
// signs does not link the event log code:
//
//	states, err := tpm.PCR11States(measurements, nil, nil)  // all banks, the four default phases
//	signatures, err := policy.Sign(key, states, "")         // key is a crypto.Signer
//	pcrsig, err := signatures.MarshalJSON()                 // contents of the UKI's .pcrsig
//
// A state is the values of some PCRs by bank and number. For a remote key, [Prepare] lists what is
// to be signed and [PCRPolicies.Join] takes the signatures.
//
// A [Digest] is the digest of a policy session. Functions named after TPM commands return the
// digest after the command: [PolicyPCR], [PolicyAuthorize], [PolicyAuthorizeNV], [PolicyNV],
// [PolicyAuthValue] and [PolicyOR]. [Tree] joins more policies than one PolicyOR takes, [AnyState]
// several states of PCRs, and a [Union] names them: the running set, sets that have not booted yet,
// and each of them with an announced firmware update. [PCRLock] is the policy of systemd-pcrlock.
//
// # What it follows
//
//   - digests and names: [TPM 2.0 Library], parts 1 to 3, with SHA-256 as the hash of policies and
//     names, as systemd has it;
//   - .pcrsig: the JSON that [systemd-measure] and ukify write, byte for byte;
//   - pcrlock.json: [systemd-pcrlock] 262.
//
// PCR policies are signed with RSA, the only kind that systemd verifies. Package tpm/sealing
// satisfies these policies with a TPM.
//
// [TPM 2.0 Library]: https://trustedcomputinggroup.org/resource/tpm-library-specification/
// [systemd-measure]: https://www.freedesktop.org/software/systemd/man/latest/systemd-measure.html
// [systemd-pcrlock]: https://www.freedesktop.org/software/systemd/man/latest/systemd-pcrlock.html
package policy
