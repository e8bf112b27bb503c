package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// keysDir is where systemd-boot finds keys that it enrols when firmware is in setup mode
// (systemd-boot(7), "secure-boot-enroll").
const keysDir = "loader/keys"

// KeysError says that firmware would refuse an image on the ESP once the keys on the ESP are
// enrolled.
type KeysError struct {
	Set string // directory of the keys
	Err error  // what is refused, or why that is unknown
}

func (e *KeysError) Error() string {
	return fmt.Sprintf("the keys in %s, once they are enrolled: %v", e.Set, e.Err)
}

// Unwrap returns Err.
func (e *KeysError) Unwrap() error { return e.Err }

// judgeKeys asks of each set of keys on the ESP whether firmware that has enrolled it starts the
// loaders there and the next entry. A set named auto, which systemd-boot enrols without being
// asked, must let it; of others a person decides, which is a restriction. A machine that has a PK
// enrols none.
func (s *State) judgeKeys(j *Verdict, next *Entry) {
	if f := s.machine.Firmware; f != nil && len(f.SetupMode) == 1 && f.SetupMode[0] == 0 || s.machine.NoSecureBoot {
		return
	}
	sets, err := listDir(s.esp, keysDir)
	if err != nil {
		j.fail(err)
		return
	}
	for _, d := range sets {
		if !d.IsDir() {
			continue
		}
		dir := path.Join(keysDir, d.Name())
		enrolled, err := s.tryKeys(dir, next)
		switch {
		case err == nil && enrolled == nil:
			// Not all of PK, KEK and db: systemd-boot enrols nothing of it.
		case err == nil && enrolled.Outcome == OutcomePass:
			j.pass("the keys in %s, once they are enrolled, let everything start", dir)
		case err == nil:
			for _, r := range enrolled.Reasons {
				if r.Outcome == OutcomeWarn {
					j.warn("the keys in %s, once they are enrolled: %s", dir, r.Text)
				}
			}
		case fat.SameName(d.Name(), "auto"):
			j.fail(&KeysError{dir, err})
		default:
			j.warn("%v", &KeysError{dir, err})
		}
	}
}

// tryKeys evaluates what is on the ESP with the keys of a directory: the verdict, without failures,
// which are the error; nil if they are not a set that is enrolled.
func (s *State) tryKeys(dir string, next *Entry) (j *Verdict, err error) {
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, DBX: []byte{}}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{"PK", &v.PK}, {"KEK", &v.KEK}, {"db", &v.DB}, {"dbx", &v.DBX}} {
		b, err := fs.ReadFile(s.esp, path.Join(dir, f.name+".auth"))
		if errors.Is(err, fs.ErrNotExist) {
			if f.name == "dbx" {
				continue
			}
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if *f.to, err = secureboot.UnverifiedPayload(b); err != nil {
			return nil, fmt.Errorf("%s.auth: %w", f.name, err)
		}
	}
	m := *s.machine
	m.Firmware, m.NoSecureBoot = &v, false
	enrolled := *s
	enrolled.machine = &m
	j = new(Verdict)
	enrolled.judgeLoaders(j)
	if next != nil {
		src, err := openFile(s.esp, next.Loader)
		if err != nil {
			return nil, err
		}
		im, err := m.examine(next.Loader, src)
		if err != nil {
			return nil, err
		}
		im.judgeStart(j, next.Loader)
	}
	var refused []error
	for _, r := range j.Reasons {
		if r.Outcome == OutcomeFail {
			refused = append(refused, r.Err)
		}
	}
	return j, errors.Join(refused...)
}
