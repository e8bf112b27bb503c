//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// An input is one of those of a boot. A boot that was expected to have another one differs in what
// the causes say, and in what follows from them.
type input struct {
	name   string
	files  func(t *testing.T, files espFiles) // changes the ESP,
	boot   func(b *UKIBoot)                   // or what is booted,
	values func(b *tpm.Boot)                  // or what the firmware has
	causes []string                           // without digests
	pcrs   []int                              // of all differences
}

// explained checks the log of a boot against predictions of boots that have another input. Each
// time that input is named, and nothing else. No boot is needed for it.
func explained(t *testing.T, s *System, inputs []input, files espFiles, before, got *report.Report) {
	t.Helper()
	actual, err := tpm.ParseLog(got.EventLog)
	require.NoError(t, err)
	for _, c := range inputs {
		t.Run("explain "+c.name, func(t *testing.T) {
			files := maps.Clone(files)
			if c.files != nil {
				c.files(t, files)
			}
			what := files.boot(t, 1, before)
			if c.boot != nil {
				c.boot(&what)
			}
			described, err := s.Describe(what)
			require.NoError(t, err)
			if c.values != nil {
				c.values(described)
			}
			expected, err := tpm.Predict(*described)
			require.NoError(t, err)
			if release, err := described.Stub.Release(); err != nil || c.name == "secret" && release < 261 {
				require.NoError(t, err)
				c.causes, c.pcrs = nil, nil // there is none
			}

			all := tpm.Diff(expected, actual)
			var pcrs []int
			for _, d := range all {
				pcrs = append(pcrs, d.PCR)
			}
			require.Equal(t, c.pcrs, pcrs, "%v", all)
			var causes []string
			for _, d := range tpm.Causes(all) {
				causes = append(causes, digestRE.ReplaceAllString(d.String(), "DIGEST"))
				var said struct {
					PCR        int
					Kind, Text string
				}
				b, err := json.Marshal(d)
				require.NoError(t, err)
				require.NoError(t, json.Unmarshal(b, &said))
				require.Equal(t, d.String(), fmt.Sprintf("PCR %d: %s", said.PCR, said.Text))
				require.Equal(t, d.Kind(), said.Kind)
			}
			require.Equal(t, c.causes, causes, "%v", all)
		})
	}
}

var digestRE = regexp.MustCompile("[0-9a-f]{16}…")

// inputs are those of a boot of the second profile of an image, with companion files.
func inputs(s *System, r testtools.Root, im uki.Image) []input {
	const extra = firstPath + ".extra.d/"
	put := func(name, content string) func(*testing.T, espFiles) {
		return func(_ *testing.T, files espFiles) { files[name] = []byte(content) }
	}
	without := func(name string) func(*testing.T, espFiles) {
		return func(_ *testing.T, files espFiles) { delete(files, name) }
	}
	rebuilt := func(change func(*uki.Image)) func(*testing.T, espFiles) {
		return func(t *testing.T, files espFiles) {
			im := im
			im.Profiles = slices.Clone(im.Profiles)
			change(&im)
			var err error
			files[firstPath], err = s.UKI("1", im)
			require.NoError(t, err)
		}
	}
	esp := partition.SeedPartitionID(s.Builder.Seed, partition.ESP, 0)
	return []input{
		{name: "nothing"},
		{name: "command line of an add-on", files: func(t *testing.T, files espFiles) {
			_, files[extra+"acme.addon.efi"] = addons(t, s, r, "acme.addon=other")
		}, causes: []string{`PCR 4: add-on \EFI\Linux\acme_1.efi.extra.d\acme.addon.efi differs (Authenticode DIGEST, expected DIGEST)`}, pcrs: []int{4, 9, 12}},
		{name: "an add-on", files: without("loader/addons/acme.addon.efi"),
			causes: []string{`PCR 4: add-on \loader\addons\acme.addon.efi was not expected (DIGEST)`,
				"PCR 12: command line add-on: 'acme.addon=global' was not expected"}, pcrs: []int{4, 9, 12, 12}},
		{name: "a credential", files: put(extra+"acme.cred", "another credential"),
			causes: []string{`PCR 12: companion files 'Credentials initrd' differs (DIGEST, expected DIGEST)`}, pcrs: []int{9, 12}},
		{name: "a credential for every image", files: put("loader/credentials/a.cred", "not empty"),
			causes: []string{`PCR 12: companion files 'Global credentials initrd' differs (DIGEST, expected DIGEST)`}, pcrs: []int{9, 12}},
		{name: "a system extension", files: put(extra+"acme.sysext.raw", "another system extension"),
			causes: []string{`PCR 13: companion files 'System extension initrd' differs (DIGEST, expected DIGEST)`}, pcrs: []int{9, 13}},
		{name: "a configuration extension", files: without(extra + "acme.confext.raw"),
			causes: []string{`PCR 12: not expected: companion files 'Configuration extension initrd' (DIGEST)`}, pcrs: []int{9, 12}},
		{name: "profile", boot: func(b *UKIBoot) { b.Profile = 0 },
			causes: []string{`PCR 12: profile 1 is booted, expected the default one (DIGEST)`}, pcrs: []int{9, 9, 11, 11, 12, 12}},
		{name: "another profile", files: rebuilt(func(im *uki.Image) {
			im.Profiles = append(im.Profiles, uki.Profile{Profile: []byte("ID=third\n")})
		}), boot: func(b *UKIBoot) { b.Profile = 2 },
			causes: []string{`PCR 4: the UKI \EFI\Linux\acme_1.efi differs (Authenticode DIGEST, expected DIGEST)`, "PCR 12: profile 1 is booted, expected profile 2"},
			pcrs:   []int{4, 9, 9, 11, 11, 12, 12}},
		{name: "command line of the image", files: rebuilt(func(im *uki.Image) { im.Profiles[0].Cmdline = kernelArguments }),
			causes: []string{`PCR 4: the UKI \EFI\Linux\acme_1.efi differs (Authenticode DIGEST, expected DIGEST): .cmdline differs`,
				"PCR 9: the initrds that the kernel got differ, or the secret in them does (DIGEST, expected DIGEST)"}, pcrs: []int{4, 9, 9, 11}},
		{name: "secret", boot: func(b *UKIBoot) {
			another := *b.Before
			another.BootSecret = bytes.Repeat([]byte{1}, 32)
			b.Before = &another
		}, causes: []string{"PCR 9: the initrds that the kernel got differ, or the secret in them does (DIGEST, expected DIGEST)"}, pcrs: []int{9}},
		{name: "loader.conf", values: func(b *tpm.Boot) { changedLoader(b).Conf = []byte("timeout 5\n") },
			causes: []string{"PCR 5: loader.conf differs (DIGEST, expected DIGEST)"}, pcrs: []int{5}},
		{name: "partition table", values: func(b *tpm.Boot) {
			b.GPT.Entries = bytes.Clone(b.GPT.Entries)
			b.GPT.Entries[56] = 'E' // of its first partition's name
		}, causes: []string{fmt.Sprintf("PCR 5: the partition table differs: partition 'esp' %v differs in type, name or flags", esp)}, pcrs: []int{5}},
		{name: "dbx", values: func(b *tpm.Boot) {
			keys := s.Builder.Keys.SecureBoot
			variables := *b.Variables
			variables.DBX, _ = secureboot.AppendSignatureLists(nil, secureboot.SHA256List(keys.Owner, [32]byte{1}))
			b.Variables = &variables
		}, causes: []string{"PCR 7: dbx is absent, expected hash 01" + strings.Repeat("0", 62)}, pcrs: []int{7}},
		{name: "boot loader", values: func(b *tpm.Boot) { changedLoader(b).Digests = b.UKI.Digests },
			causes: []string{`PCR 4: the boot loader \EFI\BOOT\BOOTX64.EFI differs (Authenticode DIGEST, expected DIGEST)`}, pcrs: []int{4}},
	}
}

// changedLoader returns the boot loader of a boot, as one of its own that can be changed.
func changedLoader(b *tpm.Boot) *tpm.SystemdBoot {
	loader := *b.Chain[0].(*tpm.SystemdBoot)
	b.Chain = []tpm.Program{&loader}
	return &loader
}
