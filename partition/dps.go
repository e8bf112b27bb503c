package partition

import (
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
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

// typeNames has the names that systemd gives the types without an architecture (systemd-id128
// show).
var typeNames = []typeName{
	{ESP, "esp"}, {XBOOTLDR, "xbootldr"}, {Swap, "swap"}, {Home, "home"}, {Srv, "srv"}, {Var, "var"}, {Tmp, "tmp"},
	{UserHome, "user-home"}, {LinuxGeneric, "linux-generic"},
}

type typeName struct {
	id   osmith.GUID
	name string
}

// TypeName is systemd's name of a type of the Discoverable Partitions Specification, such as
// "root-x86-64-verity"; a name such as "chromeos-kernel" for a type of another system that this
// package knows ([TypeByName]); or the GUID as text.
func TypeName(id osmith.GUID) string {
	if name, ok := systemTypeName(id); ok {
		return name
	}
	for _, t := range foreignTypes {
		if t.id == id {
			return t.name
		}
	}
	return id.String()
}

// systemTypeName is the name that systemd has for a type.
func systemTypeName(id osmith.GUID) (string, bool) {
	for _, t := range typeNames {
		if t.id == id {
			return t.name, true
		}
	}
	if a, role, ok := arch.ByType(id); ok {
		return a.TypeName(role), true
	}
	return "", false
}

// systemTypeByName is the type that systemd means by a name.
func systemTypeByName(name string) (osmith.GUID, bool) {
	for _, t := range typeNames {
		if t.name == name {
			return t.id, true
		}
	}
	return arch.TypeByName(name)
}

// TypeByName is the type with a name that [TypeName] returns, or a further name that systemd
// accepts ("root-x86_64" and "root-amd64" for "root-x86-64"). Names that depend on the machine
// ("root", "usr-secondary") are unknown here.
//
// The names of types outside of the specification start with bios-boot, chromeos- (kernel, root,
// reserved, firmware, minios, hibernate), flatcar- (usr, resize, reserved, root-raid; those of
// CoreOS Container Linux), bottlerocket- (boot, root, hash, reserved, private, data, firmware) and
// android- (those of gdisk for Intel and Qualcomm platforms).
func TypeByName(name string) (osmith.GUID, bool) {
	for _, t := range foreignTypes {
		if t.name == name {
			return t.id, true
		}
	}
	return systemTypeByName(name)
}

// Attribute bits: 0 to 2 are those of UEFI for every type (UEFI 2.10, table 5.7), 59, 60 and 63
// those of the Discoverable Partitions Specification for its own types.
const (
	AttrRequired       uint64 = 1 << 0 // the platform needs the partition: do not delete it
	AttrNoBlockIO      uint64 = 1 << 1 // firmware does not offer it
	AttrLegacyBIOSBoot uint64 = 1 << 2 // BIOS boot code may boot it
	// the file system is to be grown to the size of the partition
	AttrGrowFileSystem uint64 = 1 << 59
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

// AttributeNames lists the names of the attribute bits that are set, lowest first. Bits without a
// name are left out.
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

// EmptyName is the name of an empty slot: systemd-sysupdate writes to it, and it is never mounted.
const EmptyName = "_empty"

// foreignTypes are types of systems that do not follow the Discoverable Partitions Specification.
// The names are ours. Sources: ChromiumOS vboot_reference, firmware/lib/cgptlib/include/gpt.h;
// Flatcar and CoreOS Container Linux, "GPT UUID types"; Bottlerocket SDK, rpm2img and partyplanner;
// gdisk 1.0.9, parttypes.cc, codes a000 to a011 for Android.
var foreignTypes = []typeName{
	{BIOSBoot, "bios-boot"},
	{osmith.MustParseGUID("fe3a2a5d-4f32-41a7-b725-accc3285a309"), "chromeos-kernel"},
	{osmith.MustParseGUID("3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec"), "chromeos-root"},
	{osmith.MustParseGUID("2e0a753d-9e48-43b0-8337-b15192cb1b5e"), "chromeos-reserved"},
	{osmith.MustParseGUID("cab6e88e-abf3-4102-a07a-d4bb9be3c1d3"), "chromeos-firmware"},
	{osmith.MustParseGUID("09845860-705f-4bb5-b16c-8a8a099caf52"), "chromeos-minios"},
	{osmith.MustParseGUID("3f0f8318-f146-4e6b-8222-c28c8f02e0d5"), "chromeos-hibernate"},
	{osmith.MustParseGUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"), "flatcar-usr"},
	{osmith.MustParseGUID("3884dd41-8582-4404-b9a8-e9b84f2df50e"), "flatcar-resize"},
	{osmith.MustParseGUID("c95dc21a-df0e-4340-8d7b-26cbfa9a03e0"), "flatcar-reserved"},
	{osmith.MustParseGUID("be9067b9-ea49-4f15-b4f6-f36f8c9e1818"), "flatcar-root-raid"},
	{osmith.MustParseGUID("6b636168-7420-6568-2070-6c616e657421"), "bottlerocket-boot"},
	{osmith.MustParseGUID("5526016a-1a97-4ea4-b39a-b7c8c6ca4502"), "bottlerocket-root"},
	{osmith.MustParseGUID("598f10af-c955-4456-6a99-7720068a6cea"), "bottlerocket-hash"},
	{osmith.MustParseGUID("0c5d99a5-d331-4147-baef-08e2b855bdc9"), "bottlerocket-reserved"},
	{osmith.MustParseGUID("440408bb-eb0b-4328-a6e5-a29038fad706"), "bottlerocket-private"},
	{osmith.MustParseGUID("626f7474-6c65-6474-6861-726d61726b73"), "bottlerocket-data"},
	{osmith.MustParseGUID("31415927-c929-45e7-a172-fe3407e096ac"), "bottlerocket-firmware"},
	{osmith.MustParseGUID("2568845d-2332-4675-bc39-8fa5a4748d15"), "android-bootloader"},
	{osmith.MustParseGUID("114eaffe-1552-4022-b26e-9b053604cf84"), "android-bootloader2"},
	{osmith.MustParseGUID("49a4d17f-93a3-45c1-a0de-f50b2ebe2599"), "android-boot"},
	{osmith.MustParseGUID("4177c722-9e92-4aab-8644-43502bfd5506"), "android-recovery"},
	{osmith.MustParseGUID("ef32a33b-a409-486c-9141-9ffb711f6266"), "android-misc"},
	{osmith.MustParseGUID("20ac26be-20b7-11e3-84c5-6cfdb94711e9"), "android-metadata"},
	{osmith.MustParseGUID("38f428e6-d326-425d-9140-6e0ea133647c"), "android-system"},
	{osmith.MustParseGUID("a893ef21-e428-470a-9e55-0668fd91a2d9"), "android-cache"},
	{osmith.MustParseGUID("dc76dda9-5ac1-491c-af42-a82591580c0d"), "android-data"},
	{osmith.MustParseGUID("ebc597d0-2053-4b15-8b64-e0aac75f4db1"), "android-persistent"},
	{osmith.MustParseGUID("8f68cc74-c5e5-48da-be91-a0c8c15e9c80"), "android-factory"},
	{osmith.MustParseGUID("767941d0-2085-11e3-ad3b-6cfdb94711e9"), "android-fastboot"},
	{osmith.MustParseGUID("ac6d7924-eb71-4df8-b48d-e267b27148ff"), "android-oem"},
	{osmith.MustParseGUID("c5a0aeec-13ea-11e5-a1b1-001e67ca0c3c"), "android-vendor"},
	{osmith.MustParseGUID("bd59408b-4514-490d-bf12-9878d963f378"), "android-config"},
	{osmith.MustParseGUID("19a710a2-b3ca-11e4-b026-10604b889dcf"), "android-meta"},
	{osmith.MustParseGUID("193d1ea4-b3ca-11e4-b075-10604b889dcf"), "android-ext"},
}

// VerityIDs are the partition IDs by which a root hash finds its partitions: the first 128 bits for
// the data, the last 128 bits for the hash tree, without version bits (Discoverable Partitions
// Specification, "Partition UUIDs"). The hash must have at least 32 bytes, so that the two do not
// overlap; else the error matches [ErrRootHash].
func VerityIDs(root []byte) (data, tree osmith.GUID, err error) {
	defer prefix.Add("partition", &err)
	if len(root) < 32 || len(root) > 64 {
		return osmith.GUID{}, osmith.GUID{}, fmt.Errorf("%w: %d bytes, want 32 to 64", ErrRootHash, len(root))
	}
	return osmith.GUID(root[:16]), osmith.GUID(root[len(root)-16:]), nil
}

// Application IDs of systemd-sysupdate (src/sysupdate/sysupdate-partition.c of systemd 262).
var (
	sysupdatePartial = osmith.MustParseGUID("accfa0c2-da24-460a-9fc9-0bb8fc785219")
	sysupdatePending = osmith.MustParseGUID("80f3d61e-2383-43b9-81f5-ce3793f47d4c")
)

// PartialType is the type that systemd-sysupdate gives a partition of type t while it is being
// written: programs that look for t do not find an incomplete partition.
func PartialType(t osmith.GUID) osmith.GUID { return derive(t, sysupdatePartial) }

// PendingType is the type of a partition that is complete but not yet to be used.
func PendingType(t osmith.GUID) osmith.GUID { return derive(t, sysupdatePending) }

// derive is HMAC-SHA256 with the type as key, cut to 16 bytes and marked as a version 4 UUID; all
// bytes in text order.
func derive(t, app osmith.GUID) osmith.GUID { return seedGUID(t, app[:]) }
