package dm

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// A Mapping is a live verity device.
type Mapping struct {
	Name     string
	UUID     string // as given to Activate
	Device   string // its node, such as "/dev/dm-0"
	Table    Table  // as the kernel lists it, with devices as major:minor
	ReadOnly bool

	Corrupted bool  // a damaged block was read
	Repaired  int64 // blocks that error correction repaired, where the kernel counts them
}

// Activate makes a read-only device of the Linux device-mapper that verifies what is read from it,
// and returns its node ("/dev/dm-0"). It uses the kernel's ioctls, without a tool, and needs
// CAP_SYS_ADMIN. The devices of the table must be block devices; a key that the table names must be
// in a keyring of the process. After a failure, no device is left behind. If the name is in use,
// the error is fs.ErrExist.
//
// The uuid may be empty; veritysetup recognises devices by a UUID of the form
// "CRYPT-VERITY-00112233445566778899aabbccddeeff-NAME" with the UUID of the superblock. udev, where
// it runs, makes the link /dev/mapper/NAME later.
//
// On systems other than Linux the error is verity.ErrNotSupported.
func Activate(name, uuid string, t Table) (device string, err error) {
	defer prefix.Add("dm", &err)
	if err := t.checkTable(); err != nil {
		return "", err
	}
	if device, err = activate(name, uuid, t.Target()); err != nil {
		return "", fmt.Errorf("activate: %w", err)
	}
	return device, nil
}

// Deactivate removes a device that Activate made. If there is no such device, the error is
// fs.ErrNotExist; if the device is in use, it stays, and the error is unix.EBUSY.
func Deactivate(name string) error {
	if err := deactivate(name); err != nil {
		return prefix.Error("dm", fmt.Errorf("deactivate: %w", err))
	}
	return nil
}

// Active returns the live verity device of a name, as the kernel describes it. The
// error is fs.ErrNotExist if there is none.
func Active(name string) (*Mapping, error) {
	m, err := active(name)
	if err != nil {
		return nil, prefix.Error("dm", fmt.Errorf("active device: %w", err))
	}
	return m, nil
}
