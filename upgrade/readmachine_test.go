package upgrade_test

import (
	"crypto"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// wide is a text in UTF-16LE with its NUL.
func wide(s string) []byte { return append(efi.AppendUTF16(nil, s), 0, 0) }

// running is the root of a system that runs version 1 of a disk, and the root hash of its file
// system.
func running(t *testing.T) (s *system, root fstest.MapFS, mounted []byte) {
	t.Helper()
	s = newSystem(t, "")
	b := s.boot()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	esp := table.Partitions[0].ID
	root = fstest.MapFS{}
	put := func(name, vendor string, content []byte) {
		attributes := byte(0x07)
		switch name {
		case "PK", "KEK", "db", "dbx": // authenticated by time
			attributes = 0x27
		case "SecureBoot", "SetupMode":
			attributes = 0x06
		}
		root["sys/firmware/efi/efivars/"+name+"-"+vendor] = &fstest.MapFile{Data: append([]byte{attributes, 0, 0, 0}, content...)}
	}
	const global, security, loader = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "d719b2cb-3d3a-4596-a3bc-dad00e67656f", "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	f := s.machine.Firmware
	put("SecureBoot", global, f.SecureBoot)
	put("SetupMode", global, f.SetupMode)
	put("PK", global, f.PK)
	put("KEK", global, f.KEK)
	put("db", security, f.DB)
	put("dbx", security, f.DBX)
	put("BootOrder", global, []byte{1, 0})
	option := append([]byte{1, 0, 0, 0, 4, 0}, wide("Linux Boot Manager")...)
	put("Boot0001", global, append(option, 0x7f, 0xff, 4, 0))
	put("LoaderInfo", loader, wide("systemd-boot 262"))
	put("LoaderDevicePartUUID", loader, wide(esp.String()))
	put("LoaderEntrySelected", loader, wide("acme_1.efi"))
	put("StubImageIdentifier", loader, wide(`\EFI\Linux\acme_1.efi`))
	put("StubDevicePartUUID", loader, wide(esp.String()))
	for _, bank := range []string{"sha256", "sha384"} {
		root["sys/class/tpm/tpm0/pcr-"+bank+"/0"] = &fstest.MapFile{Data: []byte("0")}
	}
	root["proc/cmdline"] = &fstest.MapFile{Data: []byte("quiet roothash=" + hex.EncodeToString(b.Running.RootHash) + "\n")}
	root["etc/os-release"] = &fstest.MapFile{Data: []byte("ID=acme\nIMAGE_VERSION=1\n")}
	return s, root, b.Running.RootHash
}

// mapped is what device-mapper says.
func mapped(name string, rootHash []byte) func(string) (*dm.Mapping, error) {
	return func(asked string) (*dm.Mapping, error) {
		if asked != name {
			return nil, fs.ErrNotExist
		}
		return &dm.Mapping{Name: name, Table: dm.Table{RootHash: rootHash}}, nil
	}
}

// What is read of a machine is enough to plan with.
func TestReadMachine(t *testing.T) {
	s, root, hash := running(t)
	m, err := upgrade.ReadMachine(root, upgrade.ReadMachineOptions{Verity: mapped("root", hash)})
	require.NoError(t, err)
	require.Empty(t, m.Unread)
	require.Equal(t, `\EFI\Linux\acme_1.efi`, m.Running.Image)
	require.Equal(t, hash, m.Running.RootHash)
	require.Equal(t, s.machine.Firmware.DB, m.Firmware.DB)
	require.Equal(t, []string{}, m.LoaderPaths)
	require.Equal(t, []crypto.Hash{crypto.SHA256, crypto.SHA384}, m.Unlock.Banks)
	require.Nil(t, m.Hardware)
	require.Nil(t, m.Userspace)
	require.Equal(t, "systemd-boot 262", m.Variables.LoaderInfo)
	name, err := upgrade.FindDisk(map[string]osmith.Source{"/dev/vda": s.disk, "/dev/vdb": faultio.NewDisk(1 << 20)}, m.Running.ESP)
	require.NoError(t, err)
	require.Equal(t, "/dev/vda", name)
	m.PCRKeys = s.machine.PCRKeys
	p, err := upgrade.NewPlan(t.Context(), s.disk, s.build("2").Release(), m.Machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	for _, j := range p.Verdicts {
		require.Equal(t, upgrade.OutcomePass, j.Outcome, "%s: %s", j.Proof, texts(j))
	}
}

// Each fact that is missing, or damaged, leaves its field unset, and says so.
func TestReadMachineUnknown(t *testing.T) {
	events, err := os.ReadFile("../tpm/testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	require.NoError(t, err)
	dmi, err := os.ReadFile("../uki/hwid/testdata/dmi-qemu.bin")
	require.NoError(t, err)
	const vars = "sys/firmware/efi/efivars/"
	const global, loader = "-8be4df61-93ca-11d2-aa0d-00e098032b8c", "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	file := func(b []byte) *fstest.MapFile { return &fstest.MapFile{Data: b} }
	other := make([]byte, 32)
	for name, tt := range map[string]struct {
		change func(root fstest.MapFS, o *upgrade.ReadMachineOptions)
		err    error
		unread string
		check  func(m *upgrade.RunningMachine) bool
	}{
		"no EFI": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			for name := range root {
				if strings.HasPrefix(name, vars) {
					delete(root, name)
				}
			}
		}, fs.ErrNotExist, "", nil},
		"nothing started": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			delete(root, vars+"StubImageIdentifier"+loader)
			delete(root, vars+"LoaderEntrySelected"+loader)
		}, upgrade.ErrRunningUnknown, "", nil},
		"no stub that tells": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			delete(root, vars+"StubImageIdentifier"+loader)
			delete(root, vars+"StubDevicePartUUID"+loader)
		}, nil, "", func(m *upgrade.RunningMachine) bool {
			return m.Running.Image == "acme_1.efi" && m.Running.ESP == m.Variables.LoaderPartition
		}},
		"no dm-verity device": {func(_ fstest.MapFS, o *upgrade.ReadMachineOptions) { o.Verity = mapped("var", other) }, upgrade.ErrRunningUnknown, "", nil},
		"device-mapper cannot be asked": {func(_ fstest.MapFS, o *upgrade.ReadMachineOptions) {
			o.Verity = func(string) (*dm.Mapping, error) { return nil, fs.ErrPermission }
		}, fs.ErrPermission, "", nil},
		"another file system than the command line says": {func(_ fstest.MapFS, o *upgrade.ReadMachineOptions) { o.Verity = mapped("usr", other) }, nil,
			"the dm-verity device has root hash " + hex.EncodeToString(other), func(m *upgrade.RunningMachine) bool { return string(m.Running.RootHash) == string(other) }},
		"the command line is believed": {func(_ fstest.MapFS, o *upgrade.ReadMachineOptions) { o.Verity = nil }, nil, "", func(m *upgrade.RunningMachine) bool { return len(m.Running.RootHash) == 32 }},
		"a UKI alone": {func(root fstest.MapFS, o *upgrade.ReadMachineOptions) {
			root["proc/cmdline"], o.Verity = file([]byte("quiet\n")), nil
		}, nil, "", func(m *upgrade.RunningMachine) bool { return m.Running.RootHash == nil && m.Running.Version == "1" }},
		"no command line, and no root hash for it": {func(root fstest.MapFS, o *upgrade.ReadMachineOptions) {
			delete(root, "proc/cmdline")
			o.Verity = nil
		}, upgrade.ErrRunningUnknown, "", nil},
		"a command line that is not understood": {func(root fstest.MapFS, o *upgrade.ReadMachineOptions) {
			root["proc/cmdline"], o.Verity = file([]byte("roothash=xy\n")), func(string) (*dm.Mapping, error) { return nil, fs.ErrNotExist }
		}, upgrade.ErrRunningUnknown, "", nil},
		"a UKI alone of no version": {func(root fstest.MapFS, o *upgrade.ReadMachineOptions) {
			root["proc/cmdline"], root["etc/os-release"], o.Verity = file([]byte("quiet\n")), file([]byte("ID=acme\n")), nil
		}, upgrade.ErrRunningUnknown, "", nil},
		"a damaged boot option": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root[vars+"Boot0001"+global] = file([]byte{7, 0, 0, 0, 1})
		}, nil,
			"variable Boot0001: ", func(m *upgrade.RunningMachine) bool { return m.LoaderPaths == nil }},
		"no loader that tells its partition": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			delete(root, vars+"LoaderDevicePartUUID"+loader)
			delete(root, vars+"StubDevicePartUUID"+loader)
		}, nil, "", func(m *upgrade.RunningMachine) bool { return m.LoaderPaths == nil && m.Running.ESP.IsZero() }},
		"half a Secure Boot configuration": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) { delete(root, vars+"SetupMode"+global) }, nil,
			"secureboot: variable SetupMode", func(m *upgrade.RunningMachine) bool { return m.Firmware == nil }},
		"firmware's log": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["sys/kernel/security/tpm0/binary_bios_measurements"] = file(events)
		}, nil, "", func(m *upgrade.RunningMachine) bool { return len(m.Running.Log.Events) > 10 }},
		"a log that is cut": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["sys/kernel/security/tpm0/binary_bios_measurements"] = file(events[:len(events)-3])
		}, nil, "tpm: ", func(m *upgrade.RunningMachine) bool { return m.Running.Log == nil }},
		"a damaged log of systemd": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["run/log/systemd/tpm2-measure.log"] = file([]byte("{"))
		}, nil,
			"tpm: ", func(m *upgrade.RunningMachine) bool { return m.Userspace == nil }},
		"a damaged pcrlock.json": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["var/lib/systemd/pcrlock.json"] = file([]byte("{"))
		}, nil,
			"policy: ", func(m *upgrade.RunningMachine) bool { return m.Unlock.PCRLock == nil }},
		"SMBIOS": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["sys/firmware/dmi/tables/DMI"] = file(dmi)
		}, nil, "",
			func(m *upgrade.RunningMachine) bool { return m.Hardware != nil && m.Hardware.SMBIOS != nil }},
		"SMBIOS, and a device tree of whoever": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["sys/firmware/dmi/tables/DMI"], root["sys/firmware/devicetree/base/compatible"] = file(dmi), file([]byte("acme,one"))
		}, nil, "", func(m *upgrade.RunningMachine) bool { return m.Hardware == nil }},
		"no banks, and the loader's word for them": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			for _, bank := range []string{"sha256", "sha384"} {
				delete(root, "sys/class/tpm/tpm0/pcr-"+bank+"/0")
			}
			root[vars+"LoaderTpm2ActivePcrBanks"+loader] = file(append([]byte{6, 0, 0, 0}, wide("0x00000002")...))
		}, nil, "", func(m *upgrade.RunningMachine) bool { return len(m.Unlock.Banks) == 1 }},
		"a file that is too large": {func(root fstest.MapFS, _ *upgrade.ReadMachineOptions) {
			root["sys/firmware/dmi/tables/DMI"] = file(make([]byte, 16<<20+1))
		}, nil, "more than 16777216 bytes", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, root, hash := running(t)
			o := upgrade.ReadMachineOptions{Verity: mapped("root", hash)}
			tt.change(root, &o)
			m, err := upgrade.ReadMachine(root, o)
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			if tt.unread == "" {
				require.Empty(t, m.Unread)
			} else {
				require.Len(t, m.Unread, 1)
				require.ErrorContains(t, m.Unread[0], tt.unread)
			}
			require.True(t, tt.check == nil || tt.check(m))
		})
	}
}

type failing struct{ *faultio.Disk }

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

// The disk of the machine is the one that it was booted from, and never one that looks like it.
func TestFindDisk(t *testing.T) {
	s := newSystem(t, "")
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(t, err)
	esp := table.Partitions[0].ID
	disks := map[string]osmith.Source{"/dev/sda": faultio.NewDisk(1 << 20), "/dev/sdb": s.disk}
	_, err = upgrade.FindDisk(disks, osmith.GUID{1})
	require.ErrorIs(t, err, upgrade.ErrNotBootDisk)
	_, err = upgrade.FindDisk(disks, osmith.GUID{})
	require.ErrorContains(t, err, "neither StubDevicePartUUID nor LoaderDevicePartUUID")
	disks["/dev/sdc"] = s.disk.Clone()
	_, err = upgrade.FindDisk(disks, esp)
	var clone *upgrade.CloneError
	require.ErrorAs(t, err, &clone)
	require.Equal(t, []string{"/dev/sdb", "/dev/sdc"}, clone.Disks)
	require.ErrorContains(t, err, "upgrade: /dev/sdb and /dev/sdc all have a partition with the ID "+esp.String())
	disks["/dev/sdc"] = failing{faultio.NewDisk(1 << 20)}
	_, err = upgrade.FindDisk(disks, esp)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "/dev/sdc")
	damaged := s.disk.Clone()
	for _, off := range []int64{512, damaged.Size() - 512} {
		_, err := damaged.WriteAt([]byte("EFI PART, and nothing else"), off)
		require.NoError(t, err)
	}
	disks["/dev/sdc"] = damaged
	_, err = upgrade.FindDisk(disks, esp)
	require.True(t, errors.Is(err, partition.ErrDamaged), "%v: it may have had the partition", err)
}
