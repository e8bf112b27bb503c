// Package faultio is a disk in memory whose power can be cut at any write. Tests use it to prove that each prefix of a
// sequence of writes leaves a disk that still boots.
//
// Two ways to use it:
//
//	d := faultio.NewDisk(64 << 20)
//	prepare(d)
//	d.Record()              // what follows is the operation under test
//	err := operation(d)
//	for k := range len(d.Writes()) + 1 {
//		check(d.Prefix(k)) // the disk as it is when power fails after the k-th write
//	}
//
// or [Disk.CutAfter], which lets the operation itself run into [ErrCut].
//
// The model: a sector (512 bytes unless a test says otherwise) is written whole or not at all; a longer write may stop
// after any of its sectors ([Disk.Torn]); writes since the last Sync may reach the medium in any order, so that any
// subset of them may be missing ([Disk.Lossy]).
//
// Contents are kept in immutable 4 KiB pages, zero pages are not kept at all, and images share pages: a clone of a disk
// of 100 MiB costs a map, not a copy.
package faultio
