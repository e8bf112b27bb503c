package upgrade_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/schematest"
	"github.com/osmith-dev/osmith/upgrade"
)

// requireSchema asserts that JSON is as docs/schema says.
func requireSchema(t *testing.T, name string, b []byte) {
	t.Helper()
	schematest.Require(t, "../docs/schema/"+name+".json", b)
}

// The JSON forms are as their schemas say, empty or full: no list is null.
func TestSchemas(t *testing.T) {
	s := newSystem(t, "")
	state := func() {
		t.Helper()
		st, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		b, err := json.Marshal(st)
		require.NoError(t, err)
		requireSchema(t, "state", b)
	}
	plan := func(p *upgrade.Plan) {
		t.Helper()
		b, err := json.Marshal(p)
		require.NoError(t, err)
		requireSchema(t, "plan", b)
	}
	state()
	s.bootAndRun()
	state()
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	plan(p)
	require.NoError(t, p.Apply(t.Context(), nil))
	state()
	for range 3 {
		_, err := s.machineUnderTest().Boot(t.Context())
		require.NoError(t, err)
	}
	state()
	s.bootAndRun()
	p = s.plan(s.build("3"), upgrade.PlanOptions{})
	plan(p)
	require.NoError(t, p.Apply(t.Context(), nil))
	requireSchema(t, "failed", read(t, s.esp(), "EFI/osmith/failed.json"))
	s.bootAndRun()
	state()
	again := s.plan(s.build("3"), upgrade.PlanOptions{})
	require.True(t, again.Installed)
	plan(again)
}
