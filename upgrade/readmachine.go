package upgrade

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
	"github.com/osmith-dev/osmith/verity/dm"
)

// Files of a running Linux that are read, below its root.
const (
	efivarsDir    = "sys/firmware/efi/efivars"
	firmwareLog   = "sys/kernel/security/tpm0/binary_bios_measurements"
	userspaceLog  = "run/log/systemd/tpm2-measure.log"
	pcrlockFile   = "var/lib/systemd/pcrlock.json"
	smbiosTable   = "sys/firmware/dmi/tables/DMI"
	deviceTreeDir = "sys/firmware/devicetree"
	tpmDir        = "sys/class/tpm/tpm0"
	kernelCmdline = "proc/cmdline"
)

// maxFact bounds what is read of one file, in bytes.
const maxFact = 16 << 20

// ReadMachineOptions are the choices of [ReadMachine]. The zero value is usable.
type ReadMachineOptions struct {
	// Verity looks a dm-verity device up by its name: [dm.Active]. Nil: the root hash is taken from
	// the kernel's command line, which shows what the initrd was told to mount.
	Verity func(name string) (*dm.Mapping, error)
}

// RunningMachine is a machine that was read.
type RunningMachine struct {
	Machine
	Variables *bootloader.MachineVariables

	// Unread lists what could not be read or understood, or is contradictory: fields that depend on
	// it are not set.
	Unread []error
}

// ReadMachine reads what a running Linux shows of its machine: firmware and loader variables, what
// was started and what is mounted, the logs of the boot, the banks of the TPM, the policy of
// systemd-pcrlock, and SMBIOS. root is os.DirFS("/"), or a copy of the files that it looks at. It
// writes nothing.
//
// It does not set PCRKeys and NothingSealed, FirmwareKind, Shim and NoShim, VerityKeyrings,
// AssumeLoader, Floor and Unlock.Phases, because the machine has no trustworthy source for them.
// Userspace is what systemd measured in this boot: the next boot of the same version is expected to
// measure the same. For any other version it is not evidence, and the unlocks verdict does not use
// it. [FindDisk] finds the disk, and [Inspect] the volumes on it in which secrets are sealed.
//
// If the machine was not started by EFI firmware, the error is an [fs.ErrNotExist]. If it is
// unknown what was started or what is mounted, the error is [ErrRunningUnknown].
func ReadMachine(root fs.FS, o ReadMachineOptions) (m *RunningMachine, err error) {
	defer prefix.Add("upgrade", &err)
	m = new(RunningMachine)
	efivars, err := fs.Sub(root, efivarsDir)
	if err != nil {
		return nil, err
	}
	if m.Variables, err = bootloader.ReadVariables(efivars); err != nil {
		return nil, err
	}
	v := m.Variables
	m.Unread = append(m.Unread, v.Problems...)
	firmware, err := secureboot.ReadVariables(efivars)
	if m.note(err) {
		m.Firmware = &firmware
	}
	m.Loader = &v.Variables
	running := &Running{Image: v.StubImage, ESP: v.StubPartition, BootCountPath: v.BootCountPath}
	if running.Image == "" {
		running.Image = v.EntrySelected
	}
	if running.ESP.IsZero() {
		running.ESP = v.LoaderPartition
	}
	esp := v.LoaderPartition
	if esp.IsZero() {
		esp = v.StubPartition
	}
	// One option that is not understood may start anything.
	if !slices.ContainsFunc(v.Problems, ofFirmware) && !esp.IsZero() {
		m.LoaderPaths = v.LoaderPaths(esp)
	}
	if err := m.readMounted(root, running, o); err != nil {
		return nil, err
	}
	if running.Image == "" || running.RootHash == nil && running.Version == "" {
		return nil, fmt.Errorf("%w: StubImageIdentifier and LoaderEntrySelected give %q, root hash %s, version %q", ErrRunningUnknown, running.Image, hash(running.RootHash), running.Version)
	}
	m.Running = running
	m.readTPM(root)
	if b, ok := m.file(root, smbiosTable); ok {
		if table, err := hwid.ParseSMBIOS(b); m.note(err) {
			// A device tree of the kernel's may have come from an image.
			if _, err := fs.Stat(root, deviceTreeDir); errors.Is(err, fs.ErrNotExist) {
				m.Hardware = &uki.Hardware{SMBIOS: table}
			}
		}
	}
	return m, nil
}

// ofFirmware reports whether a variable that is not understood is one of firmware's boot menu.
func ofFirmware(err error) bool {
	v, ok := errors.AsType[*bootloader.VariableError](err)
	return ok && strings.HasPrefix(v.Name, "Boot")
}

// note keeps an error, and reports whether there was none.
func (m *RunningMachine) note(err error) bool {
	if err != nil {
		m.Unread = append(m.Unread, err)
	}
	return err == nil
}

// file reads a small file; false if it is not there, or cannot be read.
func (m *RunningMachine) file(root fs.FS, name string) ([]byte, bool) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if !m.note(err) {
		return nil, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFact+1))
	if err == nil && len(b) > maxFact {
		err = fmt.Errorf("%s: more than %d bytes", name, maxFact)
	}
	return b, m.note(err)
}

// readMounted finds out which file system is mounted, or which version runs from its UKI alone.
func (m *RunningMachine) readMounted(root fs.FS, r *Running, o ReadMachineOptions) error {
	var told []byte
	known := false // what the command line says
	if line, ok := m.file(root, kernelCmdline); ok {
		c, err := dm.ParseCmdline(strings.TrimSuffix(string(line), "\n"))
		if known = m.note(err); known {
			told = c.Usr.RootHash
			if told == nil {
				told = c.Root.RootHash
			}
		}
	}
	r.RootHash = told
	if o.Verity != nil {
		r.RootHash = nil
		for _, name := range []string{"usr", "root"} {
			mapping, err := o.Verity(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			r.RootHash = mapping.Table.RootHash
			break
		}
		switch {
		case r.RootHash == nil && told != nil:
			return fmt.Errorf("%w: the kernel's command line has root hash %s, and there is no dm-verity device usr or root", ErrRunningUnknown, hash(told))
		case told != nil && !slices.Equal(told, r.RootHash):
			m.note(fmt.Errorf("the dm-verity device has root hash %s, the kernel's command line says %s", hash(r.RootHash), hash(told)))
		}
	}
	if r.RootHash != nil || !known { // a system without a root hash is one that was started without
		return nil
	}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		b, ok := m.file(root, name)
		if !ok {
			continue
		}
		release, err := uki.ParseOSRelease(b)
		if m.note(err) {
			if r.Version = release["IMAGE_VERSION"]; r.Version == "" {
				r.Version = release["VERSION_ID"]
			}
		}
		break
	}
	return nil
}

// readTPM reads what was measured, and by which policies secrets may be sealed.
func (m *RunningMachine) readTPM(root fs.FS) {
	if b, ok := m.file(root, firmwareLog); ok {
		log, err := tpm.ParseLog(b)
		if m.note(err) {
			m.Running.Log = log
		}
	}
	if b, ok := m.file(root, userspaceLog); ok {
		log, err := tpm.ParseUserspaceLog(b)
		if m.note(err) {
			m.Userspace = &tpm.Userspace{Earlier: log}
		}
	}
	if b, ok := m.file(root, pcrlockFile); ok {
		lock, err := policy.ParsePCRLock(b)
		if m.note(err) {
			m.Unlock.PCRLock = lock
		}
	}
	m.Unlock.Banks = m.Variables.Banks
	entries, err := fs.ReadDir(root, tpmDir)
	if errors.Is(err, fs.ErrNotExist) || !m.note(err) {
		return
	}
	banks := []crypto.Hash{}
	for _, h := range tpm.Banks() {
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "pcr-"+pcrbank.Name(h) }) {
			banks = append(banks, h)
		}
	}
	if len(banks) > 0 { // an older kernel shows none
		m.Unlock.Banks = banks
	}
}

// CloneError says that several disks have the partition from which the machine was booted, and that
// their contents do not show which disk it was.
type CloneError struct {
	Partition osmith.GUID
	Disks     []string // sorted
}

func (e *CloneError) Error() string {
	return fmt.Sprintf("%s all have a partition with the ID %s, from which the machine was booted: remove or change all but one of these disks", strings.Join(e.Disks, " and "), e.Partition)
}

// ErrNotBootDisk says that no disk has the partition that the machine was booted from.
var ErrNotBootDisk = errors.New("no disk has the partition from which the machine was booted")

// FindDisk finds the disk that a machine was booted from, among all that it has, by the partition
// that its UKI or loader was started from ([Running].ESP). Disks without a partition table are
// ignored. If several have the partition, the error is a [*CloneError]; a disk that cannot be read
// is an error, since it might have the partition too. If no disk has the partition, the error is
// [ErrNotBootDisk].
func FindDisk(disks map[string]osmith.Source, bootedFrom osmith.GUID) (name string, err error) {
	defer prefix.Add("upgrade", &err)
	if bootedFrom.IsZero() {
		return "", errors.New("which partition the machine was booted from is unknown: neither StubDevicePartUUID nor LoaderDevicePartUUID is set")
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(disks)) {
		table, err := partition.Read(disks[name], partition.ReadOptions{})
		if errors.Is(err, partition.ErrNoTable) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if table.Find(bootedFrom) >= 0 {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%w: %s", ErrNotBootDisk, bootedFrom)
	}
	return "", &CloneError{bootedFrom, found}
}
