// This program demonstrates packages signing/secureboot and signing/authenticode: it makes the keys
// of a Secure Boot hierarchy, signs changes of variables, tells what a machine would boot, and
// exchanges keys step by step.
//
//	keys generate -o DIR [-cn NAME] [-owner GUID] [-bits N] [-years N] [-keep CERT]... [-keep-vars DIR|FD] [-option-rom-digest HEX]...
//	       [-trust-no-option-roms-at-the-risk-of-a-black-screen] [-firmware ROW] PE...|-nothing-must-boot
//	keys auth -var NAME -key F -cert F -o F (-esl F [-append] | -delete) [-time T]
//	keys evaluate -vars DIR|FD [-firmware ROW] [-pending VAR=AUTH]... [-pending-append VAR=AUTH]... [-time T]
//	       [-shim PE [-moklist ESL] [-moklistx ESL] [-nothing-enrolled] [-by-program PE]... | -no-shim] [-sbat-level F] PE...
//	keys inspect F.auth|F.esl
//	keys missing -vars DIR|FD [-firmware ROW] F.auth...
//	keys rotate -plan F -vars DIR|FD -old DIR -new DIR [-revoke] [-keep CERT]... [-room BYTES] [-firmware ROW] [-time T] PE...|-nothing-must-boot
//	keys rotate -plan F -vars DIR|FD [-boot-id ID] [-signature F] [-o F] [PE...]
//	keys rotate -plan F
//
// generate writes PK, KEK, db, PCR and verity as .key (PKCS #8, readable by the owner alone) and
// .crt, the first three also as .esl and as .auth, which systemd-boot enrols from
// /loader/keys/NAME. Nothing is overwritten. What is to become of option ROMs has to be said, with
// -keep or one of the flags behind it. PE are images that a machine with these keys has to boot,
// such as a shim that a certificate of -keep has signed; since nothing is signed yet by keys that
// are new, the answer is -nothing-must-boot as a rule, and keys evaluate tells later.
//
// evaluate tells which images firmware would run, by the newest row of edk2 or the -firmware that
// is named (edk2-2026.08, edk2-2022.11, u-boot-2026.10, u-boot-2025.01, u-boot-legacy, or any,
// which allows what all of them allow), and names rows that differ, and those of which it cannot be
// told. Of each image it names the rule that decided and what to change. With -shim, that shim
// starts the images, and firmware it: each judges what it starts. What shim has kept on the machine
// comes from -vars, that is from the copies in efivarfs after a start through shim, or from a
// variable store; -moklist and -moklistx take the place of its lists, and -nothing-enrolled says
// that what is not known does not exist, as on a machine on which no shim has run. Images behind
// -by-program are loaded by a program such as GRUB, and so need no .sbat. -no-shim says that
// firmware starts the images itself; with neither flag and a SbatLevel, both have to be content.
// inspect prints what firmware can read of an update or of signature lists.
//
// missing takes updates as they are published for many machines, such as Microsoft's of dbx, one
// set by each KEK: it tells which of them this machine takes, and which of their entries it lacks
// now and would lack afterwards. The variable of each is the one that its signature is for. Exit
// status 1: something is missing.
//
// -vars is a directory like /sys/firmware/efi/efivars, or the variable store of a virtual machine,
// OVMF_VARS.fd. T is a time like 2026-01-31T12:00:00Z; without it there is SOURCE_DATE_EPOCH, and
// without that the clock.
//
// rotate with -old and -new, directories of generate, makes a plan from the machine as it is, and
// writes it to a file that is not there yet. A directory that lacks a certificate means that this
// key stays. PE are all images that have to boot. With -vars alone it tells what to do next: write
// an update (-o takes it), install images, reboot, or nothing any more; and notes in the plan how
// far the machine is. -boot-id is the machine's /proc/sys/kernel/random/boot_id; it is read there
// if -vars is /sys/firmware/efi/efivars. With -plan alone the plan is shown. A directory may have a
// certificate whose key is elsewhere: steps that it has to sign wait for -signature, of the digest
// that -o takes: openssl pkeyutl -sign -inkey F -pkeyopt digest:sha256 -in DIGEST -out SIGNATURE.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json. With -json
// one object is printed on stdout; it has "schema": "osmith.keys/1", "verb" and what json.go lists.
// Outputs are written beside their names and renamed.
//
// Exit status: 0 yes; 1 no: an image would not boot, an update or plan is refused; 2 usage or I/O.
package main

import (
	"errors"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func main() { program.Main() }

var program = cli.Program{Name: "keys", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Name: "generate", Usage: "-o DIR [-cn NAME] [-owner GUID] [flags] PE...|-nothing-must-boot", Most: 1 << 16,
		Example: "keys generate -o keys -cn 'Acme OS' -keep MicCorUEFCA2011.crt -nothing-must-boot", Flags: generateFlags},
	{Name: "auth", Usage: "-var NAME -key F -cert F -o F (-esl F [-append] | -delete) [-time T]",
		Example: "keys auth -var dbx -esl old.esl -key keys/KEK.key -cert keys/KEK.crt -append -o dbx.auth", Flags: authFlags},
	{Name: "evaluate", Usage: "-vars DIR|FD [-firmware ROW] [-shim PE | -no-shim] [-pending VAR=AUTH]... [-pending-append VAR=AUTH]... PE...",
		Example: "keys evaluate -vars /sys/firmware/efi/efivars -pending-append dbx=dbx.auth linux.efi", Least: 1, Most: 1 << 16, Flags: evaluateFlags},
	{Name: "inspect", Usage: "F.auth|F.esl", Example: "keys inspect dbx.auth", Least: 1, Most: 1, Do: inspect},
	{Name: "missing", Usage: "-vars DIR|FD [-firmware ROW] F.auth...", Example: "keys missing -vars /sys/firmware/efi/efivars dbx_x64.efiauth2",
		Least: 1, Most: 1 << 16, Flags: missingFlags},
	{Name: "rotate", Usage: "-plan F [-vars DIR|FD [-old DIR -new DIR] [PE...]]",
		Example: "keys rotate -plan plan.json -vars OVMF_VARS.fd -old keys -new keys2 linux.efi", Most: 1 << 16, Flags: rotateFlags},
}}

// isNo tells a negative answer of the library from what is wrong with the call.
func isNo(err error) bool {
	var refused *secureboot.RefusedError
	var lockout *secureboot.LockoutError
	var off *secureboot.OffPlanError
	var space *secureboot.SpaceError
	return errors.As(err, &refused) || errors.As(err, &lockout) || errors.As(err, &off) || errors.As(err, &space) || errors.Is(err, secureboot.ErrOptionROMs)
}
