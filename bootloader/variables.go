package bootloader

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// loaderVendor is the vendor of the variables of the Boot Loader Interface
// (https://systemd.io/BOOT_LOADER_INTERFACE).
var loaderVendor = osmith.MustParseGUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")

// MachineVariables are the EFI variables of a running machine that concern its boot: settings that
// choose the next entry, reports of loader and stub about this boot, and the boot options of the
// firmware. A variable that is not set is zero. The texts are not verified: any program that may
// write variables can set them.
type MachineVariables struct {
	// variables that choose the next entry. FirmwareFailed is what the loader saw in this boot
	Variables

	LoaderInfo     string // "systemd-boot 262.2-1"
	LoaderFeatures uint64 // Boot Loader Interface, LoaderFeatures
	// LoaderImageIdentifier: path of the loader, `\EFI\systemd\systemd-bootx64.efi`
	LoaderImage string
	// LoaderDevicePartUUID: the partition from which the loader was started
	LoaderPartition osmith.GUID
	Entries         []string // LoaderEntries: ids in the order of the menu
	EntrySelected   string   // LoaderEntrySelected: id of the entry that was started
	// LoaderBootCountPath: path of the entry after the loader has renamed it
	BootCountPath string
	SysFailReason string // LoaderSysFailReason: why LoaderEntrySysFail was used

	StubInfo      string      // "systemd-stub 262.2-1"
	StubFeatures  uint64      // Boot Loader Interface, StubFeatures
	StubImage     string      // StubImageIdentifier: path of the UKI
	StubPartition osmith.GUID // StubDevicePartUUID: the partition from which the stub was started
	StubProfile   string      // StubProfile: number of the profile

	// Banks are the PCR banks that are active, by LoaderTpm2ActivePcrBanks (258 and later). Nil:
	// unknown. Banks without a hash in package crypto are left out.
	Banks []crypto.Hash

	Order   []uint16     // BootOrder
	Next    *uint16      // BootNext
	Current *uint16      // BootCurrent
	Options []LoadOption // Boot####, by number

	// Problems are the variables that cannot be read or are malformed, each as a [*VariableError].
	// They are left out.
	Problems []error
}

// VariableError says what is wrong with a variable.
type VariableError struct {
	Name string // "Boot0001"
	Err  error
}

func (e *VariableError) Error() string { return fmt.Sprintf("variable %s: %v", e.Name, e.Err) }

// Unwrap returns Err.
func (e *VariableError) Unwrap() error { return e.Err }

// LoadOption is a boot option of the firmware: a Boot#### variable (UEFI Specification 2.10,
// section 3.1.3).
type LoadOption struct {
	Number      uint16
	Active      bool
	Hidden      bool
	Description string
	// partition of the program; zero: the path names no partition by a GPT ID
	Partition osmith.GUID
	// path of the program, `\EFI\BOOT\BOOTX64.EFI`; "": the device path does not end in a file
	File    string
	Path    string // the whole device path as text, safe to print
	RawPath []byte
	Data    []byte // for the program
	Raw     []byte // the variable's whole content, from which the other fields are read
}

// Option is the boot option of a number; false if there is none.
func (v *MachineVariables) Option(number uint16) (LoadOption, bool) {
	i, ok := slices.BinarySearchFunc(v.Options, number, func(o LoadOption, n uint16) int { return int(o.Number) - int(n) })
	if !ok {
		return LoadOption{}, false
	}
	return v.Options[i], true
}

// LoaderPaths are the programs that the options of BootOrder start from a partition, in their
// order, with slashes. An option whose path does not name a partition starts the first such file
// that firmware finds, so it counts for each partition. An option of BootOrder that is missing or
// inactive starts nothing. It is never nil.
func (v *MachineVariables) LoaderPaths(partition osmith.GUID) []string {
	paths := []string{}
	for _, n := range v.Order {
		o, ok := v.Option(n)
		if !ok || !o.Active || o.File == "" || !o.Partition.IsZero() && o.Partition != partition {
			continue
		}
		if p := strings.Trim(strings.ReplaceAll(o.File, `\`, "/"), "/"); !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths
}

// ReadVariables reads the variables of a machine from /sys/firmware/efi/efivars, as os.DirFS has
// it, or from a copy of that directory. Variables that cannot be understood are in Problems. If the
// directory has neither a variable of firmware's boot menu nor one of the loader, it is the wrong
// directory, and the error is an [fs.ErrNotExist].
func ReadVariables(efivars fs.FS) (v *MachineVariables, err error) {
	defer prefix.Add("bootloader", &err)
	entries, err := fs.ReadDir(efivars, ".")
	if err != nil {
		return nil, err
	}
	r := &variableReader{dir: efivars, names: map[osmith.GUID][]string{}}
	for _, e := range entries {
		for _, vendor := range []osmith.GUID{efi.GlobalVariable, loaderVendor} {
			if name, ok := strings.CutSuffix(e.Name(), "-"+vendor.String()); ok {
				r.names[vendor] = append(r.names[vendor], name)
			}
		}
	}
	if len(r.names) == 0 {
		return nil, fmt.Errorf("%w: no variable of a boot loader or of firmware found: want the directory of all variables, such as /sys/firmware/efi/efivars", fs.ErrNotExist)
	}
	v = &MachineVariables{}
	r.loader(v)
	r.firmware(v)
	v.Problems = r.problems
	return v, nil
}

type variableReader struct {
	dir      fs.FS
	names    map[osmith.GUID][]string // that there are, by vendor
	problems []error
}

func (r *variableReader) problem(name string, format string, args ...any) {
	r.problems = append(r.problems, &VariableError{name, fmt.Errorf(format, args...)})
}

// content is that of a variable without its attributes; false if there is none.
func (r *variableReader) content(vendor osmith.GUID, name string) ([]byte, bool) {
	if !slices.Contains(r.names[vendor], name) {
		return nil, false
	}
	b, err := efi.ReadVariableFile(r.dir, name, vendor)
	switch {
	case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		return nil, false
	case err != nil:
		r.problem(name, "%w", err)
		return nil, false
	case len(b) == 0: // efivarfs: its first write is not done, or has failed
		return nil, false
	case len(b) < 4:
		r.problem(name, "%w", errNoAttributes(b))
		return nil, false
	}
	return b[4:], true
}

// text is a variable with a UTF-16 string.
func (r *variableReader) text(name string) string {
	b, ok := r.content(loaderVendor, name)
	if !ok {
		return ""
	}
	if len(b)%2 != 0 {
		r.problem(name, "%d bytes: want UTF-16, an even number of bytes", len(b))
		return ""
	}
	return efi.DecodeUTF16(b)
}

func (r *variableReader) guid(name string) osmith.GUID {
	s := r.text(name)
	if s == "" {
		return osmith.GUID{}
	}
	g, err := osmith.ParseGUID(s)
	if err != nil {
		r.problem(name, "%w", err)
		return osmith.GUID{}
	}
	return g
}

func (r *variableReader) features(name string) uint64 {
	b, ok := r.content(loaderVendor, name)
	if !ok {
		return 0
	}
	if len(b) != 8 {
		r.problem(name, "%d bytes, want 8", len(b))
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (r *variableReader) loader(v *MachineVariables) {
	for _, x := range []struct {
		name string
		to   *string
	}{
		{"LoaderEntryOneShot", &v.EntryOneShot}, {"LoaderEntryPreferred", &v.EntryPreferred}, {"LoaderEntryDefault", &v.EntryDefault},
		{"LoaderEntryLastBooted", &v.EntryLastBooted}, {"LoaderEntrySysFail", &v.EntrySysFail},
		{"LoaderInfo", &v.LoaderInfo}, {"LoaderImageIdentifier", &v.LoaderImage}, {"LoaderEntrySelected", &v.EntrySelected}, {"LoaderBootCountPath", &v.BootCountPath},
		{"LoaderSysFailReason", &v.SysFailReason}, {"StubInfo", &v.StubInfo}, {"StubImageIdentifier", &v.StubImage}, {"StubProfile", &v.StubProfile},
	} {
		*x.to = r.text(x.name)
	}
	v.FirmwareFailed = v.SysFailReason != ""
	v.LoaderPartition, v.StubPartition = r.guid("LoaderDevicePartUUID"), r.guid("StubDevicePartUUID")
	v.LoaderFeatures, v.StubFeatures = r.features("LoaderFeatures"), r.features("StubFeatures")
	if b, ok := r.content(loaderVendor, "LoaderEntries"); ok {
		for len(b) >= 2 {
			id := efi.DecodeUTF16(b)
			b = b[min(2*efi.UTF16Len(id)+2, len(b)):]
			if id != "" {
				v.Entries = append(v.Entries, id)
			}
		}
		if len(b) != 0 {
			r.problem("LoaderEntries", "an odd byte at the end of the UTF-16 text")
		}
	}
	if s := r.text("LoaderTpm2ActivePcrBanks"); s != "" {
		// EFI_TCG2_EVENT_ALGORITHM_BITMAP (TCG EFI Protocol Specification 1.00, section 6.4).
		n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
		if err != nil {
			r.problem("LoaderTpm2ActivePcrBanks", "%q: want a number", s)
			return
		}
		v.Banks = []crypto.Hash{}
		for bit, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			if n&(1<<bit) != 0 {
				v.Banks = append(v.Banks, h)
			}
		}
	}
}

func (r *variableReader) number(name string) *uint16 {
	b, ok := r.content(efi.GlobalVariable, name)
	if !ok {
		return nil
	}
	if len(b) != 2 {
		r.problem(name, "%d bytes, want 2", len(b))
		return nil
	}
	n := binary.LittleEndian.Uint16(b)
	return &n
}

func (r *variableReader) firmware(v *MachineVariables) {
	v.Next, v.Current = r.number("BootNext"), r.number("BootCurrent")
	if b, ok := r.content(efi.GlobalVariable, "BootOrder"); ok {
		for ; len(b) >= 2; b = b[2:] {
			v.Order = append(v.Order, binary.LittleEndian.Uint16(b))
		}
		if len(b) != 0 {
			r.problem("BootOrder", "an odd byte at the end of the UTF-16 text")
		}
	}
	for _, name := range r.names[efi.GlobalVariable] {
		n, ok := optionNumber(name)
		if !ok {
			continue
		}
		b, ok := r.content(efi.GlobalVariable, name)
		if !ok {
			continue
		}
		o, err := efi.ParseLoadOption(b)
		if err != nil {
			r.problem(name, "%w", err)
			continue
		}
		partition, _ := efi.PathPartition(o.Path)
		v.Options = append(v.Options, LoadOption{n, o.Attributes&efi.LoadOptionActive != 0, o.Attributes&efi.LoadOptionHidden != 0, o.Description, partition,
			efi.PathFile(o.Path), printable(efi.PathText(o.Path)), o.Path, o.Data, b})
	}
	slices.SortFunc(v.Options, func(a, b LoadOption) int { return int(a.Number) - int(b.Number) })
}

// optionNumber is the number in Boot0001. Firmware writes capital letters; others are variables
// that it does not look at.
func optionNumber(name string) (uint16, bool) {
	digits, ok := strings.CutPrefix(name, "Boot")
	if !ok || len(digits) != 4 || strings.ToUpper(digits) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 16)
	return uint16(n), err == nil
}

// printable replaces what is not.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
