//go:build linux

// Agent looks at the machine that it runs on, as that of a vendor would: it reads what was started
// and what is mounted, finds the disk that this came from, and prints what it makes of both as
// JSON.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// Seen is what is printed.
type Seen struct {
	Disk       string
	Image      string
	RootHash   []byte
	SecureBoot []byte
	Events     int
	Banks      []string
	SMBIOS     bool
	Variables  *bootloader.MachineVariables
	Unread     []string
	State      *upgrade.State
}

func main() {
	seen, err := look()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(seen)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func look() (seen *Seen, err error) {
	m, err := upgrade.ReadMachine(os.DirFS("/"), upgrade.ReadMachineOptions{Verity: dm.Active})
	if err != nil {
		return nil, err
	}
	disk, err := upgrade.OpenDisk(m.Running.ESP)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	seen = &Seen{Disk: disk.File().Name(), Image: m.Running.Image, RootHash: m.Running.RootHash, Variables: m.Variables, SMBIOS: m.Hardware != nil}
	if m.Firmware != nil {
		seen.SecureBoot = m.Firmware.SecureBoot
	}
	if m.Running.Log != nil {
		seen.Events = len(m.Running.Log.Events)
	}
	for _, h := range m.Unlock.Banks {
		seen.Banks = append(seen.Banks, tpm.BankName(h))
	}
	for _, err := range m.Unread {
		seen.Unread = append(seen.Unread, err.Error())
	}
	m.Variables.Problems = nil // errors are no JSON, and they are among those
	seen.State, err = upgrade.Inspect(disk, m.Machine)
	return seen, err
}
