package upgrade_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// What a vendor is told about a set before it is packed is what a machine makes of it.
func TestTheSameJudgeOnBothSides(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("2")
	other := bytes.Repeat([]byte{0xab}, 32)
	for name, tt := range map[string]struct {
		r    *release.Release
		want string // of both; empty: it is good for both
	}{
		"good":            {set.Release(), ""},
		"addon":           {s.bound(set, "quiet"), ""},
		"other root hash": {s.withUKI(set, func(im *uki.Image) { im.Cmdline = "roothash=" + hex.EncodeToString(other) }, 0), "abababab"},
		"unbound":         {s.withUKI(set, func(im *uki.Image) { im.Cmdline = "quiet" }, 0), "roothash"},
		"verity off":      {s.withUKI(set, func(im *uki.Image) { im.Cmdline += " systemd.verity=no" }, 0), "systemd.verity"},
		"version":         {func() *release.Release { r := *set.Release(); r.Version = "3"; return &r }(), `the release has version "3", but its UKI has "2"`},
		"variant":         {func() *release.Release { r := *set.Release(); r.Variant = "x"; return &r }(), `the release has variant "x", but its UKI has ""`},
		"root":            {func() *release.Release { r := *set.Release(); r.Root = flipped(t, r.Root, 5000); return &r }(), "verity: "},
	} {
		vendor := tt.r.Check(t.Context())
		plan, machine := upgrade.NewPlan(t.Context(), s.disk, tt.r, s.machine, upgrade.PlanOptions{})
		if machine == nil {
			machine = plan.Refused()
		}
		if name == "root" { // the machine reads it while it writes it
			require.NoError(t, machine)
			on := s.on(s.disk.Clone())
			machine = on.planOf(tt.r, upgrade.PlanOptions{}).Apply(t.Context(), nil)
		}
		if tt.want == "" {
			require.NoError(t, vendor, name)
			require.NoError(t, machine, name)
			continue
		}
		require.ErrorAs(t, vendor, new(*release.InconsistentError), name)
		require.ErrorContains(t, vendor, tt.want, name)
		require.ErrorContains(t, machine, tt.want, name)
	}
}
