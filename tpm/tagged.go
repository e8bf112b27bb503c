package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Tag is the number by which the event of a boot loader, of systemd's stub or of the kernel is known.
type Tag uint32

// The tags of Linux (drivers/firmware/efi/libstub) and systemd.
const (
	TagInitrd       Tag = 0x8f3b22ec                // Linux, PCR 9: the initrd as it was handed over
	TagLoadOptions  Tag = 0x8f3b22ed                // Linux, PCR 9: the command line
	TagSMBIOSType1  Tag = sdstub.TagSMBIOSType1     // systemd 261, PCR 1
	TagSMBIOSType2  Tag = sdstub.TagSMBIOSType2     // likewise
	TagSMBIOSType11 Tag = sdstub.TagSMBIOSType11    // likewise
	TagLoaderConf   Tag = sdstub.TagLoaderConf      // systemd-boot, PCR 5
	TagProfile      Tag = sdstub.TagProfile         // stub, PCR 12: the number of the profile
	TagDeviceTree   Tag = sdstub.TagAddonDeviceTree // stub, PCR 12: an add-on's
	TagMicrocode    Tag = sdstub.TagAddonMicrocode  // likewise
	TagInitrdAddon  Tag = sdstub.TagAddonInitrd     // likewise
)

var tagNames = map[Tag]string{
	TagInitrd:       "kernel: initrd",
	TagLoadOptions:  "kernel: load options",
	TagSMBIOSType1:  "SMBIOS type 1",
	TagSMBIOSType2:  "SMBIOS type 2",
	TagSMBIOSType11: "SMBIOS type 11",
	TagLoaderConf:   "loader.conf",
	TagProfile:      "profile",
	TagDeviceTree:   "device tree add-on",
	TagMicrocode:    "microcode add-on",
	TagInitrdAddon:  "initrd add-on",
}

// String is the name of a known tag, the number of another.
func (t Tag) String() string {
	if s, ok := tagNames[t]; ok {
		return s
	}
	return fmt.Sprintf("tag 0x%08x", uint32(t))
}

// Tagged is the data of an EV_EVENT_TAG (TCG_PCClientTaggedEvent, Firmware Profile 1.06, section 10.4.2.1): a tag and,
// with systemd and Linux, a description. What was measured is only in the digest.
type Tagged struct {
	Tag  Tag
	Data []byte
}

func (t Tagged) String() string { return t.Tag.String() + ": " + describeText(t.Data) }

func readTagged(b []byte) (Tagged, error) {
	if len(b) < 8 {
		return Tagged{}, dataError(len(b), "tagged event", "%d bytes, want 8 or more", len(b))
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if uint64(size) != uint64(len(b)-8) {
		return Tagged{}, dataError(4, "tagged event", "%d bytes, %d left", size, len(b)-8)
	}
	return Tagged{Tag(binary.LittleEndian.Uint32(b)), b[8:]}, nil
}

// taggedData is the inverse of readTagged.
func taggedData(t Tag, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(t))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}
