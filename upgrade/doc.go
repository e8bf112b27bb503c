// Package upgrade plans and carries out A/B upgrades of image-based systems on a disk image or
// block device: a set of UKI, root file system and dm-verity tree goes into the slot that nothing
// bootable depends on, is read back and verified, and becomes selectable by one directory-sector
// write on the ESP. It follows the Boot Loader Specification (UAPI.1,
// https://uapi-group.org/specifications/specs/boot_loader_specification/) and the Discoverable
// Partitions Specification (UAPI.2), so that systemd-boot falls back by itself and
// systemd-sysupdate understands the disk.
//
//	plan, err := upgrade.NewPlan(ctx, disk, set, machine, upgrade.PlanOptions{})
//	if err != nil {
//		return err // the disk or the set cannot be understood
//	}
//	fmt.Print(plan) // five verdicts, the chain of starts, the steps with their bytes, the PCRs to expect
//	if err := plan.Apply(ctx, nil); err != nil {
//		return err // *RefusedError: nothing was written
//	}
//	// After the reboot, when the new version is good:
//	path, err := upgrade.Commit(disk, machine, "")
//
// # What has to be known
//
// [Machine] has what is known of the machine that will boot: what it runs, its Secure Boot
// configuration, the variables of its loader, the keys to whose policies secrets are sealed. What
// the TPM opens on the disk it reads there, from the LUKS2 headers ([State].Volumes). What is not
// given is not known, and a verdict that depends on it does not pass. docs/upgrade.md says where
// each is found, and what the verdicts prove.
//
// # On a machine that runs
//
// [ReadMachine] reads what is known there, and [OpenDisk] opens the disk. A boot partition that is
// mounted is written through the kernel if [Machine].Mounted names it ([FindMounted]), with the
// weaker guarantee that [MountedVolume] describes; else it is an [InUseError]. [Collect] takes
// garbage off the ESP, [Mirror] keeps a second one in step. docs/live.md shows an agent of 80
// lines.
//
// # Slots without an ESP
//
// Where firmware or another boot loader keeps the state of slots, [NewSlotPlan] does the same with
// a [SlotStore] in place of boot counters: images into the slot that does not run, read back,
// tried, and [CommitSlot], [RollBackSlot], [CancelSlot].
//
// # A disk that has nothing yet
//
// [PlanInstall] makes a disk that boots of an empty one, or of one whose contents a person has
// agreed to lose ([ReadContents]). [FactoryReset] takes away the state, and nothing else; what
// systemd asks for is a [ResetRequest]. docs/install.md has the order of the writes.
//
// # What a power cut leaves
//
// Every prefix of the writes is a bootable disk: until the last write the old set boots, from the
// last write on the new one, with its tries. ARCHITECTURE.md lists the steps; the tests cut at each
// write. An interrupted upgrade is planned again from what is on the disk.
//
// # Limits
//
// Sets are root or usr with a hash tree and a UKI, or a UKI alone; new entries are of Type #2
// (UKIs); ESP and slots are on one disk; a boot loader is updated with a set ([PlanOptions].Loader)
// or by a plan of its own ([NewLoaderPlan]). Verification of the artifact (who released it) happens
// before, with [github.com/osmith-dev/osmith/signing/cosign]. The disk is locked against programs
// that lock it, the kernel is kept from using the partitions that are written, and what something
// else writes to the ESP between two steps ends the upgrade.
package upgrade
