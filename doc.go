// Package osmith is the vocabulary of a set of independent packages to build, sign, measure,
// install, upgrade and roll back image-based Linux systems: the types of the values that pass
// between them. Import the packages one by one:
//
//   - [github.com/osmith-dev/osmith/verity]: write and verify dm-verity hash trees;
//   - [github.com/osmith-dev/osmith/partition] and [github.com/osmith-dev/osmith/partition/fat]:
//     GPT, A/B layouts, EFI system partitions;
//   - [github.com/osmith-dev/osmith/uki]: Unified Kernel Images, and what the boot stub measures;
//   - [github.com/osmith-dev/osmith/tpm]: read, replay and predict event logs; signed PCR policies;
//   - [github.com/osmith-dev/osmith/signing]: Authenticode, Secure Boot variables, cosign
//     signatures of OCI artifacts;
//   - [github.com/osmith-dev/osmith/bootloader]: systemd-boot on an ESP, boot counting, the entry
//     that boots next;
//   - [github.com/osmith-dev/osmith/build]: combines them on the vendor's side: sets, disks,
//     releases;
//   - [github.com/osmith-dev/osmith/upgrade]: combines them on the machine: plan, apply, commit,
//     roll back.
//
// The packages do not import each other; only build, upgrade and the examples combine them.
// Everything is pure Go, needs no root, loop device or subprocess, and is reproducible: the same
// inputs give the same bytes.
//
// The program examples/lifecycle shows the whole flow.
package osmith
