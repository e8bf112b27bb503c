// Package petest builds small, valid PE images that stand in for systemd-stub, systemd-boot and a
// Linux kernel where the real ones are not at hand: in tests, in documentation examples and in the
// example programs on a machine that has no boot parts installed. They carry what the packages of
// this module read (section table, .sdmagic, .sbat, the kernel's version string) and they do not
// boot: their code halts the processor.
//
// The same arguments always give the same bytes.
package petest
