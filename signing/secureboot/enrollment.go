package secureboot

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Enrollment is the .auth files that put a hierarchy into a machine in Setup Mode, to be written in
// the order db, dbx, KEK, PK: with PK, Setup Mode ends. systemd-boot takes them from the directory
// of [Enrollment.LoaderKeys].
type Enrollment struct {
	PK, KEK, DB []byte
	DBX         []byte // nil: dbx stays as it is

	// Variables are what the machine has afterwards.
	Variables osmith.FirmwareVariables
}

// EnrollOptions are the choices of [Hierarchy.Enroll].
type EnrollOptions struct {
	// Time is the time of the updates.
	Time time.Time

	// OptionROMs is the decision on option ROMs, which is required.
	OptionROMs OptionROMs

	// KEK are further certificates for KEK, for example Microsoft's, so that the machine still
	// takes Microsoft's updates of dbx.
	KEK []*x509.Certificate

	// KeepKEK is the content of the machine's KEK: every entry of it stays.
	KeepKEK []byte

	// DBX is the content for dbx; nil leaves it as it is.
	DBX []byte

	// RoomForVariables is how many bytes the machine has for these variables, as its vendor says,
	// or 0 not to check. Firmware needs room for a new copy beside the old one when it changes a
	// variable.
	RoomForVariables int64

	// MustBoot are the images that the machine starts once it has the keys: its boot loader and its
	// UKIs. If there are none, set NothingMustBoot.
	MustBoot []Image

	// NothingMustBoot says that there are no images yet to judge: the machine will start images
	// that the keys sign later.
	NothingMustBoot bool

	// Firmware is the row that judges the images and takes the updates: [FirmwareEDK2Stable202608]
	// if it is empty.
	Firmware Firmware
}

// Enroll signs the enrolment of this hierarchy together with what the options keep. Without a
// decision on option ROMs the error is [ErrOptionROMs], without MustBoot and NothingMustBoot it is
// [ErrNothingMustBoot], for an image that would not boot afterwards a [*LockoutError], and if the
// variables exceed the room a [*SpaceError]. The result is checked by applying it to a machine in
// Setup Mode.
func (h *Hierarchy) Enroll(o EnrollOptions) (e *Enrollment, err error) {
	defer prefix.Add("secureboot", &err)
	if err := h.Check(); err != nil {
		return nil, err
	}
	updates, err := h.enrollUpdates(o)
	if err != nil {
		return nil, err
	}
	e = &Enrollment{Variables: osmith.FirmwareVariables{SecureBoot: bit(false), SetupMode: bit(true)}}
	files := map[string]*[]byte{"PK": &e.PK, "KEK": &e.KEK, "db": &e.DB, "dbx": &e.DBX}
	for _, u := range updates {
		auth, err := h.SignUpdate(u)
		if err != nil {
			return nil, err
		}
		a, err := ApplyWith(e.Variables, Pending{Variable: u.Variable, Auth: auth, Append: u.Append}, ApplyOptions{Firmware: o.Firmware})
		if err != nil {
			return nil, err
		}
		e.Variables = a.Variables
		*files[u.Variable] = auth
	}
	return e, nil
}

// EnrollUpdates returns the updates that [Hierarchy.Enroll] signs, in the order in which they are
// written: db, dbx, KEK, PK. It needs the certificates of PK, KEK and DB, but no key: each
// [Update.Digest] can be signed elsewhere, by the key of PK for PK and KEK, by that of KEK for db
// and dbx, and goes into [Update.Join].
func (h *Hierarchy) EnrollUpdates(o EnrollOptions) ([]Update, error) {
	updates, err := h.enrollUpdates(o)
	return updates, prefix.Error("secureboot", err)
}

func (h *Hierarchy) enrollUpdates(o EnrollOptions) ([]Update, error) {
	for _, p := range []struct {
		name string
		cert *x509.Certificate
	}{{"PK", h.PK.Cert}, {"KEK", h.KEK.Cert}, {"db", h.DB.Cert}} {
		if p.cert == nil {
			return nil, fmt.Errorf("the hierarchy lacks the certificate of %s", p.name)
		}
	}
	if err := o.Firmware.check(); err != nil {
		return nil, err
	}
	if len(o.MustBoot) == 0 && !o.NothingMustBoot {
		return nil, ErrNothingMustBoot
	}
	kept, err := o.OptionROMs.lists(h.Owner, h.PK.Cert, h.KEK.Cert, h.DB.Cert)
	if err != nil {
		return nil, err
	}
	db := append([]SignatureList{CertificateList(h.Owner, h.DB.Cert)}, without(kept, h.DB.Cert)...)
	keks, err := parseLists(o.KeepKEK)
	if err != nil {
		return nil, err
	}
	for _, c := range o.KEK {
		if known, ok := Identify(c); ok && known.Variable != "KEK" {
			return nil, fmt.Errorf("%s is a certificate for %s, not for KEK: give it as OptionROMs.Keep", known.Name, known.Variable)
		}
		if !containsCertificate(keks, c) {
			keks = append(keks, CertificateList(microsoftOwner(c, h.Owner), c))
		}
	}
	kek := append([]SignatureList{CertificateList(h.Owner, h.KEK.Cert)}, without(keks, h.KEK.Cert)...)
	dbx, err := parseLists(o.DBX)
	if err != nil {
		return nil, err
	}
	var v osmith.FirmwareVariables
	var updates []Update
	for _, x := range []struct {
		name  string
		data  *[]byte
		lists []SignatureList
	}{{"db", &v.DB, db}, {"dbx", &v.DBX, dbx}, {"KEK", &v.KEK, kek}, {"PK", &v.PK, []SignatureList{CertificateList(h.Owner, h.PK.Cert)}}} {
		if len(x.lists) == 0 {
			continue
		}
		if *x.data, err = appendLists(nil, x.lists...); err != nil {
			return nil, err
		}
		updates = append(updates, Update{Variable: x.name, Payload: *x.data, Time: o.Time})
	}
	if err := checkSpace(v, o.RoomForVariables); err != nil {
		return nil, err
	}
	v.SecureBoot, v.SetupMode = bit(true), bit(false)
	if err := lockout(v, o.MustBoot, o.Firmware, "with the keys enrolled"); err != nil {
		return nil, err
	}
	return updates, nil
}

// LoaderKeys are the files from which systemd-boot enrols the keys of a machine in Setup Mode:
// loader/keys/NAME/{PK,KEK,db,dbx}.auth (systemd-boot(7)). The directory named auto is the one that
// "secure-boot-enroll if-safe" and "force" in loader.conf take without asking.
func (e *Enrollment) LoaderKeys(name string) ([]osmith.ESPFile, error) {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "\"*/:<>?\\|") {
		return nil, prefix.Error("secureboot", fmt.Errorf("%q cannot be the name of a directory on an ESP: want one that does not begin with a dot and has none of \"*/:<>?\\|", name))
	}
	var files []osmith.ESPFile
	for _, f := range []struct {
		name string
		auth []byte
	}{{"PK", e.PK}, {"KEK", e.KEK}, {"db", e.DB}, {"dbx", e.DBX}} {
		if f.auth != nil {
			files = append(files, osmith.ESPFile{Path: path.Join("loader/keys", name, f.name+".auth"), Content: bytes.NewReader(f.auth)})
		}
	}
	return files, nil
}

// ErrOptionROMs says that OptionROMs has no decision. Without option ROMs that firmware accepts, a
// machine may have no display: set one of the fields of OptionROMs.
var ErrOptionROMs = errors.New("no decision on option ROMs: graphics, network and storage cards bring firmware that is signed by a certificate in db, " +
	"as a rule Microsoft Corporation UEFI CA 2011 or Microsoft Option ROM UEFI CA 2023, never Microsoft UEFI CA 2023. A machine that needs such a card for a picture or for its disk, and whose db has lost that certificate, may not even " +
	"show its setup menu, and can then only be repaired by replacing its flash. Keep certificates (Keep, KeepDB), allow the digests of the option ROMs " +
	"that the event log of such a machine has in PCR 2 (AllowDigests), or set TrustNoOptionROMsAtTheRiskOfABlackScreen")

// OptionROMs is the decision on option ROMs that every enrolment and rotation needs: at least one
// of the first three, or the last.
type OptionROMs struct {
	// Keep are certificates that stay in db or are put there, Microsoft's for example: see
	// [KnownCertificates] for their purposes. At least one of the known certificates must be used
	// for option ROMs.
	Keep []*x509.Certificate

	// KeepDB is the content of the machine's own db: every entry of it stays. It counts as a
	// decision if it has a certificate or digest.
	KeepDB []byte

	// AllowDigests are the SHA-256 Authenticode digests of the option ROMs of the machine, from the
	// events of type EV_EFI_BOOT_SERVICES_DRIVER and EV_EFI_RUNTIME_SERVICES_DRIVER in PCR 2 of its
	// event log. A firmware update of a card changes them.
	AllowDigests [][32]byte

	// TrustNoOptionROMsAtTheRiskOfABlackScreen is for virtual machines and for hardware that is
	// known to need no option ROMs.
	TrustNoOptionROMsAtTheRiskOfABlackScreen bool
}

// lists are what the decision puts into db, after a check that it is one. Our own certificates do
// not make it one.
func (o OptionROMs) lists(owner osmith.GUID, own ...*x509.Certificate) ([]SignatureList, error) {
	kept, err := parseLists(o.KeepDB)
	if err != nil {
		return nil, err
	}
	decided := o.TrustNoOptionROMsAtTheRiskOfABlackScreen || len(o.AllowDigests) > 0 || goodForOptionROMs(kept, own)
	for _, c := range o.Keep {
		known, ok := Identify(c)
		decided = decided || known.OptionROMs || (!ok && !slices.ContainsFunc(own, c.Equal))
		if ok && known.Variable != "db" {
			return nil, fmt.Errorf("%s is a certificate for %s, not for db: give it as EnrollOptions.KEK", known.Name, known.Variable)
		}
		if !containsCertificate(kept, c) {
			kept = append(kept, CertificateList(microsoftOwner(c, owner), c))
		}
	}
	if !decided {
		return nil, ErrOptionROMs
	}
	if len(o.AllowDigests) > 0 {
		kept = Merge(kept, SHA256List(owner, o.AllowDigests...))
	}
	return kept, nil
}

// goodForOptionROMs reports whether lists have anything that option ROMs may be verified by:
// digests, one of Microsoft's certificates for them, or one that is neither known nor our own, as
// the vendor of the machine would have it.
func goodForOptionROMs(lists []SignatureList, own []*x509.Certificate) bool {
	for _, l := range lists {
		for _, typ := range imageHashTypes {
			if l.Type == typ && slices.ContainsFunc(l.Signatures, func(s Signature) bool { return s.Owner != SVNOwner }) {
				return true
			}
		}
		if l.Type != TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			c, err := x509.ParseCertificate(s.Data)
			if err != nil {
				continue
			}
			if known, ok := Identify(c); known.OptionROMs || (!ok && !slices.ContainsFunc(own, c.Equal)) {
				return true
			}
		}
	}
	return false
}

// microsoftOwner is the owner that Microsoft gives its certificates, or ours.
func microsoftOwner(c *x509.Certificate, ours osmith.GUID) osmith.GUID {
	if _, ok := Identify(c); ok {
		return MicrosoftOwner
	}
	return ours
}
