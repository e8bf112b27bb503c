//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// TestUKIsAlone boots a disk without slots, whose sets are UKIs alone on an extended boot loader
// partition, and boots it again after package upgrade has put version 2 beside version 1. What each
// boot tells about itself is what the plan, and the commit, go by.
func TestUKIsAlone(t *testing.T) {
	requireVM(t)
	t.Parallel()
	root := testtools.Forky(t)
	s := newSystem(t, root)
	s.Machine.Code, s.Machine.Vars = root.Part(t, "ovmf-code"), root.Part(t, "ovmf-vars")
	require.NoError(t, s.Machine.SetVariables(*s.Facts.Firmware))
	one, err := s.UKI("1", twoProfiles())
	require.NoError(t, err)
	two, err := s.UKI("2", twoProfiles())
	require.NoError(t, err)
	apartDisk(t, s, one)

	first := boot(t, s.Machine, "1-first", Reported).Report
	require.Equal(t, "1", first.Version)
	facts := s.Facts
	facts.Offline, facts.Running, facts.Loader = false, runsAlone(t, first), &bootloader.Variables{}
	require.Equal(t, `\EFI\Linux\acme_1.efi`, facts.Running.Image)

	disk, err := s.OpenDisk()
	require.NoError(t, err)
	defer func() { require.NoError(t, disk.Close()) }()
	state, err := upgrade.Inspect(disk, facts)
	require.NoError(t, err)
	require.Equal(t, "xbootldr:EFI/Linux/acme_1.efi", state.Running.Path)
	plan, err := upgrade.NewPlan(t.Context(), disk, &release.Release{ID: acmeos.ID, Version: "2", UKI: bytes.NewReader(two)}, facts, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, plan.Apply(t.Context(), nil), "%s", plan)
	require.Equal(t, "xbootldr:EFI/Linux/acme_2+3.efi", plan.Entry)

	second := boot(t, s.Machine, "2-upgraded", Reported).Report
	require.Equal(t, "2", second.Version)
	facts.Running = runsAlone(t, second)
	require.Equal(t, `\EFI\Linux\acme_2+2-1.efi`, facts.Running.BootCountPath, "the loader counts there, too")
	banks, err := plan.Predicted.Replay(crypto.SHA256)
	require.NoError(t, err)
	for _, pcr := range []int{4, 7, 11} {
		require.Equal(t, banks[crypto.SHA256].PCR(pcr), second.InitrdPCRs["sha256"][pcr], "PCR %d", pcr)
	}
	path, err := upgrade.Commit(disk, facts, "")
	require.NoError(t, err)
	require.Equal(t, "xbootldr:EFI/Linux/acme_2.efi", path)
}

// runsAlone is what a boot tells about itself.
func runsAlone(t *testing.T, r *report.Report) *upgrade.Running {
	t.Helper()
	text := func(name string) string { return strings.TrimRight(efi.DecodeUTF16(r.Variables[name]), "\x00") }
	id, err := osmith.ParseGUID(strings.ToLower(text("StubDevicePartUUID")))
	require.NoError(t, err)
	log, err := tpm.ParseLog(r.EventLog)
	require.NoError(t, err)
	return &upgrade.Running{Image: text("StubImageIdentifier"), Version: r.Version, ESP: id, BootCountPath: text("LoaderBootCountPath"), Log: log}
}

// apartDisk makes a disk with an ESP that has the loader alone, and an extended boot loader
// partition with version 1.
func apartDisk(t *testing.T, s *System, one []byte) {
	t.Helper()
	loader, err := s.Builder.SignedLoader()
	require.NoError(t, err)
	installed, err := (&bootloader.Installation{Loader: loader, Config: &bootloader.Config{Timeout: "0"}}).Files()
	require.NoError(t, err)
	esp, err := fat.Plan(installed, fat.BuildOptions{Size: 48 << 20, Kind: 32, VolumeID: 1, Label: "ESP"})
	require.NoError(t, err)
	extended, err := fat.Plan([]osmith.ESPFile{{Path: "EFI/Linux/acme_1.efi", Content: bytes.NewReader(one)}}, fat.BuildOptions{Size: 256 << 20, Kind: 32, VolumeID: 2, Label: "BOOT"})
	require.NoError(t, err)
	image, err := partition.Plan(partition.Layout{Seed: s.Builder.Seed, Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "esp", Content: esp},
		{Type: partition.XBOOTLDR, Name: "boot", Content: extended},
	}})
	require.NoError(t, err)
	disk, err := acmeos.CreateImage(s.Machine.Disk, image.Size)
	require.NoError(t, err)
	require.NoError(t, partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}))
	require.NoError(t, disk.Close())
}
