// Package tpm predicts, before the boot and without a TPM, which values a measured boot leaves in
// the PCRs of a TPM 2.0, and explains the values that a boot has left.
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
// measured after the log was fetched, and what systemd measured. For a truncated log, ParseLog
// returns a [PartialError] with what could be read of it. Logs of RTMRs, of confidential virtual
// machines, have other [Registers]. [VerifyQuote], [Quote.Check] and [Log.VerifyQuote] tie a log to
// what a TPM signed, offline. [Log.MarshalBinary] and [Log.CEL] write logs.
//
// # Predictions
//
// [Boot] describes a boot by values. Where Boot lacks an input, the prediction's [Coverage] leaves
// out the PCRs that depend on it; the package does not guess. With the log of an earlier boot as
// Boot.Firmware, PCRs 0 to 9 and 11 to 15 are known before the boot; without one, those that the OS
// controls, for firmware that measures as edk2 does. Boot.Chain are the programs in front of the
// UKI or kernel: [Shim], [SystemdBoot], [GRUB], [OtherProgram]. [Log.Reliances] says to which PCRs
// of a machine secrets can be sealed, judged by such a log; [CompareBoots] says what an upgrade
// changes; NewUnion of package policy combines the states after any of several boots.
//
// [Log.MarshalPrediction] writes a prediction with its coverage. Behaviour of systemd-stub that
// depends on its version is a row of [StubVersions] (252 to 262), with the evidence for that
// behaviour. [Diff] says how a boot differs, [Compare] also says what was not compared, and
// [Causes] says why a boot differs; with [Log.WithContents], Causes can quote the texts that
// changed. [PredictAll] predicts alternative boots: their states for a policy
// ([Alternatives.States]), and the .pcrlock files of systemd-pcrlock. [PCR11] and [PCR11States]
// compute PCR 11 alone, from the measurements of a UKI's sections. Package policy computes, signs
// and reads policies over PCR values; package sealing satisfies them with a TPM.
//
// # A running system
//
// [Boot.Phases] lead into userspace, where systemd's services measure words into PCRs 0 to 7, 9 and
// 12 to 15: [Userspace] lists these words (or says that there are none); without Userspace these
// PCRs are not claimed. With the log of an earlier boot, [UserspaceLog], the moment may be any of
// its records: [UserspaceLog.Until] "nvpcr-separator" is the one at which systemd 262 unlocks
// volumes. Words that systemd measures around that moment in no fixed order are not claimed.
// [Boot.NVPCRs] and [UserspaceLog.NVPCRs] return the NV indices that are extended like PCRs.
//
// # What it follows
//
//   - event logs: [TCG PC Client Platform Firmware Profile] 1.06, crypto-agile and SHA-1 format;
//   - banks and quotes: [TPM 2.0 Library], parts 1 to 3;
//   - PCRs 1, 5, 9 and 11 to 15: the [measurements of systemd's stub and loader] and of Linux' EFI
//     stub;
//   - PCR 11 and its phases as [systemd-measure] computes them; .pcrlock files as [systemd-pcrlock]
//     reads them;
//   - PCRs 4, 5 and 7: edk2, or the firmware of the earlier boot: what it measures into which PCR,
//     in which order, and over which bytes;
//   - PCRs 7 and 14: [shim] 15.8 to 16.1; PCRs 8 and 9: what package bootloader/grub computes from
//     GRUB's configuration, or the earlier boot.
//
// # Limits
//
// The package predicts boots of UEFI firmware that end with a UKI with systemd's stub, or with a
// kernel that systemd-boot (Type #1 entries) or GRUB starts. Other programs may be in the chain;
// the PCRs that they extend are not predicted. PCR 10 (IMA) is never predicted. What the stub hands
// over is an input, which package uki predicts. The package does not talk to a TPM.
//
// [TCG PC Client Platform Firmware Profile]:
// https://trustedcomputinggroup.org/resource/pc-client-specific-platform-firmware-profile-specification/
// [TPM 2.0 Library]: https://trustedcomputinggroup.org/resource/tpm-library-specification/
// [measurements of systemd's stub and loader]: https://systemd.io/TPM2_PCR_MEASUREMENTS/
// [systemd-pcrlock]: https://www.freedesktop.org/software/systemd/man/latest/systemd-pcrlock.html
// [shim]: https://github.com/rhboot/shim [systemd-measure]:
// https://www.freedesktop.org/software/systemd/man/latest/systemd-measure.html
package tpm
