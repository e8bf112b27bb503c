package secureboot

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
)

// A RefusedError says that firmware would not take an update, and why: Err is or wraps [ErrUntrusted], [ErrSignature], [ErrNoVariable],
// [*StaleError], [*FormatError].
type RefusedError struct {
	Variable string
	Err      error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("secureboot: firmware would refuse the update of %s: %v", e.Variable, bare(e.Err))
}

func (e *RefusedError) Unwrap() error { return e.Err }

// bare drops the name of the package, which is there once.
func bare(err error) string {
	const prefix = "secureboot: "
	s := err.Error()
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):]
	}
	return s
}

// A StaleError is an update whose time is not later than that of the variable: it may be a replay of an old one.
type StaleError struct {
	Update, Variable time.Time
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("secureboot: its time %s is not later than %s, that of the variable",
		e.Update.UTC().Format(time.RFC3339), e.Variable.UTC().Format(time.RFC3339))
}

// Apply tells what the variables are after firmware has been given an update, an .auth file, for the variable of that name, and after the
// next start; or why it would be refused, a [*RefusedError]. v itself stays as it is. appendWrite has to be what was signed.
//
// It follows edk2 (SecurityPkg, AuthVariableLib): in Setup Mode everything is taken without a look at signature and time, but PK, which has
// to be signed by the key that it brings; otherwise PK and KEK are taken from the certificate in PK itself, db, dbx and dbt from that or
// from one that a certificate in KEK leads to, dbr likewise. The time has to be later than that of the variable, if Times has it, but for
// an append; this keeps the later of both. An append leaves out entries that the variable has. Lists of unknown types and certificates
// without an RSA key are refused. Deleting PK ends in Setup Mode; a first PK in Secure Boot.
func (v Variables) Apply(name string, auth []byte, appendWrite bool) (Variables, error) {
	a, err := ParseAuth(auth)
	if err == nil {
		err = v.admit(a, name, appendWrite)
	}
	if err != nil {
		return Variables{}, &RefusedError{name, err}
	}
	return v.write(name, a.Payload, a.Time, appendWrite)
}

// admit decides about signature, time and form.
func (v *Variables) admit(a *Auth, name string, appendWrite bool) error {
	if _, err := VendorGUID(name); err != nil {
		return err
	}
	if name == "PK" && appendWrite {
		return errors.New("secureboot: PK is replaced, not appended to: firmware would not leave out what it has, and PK has room for one")
	}
	switch {
	case v.SetupMode && name != "PK":
		return checkPayload(name, a.Payload)
	case v.SetupMode && len(a.Payload) == 0:
		return fmt.Errorf("%w: there is no PK to delete in Setup Mode", ErrNoVariable)
	case v.SetupMode:
		if err := checkPayload(name, a.Payload); err != nil {
			return err
		}
		l, err := ParseSignatureLists(a.Payload)
		if err != nil {
			return err
		}
		own, err := Certificates(l)
		if err != nil {
			return err
		}
		return a.verify(name, appendWrite, own[:1], false)
	}
	if current, ok := v.Times[name]; ok && !appendWrite && !a.Time.After(current) && v.Get(name) != nil {
		return &StaleError{a.Time, current}
	}
	pk, err := trusted(v.PK)
	if err != nil {
		return fmt.Errorf("%w: PK: %s", ErrUntrusted, bare(err))
	}
	if name == "PK" || name == "KEK" {
		if err := a.verify(name, appendWrite, pk, true); err != nil {
			return err
		}
		return checkPayload(name, a.Payload)
	}
	if a.verify(name, appendWrite, pk, true) != nil {
		kek, err := trusted(v.KEK)
		if err != nil {
			return fmt.Errorf("%w: KEK: %s", ErrUntrusted, bare(err))
		}
		if err := a.verify(name, appendWrite, kek, false); err != nil {
			return err
		}
	}
	return checkPayload(name, a.Payload)
}

// trusted are the certificates of PK or KEK that can be read; firmware skips others.
func trusted(data []byte) (certs []*x509.Certificate, err error) {
	l, err := ParseSignatureLists(data)
	if err != nil {
		return nil, err
	}
	for _, k := range l {
		if k.Type != TypeX509 {
			continue
		}
		for _, s := range k.Signatures {
			if c, err := x509.ParseCertificate(s.Data); err == nil {
				certs = append(certs, c)
			}
		}
	}
	return certs, nil
}

// verify checks the signature of an update; exactly means that the signer is one of certs itself, as edk2 wants it of PK.
func (a *Auth) verify(name string, appendWrite bool, certs []*x509.Certificate, exactly bool) error {
	signed, err := signedBytes(name, a.Payload, a.stamp, appendWrite)
	if err != nil {
		return err
	}
	if err := a.message.Check(&a.message.Signers[0], a.Signer, signed); err != nil {
		return fmt.Errorf("%w (variable %s, append %t): %w", ErrSignature, name, appendWrite, err)
	}
	if exactly {
		for _, c := range certs {
			if bytes.Equal(c.Raw, a.Signer.Raw) {
				return nil
			}
		}
	} else if cms.Chain(a.Signer, a.Certificates, certs) != nil {
		return nil
	}
	return fmt.Errorf("%w: signed by %q", ErrUntrusted, a.Signer.Subject)
}

// notInEDK2 are types of the specification that CheckSignatureListFormat does not list.
var notInEDK2 = map[osmith.GUID]bool{TypeSM3: true, TypeX509SM3: true, TypeExternalManagement: true}

// checkPayload is edk2's CheckSignatureListFormat, for what is not checked when a list is parsed.
func checkPayload(name string, payload []byte) error {
	lists, err := ParseSignatureLists(payload)
	if err != nil {
		return err
	}
	count := 0
	for i, l := range lists {
		if _, known := typeNames[l.Type]; !known || notInEDK2[l.Type] {
			return fmt.Errorf("secureboot: signature list %d: edk2 does not take the type %s", i, TypeName(l.Type))
		}
		if len(l.Header) != 0 {
			return fmt.Errorf("secureboot: signature list %d: a header of %d bytes, want none", i, len(l.Header))
		}
		if l.Type == TypeX509 {
			c, err := x509.ParseCertificate(l.Signatures[0].Data)
			if err != nil {
				return fmt.Errorf("secureboot: signature list %d: %w", i, err)
			}
			if _, ok := c.PublicKey.(*rsa.PublicKey); !ok {
				return fmt.Errorf("secureboot: signature list %d: edk2 does not take the %v certificate %q, but RSA", i, c.PublicKeyAlgorithm, c.Subject)
			}
		}
		count += len(l.Signatures)
	}
	if name == "PK" && count > 1 {
		return fmt.Errorf("secureboot: PK would have %d entries, want one", count)
	}
	return nil
}

// write changes a variable as edk2 does once an update is admitted.
func (v Variables) write(name string, payload []byte, at time.Time, appendWrite bool) (Variables, error) {
	next := v
	next.Times = maps.Clone(v.Times)
	if next.Times == nil {
		next.Times = map[string]time.Time{}
	}
	for _, s := range next.slots() {
		if s.name != name {
			continue
		}
		old := *s.data
		switch {
		case len(payload) == 0 && len(old) == 0:
			return Variables{}, &RefusedError{name, ErrNoVariable}
		case appendWrite && len(old) > 0:
			lists, err := ParseSignatureLists(old)
			if err != nil {
				return Variables{}, &RefusedError{name, err}
			}
			more, err := ParseSignatureLists(payload)
			if err != nil {
				return Variables{}, &RefusedError{name, err}
			}
			if *s.data, err = AppendSignatureLists(nil, Merge(lists, more...)...); err != nil {
				return Variables{}, err
			}
			if current, ok := next.Times[name]; ok && current.After(at) {
				at = current
			}
			next.Times[name] = at
		case len(payload) == 0:
			*s.data = nil
			delete(next.Times, name)
		default:
			*s.data = bytes.Clone(payload)
			next.Times[name] = at
		}
	}
	if name == "PK" {
		next.SetupMode = len(next.PK) == 0
		if next.SetupMode != v.SetupMode {
			next.SecureBoot = !next.SetupMode
		}
	}
	return next, nil
}
