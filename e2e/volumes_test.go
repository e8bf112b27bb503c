//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/upgrade"
)

// A guestStep is a program that the guest is to run.
type guestStep struct {
	Name   string
	Args   []string
	Static bool
	ESP    bool
	Mapped string
}

// unlocked is the moment at which the guest opens volumes.
var unlocked = []string{"enter-initrd"}

// TestVolumes boots a disk with an encrypted state partition that was made offline, with tokens of
// the machine's TPM: one for PCR 11 in any state that the vendor has signed for, one for the value
// of version 1. systemd-cryptsetup and our packages open it in version 1, and in version 2 as the
// unlocks verdict said before the upgrade; a token that systemd-cryptenroll adds in between, for
// that and PCR 7, is judged and opened alike. An agent in the machine reads it with our packages
// and sees what the host knows. When the TPM was cleared, the recovery key opens it.
func TestVolumes(t *testing.T) {
	requireVM(t)
	t.Parallel()
	root := testtools.Forky(t)
	s := newSystem(t, root)
	s.Machine.Code, s.Machine.Vars = root.Part(t, "ovmf-code"), root.Part(t, "ovmf-vars")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))
	s.Facts.Unlock.Phases, s.Facts.Userspace = unlocked, tpm.PhasesAlone()

	own := s.Builder.Cmdline
	s.Builder.Cmdline = own + " osmith.run=first"
	v1 := buildVersion(t, s, "1")
	s.Builder.Cmdline = own + " osmith.run=second"
	v2 := buildVersion(t, s, "2")

	data := make([]byte, 1<<20)
	rand.Read(data)
	digest := sha256.Sum256(data)
	want := hex.EncodeToString(digest[:])
	volume, recovery := stateVolume(t, s, v1, data)

	key, err := s.Builder.Keys.PCRPublicKey()
	require.NoError(t, err)
	shared := []osmith.ESPFile{
		{Path: "passphrase", Content: strings.NewReader("provisioning")},
		{Path: "recovery", Content: strings.NewReader(recovery)},
		{Path: "pcr.pem", Content: bytes.NewReader(key)},
	}
	shared = append(shared, s.volumePrograms(t, root)...)
	const device = "@state"
	attach := func(name string, keyFile, options string) guestStep {
		return guestStep{Name: name, Args: []string{"systemd-cryptsetup", "attach", "state", device, keyFile, options}, Mapped: "state"}
	}
	detach := func(name string) guestStep {
		return guestStep{Name: name, Args: []string{"systemd-cryptsetup", "detach", "state"}, Mapped: "state"}
	}
	opener := func(name string, how ...string) guestStep {
		return guestStep{Name: name, Args: append([]string{"opener", device}, how...), Static: true}
	}
	agent := guestStep{Name: "agent", Args: []string{"agent"}, Static: true}
	const byTPM = "tpm2-device=auto,headless=1"
	first := []guestStep{
		attach("systemd, TPM", "-", byTPM), detach("detach"),
		opener("ours, signed", "token", "0"), opener("ours, version 1", "token", "1"),
		{Name: "systemd-cryptenroll", Args: []string{"systemd-cryptenroll", "--unlock-key-file=/run/programs/passphrase", "--tpm2-device=auto", "--tpm2-pcrs=7",
			"--tpm2-public-key=/run/programs/pcr.pem", "--tpm2-public-key-pcrs=11", device}},
		opener("ours, systemd's token", "token", "3"), agent,
	}
	second := []guestStep{
		attach("systemd, TPM", "-", byTPM), detach("detach"),
		opener("ours, signed", "token", "0"), opener("ours, version 1", "token", "1"), opener("ours, systemd's token", "token", "3"),
		attach("systemd, recovery key", "/run/programs/recovery", "headless=1,tries=1"), detach("detach again"),
		opener("ours, recovery key", "recovery", "/run/programs/recovery"), agent,
	}
	// The kernel also mounts file systems that were made offline.
	mountable, mounts := fileSystems(t, root)
	image, err := s.Builder.Disk(v1, acmeos.DiskOptions{State: volume, Files: append(inDirectory(t, "first", slices.Concat(mounts, first), slices.Concat(shared, mountable)), inDirectory(t, "second", second, shared)...), ESPSize: 512 << 20})
	require.NoError(t, err)
	disk, err := acmeos.CreateImage(s.Machine.Disk, image.Size)
	require.NoError(t, err)
	require.NoError(t, errors.Join(partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}), disk.Close()))

	s.Machine.Memory = 1024
	one := bootGood(t, s, "1-first", v1)
	requireRuns(t, one, want, map[string]bool{"systemd, TPM": true, "ours, signed": true, "ours, version 1": true, "systemd-cryptenroll": true, "ours, systemd's token": true})

	requireMounts(t, one, mounts)
	requireAgent(t, one, v1, "acme_1.efi", []int{0, 1, 2, 3})

	// Before the upgrade it is known what the TPM will open.
	disk, err = s.OpenDisk()
	require.NoError(t, err)
	plan, err := upgrade.NewPlan(t.Context(), disk, v2.Release(), s.Facts, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, plan.Refused())
	text := plan.String()
	for _, line := range []string{
		`volume "state" in partition 6 after the upgrade: token 0 (systemd-tpm2) opens it; token 3 (systemd-tpm2) opens it; token 1 (systemd-tpm2) does not: sha256 PCR 11 is `,
		`volume "state" in partition 6 after the return to EFI/Linux/acme_1.efi: token 0 (systemd-tpm2) opens it; token 1 (systemd-tpm2) opens it; token 3 (systemd-tpm2) opens it`,
	} {
		require.Contains(t, text, line)
	}
	require.NoError(t, plan.Apply(t.Context(), nil))
	require.NoError(t, disk.Close())
	two := bootGood(t, s, "2-upgraded", v2)
	require.Equal(t, report.Blessed, two.Bless.Result)
	requireRuns(t, two, want, map[string]bool{"systemd, TPM": true, "ours, signed": true, "ours, version 1": false, "ours, systemd's token": true,
		"systemd, recovery key": true, "ours, recovery key": true})

	requireAgent(t, two, v2, "acme_2.efi", []int{0, 1, 2, 3}) // it was blessed before

	// Another TPM, or this one after it was cleared: a person opens the volume.
	require.NoError(t, os.RemoveAll(s.Machine.tpmDir()))
	cleared := bootGood(t, s, "3-cleared", v2)
	requireRuns(t, cleared, want, map[string]bool{"systemd, TPM": false, "ours, signed": false, "ours, version 1": false, "ours, systemd's token": false,
		"systemd, recovery key": true, "ours, recovery key": true})
	run, _ := cleared.Run("ours, signed")
	require.Contains(t, run.Output, sealing.ErrMissingKey.Error())
}

// requireRuns compares which steps have opened the volume, and what they found in it.
func requireRuns(t *testing.T, r *report.Report, digest string, want map[string]bool) {
	t.Helper()
	for _, run := range r.Runs {
		t.Logf("version %s: %s: %s %s", r.Version, run.Name, run.Error, run.Output)
	}
	for name, opens := range want {
		run, ok := r.Run(name)
		require.True(t, ok, name)
		require.Equal(t, opens, run.Error == "", "version %s: %s: %s: %s", r.Version, name, run.Error, run.Output)
		switch {
		case strings.HasPrefix(name, "ours") && opens:
			require.Equal(t, digest, run.Output, name)
		case strings.HasPrefix(name, "systemd, ") && opens:
			require.Equal(t, digest, run.Mapped, name)
		case strings.HasPrefix(name, "systemd, "):
			require.Empty(t, run.Mapped, name)
		}
	}
	for _, name := range []string{"detach", "detach again"} {
		if run, ok := r.Run(name); ok {
			require.Empty(t, run.Mapped, name)
		}
	}
}

// requireAgent holds what an agent sees on the machine, with packages bootloader and upgrade alone,
// against what the guest reports and what the host has made.
func requireAgent(t *testing.T, r *report.Report, set *acmeos.Set, entry string, tokens []int) {
	t.Helper()
	run, ok := r.Run("agent")
	require.True(t, ok)
	require.Empty(t, run.Error, run.Output)
	var seen struct {
		Disk, Image          string
		RootHash, SecureBoot []byte
		Events               int
		Banks, Unread        []string
		SMBIOS               bool
		Variables            bootloader.MachineVariables
		State                struct {
			Running, Next string
			ESP           struct{ Free int64 }
			Volumes       []struct {
				Partition int
				Tokens    []struct{ ID int }
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(run.Output), &seen), run.Output)
	require.Empty(t, seen.Unread)
	require.Equal(t, "/dev/vda", seen.Disk)
	require.Equal(t, set.RootHash, seen.RootHash)
	require.Equal(t, []byte{1}, seen.SecureBoot)
	require.True(t, seen.SMBIOS)
	log, err := tpm.ParseLog(r.EventLog)
	require.NoError(t, err)
	require.Equal(t, len(log.Events), seen.Events)
	require.ElementsMatch(t, slices.Collect(maps.Keys(r.PCRs)), seen.Banks)
	require.Equal(t, "EFI/Linux/"+entry, seen.State.Running)
	require.Positive(t, seen.State.ESP.Free, "the state is a value: the disk is closed by now")
	require.Equal(t, 6, seen.State.Volumes[0].Partition)
	var ids []int
	for _, token := range seen.State.Volumes[0].Tokens {
		ids = append(ids, token.ID)
	}
	require.Equal(t, tokens, ids)
	v := seen.Variables
	for name, got := range map[string]string{"LoaderInfo": v.LoaderInfo, "LoaderImageIdentifier": v.LoaderImage, "LoaderEntrySelected": v.EntrySelected, "LoaderBootCountPath": v.BootCountPath,
		"StubInfo": v.StubInfo, "StubImageIdentifier": v.StubImage, "LoaderDevicePartUUID": v.LoaderPartition.String(), "StubDevicePartUUID": v.StubPartition.String()} {
		require.Equal(t, strings.ToLower(r.Variable(name)), strings.ToLower(got), name)
	}
	require.Equal(t, seen.Image, v.StubImage)
	current, ok := v.Option(*v.Current)
	require.True(t, ok)
	require.True(t, current.Active)
	require.Contains(t, v.Order, *v.Current)
}

// stateVolume makes the volume: a passphrase for provisioning in key slot 0, two tokens of the
// machine's TPM, and a recovery key.
func stateVolume(t *testing.T, s *System, first *acmeos.Set, data []byte) (osmith.Source, string) {
	t.Helper()
	require.NoError(t, s.Machine.prepare())
	chip := swtpm.StartIn(t, s.Machine.tpmDir())
	chip.Boot(t, swtpm.Event{PCR: 0, Data: "the firmware of the factory"})
	defer chip.Stop()
	device, err := sealing.Open(chip.Name())
	require.NoError(t, err)
	defer device.Close()
	booted, err := s.Prediction(first, unlocked...)
	require.NoError(t, err)
	recovery := ""
	cheap := luks.KeyOptions{Rand: rand.Reader, KDF: luks.RandomKeyKDF}
	image, err := luks.NewImage(bytes.NewReader(data), 0, []byte("provisioning"), luks.FormatOptions{Rand: rand.Reader, Label: "state", Key: cheap, SectorSize: 4096},
		func(v *luks.Volume, key *luks.Key) error {
			for _, p := range []sealing.Policy{
				{Bank: crypto.SHA256, PublicKey: &s.Builder.Keys.PCR.PublicKey},
				{Bank: crypto.SHA256, PCRs: []int{tpm.PCRKernel}, Values: map[int][]byte{tpm.PCRKernel: booted.PCR(tpm.PCRKernel)}},
			} {
				secret := p.NewSecret()
				token, err := sealing.New(device).Seal(secret, p, sealing.Unlock{})
				if err != nil {
					return err
				}
				o := cheap
				if o.Token, err = token.MarshalJSON(); err != nil {
					return err
				}
				if _, err := v.AddKey(key, sealing.Passphrase(secret), o); err != nil {
					return err
				}
			}
			var err error
			recovery, _, err = v.AddRecoveryKey(key, cheap)
			return err
		})
	require.NoError(t, err)
	return image, recovery
}

// volumePrograms are systemd's programs for encrypted volumes with what they load, our opener, and
// the kernel module.
func (s *System) volumePrograms(t *testing.T, root testtools.Root) (out []osmith.ESPFile) {
	t.Helper()
	const lib = "/usr/lib/x86_64-linux-gnu/"
	out = withLibraries(t, root, "/usr/bin/systemd-cryptsetup", "/usr/bin/systemd-cryptenroll", lib+"libcryptsetup.so.12", lib+"libcrypto.so.3", lib+"libblkid.so.1",
		// the latter as they run
		lib+"libmount.so.1", lib+"libtss2-esys.so.0", lib+"libtss2-rc.so.0", lib+"libtss2-mu.so.0", lib+"libtss2-tcti-device.so.0")
	for _, name := range []string{"opener", "agent"} {
		file := filepath.Join(t.TempDir(), name)
		require.NoError(t, buildProgram(t.Context(), file, "amd64", guestPackage+"/"+name))
		program, err := os.ReadFile(file)
		require.NoError(t, err)
		out = append(out, osmith.ESPFile{Path: name, Content: bytes.NewReader(program)})
	}
	tree, err := readModuleTree(root.Part(t, "modules"))
	require.NoError(t, err)
	files, err := tree.closure([]string{"dm-crypt"})
	require.NoError(t, err)
	for _, f := range files {
		if moduleName(f) != "dm_crypt" {
			continue // the initrd has loaded it
		}
		b, err := tree.load(f)
		require.NoError(t, err)
		out = append(out, osmith.ESPFile{Path: moduleName(f) + ".ko", Content: bytes.NewReader(b)})
	}
	return out
}

// inDirectory are files of osmith.run=.
func inDirectory(t *testing.T, dir string, steps []guestStep, files []osmith.ESPFile) (out []osmith.ESPFile) {
	t.Helper()
	b, err := json.Marshal(steps)
	require.NoError(t, err)
	for _, f := range append([]osmith.ESPFile{{Path: "steps.json", Content: bytes.NewReader(b)}}, files...) {
		out = append(out, osmith.ESPFile{Path: path.Join(dir, f.Path), Content: f.Content})
	}
	return out
}
