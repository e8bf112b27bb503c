// Package faultio is a disk in memory whose power can be cut at any write, and which can fail at
// any operation. Tests use it to prove that whatever a power cut leaves of a sequence of writes is
// a disk that still boots, and that no failure is missed.
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
// [Disk.CutAfter] lets the operation itself run into [ErrCut]; [Disk.Prefix], [Disk.Torn] and
// [Disk.Lossy] make single states.
//
// # The model
//
// A sector (512 or 4096 bytes) is written whole or not at all. A longer write may leave any of its
// sectors on the medium. Writes since the last Sync may reach the medium in any order, so that any
// subset of them may be missing; those before it are there. Of several writes to one sector since
// the last Sync, any one may be the last that reached the medium. On a disk whose physical sectors
// are larger than its logical ones (512e), a power cut may also lose the whole physical sector that
// is being rewritten; these states are made if [FaultOptions.Physical] asks for them, and are
// counted apart.
//
// # Failures
//
// [Disk.Faulty] has operations fail. A loop over all places where one can:
//
//	for k := 0; ; k++ {
//		d := before.Clone()
//		d.Faulty(faultio.Failure{After: k}) // or the k-th write only, half done, or all from there on
//		err := operation(d)
//		if d.Failed() == 0 {
//			break // the operation has fewer than k+1 operations of the disk
//		}
//		check(d, err)
//	}
//
// A failing operation does nothing, or with [Failure.Short] half of it. One that lies does the same
// and says that it succeeded.
//
// # The page cache
//
// Without [Disk.Cached] there is none: what is written is what is read, and each read is of the
// medium. With it, writes go to a cache of 4 KiB pages and a sync brings them to the medium. The
// cache is what lets software believe in what is not there: after a sync that failed or lied it
// goes on to show what was written, and the next sync has nothing to do. [Disk.DropCache] forgets
// clean pages, [Disk.MediumReads] tells whether a read was one of the medium, and [Disk.Medium] is
// what a power cut would leave if nothing more was written back. Nothing is by itself: no
// read-ahead, no page that is written back before a sync, none that is forgotten.
//
// [Disk.Record] and what is made of it ([Disk.Writes], [Disk.Prefix], [Disk.Torn], [Disk.Lossy],
// [Disk.Faults]) are of the calls of WriteAt and of the syncs that succeeded, whether there is a
// cache or not. They know a failed sync as one that was not called, and so take a later one to
// cover its writes; what a disk with page cache lost to a failed sync, only [Disk.Medium] shows.
// After [Disk.CutAfter] reads still show the cache.
//
// # Cost
//
// Contents are kept in immutable 4 KiB pages, zero pages are not kept at all, and images share
// pages: a state of a disk of 64 MiB costs what was written since the last Sync, and takes some 50
// microseconds for a dozen writes. Writes of megabytes between two syncs make each state cost as
// much: keep the contents that a test writes small, or [FaultOptions.Limit].
package faultio
