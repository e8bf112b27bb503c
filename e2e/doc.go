// Package e2e boots what osmith builds: real firmware with Secure Boot, a real
// loader, stub and kernel, and a software TPM, in QEMU.
//
// The pieces are [BuildGuest] and [Initrd] for the user space of the machines,
// [WriteRoot] for a root file system, and [Machine] for the boots. The disk in
// between is made by the packages under test and by nothing else; the scenario
// tests do that. This package runs foreign programs and is for tests only: it
// holds no API that a user of osmith should import.
//
// README.md says how to read a failure and keeps the ledger of boots.
package e2e
