package secureboot

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/varstore"
)

// ParseStore reads the Secure Boot state of a virtual machine from its variable store, an
// OVMF_VARS.fd, or from a dump of hardware with a variable store of this format. SecureBoot and
// SetupMode are not stored; they are the values that edk2 derives from PK and SecureBootEnable at
// its next start. The store has the times, and shim's own variables: a variable of shim that is not
// in the store does not exist, and one that an operating system may write counts as missing, since
// shim deletes or replaces it.
func ParseStore(image []byte) (v osmith.FirmwareVariables, err error) {
	defer prefix.Add("secureboot", &err)
	s, err := varstore.Parse(image)
	if err != nil {
		return v, err
	}
	v.Times = map[string]time.Time{}
	for _, k := range keyVariables(&v) {
		stored, ok := s.Get(k.name, k.vendor)
		if !ok {
			continue
		}
		if stored.Attributes != k.attributes {
			return osmith.FirmwareVariables{}, &AttributesError{Variable: k.name, Want: k.attributes, Got: stored.Attributes}
		}
		if stored.Time != [16]byte{} {
			if v.Times[k.name], err = parseTime(stored.Time[:]); err != nil {
				return osmith.FirmwareVariables{}, fmt.Errorf("variable %s: %w", k.name, errors.Unwrap(err))
			}
		}
		*k.data = stored.Data
	}
	for _, k := range shimVariables(&v) {
		*k.data = []byte{}
		stored, ok := s.Get(k.name, k.vendor)
		switch {
		case k.name == "MokListTrusted": // the copy is the opposite
			if !ok {
				*k.data = []byte{1}
			}
		case ok && (stored.Attributes&attributeRuntime == 0 || k.attributes == attributesRequest):
			*k.data = stored.Data
		}
	}
	setup := len(v.PK) == 0
	enable, ok := s.Get("SecureBootEnable", secureBootEnable)
	v.SetupMode, v.SecureBoot = bit(setup), bit(!setup && (!ok || bytes.Equal(enable.Data, []byte{1})))
	return v, nil
}

// WriteStore returns the variable store of a virtual machine with these variables in it and all
// others as they were: a machine that starts with the store has the keys without an enrolment.
// Variables without a time get the time at. Variables of shim are not written.
func WriteStore(image []byte, v osmith.FirmwareVariables, at time.Time) (out []byte, err error) {
	defer prefix.Add("secureboot", &err)
	s, err := varstore.Parse(image)
	if err != nil {
		return nil, err
	}
	enforces, err := isSet("SecureBoot", v.SecureBoot)
	if err != nil {
		return nil, err
	}
	enable := bit(enforces)
	ours := append(keyVariables(&v), variable{"SecureBootEnable", secureBootEnable, attributesPrivate, &enable})
	var all []varstore.Variable
	for _, old := range s.Variables {
		mine := false
		for _, k := range ours {
			mine = mine || (old.Name == k.name && old.Vendor == k.vendor)
		}
		if !mine {
			all = append(all, old)
		}
	}
	for _, k := range ours {
		if len(*k.data) == 0 {
			continue
		}
		n := varstore.Variable{Name: k.name, Vendor: k.vendor, Attributes: k.attributes, Data: *k.data}
		if k.attributes == attributesKeys {
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
	return s.Replace(all)
}
