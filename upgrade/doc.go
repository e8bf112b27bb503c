// Package upgrade plans and carries out A/B upgrades of image-based systems on a disk image or
// block device: a set of UKI, root file system and dm-verity tree is written into the slot that no
// bootable entry depends on, read back and verified, and becomes bootable by one write of a
// directory sector on the ESP. It follows the Boot Loader Specification (UAPI.1,
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
// # What the caller provides
//
// [Machine] describes the machine that will boot: what it runs, its Secure Boot configuration, the
// variables of its loader, the keys to whose policies secrets are sealed. Which volumes the TPM
// opens is read from the LUKS2 headers on the disk ([State].Volumes). A verdict that depends on a
// missing field does not pass. docs/upgrade.md says where to find each, and what the verdicts
// prove.
//
// # On a running machine
//
// [ReadMachine] fills in a Machine, and [OpenDisk] opens the disk. A boot partition that is mounted
// is written through the kernel if [Machine].Mounted names it ([FindMounted]), with the weaker
// guarantee that [MountedVolume] describes; otherwise the plan fails with an [InUseError].
// [Collect] removes garbage from the ESP, [Mirror] keeps a second ESP identical. docs/live.md shows
// an agent of 80 lines.
//
// # Slots without an ESP
//
// Where firmware or another boot loader keeps the state of slots, [NewSlotPlan] does the same with
// a [SlotStore] in place of boot counters: it writes images into the inactive slot, reads them back
// and marks the slot to be tried; [CommitSlot], [RollBackSlot] and [CancelSlot] follow.
//
// # A new disk
//
// [PlanInstall] makes an empty disk bootable, or a disk whose contents a person has agreed to lose
// ([ReadContents]). [FactoryReset] removes only the state; systemd's request for it is a
// [ResetRequest]. docs/install.md has the order of the writes.
//
// # What a power cut leaves
//
// After every write the disk boots: the old set before the last write, and the new one, with its
// tries, after it. ARCHITECTURE.md lists the steps; the tests cut the power at each write. After an
// interruption, plan again from what is on the disk.
//
// # Limits
//
// Sets are root or usr with a hash tree and a UKI, or a UKI alone; new entries are of Type #2
// (UKIs); ESP and slots are on one disk; a boot loader is updated with a set ([PlanOptions].Loader)
// or by a separate plan ([NewLoaderPlan]). Before an upgrade, verify who released the artifact,
// with [github.com/osmith-dev/osmith/signing/cosign]. The disk is locked against other programs
// that lock it, the kernel cannot use the partitions that are written, and the upgrade stops if
// another program writes to the ESP between two steps.
package upgrade
