package slots_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// The rules of the two scripts, in words of our own: what is started is printed.
const (
	raucScript = `load_env -f (hd0)/grubenv
start=none
for slot in $ORDER; do
  if [ "$slot" = A ]; then ok="$A_OK"; try="$A_TRY"; A_TRY=1; fi
  if [ "$slot" = B ]; then ok="$B_OK"; try="$B_TRY"; B_TRY=1; fi
  if [ "$ok" = 1 -a "$try" != 1 ]; then start=$slot; break; fi
done
save_env -f (hd0)/grubenv A_TRY B_TRY
echo "START-$start-"
exit
`
	kairosScript = `load_env -f (hd0)/grubenv
start=active
if [ "$enable_boot_assessment" = yes -o "$enable_boot_assessment_always" = yes ]; then
  if [ "$boot_assessment_tentative" = yes ]; then start=passive
  else
    boot_assessment_tentative=yes
    save_env -f (hd0)/grubenv boot_assessment_tentative
  fi
fi
echo "START-$start-"
exit
`
)

// GRUB itself runs the rules over blocks that are marked here, and chooses and saves what is
// predicted here.
func TestGRUBStarts(t *testing.T) {
	n, r := states(t, 12)
	for _, tool := range []string{"grub-emu", "script", "mkfs.vfat", "mcopy"} {
		testtools.Require(t, tool)
	}
	raucStore := func(env *slots.GRUBEnvironment) slots.Store {
		s, err := slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
		require.NoError(t, err)
		return s
	}
	for _, c := range []struct {
		name, script string
		store        func(*slots.GRUBEnvironment) slots.Store
		block        func() []byte
		marks        []slots.Mark
	}{
		{"rauc", raucScript, raucStore, func() []byte {
			return grubBlock(r.IntN(100), "ORDER="+[]string{"A B", "B A"}[r.IntN(2)], fmt.Sprintf("A_OK=%d", r.IntN(2)), "A_TRY=1", fmt.Sprintf("B_TRY=%d", r.IntN(2)), `kept=back\\slash`)
		}, []slots.Mark{{Slot: "A", As: slots.AsGood}, {Slot: "B", As: slots.AsTrying, Tries: 1, Fallback: "A"}, {Slot: "B", As: slots.AsBad, Fallback: "A"}}},
		{"kairos", kairosScript, func(env *slots.GRUBEnvironment) slots.Store { return slots.NewKairosGRUB(env) }, func() []byte {
			return grubBlock(r.IntN(100), []string{"enable_boot_assessment=yes", "enable_boot_assessment_always=yes", "boot_assessment_tentative=yes"}[r.IntN(3)])
		}, []slots.Mark{{Slot: slots.KairosActive, As: slots.AsTrying, Tries: 1, Fallback: slots.KairosPassive}, {Slot: slots.KairosActive, As: slots.AsGood},
			{Slot: slots.KairosActive, As: slots.AsCancelled, Fallback: slots.KairosPassive}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			disk, file := filepath.Join(dir, "disk"), filepath.Join(dir, "grubenv")
			save(t, disk, make([]byte, 2<<20))
			testtools.Run(t, "mkfs.vfat", disk)
			save(t, filepath.Join(dir, "device.map"), []byte("(hd0) "+disk+"\n"))
			save(t, filepath.Join(dir, "grub.cfg"), []byte(c.script))
			for range n {
				env, err := slots.ParseGRUBEnvironment(c.block())
				require.NoError(t, err)
				var s slots.Reader = c.store(env)
				for _, mark := range c.marks[:r.IntN(len(c.marks)+1)] {
					change, err := s.(slots.Store).Mark(mark)
					require.NoError(t, err)
					s = change.After
				}
				for range 3 {
					block, err := s.(interface {
						Environment() *slots.GRUBEnvironment
					}).Environment().MarshalBinary()
					require.NoError(t, err)
					save(t, file, block)
					testtools.Run(t, "mcopy", "-o", "-i", disk, file, "::grubenv")
					out := testtools.Run(t, "script", "-qec", fmt.Sprintf("TERM=dumb %s -m %s/device.map -d %s -r host", testtools.Require(t, "grub-emu"), dir, dir), "/dev/null")
					start, after := s.Boot()
					want := start.Slot
					if start.Outcome == slots.OutcomeUnknown {
						want = "none"
					}
					_, rest, ok := strings.Cut(out, "START-")
					require.True(t, ok, out)
					got, _, _ := strings.Cut(rest, "-")
					require.Equal(t, want, got, "%s", block)
					if after == nil {
						break
					}
					testtools.Run(t, "mcopy", "-o", "-i", disk, "::grubenv", file)
					saved, err := slots.ParseGRUBEnvironment(load(t, file))
					require.NoError(t, err)
					require.Equal(t, variablesOf(after.(slots.Store)), variablesOf(c.store(saved)))
					s = after
				}
			}
		})
	}
}
