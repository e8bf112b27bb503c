package upgrade_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// What a plan that is not refused promises is what happens, whatever state the disk is in: the new
// version boots, and if its file system is bad, the machine is up again with another one by itself.
func TestPromises(t *testing.T) {
	cases := 60
	if testing.Short() {
		cases = 20
	}
	rng := rand.New(rand.NewPCG(11, 262))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	applied, refused, errs := 0, 0, 0
	for i := range cases {
		s := newSystemOf(t, "262", 2+rng.IntN(2))
		sets := map[string]*acmeos.Set{"1": s.build("1")}
		s.bootAndRun()
		var last *upgradetest.Boot
		for _, v := range []string{"2", "3"}[:rng.IntN(3)] {
			set := s.build(v)
			p, err := upgrade.NewPlan(t.Context(), s.disk, set.Release(), s.machine, upgrade.PlanOptions{Override: upgrade.Proofs()})
			if err != nil {
				continue
			}
			require.NoError(t, p.Apply(context.Background(), nil))
			sets[v] = set
			for range rng.IntN(4) {
				last = s.boot()
				s.machine = s.running(last)
			}
			if last != nil && last.Version == v && rng.IntN(2) == 0 {
				require.NoError(t, s.commit(last))
			}
		}
		for v, set := range sets {
			if s.holds(set) && rng.IntN(6) == 0 {
				s.damage(set)
				t.Log(i, "damaged", v)
			}
		}
		if rng.IntN(3) == 0 {
			require.NoError(t, s.esp().ReplaceFile("loader/loader.conf", source([]byte(pick("default acme_1*\n", "preferred acme_1*\n", "default acme_4*\n", "default @saved\n")))))
		}
		s.machine.Loader = &bootloader.Variables{EntryOneShot: pick("", "", "acme_4.efi"), EntryDefault: pick("", "", "", "acme_4*", "acme_2*"), EntryPreferred: pick("", "", "acme_4*", "acme_3*")}

		four := s.build("4")
		p, err := upgrade.NewPlan(t.Context(), s.disk, four.Release(), s.machine, upgrade.PlanOptions{Tries: 1 + rng.IntN(3)})
		if err != nil {
			require.ErrorAs(t, err, new(*upgrade.NoTargetError), "case %d", i)
			errs++
			continue
		}
		if p.Refused() != nil {
			refused++
			continue
		}
		applied++
		require.NoError(t, p.Apply(context.Background(), nil))
		what := fmt.Sprintf("case %d: %v %+v", i, p.Chain, *s.machine.Loader)
		good := s.on(s.disk.Clone())
		require.Equal(t, "4", good.boot().Version, what)
		s.damage(four)
		boots, err := (&upgradetest.Machine{Disk: s.disk, Machine: s.machine}).BootUntilUp(context.Background(), 30)
		require.NoError(t, err)
		end := boots[len(boots)-1]
		require.Equal(t, upgradetest.Up, end.Outcome, what)
		require.NotEqual(t, "4", end.Version, what)
	}
	t.Log(applied, "applied,", refused, "refused,", errs, "without a slot")
	require.Greater(t, applied, cases/6)
	require.Greater(t, refused, cases/6)
}

// holds reports whether a set's file system is on the disk.
func (s *system) holds(set *acmeos.Set) bool {
	_, _, err := acmeos.PartitionOf(s.disk, set.RootHash)
	return err == nil
}
