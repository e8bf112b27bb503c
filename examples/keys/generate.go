package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const undecided = "what is to become of option ROMs? Those of graphics, network and storage cards are signed by Microsoft, as a rule, and a machine that needs one may " +
	"show nothing any more, not even its setup menu, once it has these keys alone. Say it with -keep, -keep-vars, -option-rom-digest, or " +
	"-trust-no-option-roms-at-the-risk-of-a-black-screen"

func generateFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	out := set.String("o", "", "`directory` for the files")
	name := set.String("cn", "osmith example", "`name` that the certificates begin with")
	owner := set.String("owner", "", "`GUID` of the owner in the variables (default: random)")
	bits := set.Int("bits", 2048, "size of the RSA `keys`: 2048, 3072 or 4096")
	years := set.Int("years", 20, "`years` that the certificates are valid, from -time on; U-Boot refuses what was signed at another time")
	roms := addROMFlags(set)
	nothing := set.Bool("nothing-must-boot", false, "there are no images yet that the machine starts with these keys: none is judged")
	firmware := firmwareFlag(set)
	set.StringVar(&roms.vars, "keep-vars", "", "`directory` of efivarfs or variable store: db, KEK and dbx of this machine are kept too")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("o", *out, "cn", *name); err != nil {
			return err
		}
		if !roms.decided() {
			return cli.Usagef("%s", undecided)
		}
		switch {
		case len(operands) == 0 && !*nothing:
			return cli.Usagef("no image is given that must boot: name all PE files that the machine starts with these keys, or say -nothing-must-boot")
		case len(operands) > 0 && *nothing:
			return cli.Usagef("-nothing-must-boot and images that must boot: want one of them")
		}
		if *years < 1 || *years > 1000 {
			return cli.Usagef("-years %d: want 1 to 1000", *years)
		}
		at, err := cli.SourceDate(time.Now().UTC())
		if err != nil {
			return err
		}
		o := secureboot.GenerateOptions{CommonName: *name, NotBefore: at, NotAfter: at.AddDate(*years, 0, 0), Bits: *bits}
		if o.Owner, err = parseOwner(*owner); err != nil {
			return err
		}
		enroll := secureboot.EnrollOptions{Time: at, NothingMustBoot: *nothing}
		if enroll.Firmware, err = firmware(); err != nil {
			return err
		}
		if enroll.MustBoot, err = readImages(c, operands); err != nil {
			return err
		}
		if enroll.OptionROMs, err = roms.decision(); err != nil {
			return err
		}
		if roms.vars != "" {
			v, err := readVariables(roms.vars)
			if err != nil {
				return err
			}
			enroll.OptionROMs.KeepDB, enroll.KeepKEK, enroll.DBX = v.DB, v.KEK, v.DBX
		}
		if err := vacant(*out); err != nil {
			return err
		}
		h, err := secureboot.Generate(nil, o)
		if err != nil {
			return err
		}
		e, err := h.Enroll(enroll)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(*out, 0o777); err != nil {
			return err
		}
		r, err := writeHierarchy(*out, h, e)
		if err != nil {
			return err
		}
		r.Header = c.Header()
		return c.Answer(r, strings.Join(r.Files, "\n")+"\n")
	}
}

func parseOwner(text string) (g osmith.GUID, err error) {
	if text != "" {
		if g, err = osmith.ParseGUID(text); err != nil {
			err = cli.Usagef("-owner: %v", err)
		}
		return g, err
	}
	_, _ = rand.Read(g[:]) // never fails
	g[6], g[8] = g[6]&0x0f|0x40, g[8]&0x3f|0x80
	return g, nil
}

// vacant makes sure that no key is overwritten.
func vacant(dir string) error {
	for _, name := range names {
		for _, ext := range []string{".key", ".crt", ".esl", ".auth"} {
			path := filepath.Join(dir, name+ext)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				if err == nil {
					err = fmt.Errorf("%s is there already: keys are not overwritten", path)
				}
				return err
			}
		}
	}
	return nil
}

func writeHierarchy(dir string, h *secureboot.Hierarchy, e *secureboot.Enrollment) (*generateResult, error) {
	r := &generateResult{Owner: h.Owner.String(), Keys: map[string]keyResult{}}
	add := func(name string, content []byte) error {
		r.Files = append(r.Files, name)
		return cli.WriteFile(filepath.Join(dir, name), content)
	}
	for i, p := range pairs(h) {
		name := names[i]
		cert, key, err := p.MarshalPEM()
		if err != nil {
			return nil, err
		}
		r.Files = append(r.Files, name+".key")
		if err := cli.WriteSecret(filepath.Join(dir, name+".key"), key); err != nil {
			return nil, err
		}
		if err := add(name+".crt", cert); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(p.Cert.Raw)
		r.Keys[name] = keyResult{Subject: p.Cert.Subject.String(), CertificateFingerprint: hex.EncodeToString(sum[:])}
	}
	for _, v := range []struct {
		name string
		auth []byte
	}{{"PK", e.PK}, {"KEK", e.KEK}, {"db", e.DB}, {"dbx", e.DBX}} {
		if v.auth == nil {
			continue
		}
		if err := add(v.name+".esl", secureboot.Content(e.Variables, v.name)); err != nil {
			return nil, err
		}
		if err := add(v.name+".auth", v.auth); err != nil {
			return nil, err
		}
	}
	r.Space = secureboot.Space(e.Variables)
	return r, nil
}
