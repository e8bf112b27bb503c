package partition

import (
	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
)

// Partition types of the Discoverable Partitions Specification
// (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/).
var (
	ESP          = osmith.MustParseGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	XBOOTLDR     = osmith.MustParseGUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
	Swap         = osmith.MustParseGUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f")
	Home         = osmith.MustParseGUID("933ac7e1-2eb4-4f13-b844-0e14e2aef915")
	Srv          = osmith.MustParseGUID("3b8f8425-20e0-4f3b-907f-1a25a76f98e8")
	Var          = osmith.MustParseGUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
	Tmp          = osmith.MustParseGUID("7ec6f557-3bc5-4aca-b293-16ef5df639d1") // /var/tmp
	UserHome     = osmith.MustParseGUID("773f91ef-66d4-49b5-bd83-d683bf40ad16")
	LinuxGeneric = osmith.MustParseGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

	RootX8664          = arch.X8664.Types[arch.Root]
	RootX8664Verity    = arch.X8664.Types[arch.RootVerity]
	RootX8664VeritySig = arch.X8664.Types[arch.RootVeritySig]
	UsrX8664           = arch.X8664.Types[arch.Usr]
	UsrX8664Verity     = arch.X8664.Types[arch.UsrVerity]
	UsrX8664VeritySig  = arch.X8664.Types[arch.UsrVeritySig]

	RootARM64          = arch.ARM64.Types[arch.Root]
	RootARM64Verity    = arch.ARM64.Types[arch.RootVerity]
	RootARM64VeritySig = arch.ARM64.Types[arch.RootVeritySig]
	UsrARM64           = arch.ARM64.Types[arch.Usr]
	UsrARM64Verity     = arch.ARM64.Types[arch.UsrVerity]
	UsrARM64VeritySig  = arch.ARM64.Types[arch.UsrVeritySig]
)

// BIOSBoot is where GRUB keeps the part of itself that a BIOS machine loads.
var BIOSBoot = osmith.MustParseGUID("21686148-6449-6e6f-744e-656564454649")

// typeNames has the names that systemd gives the types without an architecture (systemd-id128 show).
var typeNames = []typeName{
	{ESP, "esp"}, {XBOOTLDR, "xbootldr"}, {Swap, "swap"}, {Home, "home"}, {Srv, "srv"}, {Var, "var"}, {Tmp, "tmp"},
	{UserHome, "user-home"}, {LinuxGeneric, "linux-generic"},
}

type typeName struct {
	id   osmith.GUID
	name string
}

// TypeName is systemd's name of a type of the Discoverable Partitions Specification, such as "root-x86-64-verity"; a
// name such as "chromeos-kernel" for a type of another system that this package knows ([TypeByName]); or the GUID as
// text.
func TypeName(id osmith.GUID) string {
	for _, list := range [][]typeName{typeNames, foreignTypes} {
		for _, t := range list {
			if t.id == id {
				return t.name
			}
		}
	}
	if a, role, ok := arch.ByType(id); ok {
		return a.TypeName(role)
	}
	return id.String()
}

// TypeByName is the type with a name that [TypeName] returns, or that systemd accepts besides ("root-x86_64" and
// "root-amd64" for "root-x86-64"). Names that depend on the machine ("root", "usr-secondary") are not known.
//
// The names of types outside of the specification start with bios-boot, chromeos- (kernel, root, reserved, firmware,
// minios, hibernate), flatcar- (usr, resize, reserved, root-raid; those of CoreOS Container Linux), bottlerocket- (boot,
// root, hash, reserved, private, data, firmware) and android- (those of gdisk for Intel and Qualcomm platforms).
func TypeByName(name string) (osmith.GUID, bool) {
	for _, list := range [][]typeName{typeNames, foreignTypes} {
		for _, t := range list {
			if t.name == name {
				return t.id, true
			}
		}
	}
	return arch.TypeByName(name)
}

// Attribute bits: 0 to 2 are those of UEFI for every type (UEFI 2.10, table 5.7), 59, 60 and 63 those of the Discoverable
// Partitions Specification for its own types.
const (
	AttrRequired       uint64 = 1 << 0  // the platform needs the partition: do not delete it
	AttrNoBlockIO      uint64 = 1 << 1  // firmware does not offer it
	AttrLegacyBIOSBoot uint64 = 1 << 2  // BIOS boot code may boot it
	AttrGrowFileSystem uint64 = 1 << 59 // the file system is to be grown to the size of the partition
	AttrReadOnly       uint64 = 1 << 60 // to be mounted read-only
	AttrNoAuto         uint64 = 1 << 63 // not to be mounted automatically
)

var attributeNames = []struct {
	bit  uint64
	name string
}{
	{AttrRequired, "required"}, {AttrNoBlockIO, "no-block-io"}, {AttrLegacyBIOSBoot, "legacy-bios-boot"},
	{AttrGrowFileSystem, "grow-file-system"}, {AttrReadOnly, "read-only"}, {AttrNoAuto, "no-auto"},
}

// AttributeNames lists the names of the attribute bits that are set, lowest first. Bits without a name are left out.
func AttributeNames(attributes uint64) []string {
	var out []string
	for _, a := range attributeNames {
		if attributes&a.bit != 0 {
			out = append(out, a.name)
		}
	}
	return out
}

// AttributeByName is the bit with a name that [AttributeNames] returns.
func AttributeByName(name string) (uint64, bool) {
	for _, a := range attributeNames {
		if a.name == name {
			return a.bit, true
		}
	}
	return 0, false
}

// EmptyName is the name of a slot that holds nothing: systemd-sysupdate writes to it, and nothing mounts it.
const EmptyName = "_empty"
