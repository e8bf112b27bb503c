package upgrade_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// plain is a path without a boot counter.
func plain(name string) string {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if i := strings.LastIndexByte(stem, '+'); i >= 0 && strings.Trim(stem[i+1:], "0123456789-") == "" {
		stem = stem[:i]
	}
	return stem + ext
}

// machineOf is the machine as the oracle sees it, which shares no code with what it judges.
func (s *system) machineOf(v bootloader.Variables) oracle.Machine {
	s.t.Helper()
	table, err := partition.Read(s.disk, partition.ReadOptions{})
	require.NoError(s.t, err)
	window := table.Section(s.disk, 0)
	volume, err := oracle.ReadFAT(window, window.Size(), oracle.FATOptions{Reader: oracle.FATReaderEDK2})
	require.NoError(s.t, err)
	return oracle.Machine{ESP: volume.BootFiles(), Variables: oracle.LoaderVariables{
		OneShot: v.EntryOneShot, Preferred: v.EntryPreferred, Default: v.EntryDefault, LastBooted: v.EntryLastBooted,
	}}
}

// The chain of a plan is what an independent model of the loader makes of the disk once the plan is
// applied, start by start.
func TestChainAsTheOracleSeesIt(t *testing.T) {
	cases := 60
	if testing.Short() {
		cases = 24
	}
	rng := rand.New(rand.NewPCG(7, 262))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	ends := map[upgrade.LinkEnd]int{}
	for i := range cases {
		release := pick("262", "257.13") // those that the oracle was compared with
		s := newSystem(t, release)
		esp := s.esp()
		for range rng.IntN(4) {
			name := "x" + fmt.Sprint(rng.IntN(3)) + pick("", "+1", "+3", "+0-2", "+2-1")
			text := fmt.Sprintf("title x\n%s /EFI/tools/x.efi\nsort-key %s\nversion %s\n", pick("linux", "efi"), pick("acme", "b", "aaa"), pick("0", "1", "1.5", "2", "9"))
			if esp.MkdirAll("EFI/tools") == nil {
				_ = esp.WriteFile("EFI/tools/x.efi", source(petest.Kernel("6.18.0")))
			}
			require.NoError(t, esp.MkdirAll("loader/entries"))
			// some are there already
			_ = esp.WriteFile("loader/entries/"+name+".conf", source([]byte(text)))
		}
		one := pick("", "", "+1", "+2-1", "+0-3")
		require.NoError(t, esp.Rename("EFI/Linux/acme_1.efi", "EFI/Linux/acme_1"+one+".efi"))
		config := pick("", "", "default acme_1*\n", "preferred acme_2*\n", "default x*\n", "default @saved\n", "preferred x0.conf\n")
		require.NoError(t, esp.ReplaceFile("loader/loader.conf", source([]byte("timeout 0\n"+config))))
		v := bootloader.Variables{EntryOneShot: pick("", "", "", "acme_2.efi", "acme_1.efi", "x1*"), EntryDefault: pick("", "", "", "@saved", "acme_2*", "acme_1.efi"),
			EntryPreferred: pick("", "", "acme_1*", "@saved"), EntryLastBooted: pick("", "acme_1.efi", "x0.conf")}
		s.machine.Loader = &v
		s.machine.Offline = false
		// the oracle starts what is not signed, too
		s.machine.Firmware, s.machine.NoSecureBoot = nil, true
		s.machine.Running = &upgrade.Running{Image: "EFI/Linux/acme_1" + one + ".efi", RootHash: s.build("1").RootHash}
		p := s.plan(s.build("2"), upgrade.PlanOptions{Tries: 1 + rng.IntN(4), Override: upgrade.Proofs()})
		require.NoError(t, p.Apply(context.Background(), nil))

		var got []string
		for _, l := range p.Chain {
			if l.End != upgrade.LinkNothing {
				got = append(got, slices.Repeat([]string{plain(l.Entry)}, l.Starts)...)
			}
		}
		end := p.Chain[len(p.Chain)-1].End
		ends[end]++
		var want []string
		for _, c := range s.machineOf(v).Chain(len(got) + 2) {
			if c.Entry != nil {
				want = append(want, plain(c.Entry.Path))
			}
		}
		menu := s.machineOf(v).Boot().Menu
		context := fmt.Sprintf("case %d: %s %q %q %+v: %v; %+v", i, release, one, config, v, p.Chain, menu)
		require.GreaterOrEqual(t, len(want), len(got), context)
		require.Equal(t, want[:len(got)], got, context)
		if end == upgrade.LinkStuck {
			for _, next := range want[len(got):] {
				require.Equal(t, got[len(got)-1], next, context)
			}
		}
	}
	require.Greater(t, ends[upgrade.LinkReturns], 2, ends)
	require.Greater(t, ends[upgrade.LinkStuck], 2, ends)
}
