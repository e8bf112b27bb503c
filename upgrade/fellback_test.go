package upgrade_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
)

// What runs, what comes next and why, and what the machine came back from.
func TestStateSaysWhy(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	inspect := func() *upgrade.State {
		t.Helper()
		st, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		b, err := json.Marshal(st)
		require.NoError(t, err)
		requireSchema(t, "state", b)
		return st
	}
	path := func(e *upgrade.Entry) string {
		if e == nil {
			return ""
		}
		return e.Path
	}
	st := inspect()
	require.Nil(t, st.FellBack)
	require.Equal(t, bootloader.ReasonOrder, st.NextReason)
	require.Equal(t, "EFI/Linux/acme_1.efi", path(st.LastGood))
	require.Contains(t, st.String(), "entry   EFI/Linux/acme_1.efi  good, slot A, runs, next (first in the menu), last good\n")
	require.Contains(t, st.String(), "secure boot: on\n")

	// A version that is not tried yet is no reason to have fallen back.
	two := s.build("2")
	require.NoError(t, s.plan(two, upgrade.PlanOptions{}).Apply(t.Context(), nil))
	st = inspect()
	require.Nil(t, st.FellBack)
	require.Equal(t, "EFI/Linux/acme_2+3.efi", path(st.Next))
	require.Equal(t, "EFI/Linux/acme_1.efi", path(st.LastGood), "it was never up")

	// Its slot is damaged: three tries, and back.
	off, _, err := acmeos.PartitionOf(s.disk, two.RootHash)
	require.NoError(t, err)
	_, err = s.disk.WriteAt([]byte("damage"), off+8192)
	require.NoError(t, err)
	s.bootAndRun()
	st = inspect()
	require.Equal(t, "2", st.FellBack.Version)
	require.Equal(t, "EFI/Linux/acme_2+0-3.efi", path(st.FellBack.Entry))
	require.Contains(t, st.String(), "fell back to version 1 from 2: EFI/Linux/acme_2+0-3.efi has failed in all of its 3 tries\n")
	off1 := s.machine
	off1.Offline, off1.Running = true, nil
	dark, err := upgrade.Inspect(s.disk, off1)
	require.NoError(t, err)
	require.Nil(t, dark.FellBack, "nothing runs")

	// The next upgrade takes its place, and remembers it.
	require.NoError(t, s.plan(s.build("3"), upgrade.PlanOptions{}).Apply(t.Context(), nil))
	st = inspect()
	require.Equal(t, &upgrade.FellBack{Version: "2", Reason: "version 2 has failed here, and is gone from the ESP"}, st.FellBack)
	b := s.bootAndRun()
	require.Equal(t, "3", b.Version)
	require.Nil(t, inspect().FellBack, "what runs is newer than what has failed")

	// The default is pinned by a tool.
	s.machine.Loader = &bootloader.Variables{EntryDefault: "acme_1*"}
	st = inspect()
	require.Equal(t, bootloader.ReasonDefault, st.NextReason)
	require.Equal(t, "EFI/Linux/acme_1.efi", path(st.Next))

	for name, f := range map[string]*osmith.FirmwareVariables{"": nil, "none": {SecureBoot: []byte{}}, "off": {SecureBoot: []byte{0}, SetupMode: []byte{0}}, "setup mode": {SecureBoot: []byte{0}, SetupMode: []byte{1}}} {
		s.machine.Firmware = f
		b, err := json.Marshal(inspect())
		require.NoError(t, err)
		var got struct {
			SecureBoot string `json:"secureBoot"`
		}
		require.NoError(t, json.Unmarshal(b, &got))
		require.Equal(t, name, got.SecureBoot)
	}
}

// Only a newer version of the same product is one that the machine fell back from.
func TestFellBackFrom(t *testing.T) {
	osRelease := func(product, version string) []byte {
		return []byte("ID=" + product + "\nIMAGE_ID=" + product + "\nIMAGE_VERSION=" + version + "\n")
	}
	for name, tt := range map[string]struct {
		file, product, version string
		remembered             string // failed.json
		want                   string // version
	}{
		"a newer version":             {"EFI/Linux/acme_9+0-3.efi", "acme", "9", "", "9"},
		"one with tries":              {"EFI/Linux/acme_9+1-2.efi", "acme", "9", "", ""},
		"one that was never tried":    {"EFI/Linux/acme_9+0.efi", "acme", "9", "", ""},
		"an older version":            {"EFI/Linux/acme_0+0-3.efi", "acme", "0", "", ""},
		"another product":             {"EFI/Linux/other_9+0-3.efi", "other", "9", "", ""},
		"remembered":                  {"", "", "", `{"schema":"osmith.failed/1","releases":[{"product":"acme","version":"7","uki":"` + strings.Repeat("ab", 32) + `"}]}`, "7"},
		"remembered, another product": {"", "", "", `{"schema":"osmith.failed/1","releases":[{"product":"other","version":"7","uki":"` + strings.Repeat("ab", 32) + `"}]}`, ""},
		"both": {"EFI/Linux/acme_9+0-3.efi", "acme", "9",
			`{"schema":"osmith.failed/1","releases":[{"product":"acme","version":"7","uki":"` + strings.Repeat("ab", 32) + `"}]}`, "9"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, "")
			s.bootAndRun()
			esp := s.esp()
			if tt.file != "" {
				r := s.withUKI(s.build("5"), func(im *uki.Image) { im.OSRelease = osRelease(tt.product, tt.version) }, 0)
				require.NoError(t, esp.WriteFile(tt.file, r.UKI))
			}
			if tt.remembered != "" {
				require.NoError(t, esp.MkdirAll("EFI/osmith"))
				require.NoError(t, esp.WriteFile("EFI/osmith/failed.json", source([]byte(tt.remembered))))
			}
			st, err := upgrade.Inspect(s.disk, s.machine)
			require.NoError(t, err)
			require.NoError(t, st.FailedErr)
			if tt.want == "" {
				require.Nil(t, st.FellBack)
				return
			}
			require.NotNil(t, st.FellBack)
			require.Equal(t, tt.want, st.FellBack.Version)
		})
	}
}
