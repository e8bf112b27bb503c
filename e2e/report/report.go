// Package report is what the guest of the end-to-end tests tells the host: one
// value, written as numbered and check-summed lines on the serial console so
// that it survives the kernel, the firmware and the loader writing there too.
package report

// A Report describes one boot as the booted system saw it.
type Report struct {
	Version string // IMAGE_VERSION of /etc/os-release in the root file system
	Cmdline string // /proc/cmdline, without the final newline
	Kernel  string // release of the running kernel

	InitrdPCRs PCRs   // before the guest extended anything
	PCRs       PCRs   // when the report was made: PCR 11 has "enter-initrd"
	EventLog   []byte // binary_bios_measurements; nil when the kernel has none

	// BootSecret is what the stub left in /.extra/boot-secret; nil when it left
	// none, as stubs before systemd 261.
	BootSecret []byte

	// SMBIOS is /sys/firmware/dmi/tables/DMI; nil when the machine has none.
	SMBIOS []byte

	// Variables holds the EFI variables Loader*, Stub*, SecureBoot, SetupMode,
	// PK, KEK, db and dbx by name, without their four attribute bytes. A
	// variable that does not exist is absent.
	Variables map[string][]byte

	// Writes are what became of osmith.writes=, in its order.
	Writes []Write

	// Signatures are what became of osmith.signatures=.
	Signatures *Signatures

	// Runs are what became of osmith.run=, in its order.
	Runs []Run

	Verity *Verity // nil when the report comes from the initrd (no root asked for)
	Root   *Root   // nil likewise
	Bless  Bless
}

// A Write is one write of a firmware variable, and what it changed.
type Write struct {
	Name  string // of the file
	Error string // "": the firmware took it
	// SHA-256 of the variables SecureBoot, SetupMode, PK, KEK and db* that are others now, in
	// hexadecimal; "": it is gone
	Changed map[string]string
}

// Signatures are what the kernel said about signatures of the root hash.
type Signatures struct {
	// Keyrings are the descriptions of the keys in those keyrings of the kernel that are there, by
	// name, before the guest has changed any.
	Keyrings map[string][]string

	Tries []SignatureTry

	// AddKey is what became of putting a certificate into the keyring of dm-verity; "": it is
	// there.
	AddKey string
	// Seal is what became of closing that keyring to further keys.
	Seal string
}

// A SignatureTry is one attempt to set up the root with a signature.
type SignatureTry struct {
	When  string // one of those below
	Name  string // of the file, without .p7s; "": without a signature
	Error string // "": the device was set up

	Unsigned bool // of Systemd: it was set up, but the kernel was not given the signature
}

// The moments of the attempts.
const (
	AtFirst  = "at first"
	Systemd  = "by systemd-veritysetup" // also at first
	KeyAdded = "with a key in the keyring of dm-verity"
	Sealed   = "with that keyring sealed"
)

// Try is what became of an attempt, and whether there was such a one.
func (s *Signatures) Try(when, name string) (try SignatureTry, ok bool) {
	for _, t := range s.Tries {
		if t.When == when && t.Name == name {
			return t, true
		}
	}
	return try, false
}

// A Run is a program that was run.
type Run struct {
	Name   string // of the step
	Error  string // "": exit status 0
	Output string // of both streams
	// SHA-256 digest of the device-mapper device that the step names, in hexadecimal; "": there was
	// none
	Mapped string
}

// Run is what became of a step.
func (r *Report) Run(name string) (run Run, ok bool) {
	for _, s := range r.Runs {
		if s.Name == name {
			return s, true
		}
	}
	return run, false
}

// PCRs maps the kernel's name of a bank ("sha256") to its 24 values.
type PCRs map[string][][]byte

// Verity is the root device as device-mapper describes it.
type Verity struct {
	Target   string // "verity"
	Table    string // parameters of the active table
	Status   string // "V": nothing corrupted was read, "C": something was
	RootHash string // hexadecimal, out of the table the kernel runs
	ReadOnly bool
	DataID   string // PARTUUID of the data partition
	HashID   string // PARTUUID of the hash partition
}

// Root says how much of the root file system was read. All of it was.
type Root struct {
	Files  int   // regular files
	Bytes  int64 // in those files
	Device int64 // bytes of the device-mapper device, read from end to end
}

// Results of [Bless].
const (
	Blessed    = "blessed"    // renamed
	Uncounted  = "uncounted"  // the loader did not count this boot
	Suppressed = "suppressed" // the command line says osmith.bless=0
	Failed     = "failed"
)

// Bless is the outcome of marking the boot as good.
type Bless struct {
	Result string
	From   string // path on the ESP the loader booted, with slashes
	To     string // path after the rename
	Error  string // when Failed
}

// Variable returns the text of a UTF-16 variable such as LoaderInfo, and "" if
// it does not exist.
func (r *Report) Variable(name string) string {
	return UTF16(r.Variables[name])
}

// SecureBoot says whether the firmware enforced signatures.
func (r *Report) SecureBoot() bool {
	v := r.Variables["SecureBoot"]
	return len(v) == 1 && v[0] == 1
}

// SetupMode says whether the firmware had no platform key.
func (r *Report) SetupMode() bool {
	v := r.Variables["SetupMode"]
	return len(v) == 1 && v[0] == 1
}
