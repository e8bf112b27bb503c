// Package grub predicts what GRUB 2 measures when it runs its configuration: the commands in PCR 8,
// the files in PCR 9.
//
//	boot, err := grub.Run(grub.Environment{Version: "2.14", Config: "(hd0,gpt1)/EFI/debian/grub.cfg", Open: open}, crypto.SHA256)
//
// A configuration is a script. [Run] follows it as GRUB 2.12 and 2.14 of Debian were seen to: each
// simple command is measured with its words after expansion, before it runs; a function definition,
// and keywords such as if and for are not measured, but the commands in them are; menuentry and
// submenu are measured with their block as it is written; each file that GRUB reads is measured
// under the name that GRUB was given. For a configuration that this package cannot follow, the
// error is an [*UnsupportedError], without a prediction: an environment block that exists, loops
// over what a disk has, commands that are not in the list below.
//
// Commands that are followed: set, NAME=VALUE, export, unset, true, false, echo, sleep, clear,
// insmod, terminal_input, terminal_output, serial, search, search.fs_uuid, [ and test, source and
// ., configfile, functions, setparams, return, menuentry, submenu, loadfont of a file that is
// missing, fwsetup --is-supported, linux, initrd, chainloader, boot.
//
// It is tested against recorded boots (tpm/testdata/boot-shim: s3-shim-grub, s3-grub-debian), and
// against GRUB itself in package e2e. No source of GRUB was read.
package grub
