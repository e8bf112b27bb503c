// Package upgradetest simulates the boot of a disk: a model of firmware, systemd-boot and kernel in
// every respect that matters to an upgrade. It is for tests and demonstrations of code that writes
// to bootable disks.
//
//	m := upgradetest.Machine{Disk: disk, Machine: machine}
//	boot, err := m.Boot(ctx)
//	if err != nil {
//		return err
//	}
//	fmt.Println(boot.Outcome, boot.Version, boot.Reason)
//
// Code that changes bootable disks, a func(osmith.Disk) error, is tested with faults, after each of
// which the machine must still boot:
//
//	m := upgradetest.Machine{Disk: disk, Machine: machine}
//	for cut, err := range m.Cuts(ctx, update, upgradetest.Faults{Errors: true, LyingSyncs: true}) {
//		if err != nil {
//			return err
//		}
//		if last := cut.Last(); last.Outcome != upgradetest.Up {
//			return fmt.Errorf("%s: %s", cut.Fault, last)
//		}
//	}
//
// [SealedToken] makes tokens of volumes without a TPM, for verdicts about them.
//
// What it models: the firmware checks the loader and the UKI against db and dbx; the loader chooses
// from its menu and counts the try down on the ESP before it starts the UKI (Boot Loader
// Specification, "Automatic Boot Assessment"), unless the firmware is U-Boot 2025.01, which renames
// no files, and changes its variables, Machine.Loader; the stub joins the command lines of the UKI
// and of add-ons; the kernel finds the partitions that the root hash on the command line names and
// reads the whole root file system through dm-verity; every step is measured. Boot.Running is what
// the booted system knows of itself. After an image that the firmware refuses, systemd-boot 258 and
// later reboot; with older ones the machine stays where it is.
//
// # Limits
//
// A machine whose Firmware is not given verifies nothing here, while a plan for it reports that as
// unknown. Nothing is executed. A real boot can fail in more ways; the end-to-end tests of this
// module have real boots.
package upgradetest
