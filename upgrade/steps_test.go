package upgrade_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// allSteps are upgrades that have every kind of step between them.
func allSteps(t *testing.T) map[string]func() (*system, *upgrade.Plan) {
	return map[string]func() (*system, *upgrade.Plan){
		"over a failed set": func() (*system, *upgrade.Plan) {
			s := newSystem(t, "262")
			s.bootAndRun()
			require.NoError(t, s.planOf(s.bound(s.build("2"), "quiet"), upgrade.PlanOptions{Tries: 1}).Apply(t.Context(), nil))
			require.NoError(t, s.esp().Rename("EFI/Linux/acme_2+1.efi", "EFI/Linux/acme_2+0-1.efi"))
			state, err := upgrade.Inspect(s.disk, s.machine)
			require.NoError(t, err)
			file(s, s.esp(), "acme/linux", []byte("no kernel"))
			conf(s, s.esp(), "old.conf", "linux /acme/linux\noptions roothash="+fmt.Sprintf("%x", state.Slots[1].RootHash)+"\n")
			file(s, s.esp(), "EFI/Linux/acme_3.osmith-staged", []byte("of an interrupted upgrade"))
			return s, s.planOf(s.bound(s.build("3"), "quiet"), upgrade.PlanOptions{})
		},
		"to an older version": func() (*system, *upgrade.Plan) {
			s := newSystem(t, "262")
			s.install(s.build("2"))
			s.install(s.build("3"))
			s.bootAndRun()
			return s, s.plan(s.build("1"), upgrade.PlanOptions{Override: []upgrade.Proof{upgrade.ProofFollows}})
		},
		"with a signature": func() (*system, *upgrade.Plan) {
			s, k := signedDisk(t)
			return s, s.planOf(k.release(s, "2"), upgrade.PlanOptions{})
		},
		"after a cut": func() (*system, *upgrade.Plan) {
			s := newSystem(t, "262")
			s.bootAndRun()
			set := s.build("2")
			whole := s.on(s.disk.Clone())
			whole.record("2")
			for k := range whole.disk.Writes() {
				left := s.on(whole.disk.Prefix(k))
				if p := left.plan(set, upgrade.PlanOptions{}); p.Steps[0].Kind == upgrade.StepRepairESP {
					return left, p
				}
			}
			t.Fatal("no cut leaves anything to repair")
			return nil, nil
		},
	}
}

// What a step says that a power cut within it leaves is what boots then. docs/upgrade.md has every
// kind.
func TestCutsAreAsTheStepsSay(t *testing.T) {
	seen := map[upgrade.StepKind]bool{}
	for name, prepare := range allSteps(t) {
		t.Run(name, func(t *testing.T) {
			before, _ := prepare()
			old := before.boot().Version
			sys, plan := prepare()
			var starts []int // of writes
			sys.disk.Record()
			require.NoError(t, plan.Refused())
			require.NoError(t, plan.Apply(t.Context(), func(step int, _, _ int64) {
				if step == len(starts) {
					starts = append(starts, len(sys.disk.Writes()))
				}
			}))
			starts = append(starts, len(sys.disk.Writes()))
			for i, step := range plan.Steps {
				seen[step.Kind] = true
				last := i == len(plan.Steps)-1
				for k := starts[i]; k < starts[i+1]; k++ {
					left := sys.on(sys.disk.Prefix(k))
					left.requireEntriesWhole()
					switch step.Kind {
					case upgrade.StepWriteRoot, upgrade.StepWriteTree, upgrade.StepWriteSignature, upgrade.StepVerifySlot:
						state, err := upgrade.Inspect(left.disk, left.machine)
						require.NoError(t, err)
						require.Equal(t, partition.SlotPartial, state.Slots[plan.Target.Index].State, "cut behind write %d, in %s: nothing takes it for whole", k, step)
					}
					if got := left.boot().Version; !last || got != plan.Version {
						require.Equal(t, old, got, "cut behind write %d, in %s", k, step)
					}
				}
				require.Equal(t, last, strings.HasSuffix(step.Cut, "boots, or "+plan.Entry), "%s: %s", step, step.Cut)
				require.True(t, strings.HasPrefix(step.Cut, plan.From+" boots"), "%s: %s", step, step.Cut)
			}
			require.Equal(t, plan.Version, sys.boot().Version)
		})
	}
	text, err := os.ReadFile("../docs/upgrade.md")
	require.NoError(t, err)
	for kind := range seen {
		require.Contains(t, string(text), "| `"+string(kind)+"` |", "docs/upgrade.md says for every step what a power cut leaves")
	}
	require.Len(t, seen, 16, "%v", seen)
}
