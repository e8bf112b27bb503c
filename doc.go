// Package osmith is the vocabulary of a set of independent packages to build, sign, measure,
// install, upgrade and roll back image-based Linux systems: the types of the values that pass from
// one of them to another. Import the packages one by one:
//
//   - [github.com/osmith-dev/osmith/verity]: dm-verity hash trees, written and verified;
//   - [github.com/osmith-dev/osmith/partition] and [github.com/osmith-dev/osmith/partition/fat]:
//     GPT, A/B layouts, EFI system partitions;
//   - [github.com/osmith-dev/osmith/uki]: Unified Kernel Images and what the boot stub measures of
//     them;
//   - [github.com/osmith-dev/osmith/tpm]: event logs read, replayed and predicted; signed PCR
//     policies;
//   - [github.com/osmith-dev/osmith/signing]: Authenticode, Secure Boot variables, cosign
//     signatures of OCI artifacts;
//   - [github.com/osmith-dev/osmith/bootloader]: systemd-boot on an ESP, boot counting, which entry
//     boots next;
//   - [github.com/osmith-dev/osmith/build]: composes them for who builds a system: sets, disks,
//     releases;
//   - [github.com/osmith-dev/osmith/upgrade]: composes them for machines: plan, apply, commit, roll
//     back.
//
// None of these packages imports another one, except build, upgrade and the examples, which compose
// them. Everything is pure Go, needs no root, loop device or subprocess, and the same inputs give
// the same bytes.
//
// examples/lifecycle is the whole flow in one program.
package osmith
