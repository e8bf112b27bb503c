package sdstub

// PCRs that the stub extends (systemd, docs/TPM2_PCR_MEASUREMENTS).
const (
	PCRSections = 11 // sections of the image
	PCRConfig   = 12 // profile, command lines, add-ons, credentials, configuration extensions
	PCRSysexts  = 13 // system extensions
)

// Tags of EV_EVENT_TAG events: systemd 262, src/fundamental/tpm2-pcr.h.
const (
	TagLoaderConf      = 0xf5bc582a // systemd-boot, PCR 5
	TagProfile         = 0x13aed6db // PCR 12: the number of a profile that is not the default one
	TagAddonDeviceTree = 0x6c46f751 // PCR 12
	TagAddonMicrocode  = 0xdac08e1a // PCR 12
	TagAddonInitrd     = 0x49dffe0f // PCR 12
	TagSMBIOSType1     = 0xd5cb7cbc // PCR 1, likewise the next two
	TagSMBIOSType2     = 0xe0d47bc8
	TagSMBIOSType11    = 0xc0b3bd23
)
