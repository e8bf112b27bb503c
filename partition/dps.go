package partition

import "github.com/osmith-dev/osmith"

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

	RootX8664          = osmith.MustParseGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
	RootX8664Verity    = osmith.MustParseGUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
	RootX8664VeritySig = osmith.MustParseGUID("41092b05-9fc8-4523-994f-2def0408b176")
	UsrX8664           = osmith.MustParseGUID("8484680c-9521-48c6-9c11-b0720656f69e")
	UsrX8664Verity     = osmith.MustParseGUID("77ff5f63-e7b6-4633-acf4-1565b864c0e6")
	UsrX8664VeritySig  = osmith.MustParseGUID("e7bb33fb-06cf-4e81-8273-e543b413e2e2")

	RootARM64          = osmith.MustParseGUID("b921b045-1df0-41c3-af44-4c6f280d3fae")
	RootARM64Verity    = osmith.MustParseGUID("df3300ce-d69f-4c92-978c-9bfb0f38d820")
	RootARM64VeritySig = osmith.MustParseGUID("6db69de6-29f4-4758-a7a5-962190f00ce3")
	UsrARM64           = osmith.MustParseGUID("b0e01050-ee5f-4390-949a-9101b17104e9")
	UsrARM64Verity     = osmith.MustParseGUID("6e11a4e7-fbca-4ded-b9e9-e1a512bb664e")
	UsrARM64VeritySig  = osmith.MustParseGUID("c23ce4ff-44bd-4b00-b2d4-b41b3419e02a")
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
	if name, ok := archTypeName(id); ok {
		return name
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
	return archType(name)
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
