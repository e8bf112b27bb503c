package secureboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/varstore"
)

// Attributes of variables (UEFI Specification 2.10, section 8.2.1) that are not those of keys.
const (
	attributesState   = 0x00000006 // boot services, runtime: SecureBoot, SetupMode, SbatLevelRT
	attributesPrivate = 0x00000003 // non-volatile, boot services: SecureBootEnable
)

// shimLock is the vendor of shim's variables.
var (
	shimLock         = osmith.MustParseGUID("605dab50-e046-4300-abb6-3dd810dd8b23")
	secureBootEnable = osmith.MustParseGUID("f0a30bc7-af08-4556-99c4-001009c93a44") // gEfiSecureBootEnableDisableGuid of edk2
)

// maxVariable bounds one variable; edk2 takes 64 KiB at most, hardware less.
const maxVariable = 1 << 20

// An AttributesError is a variable whose attributes are not those it has to have: it is not protected as the real one is, or the file is
// not from efivarfs.
type AttributesError struct {
	Name       string
	Have, Want uint32
}

func (e *AttributesError) Error() string {
	return fmt.Sprintf("secureboot: variable %s has the attributes 0x%08x, want 0x%08x", e.Name, e.Have, e.Want)
}

// slots are the variables that have content, and what they must look like.
func (v *Variables) slots() []slot {
	return []slot{
		{"PK", GlobalVariable, attributes, &v.PK}, {"KEK", GlobalVariable, attributes, &v.KEK},
		{"db", ImageSecurityDatabase, attributes, &v.DB}, {"dbx", ImageSecurityDatabase, attributes, &v.DBX},
		{"dbt", ImageSecurityDatabase, attributes, &v.DBT}, {"dbr", ImageSecurityDatabase, attributes, &v.DBR},
	}
}

type slot struct {
	name       string
	vendor     osmith.GUID
	attributes uint32
	data       *[]byte
}

// Get returns the content of PK, KEK, db, dbx, dbt or dbr; nil if there is none, or no such variable.
func (v Variables) Get(name string) []byte {
	for _, s := range v.slots() {
		if s.name == name {
			return *s.data
		}
	}
	return nil
}

// ParseVariableFile reads a file of efivarfs with a Secure Boot variable: four bytes of attributes, which have to be those of the variable
// of that name, and the content, which is returned. Names are PK, KEK, db, dbx, dbt, dbr, SecureBoot, SetupMode, SbatLevelRT.
// Errors are [*FormatError] and [*AttributesError].
func ParseVariableFile(name string, b []byte) ([]byte, error) {
	want := uint32(attributes)
	switch name {
	case "SecureBoot", "SetupMode", "SbatLevelRT":
		want = attributesState
	default:
		if _, err := VendorGUID(name); err != nil {
			return nil, err
		}
	}
	if len(b) < 4 {
		return nil, bad(0, "attributes of "+name, "%d bytes, want 4 and the content", len(b))
	}
	if have := binary.LittleEndian.Uint32(b); have != want {
		return nil, &AttributesError{name, have, want}
	}
	content := b[4:]
	switch name {
	case "SecureBoot", "SetupMode":
		if len(content) != 1 || content[0] > 1 {
			return nil, bad(4, name, "%x, want one byte 00 or 01", content[:min(len(content), 16)])
		}
	case "SbatLevelRT":
	default:
		if _, err := ParseSignatureLists(content); err != nil {
			e, _ := errors.AsType[*FormatError](err)
			return nil, &FormatError{Offset: e.Offset + 4, Field: name + ": " + e.Field, Err: e.Err}
		}
	}
	return content, nil
}

// ReadVariables reads the Secure Boot state of a machine from /sys/firmware/efi/efivars, as os.DirFS has it, or from a copy of that
// directory: the files PK-8be4df61-93ca-11d2-aa0d-00e098032b8c and so on. Only SecureBoot and SetupMode have to be there, so that a wrong
// directory is not taken for a machine without Secure Boot; their absence is an [fs.ErrNotExist]. Times are not known to efivarfs.
func ReadVariables(dir fs.FS) (Variables, error) {
	var v Variables
	for _, state := range []struct {
		name string
		flag *bool
	}{{"SecureBoot", &v.SecureBoot}, {"SetupMode", &v.SetupMode}} {
		content, err := readVariable(dir, state.name, GlobalVariable)
		if err != nil {
			return Variables{}, err
		}
		*state.flag = content[0] == 1
	}
	others := append(v.slots(), slot{"SbatLevelRT", shimLock, attributesState, &v.SBATLevel})
	for _, s := range others {
		content, err := readVariable(dir, s.name, s.vendor)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Variables{}, err
		}
		*s.data = content
	}
	return v, nil
}

func readVariable(dir fs.FS, name string, vendor osmith.GUID) ([]byte, error) {
	path := name + "-" + vendor.String()
	f, err := dir.Open(path)
	if err != nil {
		return nil, fmt.Errorf("secureboot: variable %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxVariable+1))
	if err != nil {
		return nil, fmt.Errorf("secureboot: variable %s: %w", name, err)
	}
	if len(b) > maxVariable {
		return nil, fmt.Errorf("secureboot: variable %s: more than %d bytes", name, maxVariable)
	}
	return ParseVariableFile(name, b)
}

// ParseStore reads the Secure Boot state of a virtual machine from its variable store, an OVMF_VARS.fd, or from a dump of hardware with
// such a one. SecureBoot and SetupMode are not stored; they are what edk2 makes of PK and SecureBootEnable at its next start. Times are
// known.
func ParseStore(image []byte) (Variables, error) {
	s, err := varstore.Parse(image)
	if err != nil {
		return Variables{}, fromStore(err)
	}
	v := Variables{Times: map[string]time.Time{}}
	for _, k := range v.slots() {
		stored, ok := s.Get(k.name, k.vendor)
		if !ok {
			continue
		}
		if stored.Attributes != k.attributes {
			return Variables{}, &AttributesError{k.name, stored.Attributes, k.attributes}
		}
		if stored.Time != [16]byte{} {
			if v.Times[k.name], err = parseTime(stored.Time[:]); err != nil {
				return Variables{}, fmt.Errorf("secureboot: variable %s: %w", k.name, errors.Unwrap(err))
			}
		}
		*k.data = stored.Data
	}
	v.SetupMode = len(v.PK) == 0
	enable, ok := s.Get("SecureBootEnable", secureBootEnable)
	v.SecureBoot = !v.SetupMode && (!ok || (len(enable.Data) == 1 && enable.Data[0] == 1))
	return v, nil
}

func fromStore(err error) error {
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		return &FormatError{Offset: e.Offset, Field: e.Field, Err: e.Err}
	}
	return fmt.Errorf("secureboot: variable store: %w", err)
}

// WriteStore returns the variable store of a virtual machine with these variables in it, all others as they were: a machine that starts with it
// has the keys without an enrolment. Variables without a time get at.
func (v Variables) WriteStore(image []byte, at time.Time) ([]byte, error) {
	s, err := varstore.Parse(image)
	if err != nil {
		return nil, fromStore(err)
	}
	enable := []byte{0}
	if v.SecureBoot {
		enable[0] = 1
	}
	slots := append(v.slots(), slot{"SecureBootEnable", secureBootEnable, attributesPrivate, &enable})
	var all []varstore.Variable
	for _, old := range s.Variables {
		mine := false
		for _, k := range slots {
			mine = mine || (old.Name == k.name && old.Vendor == k.vendor)
		}
		if !mine {
			all = append(all, old)
		}
	}
	for _, k := range slots {
		if len(*k.data) == 0 {
			continue
		}
		n := varstore.Variable{Name: k.name, Vendor: k.vendor, Attributes: k.attributes, Data: *k.data}
		if k.attributes == attributes {
			when, ok := v.Times[k.name]
			if !ok {
				when = at
			}
			stamp, err := appendOptionalTime(nil, when)
			if err != nil {
				return nil, err
			}
			n.Time = [16]byte(stamp)
		}
		all = append(all, n)
	}
	out, err := s.Replace(all)
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	return out, nil
}
