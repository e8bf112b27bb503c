// Package tpm computes what a measured boot leaves in the PCRs of a TPM 2.0, before the boot and
// without a TPM, and explains what a boot did leave there.
//
// A prediction is an event log that has not happened yet: [Predict] writes a [Log] from the parts
// of a boot, [ParseLog] reads that of a machine, and both replay ([Log.Replay]), compare ([Diff])
// and print in the same way.
//
//	log, err := tpm.Predict(tpm.Boot{
//		Variables: variables,
//		Chain: []tpm.Program{&tpm.SystemdBoot{Application: loader}}, UKI: image, Sections: measurements, Stub: "262.1-1",
//		Handover: handover, // of uki.File.Handover, measured
//	})
//	banks, err := log.Replay()
//	fmt.Printf("PCR 4 will be %x\n", banks[crypto.SHA256].PCR(4))
//
// # Logs
//
// [ParseLog] reads crypto-agile and SHA-1 logs, with findings about what firmware did wrong;
// [Event.Payload] reads what an event says, [Event.Attested] whether its digest covers that, and
// its [Subject] is what was measured. [ParseFinalEvents] and [ParseUserspaceLog] read what was
// measured after the log was fetched and by systemd. A log that is cut is no [Log]: a
// [PartialError] has what could be read of it. Logs of RTMRs, of confidential virtual machines,
// have other [Registers]. [VerifyQuote], [Quote.Check] and [Log.VerifyQuote] tie a log to what a
// TPM signed, offline. [Log.MarshalBinary] and [Log.CEL] write logs.
//
// # Predictions
//
// [Boot] describes a boot by values. Everything that it does not know is a PCR that the
// prediction's [Coverage] does not claim, never a guess. With the log of an earlier boot as
// Boot.Firmware, PCRs 0 to 9 and 11 to 15 are known before the boot; without one, those that the OS
// controls, for firmware that measures as edk2 does. Boot.Chain are the programs in front of the
// UKI or kernel: [Shim], [SystemdBoot], [GRUB], [OtherProgram]. What such a log says of a machine
// as a whole, before anything is sealed to it, is [Log.Reliances]; what an upgrade changes,
// [CompareBoots]; the states after any of several boots, NewUnion of package policy.
//
// [Log.MarshalPrediction] writes a prediction with its coverage. Foreign behaviour that depends on
// a version is a row of [StubVersions] (252 to 262), with the evidence for it. [Diff] says how a
// boot differs, [Compare] also what was not compared, [Causes] why, and [Log.WithContents] lets it
// say so in words. [PredictAll] is about boots any of which may happen: their states for a policy
// ([Alternatives.States]), and the .pcrlock files of systemd-pcrlock. [PCR11] and [PCR11States]
// compute PCR 11 alone, from the measurements of a UKI's sections. Package policy computes, signs
// and reads policies over PCR values; package sealing satisfies them with a TPM.
//
// # A running system
//
// [Boot.Phases] lead into userspace, where systemd's services measure words into PCRs 0 to 7, 9 and
// 12 to 15: [Userspace] says which, or that there are none, and what it does not say is not
// claimed. With the log of an earlier boot, [UserspaceLog], the moment may be any of its records:
// [UserspaceLog.Until] "nvpcr-separator" is the one at which systemd 262 unlocks volumes. Words
// that systemd measures in no fixed order around a moment are not claimed at it. [Boot.NVPCRs] and
// [UserspaceLog.NVPCRs] are about the NV indices that are extended like PCRs.
//
// # What it follows
//
//   - event logs: [TCG PC Client Platform Firmware Profile] 1.06, crypto-agile and SHA-1 format;
//   - banks and quotes: [TPM 2.0 Library], parts 1 to 3;
//   - PCRs 1, 5, 9 and 11 to 15: the [measurements of systemd's stub and loader] and of Linux' EFI
//     stub;
//   - PCR 11 and its phases as [systemd-measure] computes them; .pcrlock files as [systemd-pcrlock]
//     reads them;
//   - PCRs 4, 5 and 7: edk2, or the firmware of the earlier boot: where it measures what, in which
//     order, and of which bytes;
//   - PCRs 7 and 14: [shim] 15.8 to 16.1; PCRs 8 and 9: what package bootloader/grub makes of
//     GRUB's configuration, or the earlier boot.
//
// # Limits
//
// Predicted are boots of UEFI firmware that end with a UKI with systemd's stub, or with a kernel
// that systemd-boot (Type #1 entries) or GRUB starts. Programs beside these may be in the chain,
// and the PCRs that they extend are not predicted. PCR 10 (IMA) is never predicted. What the stub
// hands over is given: package uki predicts it. Nothing here talks to a TPM.
//
// [TCG PC Client Platform Firmware Profile]:
// https://trustedcomputinggroup.org/resource/pc-client-specific-platform-firmware-profile-specification/
// [TPM 2.0 Library]: https://trustedcomputinggroup.org/resource/tpm-library-specification/
// [measurements of systemd's stub and loader]: https://systemd.io/TPM2_PCR_MEASUREMENTS/
// [systemd-pcrlock]: https://www.freedesktop.org/software/systemd/man/latest/systemd-pcrlock.html
// [shim]: https://github.com/rhboot/shim [systemd-measure]:
// https://www.freedesktop.org/software/systemd/man/latest/systemd-measure.html
package tpm
