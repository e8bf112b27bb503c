package partition

import "github.com/osmith-dev/osmith"

// foreignTypes are types of systems that do not follow the Discoverable Partitions Specification. The names are ours.
// Sources: ChromiumOS vboot_reference, firmware/lib/cgptlib/include/gpt.h; Flatcar and CoreOS Container Linux, "GPT UUID
// types"; Bottlerocket SDK, rpm2img and partyplanner; gdisk 1.0.9, parttypes.cc, codes a000 to a011 for Android.
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
