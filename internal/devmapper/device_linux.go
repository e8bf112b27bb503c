package devmapper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A Target is one line of a table.
type Target struct {
	Start   uint64 // sectors of 512 bytes
	Sectors uint64
	Type    string
	Params  string // arguments, or with Status what the target says about itself
}

// Info is what the kernel says about a device.
type Info struct {
	Name, UUID string
	Node       string // /dev/dm-N
	ReadOnly   bool
	Open       int // how often it is open
	Targets    []Target
}

// Create makes a read-only device with a table and makes it live. If anything fails
// there is no device afterwards. A name or UUID that is taken is fs.ErrExist.
func Create(name, uuid string, targets ...Target) (node string, err error) {
	if name == "" {
		return "", errors.New("a device needs a name")
	}
	payload, err := encode(targets)
	if err != nil {
		return "", err
	}
	create := command{number: unix.DM_DEV_CREATE, name: name, uuid: uuid}
	if _, _, err := create.run(); err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = fs.ErrExist
		}
		return "", fmt.Errorf("create %q: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, Remove(name))
		}
	}()
	load := command{number: unix.DM_TABLE_LOAD, name: name, flags: unix.DM_READONLY_FLAG, targets: uint32(len(targets)), payload: payload}
	if _, _, err := load.run(); err != nil {
		return "", fmt.Errorf("load the table of %q (the kernel's log may say more): %w", name, err)
	}
	// Suspend without the suspend flag resumes, which makes the table live.
	resume := command{number: unix.DM_DEV_SUSPEND, name: name, flags: unix.DM_READONLY_FLAG}
	h, _, err := resume.run()
	if err != nil {
		return "", fmt.Errorf("resume %q: %w", name, err)
	}
	return nodeOf(h), nil
}

// Remove removes a device. One that is not there is fs.ErrNotExist; one that is in
// use stays and is unix.EBUSY.
func Remove(name string) error {
	remove := command{number: unix.DM_DEV_REMOVE, name: name}
	if _, _, err := remove.run(); err != nil {
		return fmt.Errorf("remove %q: %w", name, absent(err))
	}
	return nil
}

// Table returns a device with its live table.
func Table(name string) (*Info, error) { return status(name, unix.DM_STATUS_TABLE_FLAG) }

// Status returns a device with what its targets say about themselves.
func Status(name string) (*Info, error) { return status(name, 0) }

func status(name string, flags uint32) (*Info, error) {
	c := command{number: unix.DM_TABLE_STATUS, name: name, flags: flags}
	h, b, err := c.run()
	if err != nil {
		return nil, fmt.Errorf("status of %q: %w", name, absent(err))
	}
	targets, err := decode(b, int(h.Target_count))
	if err != nil {
		return nil, fmt.Errorf("status of %q: %w", name, err)
	}
	return &Info{
		Name: text(h.Name[:]), UUID: text(h.Uuid[:]), Node: nodeOf(h),
		ReadOnly: h.Flags&unix.DM_READONLY_FLAG != 0, Open: int(h.Open_count), Targets: targets,
	}, nil
}

// absent gives the kernel's answer for an unknown name its meaning.
func absent(err error) error {
	if errors.Is(err, unix.ENXIO) {
		return fs.ErrNotExist
	}
	return err
}

func nodeOf(h *unix.DmIoctl) string {
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(h.Dev))
}

// encode lays targets out for DM_TABLE_LOAD: struct dm_target_spec, where next counts from the spec
// it is in, the parameters, a NUL, and zeros up to a multiple of 8 bytes.
func encode(targets []Target) ([]byte, error) {
	var b []byte
	for _, t := range targets {
		size := (specSize + len(t.Params) + 1 + 7) &^ 7
		spec := unix.DmTargetSpec{Sector_start: t.Start, Length: t.Sectors, Next: uint32(size)}
		if most := len(spec.Target_type) - 1; len(t.Type) > most || t.Type == "" {
			return nil, fmt.Errorf("target type %q: %d bytes, want 1 to %d", t.Type, len(t.Type), most)
		}
		copy(spec.Target_type[:], t.Type)
		var err error
		if b, err = binary.Append(b, binary.NativeEndian, &spec); err != nil {
			return nil, err
		}
		b = append(b, t.Params...)
		b = append(b, make([]byte, size-specSize-len(t.Params))...)
	}
	return b, nil
}

// decode reads the answer of DM_TABLE_STATUS, where next counts from the first spec.
func decode(b []byte, count int) ([]Target, error) {
	var targets []Target
	at := 0
	for range count {
		var spec unix.DmTargetSpec
		if _, err := binary.Decode(b[at:], binary.NativeEndian, &spec); err != nil {
			return nil, fmt.Errorf("target %d of %d lies beyond the answer", len(targets), count)
		}
		end := len(b)
		if next := int(spec.Next); next > at && next < end {
			end = next
		}
		targets = append(targets, Target{
			Start:   spec.Sector_start,
			Sectors: spec.Length,
			Type:    text(spec.Target_type[:]),
			Params:  text(b[min(at+specSize, end):end]),
		})
		at = end // also where next leads nowhere
	}
	return targets, nil
}
