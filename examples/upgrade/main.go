// This program demonstrates package upgrade: it shows what a disk of an image-based system holds,
// plans and carries out its upgrade to a signed release, and afterwards commits it, rolls it back
// or takes it back, on a machine that runs, or on a disk or image of one that is off.
//
//	upgrade inspect  -disk IMG|DEV|auto [-mounted] | -esp DIR  [what is known of the machine]
//	upgrade plan     ... -release LAYOUT[:REF] -policy P.json [-repository NAME] | -key F... | -accept-unsigned-release
//	                 [-svg OUT] [-arch A] [-tries N] [-floor V] [-override VERDICT]... [-loader [-shim F]...] [-trust-fallback-without-reading-it]
//	upgrade apply    the same as plan, without -svg
//	upgrade commit   ... [-entry PATH|ID]
//	upgrade rollback ... [-entry PATH|ID]
//	upgrade cancel   ...
//	upgrade install  -disk IMG|DEV -layout LAYOUT.json|REPART.d -release ... [-seed UUID] [-sector-size N] [-loader F [-shim F] [-conf KEY=VALUE]... [-keys DIR]] [-random-seed]
//	                 [-recovery UKI] [-tries N] [-boot-option] [-erase-for-ever DIGEST] [-override VERDICT]... [-dry-run] [what is known of the machine that will boot it]
//	upgrade factory-reset ... -state PARTUUID|TYPE/LABEL...
//
// The disk is an image file, a block device, the disk that this machine was started from (-disk
// auto), or the one whose ESP is mounted on a directory (-esp /efi). On Linux, a mounted ESP is
// written through the kernel: with -esp, or with -mounted beside -disk. Otherwise the ESP must not
// be mounted while something is changed.
//
// What is known of the machine is read from the machine that this runs on, with -esp, -disk auto,
// and a block device with the partition that it was started from; what cannot be read of it is told
// on stderr. With -machine DIR it is read from a copy of the files of another one (/proc/cmdline,
// /sys/firmware/efi/efivars, and what else upgrade.ReadMachine looks at). An image file, another
// block device, and any disk with -offline are taken as those of a machine that is off. What the
// flags do not say is not known then, and what is not known never passes:
//
//	-vars FILE|DIR|efivarfs   Secure Boot variables and those of the loader that are kept: the variable store of a virtual machine (OVMF_VARS.fd), a copy of efivarfs, or that of this machine
//	-no-loader-variables      none of the variables that choose an entry of the loader is set
//
// And for every machine, since nothing on it vouches for these:
//
//	-pcr-key F...             keys to whose signed PCR policies secrets are sealed; -nothing-sealed: there are none
//	-no-secure-boot           firmware verifies nothing
//	-no-shim                  firmware starts the loader itself
//	-firmware ROW             the firmware that judges images; without it all rows must agree
//	-assume-loader N          treat a systemd-boot of an unknown release as this one
//	-esp-id GUID              the ESP that firmware starts from, of a disk with several
//
// LAYOUT is the directory of an OCI image layout, as release pull makes it, or its address on a web
// server (https://updates.example/acme:v2), from which of root file system and UKI only that is
// fetched which the running set does not have, while it is written; all else comes into -cache DIR
// first. REF is a tag or digest, which may be left out if there is one release. The release is
// verified as release verify does, by the JSON of package cosign or by public keys, and every byte
// of it is read before the plan is made, but for a root file system on a web server, of which each
// block is checked against the hash tree before it is written. Of an index, the release for -arch
// is taken. VERDICT is one of fits, boots, unlocks, returns, follows.
//
// plan prints the verdicts, the steps, the PCRs to expect and what the disk holds after each step,
// and writes nothing; -svg draws that. apply prints the plan and carries it out, unless it is
// refused. When it is interrupted or fails, what runs still boots, and the error says how to go on.
// After the next start, commit makes permanent what runs; upgrade-commit.service does so at each
// boot that is complete. rollback marks an entry as bad, so that another one is started, and cancel
// takes away what no boot has tried yet.
//
// install makes a disk that boots of an empty one, and of one that has something on it if
// -erase-for-ever has the digest of all that, which the refusal tells. IDs come from the seed,
// which is drawn unless it is given, and printed: an installation that was interrupted goes on with
// the same one. The layout is that of disk build, without IDs and contents; what its other
// partitions are filled with is left to the first boot. -loader takes the place of the loader of
// the release; -boot-option writes to what -vars names. factory-reset takes away what is in the
// partitions that are named, which nothing boots from.
//
// Flags may come before or after each other in any order, with one dash or two. All verbs take
// -json and -progress auto|bar|json|none. With -json one object is printed on stdout; it has
// "schema": "osmith.upgrade/1", "verb" and what json.go lists. -progress json writes lines {"verb":
// "apply", "done": 4096, "total": 8192} to stderr, in bytes.
//
// Exit status: 0 yes; 1 no: refused, not verified, nothing to return to, not what runs, no such
// entry, not such a disk; 2 usage or I/O, a disk that is in use among it.
package main

import (
	"errors"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

func main() { program.Main() }

const (
	disks    = "-disk IMG|DEV|auto | -esp DIR [flags]"
	releases = "-disk IMG|DEV|auto | -esp DIR -release LAYOUT[:REF] -policy P.json|-key F... [flags]"
)

var program = cli.Program{Name: "upgrade", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Name: "inspect", Usage: disks, Example: "upgrade inspect -disk disk.img", Flags: explained(inspectFlags)},
	{Name: "plan", Usage: releases, Example: "upgrade plan -esp /efi -release /var/cache/acme:2 -key /usr/share/acme/release.pub", Flags: explained(planFlags)},
	{Name: "apply", Usage: releases, Example: "upgrade apply -esp /efi -release /var/cache/acme:2 -key /usr/share/acme/release.pub", Flags: explained(applyFlags)},
	{Name: "commit", Usage: disks + " [-entry PATH|ID]", Example: "upgrade commit -esp /efi", Flags: explained(commitFlags)},
	{Name: "rollback", Usage: disks + " [-entry PATH|ID]", Example: "upgrade rollback -esp /efi", Flags: explained(rollbackFlags)},
	{Name: "install", Usage: "-disk IMG|DEV -layout LAYOUT.json|REPART.d -release LAYOUT[:REF] -policy P.json|-key F... [flags]",
		Example: "upgrade install -disk /dev/nvme0n1 -layout layout.json -release /var/cache/acme:2 -key /usr/share/acme/release.pub -vars efivarfs -boot-option", Flags: explained(installFlags)},
	{Name: "factory-reset", Usage: disks + " -state PARTUUID|TYPE/LABEL...", Example: "upgrade factory-reset -disk disk.img -state var/state", Flags: explained(resetFlags)},
	{Name: "cancel", Usage: disks, Example: "upgrade cancel -esp /efi", Flags: explained(cancelFlags)},
}}

// isNo tells answers of the packages that are negative ones.
func isNo(err error) bool {
	for _, no := range []error{
		upgrade.ErrOffline, upgrade.ErrNothingToReturnTo, upgrade.ErrPinned, upgrade.ErrWaits, upgrade.ErrXBOOTLDR, upgrade.ErrNoEntry, upgrade.ErrNoESP, upgrade.ErrNoLoader, upgrade.ErrRunsFromDisk, partition.ErrNoTable, partition.ErrNoSlots,
		cosign.ErrUnsigned, cosign.ErrUntrusted, cosign.ErrNoRule, release.ErrNoArchitecture,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	return is[*upgrade.RefusedError](err) || is[*upgrade.NotRunningError](err) || is[*upgrade.NotStartedError](err) || is[*upgrade.TwinError](err) || is[*upgrade.UnrepairedError](err) ||
		is[*upgrade.ChangedError](err) || is[*upgrade.LayoutError](err) || is[*upgrade.NoTargetError](err) || is[*upgrade.UnboundError](err) || is[*upgrade.SameRootError](err) || is[*upgrade.RootHashError](err) ||
		is[*upgrade.OccupiedError](err) || is[*upgrade.RecoveryError](err) || is[*upgrade.NotStateError](err) ||
		is[*release.InconsistentError](err) || is[*verity.MismatchError](err) || is[*verity.BlockError](err) || is[*osmith.FormatError](err) || is[*osmith.DigestError](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
