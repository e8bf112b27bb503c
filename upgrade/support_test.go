package upgrade_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade"
)

// A plan says plainly what the release says of its support, and refuses nothing for it.
func TestPlanSupport(t *testing.T) {
	s := newSystem(t, "")
	s.bootAndRun()
	r := *s.build("2").Release()
	silent, err := upgrade.NewPlan(t.Context(), s.disk, &r, s.machine, upgrade.PlanOptions{At: when})
	require.NoError(t, err)
	require.Nil(t, silent.Support, "a release that does not say")
	require.NotContains(t, silent.String(), "support")

	r.SupportedUntil = "2031-12-31"
	for i := range 10 {
		r.Fixes = append(r.Fixes, fmt.Sprintf("CVE-2026-%d", i))
	}
	for _, c := range []struct {
		at    time.Time
		state upgrade.SupportState
		text  string
	}{
		{time.Time{}, upgrade.SupportUnknown, "  support  until 2031-12-31\n"},
		{time.Date(2031, 12, 31, 23, 59, 59, 0, time.UTC), upgrade.SupportLasts, "  support  until 2031-12-31\n"},
		{time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC), upgrade.SupportEnded, "  support  ENDED on 2031-12-31: the vendor promises no more security fixes for this version"},
	} {
		p, err := upgrade.NewPlan(t.Context(), s.disk, &r, s.machine, upgrade.PlanOptions{At: c.at})
		require.NoError(t, err)
		require.NoError(t, p.Refused())
		require.Equal(t, silent.Verdicts, p.Verdicts)
		require.Equal(t, c.state, p.Support.State)
		require.Contains(t, p.String(), c.text)
		require.Contains(t, p.String(), "  fixes    CVE-2026-0, CVE-2026-1,")
		require.Contains(t, p.String(), "CVE-2026-7 and 2 more\n")
		b, err := json.Marshal(p)
		require.NoError(t, err)
		requireSchema(t, "plan", b)
		require.Contains(t, string(b), `"support":{"until":"2031-12-31","state":"`+string(c.state)+`","fixes":["CVE-2026-0"`)
	}

	// Of a version that is installed, it is said as well.
	p, err := upgrade.NewPlan(t.Context(), s.disk, &r, s.machine, upgrade.PlanOptions{})
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context(), nil))
	s.bootAndRun()
	r.Fixes = nil
	p, err = upgrade.NewPlan(t.Context(), s.disk, &r, s.machine, upgrade.PlanOptions{At: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	require.True(t, p.Installed)
	require.Contains(t, p.String(), "ENDED on 2031-12-31")
	require.NotContains(t, p.String(), "fixes  ")
	b, err := json.Marshal(p)
	require.NoError(t, err)
	requireSchema(t, "plan", b)
}

// So does an installation.
func TestInstallSupport(t *testing.T) {
	i := newInstallation(t, 40*mib)
	r := *i.build("2").Release()
	r.SupportedUntil, r.Fixes = "2031-12-31", []string{"CVE-2026-1"}
	i.options.At = time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC)
	p, err := upgrade.PlanInstall(t.Context(), i.disk, &r, i.machine, i.options)
	require.NoError(t, err)
	require.NoError(t, p.Refused())
	require.Equal(t, &upgrade.Support{Until: "2031-12-31", State: upgrade.SupportEnded, Fixes: []string{"CVE-2026-1"}}, p.Support)
	require.Contains(t, p.String(), "ENDED on 2031-12-31")
	b, err := json.Marshal(p)
	require.NoError(t, err)
	requireSchema(t, "install", b)
	_, err = p.Apply(t.Context(), nil)
	require.NoError(t, err)
	p, err = upgrade.PlanInstall(t.Context(), i.disk, &r, i.machine, i.options)
	require.NoError(t, err)
	require.True(t, p.Installed)
	require.Contains(t, p.String(), "ENDED on 2031-12-31")
}
