// Package tpm computes what a measured boot leaves in the PCRs of a TPM 2.0, before the boot and without a TPM, explains
// what a boot did leave there, and signs policies over it.
//
// A prediction is an event log that has not happened yet: [Predict] writes a [Log] from the parts of a boot, [ParseLog]
// reads that of a machine, and both replay ([Log.Replay]), compare ([Diff]) and print in the same way.
//
//	key, _ := rsa.GenerateKey(rand.Reader, 2048)
//	sigs, err := tpm.SignPolicies(key, nil, measurements, nil) // all banks, the four default phases
//	pcrsig, err := sigs.MarshalJSON()                          // contents of the UKI's .pcrsig
//
//	log, err := tpm.Predict(tpm.Boot{
//		SecureBoot: variables, Authorities: authorities,
//		Loader: &loader, UKI: uki, Sections: measurements, Stub: 262,
//	})
//	banks, err := log.Replay()
//	fmt.Printf("PCR 4 will be %x\n", banks[crypto.SHA256].PCR(4))
//
// # What it follows
//
//   - event logs: [TCG PC Client Platform Firmware Profile] 1.06, crypto-agile and SHA-1 format;
//   - banks and policies: [TPM 2.0 Library], parts 1 to 3;
//   - PCRs 11 and 12: the [measurements of systemd's stub and loader], as versions 257 and 262 make them;
//   - .pcrsig: the JSON that [systemd-measure] and ukify write, byte for byte;
//   - PCRs 4 and 7: edk2.
//
// Foreign behaviour that depends on a version is a row of [StubVersions], with the evidence for it; each prediction says
// in its [Coverage] which PCRs it holds for, and why not for the others.
//
// # Limits
//
// Predicted are PCRs 4, 7, 8 and 11 to 15 of UEFI firmware that starts systemd-boot and a UKI, or the UKI alone: no shim,
// no add-ons, credentials or extensions, no Type #1 entries, no stubs before 257. Policies are PolicyPCR and
// PolicyAuthorize. PCR policies are signed with RSA, the only kind that systemd verifies. Nothing here talks to a TPM.
//
// [TCG PC Client Platform Firmware Profile]: https://trustedcomputinggroup.org/resource/pc-client-specific-platform-firmware-profile-specification/
// [TPM 2.0 Library]: https://trustedcomputinggroup.org/resource/tpm-library-specification/
// [measurements of systemd's stub and loader]: https://systemd.io/TPM2_PCR_MEASUREMENTS/
// [systemd-measure]: https://www.freedesktop.org/software/systemd/man/latest/systemd-measure.html
package tpm
