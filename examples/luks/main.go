// This program demonstrates package luks: it formats, inspects, changes and fills LUKS2 volumes in
// images and devices, without root, device mapper or cryptsetup, and on any platform.
//
//	luks format IMG[:PART] -passphrase-file F [-size N] [-key-bits 256|512] [-sector-size N] [-header-size N] [-kdf argon2id|pbkdf2] [-label L] [-uuid U] [-force]
//	luks inspect IMG[:PART]
//	luks test IMG[:PART] -passphrase-file F [-slot N]
//	luks add IMG[:PART] -passphrase-file F -new-passphrase-file G [-slot N] [-token T.json] [-kdf argon2id|pbkdf2]
//	luks change IMG[:PART] -slot N -passphrase-file F -new-passphrase-file G [-token T.json] [-kdf argon2id|pbkdf2]
//	luks recovery IMG[:PART] -passphrase-file F
//	luks remove IMG[:PART] -slot N -passphrase-file F [-leave-no-key-for-a-person]
//	luks token add IMG[:PART] -token T.json [-slot N] [-leave-no-key-for-a-person]
//	luks token rm IMG[:PART] -id N [-leave-no-key-for-a-person] [-leave-slots-that-nothing-names]
//	luks encrypt IMG[:PART] -in F -passphrase-file F
//	luks decrypt IMG[:PART] -o F -passphrase-file F
//	luks repair IMG[:PART]
//
// IMG is an image file or a block device, PART the number, name or PARTUUID of a partition in it.
// format makes the file, of -size bytes, if it does not exist, and refuses to overwrite a volume,
// or a disk that begins with a partition table, without -force. A passphrase file is taken as it
// is, with its newline if it has one; -strip-newline takes one away. A recovery key may be in upper
// case and without dashes. recovery prints a new one, once: it cannot be shown again. remove asks
// for a passphrase that opens another slot, so that at least one is known to. encrypt writes F as
// the data, and decrypt reads all of it.
//
// Flags may come before or after operands, with one dash or two. All verbs take -json and -progress
// auto|bar|json|none. With -json one object is printed on stdout; it has "schema": "osmith.luks/1",
// "verb" and what json.go lists.
//
// Exit status: 0 yes; 1 no: the passphrase does not open it, the last key, no LUKS2 volume, no
// room; 2 usage or I/O.
package main

import (
	"errors"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition/luks"
)

func main() { program.Main() }

var program = cli.Program{Name: "luks", Schema: schema, IsNo: isNo, Verbs: []cli.Verb{
	{Name: "format", Usage: "IMG[:PART] -passphrase-file F [-size N] [flags]", Example: "luks format state.img -size 67108864 -passphrase-file key", Least: 1, Most: 1, Flags: formatFlags},
	{Name: "inspect", Usage: "IMG[:PART]", Example: "luks inspect disk.img:state", Least: 1, Most: 1, Do: inspect},
	{Name: "test", Usage: "IMG[:PART] -passphrase-file F [-slot N]", Example: "luks test state.img -passphrase-file key", Least: 1, Most: 1, Flags: testFlags},
	{Name: "add", Usage: "IMG[:PART] -passphrase-file F -new-passphrase-file G [flags]",
		Example: "luks add state.img -passphrase-file key -new-passphrase-file secret -kdf pbkdf2 -token tpm2.json", Least: 1, Most: 1, Flags: addFlags},
	{Name: "change", Usage: "IMG[:PART] -slot N -passphrase-file F -new-passphrase-file G [flags]",
		Example: "luks change state.img -slot 0 -passphrase-file key -new-passphrase-file new", Least: 1, Most: 1, Flags: changeFlags},
	{Name: "recovery", Usage: "IMG[:PART] -passphrase-file F", Example: "luks recovery state.img -passphrase-file key", Least: 1, Most: 1, Flags: recoveryFlags},
	{Name: "remove", Usage: "IMG[:PART] -slot N -passphrase-file F", Example: "luks remove state.img -slot 1 -passphrase-file key", Least: 1, Most: 1, Flags: removeFlags},
	{Name: "token add", Usage: "IMG[:PART] -token T.json [-slot N]", Example: "luks token add state.img -token note.json", Least: 1, Most: 1, Flags: tokenAddFlags},
	{Name: "token rm", Usage: "IMG[:PART] -id N", Example: "luks token rm state.img -id 0", Least: 1, Most: 1, Flags: tokenRemoveFlags},
	{Name: "encrypt", Usage: "IMG[:PART] -in F -passphrase-file F", Example: "luks encrypt state.img -in state.ext4 -passphrase-file key", Least: 1, Most: 1, Flags: encryptFlags},
	{Name: "decrypt", Usage: "IMG[:PART] -o F -passphrase-file F", Example: "luks decrypt state.img -o state.ext4 -passphrase-file key", Least: 1, Most: 1, Flags: decryptFlags},
	{Name: "repair", Usage: "IMG[:PART]", Example: "luks repair state.img", Least: 1, Most: 1, Do: repair},
}}

// isNo tells answers of the package that are negative ones.
func isNo(err error) bool {
	for _, no := range []error{luks.ErrNotLUKS, luks.ErrLUKS1, luks.ErrDetached, luks.ErrNoKey, luks.ErrWrongKey, luks.ErrNoSlot, luks.ErrSlotTaken, luks.ErrNoToken, luks.ErrAreaFull,
		luks.ErrEmptyPassphrase} {
		if errors.Is(err, no) {
			return true
		}
	}
	if _, ok := errors.AsType[*luks.LastKeyError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*luks.OnlyTokenError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*luks.UnsupportedError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*luks.JSONAreaError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*luks.SpaceError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*luks.ForeignError](err); ok {
		return true
	}
	_, ok := errors.AsType[*osmith.FormatError](err)
	return ok
}
