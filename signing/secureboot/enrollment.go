package secureboot

import (
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
)

var errNoCertificate = errors.New("secureboot: the hierarchy lacks a certificate")

// Enrollment is the .auth files that put a hierarchy into a machine in Setup Mode, to be written in the order db, dbx, KEK, PK: with PK,
// Setup Mode ends. systemd-boot takes them from the directory of [Enrollment.LoaderKeys].
type Enrollment struct {
	PK, KEK, DB []byte
	DBX         []byte // nil: dbx stays as it is

	// Variables are what the machine has afterwards.
	Variables Variables
}

// EnrollOptions are the choices of [Hierarchy.Enroll].
type EnrollOptions struct {
	// Time is that of the updates.
	Time time.Time

	// OptionROMs is the decision that cannot be left out.
	OptionROMs OptionROMs

	// KEK are further certificates for KEK, Microsoft's for example, so that its updates of dbx go on coming in.
	KEK []*x509.Certificate

	// KeepKEK is the content of the machine's KEK: every entry of it stays.
	KeepKEK []byte

	// DBX is the content for dbx; nil leaves it as it is.
	DBX []byte

	// RoomForVariables is how many bytes the machine has for these variables, as its vendor says, or 0 not to check. Firmware needs room for
	// a new copy beside the old one when it changes a variable.
	RoomForVariables int64
}

// Enroll signs the enrolment of this hierarchy together with what the options keep. Without a decision on option ROMs it is
// [ErrOptionROMs], beyond the room a [*SpaceError]. The result is checked by applying it to a machine in Setup Mode.
func (h *Hierarchy) Enroll(o EnrollOptions) (*Enrollment, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	updates, err := h.EnrollUpdates(o)
	if err != nil {
		return nil, err
	}
	e := &Enrollment{Variables: Variables{SetupMode: true}}
	files := map[string]*[]byte{"PK": &e.PK, "KEK": &e.KEK, "db": &e.DB, "dbx": &e.DBX}
	for _, u := range updates {
		auth, err := h.SignUpdate(u)
		if err != nil {
			return nil, err
		}
		if e.Variables, err = e.Variables.Apply(u.Name, auth, u.Append); err != nil {
			return nil, err
		}
		*files[u.Name] = auth
	}
	return e, nil
}

// EnrollUpdates are the updates that [Hierarchy.Enroll] signs, in the order in which they are written: db, dbx, KEK, PK. It needs the
// certificates of PK, KEK and DB, but no key: each [Update.Digest] can be signed elsewhere, by the key of PK for PK and KEK, by that of KEK
// for db and dbx, and goes into [Update.Join].
func (h *Hierarchy) EnrollUpdates(o EnrollOptions) ([]Update, error) {
	if h.PK.Cert == nil || h.KEK.Cert == nil || h.DB.Cert == nil {
		return nil, errNoCertificate
	}
	kept, err := o.OptionROMs.lists(h.Owner, h.PK.Cert, h.KEK.Cert, h.DB.Cert)
	if err != nil {
		return nil, err
	}
	db := append([]SignatureList{CertificateList(h.Owner, h.DB.Cert)}, without(kept, h.DB.Cert)...)
	keks, err := ParseSignatureLists(o.KeepKEK)
	if err != nil {
		return nil, err
	}
	for _, c := range o.KEK {
		if known, ok := Identify(c); ok && known.Variable != "KEK" {
			return nil, fmt.Errorf("secureboot: %s is a certificate for %s, not for KEK", known.Name, known.Variable)
		}
		if !containsCertificate(keks, c) {
			keks = append(keks, CertificateList(microsoftOwner(c, h.Owner), c))
		}
	}
	kek := append([]SignatureList{CertificateList(h.Owner, h.KEK.Cert)}, without(keks, h.KEK.Cert)...)
	dbx, err := ParseSignatureLists(o.DBX)
	if err != nil {
		return nil, err
	}
	var v Variables
	var updates []Update
	for _, x := range []struct {
		name  string
		data  *[]byte
		lists []SignatureList
	}{{"db", &v.DB, db}, {"dbx", &v.DBX, dbx}, {"KEK", &v.KEK, kek}, {"PK", &v.PK, []SignatureList{CertificateList(h.Owner, h.PK.Cert)}}} {
		if len(x.lists) == 0 {
			continue
		}
		if *x.data, err = AppendSignatureLists(nil, x.lists...); err != nil {
			return nil, err
		}
		updates = append(updates, Update{Name: x.name, Payload: *x.data, Time: o.Time})
	}
	if need := v.Space(); o.RoomForVariables > 0 && need > o.RoomForVariables {
		return nil, &SpaceError{Need: need, Room: o.RoomForVariables}
	}
	return updates, nil
}

func without(lists []SignatureList, c *x509.Certificate) []SignatureList {
	return Without(lists, func(typ osmith.GUID, s Signature) bool { return typ == TypeX509 && string(s.Data) == string(c.Raw) })
}

// A SpaceError says that the variables do not fit into the room that the caller allows. Firmware whose store is full may not start.
type SpaceError struct {
	Need, Room int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("secureboot: the variables need %d bytes of the machine's store, there is room for %d", e.Need, e.Room)
}

// Space estimates the bytes that PK, KEK, db, dbx, dbt and dbr take in a variable store: each with a header and its name as edk2 writes
// them, and once more the largest, for the copy that an update makes before the old one goes.
func (v Variables) Space() int64 {
	const header = 60
	var sum, largest int64
	for _, s := range v.slots() {
		if len(*s.data) == 0 {
			continue
		}
		n := (header + int64(2*len(s.name)+2) + int64(len(*s.data)) + 3) &^ 3
		sum += n
		largest = max(largest, n)
	}
	return sum + largest
}

// A LoaderKey is a file for the ESP.
type LoaderKey struct {
	Path    string // from the root of the ESP, with slashes
	Content []byte
}

// LoaderKeys are the files from which systemd-boot enrols the keys of a machine in Setup Mode: /loader/keys/NAME/{db,dbx,KEK,PK}.auth
// (systemd-boot(7)). The directory named auto is the one that "secure-boot-enroll if-safe" and "force" in loader.conf take without asking.
func (e *Enrollment) LoaderKeys(name string) ([]LoaderKey, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\:*?\"<>|") {
		return nil, fmt.Errorf("secureboot: %q cannot be the name of a directory on an ESP", name)
	}
	var keys []LoaderKey
	for _, f := range []struct {
		name string
		auth []byte
	}{{"db", e.DB}, {"dbx", e.DBX}, {"KEK", e.KEK}, {"PK", e.PK}} {
		if f.auth != nil {
			keys = append(keys, LoaderKey{path.Join("loader/keys", name, f.name+".auth"), f.auth})
		}
	}
	return keys, nil
}

// EnrollOwnKeysOnly signs an enrolment after which the machine believes in this hierarchy and in nothing else. Option
// ROMs of graphics, network and storage cards are signed by Microsoft; a machine that needs one to show a picture or to find its disk, and
// whose db has lost Microsoft's certificate, may not get as far as its setup menu. Use it for virtual machines and for
// hardware that is known to do without; [Hierarchy.Enroll] keeps what others need.
func (h *Hierarchy) EnrollOwnKeysOnly(at time.Time) (*Enrollment, error) {
	var e Enrollment
	for _, v := range []struct {
		name    string
		content KeyPair
		auth    *[]byte
	}{{"PK", h.PK, &e.PK}, {"KEK", h.KEK, &e.KEK}, {"db", h.DB, &e.DB}} {
		payload, err := h.payload(v.content)
		if err != nil {
			return nil, err
		}
		if *v.auth, err = h.SignUpdate(Update{Name: v.name, Payload: payload, Time: at}); err != nil {
			return nil, err
		}
	}
	var err error
	if e.Variables, err = h.Variables(); err != nil {
		return nil, err
	}
	return &e, nil
}

func (h *Hierarchy) payload(p KeyPair) ([]byte, error) {
	if p.Cert == nil {
		return nil, errNoCertificate
	}
	return AppendSignatureLists(nil, CertificateList(h.Owner, p.Cert))
}

// Variables are those of a machine after [Hierarchy.EnrollOwnKeysOnly] and a reboot: Secure Boot on, dbx absent.
func (h *Hierarchy) Variables() (Variables, error) {
	v := Variables{SecureBoot: true}
	for _, c := range []struct {
		pair KeyPair
		data *[]byte
	}{{h.PK, &v.PK}, {h.KEK, &v.KEK}, {h.DB, &v.DB}} {
		var err error
		if *c.data, err = h.payload(c.pair); err != nil {
			return Variables{}, err
		}
	}
	return v, nil
}
