package secureboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Vendors of the variables (UEFI Specification 2.10, sections 3.3 and 32.6.1; shim; edk2's
// gEfiSecureBootEnableDisableGuid).
var (
	GlobalVariable        = efi.GlobalVariable        // PK, KEK, SecureBoot, SetupMode
	ImageSecurityDatabase = efi.ImageSecurityDatabase // db, dbx, dbt, dbr

	secureBootEnable = osmith.MustParseGUID("f0a30bc7-af08-4556-99c4-001009c93a44")
)

// Attributes of the variables (UEFI Specification 2.10, section 8.2.1).
const (
	// non-volatile, boot services, runtime, time-based authentication: PK to dbr
	attributesKeys = 0x00000027
	// boot services, runtime: SecureBoot, SetupMode, the copies that shim makes
	attributesState   = 0x00000006
	attributesPrivate = 0x00000003 // non-volatile, boot services: SecureBootEnable, what shim keeps
	attributesRequest = 0x00000007 // non-volatile, boot services, runtime: SbatPolicy
	attributeRuntime  = 0x00000004
	attributeAppend   = 0x00000040
)

// A variable is where one of the firmware's variables is kept, and what it has to look like.
type variable struct {
	name       string
	vendor     osmith.GUID
	attributes uint32
	data       *[]byte
}

// keyVariables are the variables that hold signature lists.
func keyVariables(v *osmith.FirmwareVariables) []variable {
	return []variable{
		{"PK", GlobalVariable, attributesKeys, &v.PK}, {"KEK", GlobalVariable, attributesKeys, &v.KEK},
		{"db", ImageSecurityDatabase, attributesKeys, &v.DB}, {"dbx", ImageSecurityDatabase, attributesKeys, &v.DBX},
		{"dbt", ImageSecurityDatabase, attributesKeys, &v.DBT}, {"dbr", ImageSecurityDatabase, attributesKeys, &v.DBR},
	}
}

// shimCopies are the variables of shim that an operating system sees.
func shimCopies(v *osmith.FirmwareVariables) []variable {
	return []variable{
		{"SbatLevelRT", efi.ShimLock, attributesState, &v.SbatLevel}, {"SbatPolicy", efi.ShimLock, attributesRequest, &v.SbatPolicy},
		{"MokListRT", efi.ShimLock, attributesState, &v.MokListRT}, {"MokListXRT", efi.ShimLock, attributesState, &v.MokListXRT},
		{"MokSBStateRT", efi.ShimLock, attributesState, &v.MokSBState}, {"MokIgnoreDB", efi.ShimLock, attributesState, &v.MokDBState},
		{"MokPolicyRT", efi.ShimLock, attributesState, &v.MokPolicy}, {"MokListTrustedRT", efi.ShimLock, attributesState, &v.MokListTrustedRT},
	}
}

// shimVariables are those that shim keeps, as a variable store has them.
func shimVariables(v *osmith.FirmwareVariables) []variable {
	return []variable{
		{"SbatLevel", efi.ShimLock, attributesPrivate, &v.SbatLevel}, {"SbatPolicy", efi.ShimLock, attributesRequest, &v.SbatPolicy},
		{"MokList", efi.ShimLock, attributesPrivate, &v.MokList}, {"MokListX", efi.ShimLock, attributesPrivate, &v.MokListX},
		{"MokSBState", efi.ShimLock, attributesPrivate, &v.MokSBState}, {"MokDBState", efi.ShimLock, attributesPrivate, &v.MokDBState},
		{"MokPolicy", efi.ShimLock, attributesPrivate, &v.MokPolicy}, {"MokListTrusted", efi.ShimLock, attributesPrivate, &v.MokListTrustedRT},
	}
}

// allVariables are those of [ReadVariables].
func allVariables(v *osmith.FirmwareVariables) []variable {
	return append(append(keyVariables(v), variable{"SecureBoot", GlobalVariable, attributesState, &v.SecureBoot},
		variable{"SetupMode", GlobalVariable, attributesState, &v.SetupMode}), shimCopies(v)...)
}

// Content returns the content of PK, KEK, db, dbx, dbt or dbr; nil if there is no such variable.
func Content(v osmith.FirmwareVariables, name string) []byte {
	for _, k := range keyVariables(&v) {
		if k.name == name {
			return *k.data
		}
	}
	return nil
}

// VendorGUID returns the vendor of a variable that holds keys: PK, KEK, db, dbx, dbt or dbr. The
// name is case-sensitive, as in firmware.
func VendorGUID(name string) (osmith.GUID, error) {
	vendor, err := vendorGUID(name)
	return vendor, prefix.Error("secureboot", err)
}

func vendorGUID(name string) (osmith.GUID, error) {
	for _, k := range keyVariables(new(osmith.FirmwareVariables)) {
		if k.name == name {
			return k.vendor, nil
		}
	}
	return osmith.GUID{}, fmt.Errorf("variable %q: want PK, KEK, db, dbx, dbt or dbr", name)
}

// bit is the content of SecureBoot or SetupMode.
func bit(set bool) []byte {
	if set {
		return []byte{1}
	}
	return []byte{0}
}

// isSet reads the content of SecureBoot or SetupMode. A variable that does not exist is not set.
func isSet(name string, content []byte) (bool, error) {
	if len(content) == 0 {
		return false, nil
	}
	if len(content) != 1 || content[0] > 1 {
		return false, bad(0, name, "%x, want one byte 00 or 01", content[:min(len(content), 16)])
	}
	return content[0] == 1, nil
}

// An AttributesError says that a variable has wrong attributes: it is not protected as the real
// variable is, or the file is not from efivarfs.
type AttributesError struct {
	Variable  string
	Want, Got uint32
}

func (e *AttributesError) Error() string {
	return fmt.Sprintf("variable %s has the attributes 0x%08x, want 0x%08x: the file is not from efivarfs, or the variable is not protected", e.Variable, e.Got, e.Want)
}

// ParseVariableFile reads a file of efivarfs with a Secure Boot variable: four bytes of attributes,
// which must be those of the variable of that name, and the content, which is returned. Names are
// PK, KEK, db, dbx, dbt, dbr, SecureBoot, SetupMode, and of shim's SbatLevelRT, SbatPolicy,
// MokListRT, MokListXRT, MokSBStateRT, MokIgnoreDB, MokPolicyRT and MokListTrustedRT. Errors are
// [*osmith.FormatError] and [*AttributesError].
func ParseVariableFile(name string, b []byte) ([]byte, error) {
	content, err := parseVariableFile(name, b)
	return content, prefix.Error("secureboot", err)
}

func parseVariableFile(name string, b []byte) ([]byte, error) {
	for _, k := range allVariables(new(osmith.FirmwareVariables)) {
		if k.name == name {
			return k.parse(b)
		}
	}
	_, err := vendorGUID(name)
	return nil, err
}

func (k variable) parse(b []byte) ([]byte, error) {
	const attributesSize = 4
	if len(b) < attributesSize {
		return nil, bad(0, "attributes of "+k.name, "%d bytes, want 4 and the content", len(b))
	}
	if got := binary.LittleEndian.Uint32(b); got != k.attributes {
		return nil, &AttributesError{Variable: k.name, Want: k.attributes, Got: got}
	}
	content := b[attributesSize:]
	var err error
	switch k.name {
	case "SecureBoot", "SetupMode":
		if _, err = isSet(k.name, content); err == nil && len(content) == 0 {
			err = bad(0, k.name, "no content, want one byte 00 or 01") // as no variable can be
		}
	default:
		if k.vendor != efi.ShimLock { // what shim makes of its own is for [Evaluate]
			_, err = parseLists(content)
		}
	}
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		if e.Offset += attributesSize; e.Field != k.name {
			e.Field = k.name + ": " + e.Field
		}
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

// ReadVariables reads the Secure Boot state of a machine from /sys/firmware/efi/efivars, as
// os.DirFS has it, or from a whole copy of that directory: the files
// PK-8be4df61-93ca-11d2-aa0d-00e098032b8c and so on. Firmware without Secure Boot has no SecureBoot
// or SetupMode, which are then empty. A directory without variables, or that is not efivarfs, is an
// [fs.ErrNotExist]. efivarfs does not have the times.
//
// Of shim's state, efivarfs has the copies that shim makes at each start. If shim made MokListRT,
// then a missing SbatPolicy, or a missing copy of MokSBState, MokDBState, MokPolicy or
// MokListTrusted, means that the variable does not exist; otherwise these variables are unknown. If
// shim had to split a list (MokListRT1, MokListXRT1), both lists are left out.
func ReadVariables(dir fs.FS) (v osmith.FirmwareVariables, err error) {
	defer prefix.Add("secureboot", &err)
	var missing []error // of the two that firmware with Secure Boot has
	for _, k := range allVariables(&v) {
		content, err := k.read(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if k.name == "SecureBoot" || k.name == "SetupMode" {
				missing = append(missing, err)
			}
			continue
		}
		if err != nil {
			return osmith.FirmwareVariables{}, err
		}
		*k.data = content
	}
	switch len(missing) {
	case 1:
		return osmith.FirmwareVariables{}, missing[0]
	case 2:
		if err := isEfivarfs(dir, missing[0]); err != nil {
			return osmith.FirmwareVariables{}, err
		}
		v.SecureBoot, v.SetupMode = []byte{}, []byte{}
	}
	if v.MokListRT != nil {
		for _, state := range []*[]byte{&v.SbatPolicy, &v.MokSBState, &v.MokDBState, &v.MokPolicy, &v.MokListTrustedRT} {
			if *state == nil {
				*state = []byte{}
			}
		}
	}
	for _, name := range []string{"MokListRT1", "MokListXRT1"} {
		if _, err := fs.Stat(dir, name+"-"+efi.ShimLock.String()); err == nil {
			v.MokListRT, v.MokListXRT = nil, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return osmith.FirmwareVariables{}, fmt.Errorf("variable %s: %w", name, err)
		}
	}
	return v, nil
}

// isEfivarfs returns an error, which wraps missing, for a directory without any of the variables
// that all firmware has for its boot menu (UEFI Specification 2.10, section 3.3): that directory is
// not the one of a machine's variables.
func isEfivarfs(dir fs.FS, missing error) error {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), "-"+GlobalVariable.String())
		if ok && slices.Contains([]string{"BootOrder", "BootCurrent", "BootOptionSupport", "Timeout", "PlatformLang", "OsIndicationsSupported"}, name) {
			return nil
		}
	}
	return fmt.Errorf("%w, and neither are those of the boot menu: want the directory of all variables, as /sys/firmware/efi/efivars", missing)
}

func (k variable) read(dir fs.FS) ([]byte, error) {
	b, err := efi.ReadVariableFile(dir, k.name, k.vendor)
	if err != nil {
		return nil, fmt.Errorf("variable %s: %w", k.name, err)
	}
	return k.parse(b)
}

// Space estimates the bytes that PK, KEK, db, dbx, dbt and dbr take in a variable store: each with
// a header and its name as edk2 writes them, and the largest once more, for the copy that an update
// makes before it removes the old one.
func Space(v osmith.FirmwareVariables) int64 {
	const header = 60
	var sum, largest int64
	for _, k := range keyVariables(&v) {
		if len(*k.data) == 0 {
			continue
		}
		n := (header + int64(2*len(k.name)+2) + int64(len(*k.data)) + 3) &^ 3
		sum += n
		largest = max(largest, n)
	}
	return sum + largest
}

// A SpaceError says that the variables do not fit into the room that the caller allows. Firmware
// whose store is full may not start.
type SpaceError struct {
	Need, Room int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("the variables need %d bytes of the machine's variable store, which has room for %d: keep fewer certificates and digests", e.Need, e.Room)
}

// checkSpace checks variables against a room in bytes; 0 is not checked.
func checkSpace(v osmith.FirmwareVariables, room int64) error {
	if need := Space(v); room > 0 && need > room {
		return &SpaceError{Need: need, Room: room}
	}
	return nil
}
