// Package sparse copies content that has holes without reading or writing the holes where both
// sides allow it.
//
// Zeros are written unless the target is known to be zero or can zero a range itself; a hole
// changes the time a copy takes, never a byte of its result.
//
// It also calls the methods that a disk may have ([github.com/osmith-dev/osmith.Disk]) where it has
// them.
package sparse
