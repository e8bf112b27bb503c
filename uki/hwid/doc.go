// Package hwid computes the hardware ids by which systemd-stub chooses a device tree or firmware
// for the machine: the ids of a machine, made of its SMBIOS strings and display ([SMBIOS.CHIDs],
// [PanelID]), and the table of a .hwids section, which maps ids to device trees and firmware
// ([Encode], [Parse], [Match]). [Read] reads the descriptions of devices that systemd and vendors
// ship as JSON.
//
// It follows systemd 262 (src/boot/chid.h and chid.c, ukify) and Microsoft's "Specifying Hardware
// IDs for a Computer"
// (https://learn.microsoft.com/windows-hardware/drivers/install/specifying-hardware-ids-for-a-computer).
package hwid

import "errors"

// ErrMissing is returned for a description or a record that lacks a field, and for a directory
// without descriptions.
var ErrMissing = errors.New("not given")
