//go:build linux

package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/e2e/report"
)

// Attributes of an authenticated update that appends (UEFI Specification 2.10, section 8.2.1): non-volatile, boot service and
// runtime access, time-based authenticated write access, append write.
const appendAuthenticated = 0x01 | 0x02 | 0x04 | 0x20 | 0x40

// appendVariable hands an .auth file on the ESP to the firmware, as an addition to the variable of the file's name: with
// osmith.append=keys/dbx.auth to dbx.
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
		variable := path.Join(efivars, name+"-"+securityVendor)
		if err := mutable(variable); err != nil {
			return err
		}
		// The kernel wants attributes and data in one write.
		f, err := os.OpenFile(variable, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if _, err := f.Write(append([]byte{appendAuthenticated, 0, 0, 0}, auth...)); err != nil {
			f.Close()
			return fmt.Errorf("append %d bytes to %s: %w", len(auth), name, err)
		}
		return f.Close()
	})
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
