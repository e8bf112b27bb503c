package secureboot

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// ErrNoVariable says that the variable to be deleted does not exist.
var ErrNoVariable = errors.New("the variable does not exist, so there is nothing to delete")

// A RefusedError says that firmware would refuse an update, and why: Err is or wraps
// [ErrUntrusted], [ErrSignature], [ErrNoVariable], [*StaleError], [*osmith.FormatError].
type RefusedError struct {
	Name     string // [Pending].Name
	Variable string // empty if the update was signed for none
	Err      error

	// Unknown says that it is unknown whether firmware takes the update or refuses it.
	Unknown bool

	// Differs are the other rows of firmware that take the update; Undecided are the other rows
	// whose answer is unknown.
	Differs, Undecided []Firmware
}

func (e *RefusedError) Error() string {
	what := "the update"
	if e.Variable != "" {
		what += " of " + e.Variable
	}
	if e.Name != "" {
		what += fmt.Sprintf(" (%s)", e.Name)
	}
	text := fmt.Sprintf("firmware would refuse %s: %v", what, e.Err)
	if e.Unknown {
		text = fmt.Sprintf("whether firmware accepts %s is unknown: %v", what, e.Err)
	}
	if len(e.Differs) > 0 {
		text += fmt.Sprintf(" (%s would accept it)", firmwareNames(e.Differs))
	}
	return text
}

func (e *RefusedError) Unwrap() error { return e.Err }

// A StaleError says that the time of an update is not later than that of the variable: the update
// may be a replay of an old one.
type StaleError struct {
	Update   time.Time // the zero time if the time stamp of the update is not a date
	Variable time.Time
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("its time %s is not later than the variable's, %s: sign the update again with a later time",
		e.Update.UTC().Format(time.RFC3339), e.Variable.UTC().Format(time.RFC3339))
}

// ApplyOptions are the choices of [ApplyWith].
type ApplyOptions struct {
	// Firmware is the row that takes the update: [FirmwareEDK2Stable202608] if it is empty. With
	// [FirmwareAny] an update passes if all rows of edk2 take it and leave the same content. This
	// package does not know the rules of other firmware for updates.
	Firmware Firmware
}

// An Applied holds the variables of a machine after an update.
type Applied struct {
	Variables osmith.FirmwareVariables

	// Differs are the other rows of firmware that refuse the update or leave different content;
	// Undecided are the other rows whose answer is unknown.
	Differs, Undecided []Firmware
}

// Apply is [ApplyWith] for the newest row of edk2: what the variables are afterwards, or a
// [*RefusedError].
func Apply(v osmith.FirmwareVariables, p Pending) (osmith.FirmwareVariables, error) {
	a, err := ApplyWith(v, p, ApplyOptions{})
	return a.Variables, err
}

// ApplyWith returns the variables after firmware has taken an update and after the next start, or a
// [*RefusedError] that says why firmware would refuse the update. v itself is not changed. An error
// of any other type says that the call is wrong.
//
// It follows edk2 (SecurityPkg, AuthVariableLib): in Setup Mode every update is taken without a
// check of signature and time, except PK, which must be signed by the key that it contains.
// Otherwise updates of PK and KEK must be signed by the certificate in PK itself, those of db, dbx
// and dbt by that one or by one that a certificate in KEK leads to. The time of an update must be
// later than that of the variable, if Times has it; an append may be older, and the variable keeps
// the later of both times. An append leaves out entries that the variable already has. Lists of
// unknown types and certificates without an RSA key are refused. Deleting PK ends in Setup Mode; a
// first PK in Secure Boot. A first dbr is taken if KEK or PK signed it. edk2 takes it from any
// signer, and later ones only from the same signer, so the answer for later ones is unknown.
//
// Rows differ: the row of 2022.11 takes no signature by an elliptic curve, no SHA-384 and SHA-512,
// no ContentInfo and no list of empty certificates; the row of 2026.08 refuses an append as a whole
// if a list of the update or of the variable is malformed.
func ApplyWith(v osmith.FirmwareVariables, p Pending, o ApplyOptions) (Applied, error) {
	a, err := applyRows(v, p, o.Firmware, func(r updateRow) (osmith.FirmwareVariables, error) { return r.apply(v, p) })
	return a, prefix.Error("secureboot", err)
}

// updateRow is what differs between builds of edk2 about updates.
type updateRow struct {
	name    Firmware
	options edk2.Options
}

// updateRows are those of which the rules are known, newest first: as read in edk2-stable202211 and
// in 909d1db4cb of July 2026 (SecurityPkg, AuthVariableLib; MdeModulePkg, Variable/RuntimeDxe).
// OVMF of both was given 94 updates besides (internal/firmwaregrid/testdata/updates.txt), and some
// of the published ones of KEK.
var updateRows = []updateRow{
	{FirmwareEDK2Stable202608, edk2.Options{}},
	{FirmwareEDK2Stable202211, edk2.Options{NoEC: true, OpenSSL11: true, OnlySHA256: true, NoContentInfo: true, NoEmptyCertificates: true, LooseAppend: true}},
}

// applyRows asks the row that was named, and the others whether they differ.
func applyRows(v osmith.FirmwareVariables, p Pending, named Firmware, apply func(updateRow) (osmith.FirmwareVariables, error)) (Applied, error) {
	if named == "" {
		named = updateRows[0].name
	}
	type answer struct {
		after osmith.FirmwareVariables
		err   error
	}
	var all []answer
	chosen := -1
	for i, row := range updateRows {
		after, err := apply(row)
		all = append(all, answer{after, err})
		if row.name == named || named == FirmwareAny && (chosen < 0 || worse(err, all[chosen].err)) {
			chosen = i
		}
	}
	if chosen < 0 {
		if err := named.check(); err != nil {
			return Applied{}, err
		}
		return Applied{}, &RefusedError{Name: p.Name, Variable: p.Variable, Unknown: true, Err: fmt.Errorf("how %s applies updates to variables is unknown: write the update on the machine itself, and read the variables again", named)}
	}
	var differs, undecided []Firmware
	for i, other := range all {
		switch {
		case i == chosen:
		case isUnknown(other.err):
			undecided = append(undecided, updateRows[i].name)
		case (other.err == nil) != (all[chosen].err == nil), other.err == nil && !sameVariables(other.after, all[chosen].after):
			differs = append(differs, updateRows[i].name)
		}
	}
	if err := all[chosen].err; err != nil {
		return Applied{}, &RefusedError{Name: p.Name, Variable: p.Variable, Err: err, Unknown: isUnknown(err), Differs: differs, Undecided: undecided}
	}
	if named == FirmwareAny {
		for _, other := range Firmwares() {
			if !hasRow(other) {
				undecided = append(undecided, other)
			}
		}
		if len(differs) > 0 { // none refuses, so it is the content
			return Applied{}, &RefusedError{Name: p.Name, Variable: p.Variable, Unknown: true, Undecided: undecided,
				Err: fmt.Errorf("%s leaves different content from %s: name the firmware of the machine", firmwareNames(differs), updateRows[chosen].name)}
		}
	}
	return Applied{Variables: all[chosen].after, Differs: differs, Undecided: undecided}, nil
}

// check says whether a row has the name.
func (f Firmware) check() error {
	if f == "" || f == FirmwareAny || slices.Contains(Firmwares(), f) {
		return nil
	}
	return fmt.Errorf("unknown firmware %q: want one of %v, or %q", f, Firmwares(), FirmwareAny)
}

// worse orders the answers of several rows: a refusal is more than what cannot be told, and that is
// more than a yes.
func worse(a, b error) bool {
	rank := func(err error) int {
		switch {
		case err == nil:
			return 0
		case isUnknown(err):
			return 1
		}
		return 2
	}
	return rank(a) > rank(b)
}

func isUnknown(err error) bool { return edk2.IsUnknown(err) }

func hasRow(name Firmware) bool {
	for _, r := range updateRows {
		if r.name == name {
			return true
		}
	}
	return false
}

func firmwareNames(rows []Firmware) string {
	var names []string
	for _, r := range rows {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

// sameVariables reports whether two machines have the same keys and mode.
func sameVariables(a, b osmith.FirmwareVariables) bool {
	all := allVariables(&b)
	for i, k := range allVariables(&a) {
		if !bytes.Equal(*k.data, *all[i].data) {
			return false
		}
	}
	return true
}

// apply is SetVariable for one row.
func (r updateRow) apply(v osmith.FirmwareVariables, p Pending) (osmith.FirmwareVariables, error) {
	u, err := splitAuth(p.Auth)
	if err == nil {
		err = r.admit(v, u, p)
	}
	if err != nil {
		return osmith.FirmwareVariables{}, err
	}
	return r.write(v, p.Variable, u.payload, u.stamp, p.Append)
}

// admit decides about signature, time and form.
func (r updateRow) admit(v osmith.FirmwareVariables, u *rawAuth, p Pending) error {
	if _, err := vendorGUID(p.Variable); err != nil {
		return err
	}
	setup, err := isSet("SetupMode", v.SetupMode)
	if err != nil {
		return err
	}
	if setup && p.Variable != "PK" && p.Variable != "dbr" {
		return r.checkPayload(p.Variable, u.payload)
	}
	a, err := u.parse()
	if err != nil {
		return err
	}
	if !edk2.TakesDigest(u.message, r.options) {
		return bad(authHeaderSize, "SignedData", "%s accepts only SHA-256 in a bare SignedData, without ContentInfo: sign the update that way", r.name)
	}
	switch {
	case p.Variable == "PK" && p.Append:
		return edk2.Unknown("PK is replaced, not appended to: edk2 would put the certificate behind the one that PK has, where it does not look")
	case p.Variable == "dbr":
		return r.admitDBR(v, a, p, setup)
	case setup && len(a.Payload) == 0:
		return fmt.Errorf("%w: in Setup Mode there is no PK to delete", ErrNoVariable)
	case setup:
		if err := r.checkPayload(p.Variable, a.Payload); err != nil {
			return err
		}
		own, err := edk2.Certificates(a.Payload, x509Lists, r.options)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			return fmt.Errorf("%w: a first PK must be signed by its own key, but contains no certificate", ErrUntrusted)
		}
		return a.verify(p, own[:1], r.options, "a first PK is signed by the key that it brings")
	}
	if current, ok := v.Times[p.Variable]; ok && !p.Append && !u.stamp.laterThan(current) && len(Content(v, p.Variable)) > 0 {
		return &StaleError{a.Time, current}
	}
	notPK := r.signedByPK(v, a, p)
	if notPK != nil && p.Variable != "PK" && p.Variable != "KEK" {
		notPK = r.signedByKEK(v, a, p, notPK)
	}
	if notPK != nil {
		return notPK
	}
	return r.checkPayload(p.Variable, a.Payload)
}

// admitDBR is ProcessVariable, which edk2 uses for what is not PK, KEK, db, dbx or dbt: the first
// signer is remembered, in a variable of its own.
func (r updateRow) admitDBR(v osmith.FirmwareVariables, a *Auth, p Pending, setup bool) error {
	if len(v.DBR) > 0 {
		return edk2.Unknown("edk2 takes updates of dbr from the signer of the first one alone, which the variables do not tell")
	}
	if err := a.fits(p); err != nil || setup {
		return err
	}
	if r.signedByPK(v, a, p) == nil || r.signedByKEK(v, a, p, nil) == nil {
		return nil
	}
	return edk2.Unknown("edk2 takes a first dbr from any signer, other firmware only from PK and KEK; this one is signed by %q", subject(a.signer))
}

// signedByPK says why an update is not signed by the certificate in PK itself, nil if it is.
func (r updateRow) signedByPK(v osmith.FirmwareVariables, a *Auth, p Pending) error {
	pk, err := edk2.Certificates(v.PK, x509Lists, r.options)
	if err != nil {
		return fmt.Errorf("%w: PK: %w", ErrUntrusted, err)
	}
	if len(pk) == 0 {
		return fmt.Errorf("%w: signed by %q, and PK has no readable certificate: clear the keys in the firmware's setup menu, and enrol again", ErrUntrusted, subject(a.signer))
	}
	if !bytes.Equal(pk[0].Raw, a.RawSigner) {
		if err := a.fits(p); err != nil {
			return err
		}
		return fmt.Errorf("%w: signed by %q, want the certificate in PK itself, %q", ErrUntrusted, subject(a.signer), subject(pk[0]))
	}
	return a.verify(p, pk[:1], r.options, "PK has the certificate")
}

// signedByKEK says why no certificate in KEK leads to the signer of an update, nil if one does.
// notPK is why PK has not signed it.
func (r updateRow) signedByKEK(v osmith.FirmwareVariables, a *Auth, p Pending, notPK error) error {
	kek, open := edk2.Certificates(v.KEK, x509Lists, r.options)
	err := a.verify(p, kek, r.options, "want one that a certificate in KEK leads to")
	switch {
	case err == nil:
		return nil
	case isUnknown(notPK) && !errors.Is(err, ErrSignature):
		return notPK
	case open != nil && !errors.Is(err, ErrSignature):
		return fmt.Errorf("%w: KEK: %w", ErrUntrusted, open)
	}
	return err
}

// x509Lists is the type of lists with certificates, as in the file.
var x509Lists = [16]byte(efi.AppendGUID(nil, TypeX509))

// notInEDK2 are types of the specification that CheckSignatureListFormat does not list.
var notInEDK2 = map[osmith.GUID]bool{TypeSM3: true, TypeX509SM3: true, TypeExternalManagement: true}

// listTypes are the types that edk2 knows (AuthService.c, mSupportSigItem).
var listTypes = sync.OnceValue(func() edk2.ListTypes {
	t := edk2.ListTypes{Known: map[[16]byte]edk2.ListType{}, Subject: subject, Name: func(b [16]byte) string { return TypeName(efi.GUID(b[:])) }}
	for typ := range typeNames {
		if size, fixed := sizes[typ]; !fixed {
			t.Known[[16]byte(efi.AppendGUID(nil, typ))] = edk2.ListType{Size: -1, Certificate: typ == TypeX509}
		} else if !notInEDK2[typ] {
			t.Known[[16]byte(efi.AppendGUID(nil, typ))] = edk2.ListType{Size: int64(size)}
		}
	}
	return t
})

// checkPayload is CheckSignatureListFormat.
func (r updateRow) checkPayload(name string, payload []byte) error {
	count, err := edk2.CheckLists(payload, listTypes(), r.options)
	if err != nil {
		return err
	}
	if name == "PK" && count > 1 {
		return fmt.Errorf("PK would have %d entries, want one", count)
	}
	return nil
}

// write changes a variable as edk2 does once an update is admitted.
func (r updateRow) write(v osmith.FirmwareVariables, name string, payload []byte, stamp efiStamp, add bool) (osmith.FirmwareVariables, error) {
	next := v
	next.Times = maps.Clone(v.Times)
	if next.Times == nil {
		next.Times = map[string]time.Time{}
	}
	for _, k := range keyVariables(&next) {
		if k.name != name {
			continue
		}
		old := *k.data
		when, isDate := stamp.time()
		switch {
		case len(payload) == 0 && len(old) == 0 && !add:
			return osmith.FirmwareVariables{}, ErrNoVariable
		case len(payload) == 0 && len(old) == 0:
		case add && len(old) > 0:
			fresh, err := edk2.FilterLists(old, payload, r.options)
			if err != nil {
				return osmith.FirmwareVariables{}, err
			}
			*k.data = append(bytes.Clone(old), fresh...)
			current, known := next.Times[name]
			switch {
			case known && !stamp.laterThan(current):
			case isDate:
				next.Times[name] = when
			default:
				delete(next.Times, name)
			}
		case len(payload) == 0:
			*k.data = nil
			delete(next.Times, name)
		default:
			*k.data = bytes.Clone(payload)
			if delete(next.Times, name); isDate {
				next.Times[name] = when
			}
		}
	}
	if name == "PK" {
		before, setup := bytes.Equal(v.SetupMode, []byte{1}), len(next.PK) == 0
		next.SetupMode = bit(setup)
		if setup != before {
			next.SecureBoot = bit(!setup)
		}
	}
	return next, nil
}
