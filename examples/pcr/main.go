// This program demonstrates package tpm: it reads event logs, replays and compares them, predicts
// what a boot will measure, signs policies for it and writes .pcrlock files, without a TPM, without
// root and on any platform.
//
//	pcr log FILE [-userspace F]
//	pcr replay FILE [-userspace F] [-pcrs PCRS.json] [-bank NAME]
//	pcr machine FILE
//	pcr predict BOOT.json [-userspace F] [-until WORD] [-log OUT]
//	pcr diff EXPECTED ACTUAL [-userspace F] [-expected-userspace F] [-until WORD] [-contents F…]
//	pcr compare OLD.json NEW.json [-token T.json]… [-baseline LOG] [-pin]
//	pcr states BOOT.json… -pcrs LIST [-bank NAME]
//	pcr sign UKI -key F [-phases P,…] [-banks LIST] [-ref NAME] [-profile N] -o JSON
//	pcr pcrlock BOOT.json -o DIR
//
// FILE and ACTUAL are logs as in /sys/kernel/security/tpm0/binary_bios_measurements; -userspace
// adds systemd's own, /run/log/systemd/tpm2-measure.log. PCRS.json holds the values that a TPM has:
// {"sha256": {"0": "HEX", …}}; PCRs 10 and 16 to 23 in it are not compared. machine says which PCRs
// of the machine can be relied on, and why the others not, before anything is sealed to them. log
// shows the events of a log that is cut or damaged as far as they can be read, and ends with 2. A
// CCEL, the log of a confidential virtual machine, is read too: its registers are RTMRs. EXPECTED
// is a BOOT.json, what predict -log wrote, or the log of another boot. diff lists first what
// explains the rest, with the parts of a UKI that differs below it. -contents names texts that may
// have been measured, such as loader.conf, os-release, /proc/cmdline or another UKI, whose sections
// they are; what BOOT.json names is among them. With both texts a difference is told in words. It
// says which PCRs were compared: of a log, all but 10; of a prediction, those that it gives one
// value. What userspace measured is compared if it is predicted and -userspace is there. log lists
// the NvPCRs of userspace's log, too.
//
// BOOT.json describes a boot, or with {"boots": […]} several any of which may happen; boot.go lists
// its keys. Paths in it are relative to it. With "phases", its key "userspace" says what else
// systemd measures up to that moment, and what is not said is not predicted: userspace.go lists the
// words, or it names the log of an earlier boot, as -userspace of predict and -expected-userspace
// of diff do. -until ends that log at a word: with nvpcr-separator, that is the moment at which
// systemd 262 unlocks volumes. A .pcrsig of -o holds the policies of all profiles, unless -profile
// names one.
//
// compare says what changes in the PCRs when a machine boots as NEW.json describes it instead of
// OLD.json, because of what, and whether the secrets of tokens are unlocked then; -baseline is the
// log of an earlier boot for both. It is a gate before an upgrade is published.
//
// states lists what the PCRs may be after any of several boots, such as the running one, one that
// is installed and not booted yet, and one with firmware that is announced (a BOOT.json with the
// log of a machine that has it): what a secret has to be sealed to.
//
// Flags may come before or after operands, with one dash or two. With -json one object is printed
// on stdout; it has "schema": "osmith.pcr/1", "verb" and what json.go lists.
//
// Exit status: 0 yes; 1 no: the log does not replay to the values, the boots differ, a token would
// not be unlocked or that is not known; 2 usage or I/O.
package main

import (
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

func main() { program.Main() }

var program = cli.Program{Name: "pcr", Schema: schema, Verbs: []cli.Verb{
	{Name: "log", Usage: "FILE [-userspace F]", Example: "pcr log /sys/kernel/security/tpm0/binary_bios_measurements", Least: 1, Most: 1, Flags: logFlags},
	{Name: "replay", Usage: "FILE [-userspace F] [-pcrs PCRS.json] [-bank NAME]", Example: "pcr replay log.bin -pcrs pcrs.json",
		Least: 1, Most: 1, Flags: replayFlags},
	{Name: "machine", Usage: "FILE", Example: "pcr machine /sys/kernel/security/tpm0/binary_bios_measurements", Least: 1, Most: 1, Flags: machineFlags},
	{Name: "predict", Usage: "BOOT.json [-userspace F] [-until WORD] [-log OUT]",
		Example: "pcr predict boot.json -userspace /run/log/systemd/tpm2-measure.log -log expected.bin", Least: 1, Most: 1, Flags: predictFlags},
	{Name: "diff", Usage: "EXPECTED ACTUAL [-userspace F] [-expected-userspace F] [-until WORD] [-contents F…]", Example: "pcr diff boot.json /sys/kernel/security/tpm0/binary_bios_measurements",
		Least: 2, Most: 2, Flags: diffFlags},
	{Name: "compare", Usage: "OLD.json NEW.json [-token T.json]… [-baseline LOG] [-pin]", Example: "pcr compare old.json new.json -token token.json",
		Least: 2, Most: 2, Flags: compareFlags},
	{Name: "states", Usage: "BOOT.json… -pcrs LIST [-bank NAME]", Example: "pcr states running.json pending.json -pcrs 4,7,11", Least: 1, Most: 64, Flags: statesFlags},
	{Name: "sign", Usage: "UKI -key F [-phases P,…] [-banks LIST] [-ref NAME] [-profile N] -o JSON",
		Example: "pcr sign linux.efi -key pcr.key -o linux.pcrsig", Least: 1, Most: 1, Flags: signFlags},
	{Name: "pcrlock", Usage: "BOOT.json -o DIR", Example: "pcr pcrlock boot.json -o /var/lib/pcrlock.d", Least: 1, Most: 1, Flags: pcrlockFlags},
}}
