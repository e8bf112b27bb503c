package sdstub

// SMBIOSEvent is an SMBIOS structure that stub and loader measure into PCR 1 since systemd 261;
// whichever comes first does it.
type SMBIOSEvent struct {
	Type byte
	All  bool // not only the first structure of its type
	Tag  uint32
	Name string // description of the event
}

// smbiosEvents are in the order in which they are measured. Boots of 262.
var smbiosEvents = []SMBIOSEvent{
	{1, false, TagSMBIOSType1, "smbios:type1"},
	{2, false, TagSMBIOSType2, "smbios:type2"},
	{11, true, TagSMBIOSType11, "smbios:type11"},
}

// SMBIOSEvents are the measured structures, in their order.
func SMBIOSEvents() []SMBIOSEvent { return append([]SMBIOSEvent(nil), smbiosEvents...) }

// WakeUpType is the byte of a structure of type 1 that says what switched the machine on; it is
// measured as zero.
const WakeUpType = 0x18
