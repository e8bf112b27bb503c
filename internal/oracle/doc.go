// Package oracle judges disks as firmware, kernels and boot loaders read them, not as osmith does.
//
// It is for tests. A package that writes tables and file systems cannot prove with its own reader
// that a disk still boots after a power cut: where that reader is more lenient than the firmware,
// the test is too. So the package imports nothing of osmith, shares no code with it
// (TestImportsNothingOfOsmith), and is itself compared with what firmware, kernels, fsck.fat and
// mtools answered for the same disks. Its three judges are used one after the other, as a boot
// does:
//
//   - [ReadGPT] gives the partitions that edk2, U-Boot and Linux offer, and the sectors that edk2
//     rewrites on the way;
//   - [ReadFAT] gives the files of an ESP with the hashes of their contents, and what fsck.fat
//     would say about the volume;
//   - [Boot] gives what firmware and systemd-boot start from an ESP that [FATReaderEDK2] has read,
//     why, and the state that the next start finds; [Machine.Chain] goes on until nothing changes
//     any more.
//
// internal/faultio makes the disks: [github.com/osmith-dev/osmith/internal/faultio.Disk.Faults]
// enumerates what a power cut may leave of a recorded sequence of writes. A test of a change to a
// partition table then is
//
//	disk.Record()
//	err := change(disk)
//	faults, err := disk.Faults(faultio.FaultOptions{Sector: 512})
//	for state := range faults.States() {
//		for _, firmware := range oracle.Readers() {
//			found, err := oracle.ReadGPT(firmware, state.Disk, state.Disk.Size(), 512)
//			// found.Partitions are those before or those after the change, or state tells how the disk came about
//		}
//	}
//
// and one of a change to an ESP asks for each state
//
//	esp, err := oracle.ReadFAT(state.Disk, state.Disk.Size(), oracle.FATOptions{Reader: oracle.FATReaderEDK2})
//	for _, choice := range (oracle.Machine{ESP: esp.BootFiles()}).Chain(8) {
//		// choice.Outcome is OutcomeStarted, and choice.Image is a program of the old set or of the new one
//	}
//
// # What stands behind each rule
//
// Each [Reader] has rows of evidence ([Reader.Evidence]). testdata/README.md says how the answers
// of testdata/readers.json were recorded: 115 disks that edk2 2022.11 and 2026.08, U-Boot 2025.01
// and the kernels 6.12 and 7.2 were started with. The rules for edk2 were also read in its source
// (BSD licence). Those of U-Boot and Linux come from these answers and from documentation only. So
// do those of systemd-boot ([LoaderEvidence]): its releases 257 and 262 were started with the 287
// file systems of loadercases_test.go by a program that says what the loader started, and their
// answers are testdata/loaderanswers.json.
//
// # Limits
//
// All input may be hostile: memory is bounded by the size of the disk and by constants, and so is
// time ([FATOptions.MaxRead]). Extended (logical) MBR partitions, exFAT and the 12-bit corner cases
// of DOS before 3.0 are not read.
package oracle
