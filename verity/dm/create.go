package dm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/kernelargs"
)

// An EarlyDevice is a device that the kernel itself makes while it boots, by
// dm-mod.create= (Linux 5.1, CONFIG_DM_INIT).
type EarlyDevice struct {
	Name      string   // 1 to 127 bytes
	UUID      string   // up to 128 bytes; may be empty
	Minor     *uint8   // of its number; nil lets the kernel choose
	ReadWrite bool     // never for verity
	Targets   []Target // at least one; consecutive, from sector 0 on
}

// Limits of drivers/md/dm-init.c and of struct dm_ioctl.
const (
	maxCreate       = 4095
	maxEarlyDevices = 256
	maxEarlyTargets = 256
	maxWaitFor      = 256
	maxDeviceName   = 127
	maxDeviceUUID   = 128
)

// earlyTargets are the types that the kernel allows here (dm_allowed_targets).
var earlyTargets = []string{"crypt", "delay", "linear", "snapshot-origin", "striped", "verity"}

func (d EarlyDevice) check() error {
	if d.Name == "" || len(d.Name) > maxDeviceName || strings.Contains(d.Name, "/") || d.Name == "." || d.Name == ".." {
		return fmt.Errorf("%q cannot be the name of a device", d.Name)
	}
	if len(d.UUID) > maxDeviceUUID {
		return fmt.Errorf("%s: UUID of %d bytes, at most %d are allowed", d.Name, len(d.UUID), maxDeviceUUID)
	}
	for _, s := range []string{d.Name, d.UUID} {
		if err := checkField(s); err != nil {
			return err
		}
	}
	if len(d.Targets) == 0 || len(d.Targets) > maxEarlyTargets {
		return fmt.Errorf("%s: %d targets, want 1 to %d", d.Name, len(d.Targets), maxEarlyTargets)
	}
	var end uint64
	for _, t := range d.Targets {
		if t.Start != end {
			return fmt.Errorf("%s: target at sector %d, want %d", d.Name, t.Start, end)
		}
		end += t.Sectors
		if err := t.checkEarly(d.ReadWrite); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return nil
}

func (t Target) checkEarly(readWrite bool) error {
	if !slices.Contains(earlyTargets, t.Type) {
		return fmt.Errorf("target %q: the kernel makes only %s", t.Type, strings.Join(earlyTargets, ", "))
	}
	if err := checkField(t.Params); err != nil {
		return err
	}
	if again, err := parseTarget(t.String()); err != nil {
		return err
	} else if again != t {
		return fmt.Errorf("target %q cannot be written", t.String())
	}
	if t.Type != "verity" {
		return nil
	}
	table, err := parseTable(t.Params)
	switch {
	case err != nil:
		return err
	case readWrite:
		return errors.New("a verity device is read-only")
	case t.Sectors > table.Sectors():
		return fmt.Errorf("%d sectors, the table has %d", t.Sectors, table.Sectors())
	}
	return nil
}

// checkField refuses what dm-init would take for the end of a field, or take off.
func checkField(s string) error {
	if strings.ContainsAny(s, ",;") {
		return fmt.Errorf("%q: a comma or a semicolon cannot be written", s)
	}
	if s != "" && (kernelargs.IsSpace(s[0]) || kernelargs.IsSpace(s[len(s)-1])) {
		return fmt.Errorf("%q: white space at its ends cannot be written", s)
	}
	return nil
}

// encodeCreate returns name,uuid,minor,flags,table[,table...][;name...].
func encodeCreate(devices []EarlyDevice) (string, error) {
	if len(devices) > maxEarlyDevices {
		return "", fmt.Errorf("%d devices, at most %d are allowed", len(devices), maxEarlyDevices)
	}
	var all []string
	for _, d := range devices {
		if err := d.check(); err != nil {
			return "", err
		}
		fields := []string{d.Name, d.UUID, "", "ro"}
		if d.Minor != nil {
			fields[2] = strconv.Itoa(int(*d.Minor))
		}
		if d.ReadWrite {
			fields[3] = "rw"
		}
		for _, t := range d.Targets {
			fields = append(fields, t.String())
		}
		all = append(all, strings.Join(fields, ","))
	}
	value := strings.Join(all, ";")
	if len(value) > maxCreate {
		return "", fmt.Errorf("%d bytes, the kernel takes %d", len(value), maxCreate)
	}
	return value, nil
}

// parseCreate is the inverse of encodeCreate. Like the kernel it takes white space off the ends of
// every field.
func parseCreate(value string) ([]EarlyDevice, error) {
	if len(value) > maxCreate {
		return nil, fmt.Errorf("%d bytes, the kernel takes %d", len(value), maxCreate)
	}
	entries := strings.Split(value, ";")
	if len(entries) > maxEarlyDevices {
		return nil, fmt.Errorf("%d devices, at most %d are allowed", len(entries), maxEarlyDevices)
	}
	var devices []EarlyDevice
	for _, entry := range entries {
		fields := strings.Split(entry, ",")
		if len(fields) < 5 {
			return nil, fmt.Errorf("%q: %d fields, want name,uuid,minor,flags,table", entry, len(fields))
		}
		for i, f := range fields {
			fields[i] = trimSpace(f)
		}
		d := EarlyDevice{Name: fields[0], UUID: fields[1]}
		if fields[2] != "" {
			// The kernel takes the number of a device here, in which minors from 256 on
			// are spread out.
			n, err := parseNumber(fields[2])
			if err != nil || n > 255 {
				return nil, fmt.Errorf("%s: minor %q: want 0 to 255", d.Name, fields[2])
			}
			minor := uint8(n)
			d.Minor = &minor
		}
		switch fields[3] {
		case "rw":
			d.ReadWrite = true
		case "ro":
		default:
			return nil, fmt.Errorf("%s: flags %q, want ro or rw", d.Name, fields[3])
		}
		for _, f := range fields[4:] {
			t, err := parseTarget(f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.Name, err)
			}
			d.Targets = append(d.Targets, t)
		}
		if err := d.check(); err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

func trimSpace(s string) string {
	for s != "" && kernelargs.IsSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && kernelargs.IsSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func checkWaitFor(devices []string) error {
	if len(devices) > maxWaitFor {
		return fmt.Errorf("%d devices, at most %d are allowed", len(devices), maxWaitFor)
	}
	for _, d := range devices {
		if d == "" || strings.Contains(d, ",") {
			return fmt.Errorf("%q is not a device", d)
		}
	}
	return nil
}
