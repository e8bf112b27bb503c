//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// Attributes of an authenticated update that appends (UEFI Specification 2.10, section 8.2.1):
// non-volatile, boot service and runtime access, time-based authenticated write access, append
// write.
const appendAuthenticated = 0x01 | 0x02 | 0x04 | 0x20 | 0x40

// appendVariable hands an .auth file on the ESP to the firmware, as an addition to the variable of
// the file's name: with osmith.append=keys/dbx.auth to dbx.
func appendVariable(r *report.Report, file string) error {
	name, ok := strings.CutSuffix(path.Base(file), ".auth")
	if !ok {
		return fmt.Errorf("osmith.append=%s: not an .auth file", file)
	}
	return withESP(r, func(esp string) error {
		auth, err := os.ReadFile(path.Join(esp, file))
		if err != nil {
			return err
		}
		if err := writeVariable(name, append([]byte{appendAuthenticated, 0, 0, 0}, auth...)); err != nil {
			return fmt.Errorf("append %d bytes to %s: %w", len(auth), name, err)
		}
		return nil
	})
}

// writeVariables hands each file of a directory on the ESP to the firmware, in the order of their
// names, such as 007-dbx: number, variable; attributes and data as efivarfs has them.
func writeVariables(r *report.Report, dir string) error {
	return withESP(r, func(esp string) error {
		files, err := os.ReadDir(path.Join(esp, dir))
		if err != nil {
			return err
		}
		before, err := keyVariables()
		if err != nil {
			return err
		}
		for _, f := range files {
			_, name, ok := strings.Cut(f.Name(), "-")
			if !ok {
				return fmt.Errorf("osmith.writes=%s: %s: want a name as 007-dbx", dir, f.Name())
			}
			data, err := os.ReadFile(path.Join(esp, dir, f.Name()))
			if err != nil {
				return err
			}
			w := report.Write{Name: f.Name(), Changed: map[string]string{}}
			if err := writeVariable(name, data); err != nil {
				w.Error = err.Error()
			}
			after, err := keyVariables()
			if err != nil {
				return err
			}
			for name, sum := range after {
				if before[name] != sum {
					w.Changed[name] = sum
				}
			}
			for name := range before {
				if _, ok := after[name]; !ok {
					w.Changed[name] = ""
				}
			}
			before = after
			r.Writes = append(r.Writes, w)
		}
		return nil
	})
}

// writeVariable hands attributes and data to the firmware.
func writeVariable(name string, data []byte) error {
	variable := keyVariable(name)
	if err := mutable(variable); err != nil {
		return err
	}
	f, err := os.OpenFile(variable, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data) // in one write, as the kernel wants it
	return errors.Join(err, f.Close())
}

// keyVariable is the file of a variable of Secure Boot.
func keyVariable(name string) string {
	if strings.HasPrefix(name, "db") {
		return path.Join(efivars, name+"-"+securityVendor)
	}
	return path.Join(efivars, name+"-"+globalVendor)
}

// keyVariables are the digests of the variables of Secure Boot that exist.
func keyVariables() (map[string]string, error) {
	out := map[string]string{}
	for _, name := range []string{"SecureBoot", "SetupMode", "PK", "KEK", "db", "dbx", "dbt", "dbr"} {
		b, err := os.ReadFile(keyVariable(name))
		switch {
		case os.IsNotExist(err) || err == nil && len(b) == 0, errors.Is(err, unix.EIO):
			// efivarfs keeps a file for a write that failed
			continue
		case err != nil:
			return nil, err
		case len(b) < 4:
			return nil, fmt.Errorf("variable %s: %d bytes", name, len(b))
		}
		sum := sha256.Sum256(b[4:])
		out[name] = hex.EncodeToString(sum[:])
	}
	return out, nil
}

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// mutable takes the flag away with which efivarfs protects variables that exist.
func mutable(file string) error {
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return fmt.Errorf("flags of %s: %w", file, err)
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}
