// Package faultio is a disk in memory whose power can be cut at any write. Tests use it to prove that whatever a power cut
// leaves of a sequence of writes is a disk that still boots.
//
// [Disk.Faults] makes the states that are possible after a recorded operation:
//
//	d := faultio.NewDisk(64 << 20)
//	prepare(d)
//	d.Record()              // what follows is the operation under test
//	err := operation(d)
//	faults, err := d.Faults(faultio.FaultOptions{Sector: 512})
//	for state := range faults.States() {
//		if err := check(state.Disk); err != nil {
//			t.Fatalf("%v: %v", state, err) // state says which writes and sectors are missing
//		}
//	}
//
// [Disk.CutAfter] lets the operation itself run into [ErrCut]; [Disk.Prefix], [Disk.Torn] and [Disk.Lossy] make single states.
//
// # The model
//
// A sector (512 or 4096 bytes) is written whole or not at all. A longer write may leave any of its sectors on the medium.
// Writes since the last Sync may reach the medium in any order, so that any subset of them may be missing; those before it are
// there. Of several writes to one sector since the last Sync, any one may be the last that reached the medium. On a disk whose
// physical sectors are larger than its logical ones (512e), a power cut may also lose the whole physical sector that is being
// rewritten; these states are made if [FaultOptions.Physical] asks for them, and are counted apart.
//
// # Cost
//
// Contents are kept in immutable 4 KiB pages, zero pages are not kept at all, and images share pages: a state of a disk of
// 64 MiB costs what was written since the last Sync, and takes some 50 microseconds for a dozen writes. Writes of megabytes
// between two syncs make each state cost as much: keep the contents that a test writes small, or [FaultOptions.Limit].
package faultio
