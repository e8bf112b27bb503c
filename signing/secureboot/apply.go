package secureboot

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// ErrNoVariable says that there is nothing to delete.
var ErrNoVariable = errors.New("the variable does not exist")

// A RefusedError says that firmware would not take an update, and why: Err is or wraps [ErrUntrusted], [ErrSignature], [ErrNoVariable],
// [*StaleError], [*osmith.FormatError].
type RefusedError struct {
	Variable string
	Err      error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("firmware would refuse the update of %s: %v", e.Variable, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// A StaleError is an update whose time is not later than that of the variable: it may be a replay of an old one.
type StaleError struct {
	Update, Variable time.Time
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("its time %s is not later than %s, that of the variable",
		e.Update.UTC().Format(time.RFC3339), e.Variable.UTC().Format(time.RFC3339))
}

// Apply tells what the variables are after firmware has been given an update and after the next start; or why it would be refused, a
// [*RefusedError]. v itself stays as it is.
//
// It follows edk2 (SecurityPkg, AuthVariableLib): in Setup Mode everything is taken without a look at signature and time, but PK, which has
// to be signed by the key that it brings; otherwise PK and KEK are taken from the certificate in PK itself, db, dbx and dbt from that or
// from one that a certificate in KEK leads to, dbr likewise. The time has to be later than that of the variable, if Times has it, but for
// an append; this keeps the later of both. An append leaves out entries that the variable has. Lists of unknown types and certificates
// without an RSA key are refused. Deleting PK ends in Setup Mode; a first PK in Secure Boot.
func Apply(v osmith.FirmwareVariables, p Pending) (osmith.FirmwareVariables, error) {
	next, err := apply(v, p)
	return next, prefix.Error("secureboot", err)
}

func apply(v osmith.FirmwareVariables, p Pending) (osmith.FirmwareVariables, error) {
	a, err := parseAuth(p.Auth)
	if err == nil {
		err = admit(v, a, p)
	}
	if err != nil {
		return osmith.FirmwareVariables{}, &RefusedError{p.Variable, err}
	}
	return write(v, Update{Variable: p.Variable, Payload: a.Payload, Time: a.Time, Append: p.Append})
}

// admit decides about signature, time and form.
func admit(v osmith.FirmwareVariables, a *Auth, p Pending) error {
	if _, err := vendorGUID(p.Variable); err != nil {
		return err
	}
	setup, err := isSet("SetupMode", v.SetupMode)
	if err != nil {
		return err
	}
	if p.Variable == "PK" && p.Append {
		return errors.New("PK is replaced, not appended to: firmware would not leave out what it has, and PK has room for one")
	}
	switch {
	case setup && p.Variable != "PK":
		return checkPayload(p.Variable, a.Payload)
	case setup && len(a.Payload) == 0:
		return fmt.Errorf("%w: there is no PK to delete in Setup Mode", ErrNoVariable)
	case setup:
		if err := checkPayload(p.Variable, a.Payload); err != nil {
			return err
		}
		own, err := trusted(a.Payload)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			return fmt.Errorf("%w: a first PK is signed by the key that it brings, and it brings no certificate", ErrUntrusted)
		}
		return a.verify(p, own[:1], false)
	}
	if current, ok := v.Times[p.Variable]; ok && !p.Append && !a.Time.After(current) && Content(v, p.Variable) != nil {
		return &StaleError{a.Time, current}
	}
	pk, err := trusted(v.PK)
	if err != nil {
		return fmt.Errorf("%w: PK: %v", ErrUntrusted, err)
	}
	if p.Variable == "PK" || p.Variable == "KEK" {
		if err := a.verify(p, pk, true); err != nil {
			return err
		}
		return checkPayload(p.Variable, a.Payload)
	}
	if a.verify(p, pk, true) != nil {
		kek, err := trusted(v.KEK)
		if err != nil {
			return fmt.Errorf("%w: KEK: %v", ErrUntrusted, err)
		}
		if err := a.verify(p, kek, false); err != nil {
			return err
		}
	}
	return checkPayload(p.Variable, a.Payload)
}

// trusted are the certificates of PK or KEK that can be read; firmware skips others.
func trusted(data []byte) (certs []*edk2.Certificate, err error) {
	l, err := parseLists(data)
	if err != nil {
		return nil, err
	}
	for _, k := range l {
		if k.Type != TypeX509 {
			continue
		}
		for _, s := range k.Signatures {
			if c, err := edk2.ParseCertificate(s.Data); err == nil {
				certs = append(certs, c)
			}
		}
	}
	return certs, nil
}

// notInEDK2 are types of the specification that CheckSignatureListFormat does not list.
var notInEDK2 = map[osmith.GUID]bool{TypeSM3: true, TypeX509SM3: true, TypeExternalManagement: true}

// checkPayload is edk2's CheckSignatureListFormat, for what is not checked when a list is parsed.
func checkPayload(name string, payload []byte) error {
	lists, err := parseLists(payload)
	if err != nil {
		return err
	}
	count := 0
	for i, l := range lists {
		if _, known := typeNames[l.Type]; !known || notInEDK2[l.Type] {
			return fmt.Errorf("signature list %d: edk2 does not take the type %s", i, TypeName(l.Type))
		}
		if len(l.Header) != 0 {
			return fmt.Errorf("signature list %d: a header of %d bytes, want none", i, len(l.Header))
		}
		if l.Type == TypeX509 {
			c, err := edk2.ParseCertificate(l.Signatures[0].Data)
			if err != nil {
				return fmt.Errorf("signature list %d: %w", i, err)
			}
			if !c.IsRSA() {
				return fmt.Errorf("signature list %d: edk2 does not take the certificate %q, whose key is not an RSA key that it can use: take one with RSA", i, subject(c))
			}
		}
		count += len(l.Signatures)
	}
	if name == "PK" && count > 1 {
		return fmt.Errorf("PK would have %d entries, want one", count)
	}
	return nil
}

// write changes a variable as edk2 does once an update is admitted.
func write(v osmith.FirmwareVariables, u Update) (osmith.FirmwareVariables, error) {
	next := v
	next.Times = maps.Clone(v.Times)
	if next.Times == nil {
		next.Times = map[string]time.Time{}
	}
	for _, k := range keyVariables(&next) {
		if k.name != u.Variable {
			continue
		}
		old := *k.data
		switch {
		case len(u.Payload) == 0 && len(old) == 0:
			return osmith.FirmwareVariables{}, &RefusedError{u.Variable, ErrNoVariable}
		case u.Append && len(old) > 0:
			merged, err := mergeContent(old, u.Payload)
			if err != nil {
				return osmith.FirmwareVariables{}, &RefusedError{u.Variable, err}
			}
			*k.data = merged
			if current, ok := next.Times[u.Variable]; ok && current.After(u.Time) {
				u.Time = current
			}
			next.Times[u.Variable] = u.Time
		case len(u.Payload) == 0:
			*k.data = nil
			delete(next.Times, u.Variable)
		default:
			*k.data = bytes.Clone(u.Payload)
			next.Times[u.Variable] = u.Time
		}
	}
	if u.Variable == "PK" {
		before, setup := bytes.Equal(v.SetupMode, []byte{1}), len(next.PK) == 0
		next.SetupMode = bit(setup)
		if setup != before {
			next.SecureBoot = bit(!setup)
		}
	}
	return next, nil
}

// mergeContent is [Merge] for the content of a variable.
func mergeContent(old, payload []byte) ([]byte, error) {
	lists, err := parseLists(old)
	if err != nil {
		return nil, err
	}
	more, err := parseLists(payload)
	if err != nil {
		return nil, err
	}
	return appendLists(nil, Merge(lists, more...)...)
}
