package arch

// LoaderPlace is where firmware comes to systemd-boot on an ESP.
type LoaderPlace struct {
	Loader string // systemd-boot
	Shim   string // that firmware starts, and which starts Loader; "": firmware starts Loader
}

// Entry is the path of what firmware starts.
func (l LoaderPlace) Entry() string {
	if l.Shim != "" {
		return l.Shim
	}
	return l.Loader
}

// LoaderPlaces are those that exist: EFI/systemd, to which a Boot#### leads (bootctl), and
// EFI/BOOT, each without shim and with it. Like file names, they need an EFI name.
func (a *Architecture) LoaderPlaces() [4]LoaderPlace {
	return [4]LoaderPlace{
		{Loader: SystemdDir + a.SystemdBoot()},
		{Loader: SystemdDir + a.ShimLoader(), Shim: SystemdDir + a.Shim()},
		{Loader: a.Loader()},
		{Loader: FallbackDir + a.ShimLoader(), Shim: a.Loader()},
	}
}

// Directories of an ESP.
const (
	SystemdDir  = "EFI/systemd/" // of bootctl
	FallbackDir = "EFI/BOOT/"    // UEFI Specification 2.10, section 3.5.1.1
)
