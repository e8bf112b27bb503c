package slots_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader/slots"
)

// gpt is a store with the attributes of the slots 2, 4 and so on.
func gpt(t *testing.T, profile slots.GPTProfile, attributes ...uint64) *slots.GPTPrio {
	t.Helper()
	var all []slots.GPTPartition
	for i, a := range attributes {
		all = append(all, slots.GPTPartition{Number: 2 * (i + 1), Type: profile.SlotType(), Attributes: slots.GPTAttributes(a)})
	}
	g, err := slots.NewGPTPrio(profile, all)
	require.NoError(t, err)
	return g
}

const (
	good3   = 1<<56 | 3<<48
	trying4 = 2<<52 | 4<<48
)

func refuses(t *testing.T, s slots.Store, m slots.Mark, want error, text string) {
	t.Helper()
	c, err := s.Mark(m)
	require.ErrorIs(t, err, want, "%+v", m)
	require.ErrorContains(t, err, text)
	require.Nil(t, c)
}

func TestMarkRefuses(t *testing.T) {
	s := gpt(t, slots.GPTFlatcar, good3, trying4)
	try := slots.Mark{Slot: "4", As: slots.AsTrying, Tries: 3, Fallback: "2"}
	_, err := s.Mark(try)
	require.NoError(t, err)
	for _, tries := range []int{0, -1, 16} {
		m := try
		m.Tries = tries
		refuses(t, s, m, slots.ErrMark, "want 1 to 15 in gptprio of Flatcar")
	}
	refuses(t, s, slots.Mark{Slot: "4"}, slots.ErrMark, "mark As(0): want trying, good, cancelled or bad")
	refuses(t, s, slots.Mark{Slot: "4", As: 9}, slots.ErrMark, "As(9)")
	refuses(t, s, slots.Mark{Slot: "5", As: slots.AsGood}, slots.ErrSlot, `slot "5"`)
	for _, as := range []slots.As{slots.AsTrying, slots.AsCancelled, slots.AsBad} {
		refuses(t, s, slots.Mark{Slot: "4", As: as, Tries: 1}, slots.ErrSlot, `slot ""`)
		refuses(t, s, slots.Mark{Slot: "4", As: as, Tries: 1, Fallback: "4"}, slots.ErrNoFallback, "a slot cannot return to itself")
		// 4 was never declared good: who names it as the slot to return to is wrong, or has to mark
		// it.
		refuses(t, s, slots.Mark{Slot: "2", As: as, Tries: 1, Fallback: "4"}, slots.ErrNoFallback, "the store does not record it as good; mark it good if it is running")
	}
}

// A third slot that would come between the slot that is tried and the one to return to, or before
// both, is found.
func TestMarkIsJudged(t *testing.T) {
	three := gpt(t, slots.GPTChromeOS, good3, 0, 5<<48|1<<52)
	refuses(t, three, slots.Mark{Slot: "4", As: slots.AsTrying, Tries: 1, Fallback: "2"}, slots.ErrNoFallback, `but slot "6" (priority 5, 1 tries left)`)
	refuses(t, three, slots.Mark{Slot: "4", As: slots.AsBad, Fallback: "2"}, slots.ErrNoFallback, `slot "6"`)
	c, err := three.Mark(slots.Mark{Slot: "4", As: slots.AsGood})
	require.NoError(t, err)
	require.Equal(t, "4", slots.Predict(c.After).Starts[0].Slot)
	// Priority 0 is not started, however good.
	zero := gpt(t, slots.GPTBottlerocket, 1<<56, trying4)
	refuses(t, zero, slots.Mark{Slot: "4", As: slots.AsTrying, Tries: 1, Fallback: "2"}, slots.ErrNoFallback, "nothing (no slot has a priority")

	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{}, ubootCopy(512, false, 0, "BOOT_ORDER=A B", "BOOT_A_LEFT=0", "BOOT_B_LEFT=3"))
	require.NoError(t, err)
	r, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{})
	require.NoError(t, err)
	require.Equal(t, slots.AnswerUnknown, r.Properties().FallsBack)
	require.Equal(t, slots.AnswerNo, r.Properties().Torn)
	refuses(t, r, slots.Mark{Slot: "B", As: slots.AsTrying, Tries: 2, Fallback: "A"}, slots.ErrNoFallback, `slot "A": the loader would not start the slot to return to`)

	grub, err := slots.ParseGRUBEnvironment(grubBlock(0, "ORDER=A B", "A_OK=1", "A_TRY=1"))
	require.NoError(t, err)
	g, err := slots.NewRAUCGRUB(grub, []string{"A", "B"}, slots.RAUCOptions{})
	require.NoError(t, err)
	refuses(t, g, slots.Mark{Slot: "B", As: slots.AsTrying, Tries: 1, Fallback: "A"}, slots.ErrNoFallback, "the default entry of grub.cfg")
	refuses(t, g, slots.Mark{Slot: "B", As: slots.AsTrying, Tries: 2, Fallback: "A"}, slots.ErrMark, "2 tries, want 1 to 1")
}

// Priorities are lowered where there is no room above them, and never so that a slot that is to be
// tried, or another one, gets ahead.
func TestGPTPriorities(t *testing.T) {
	s := gpt(t, slots.GPTChromeOS, 1<<56|15<<48, 1<<56|14<<48, 1<<56|7<<48)
	c, err := s.Mark(slots.Mark{Slot: "6", As: slots.AsTrying, Tries: 2, Fallback: "2"})
	require.NoError(t, err)
	require.Len(t, c.Writes, 4)
	state := []uint64{1<<56 | 15<<48, 1<<56 | 14<<48, 1<<56 | 7<<48}
	for i, w := range c.Writes {
		require.Equal(t, state[w.Number/2-1], binary.LittleEndian.Uint64(w.Before))
		state[w.Number/2-1] = binary.LittleEndian.Uint64(w.After)
		first, _ := gptMachine{[]string{"2", "4", "6"}, state, false}.start()
		if i < len(c.Writes)-1 {
			require.Equal(t, "2", first, "after write %d: %x", i, state)
		}
	}
	require.Equal(t, []uint64{1<<56 | 2<<48, 1<<56 | 1<<48, 2<<52 | 3<<48}, state)

	// Fifteen other slots have all priorities that there are.
	var all []uint64
	for i := range uint64(15) {
		all = append(all, 1<<56|(i+1)<<48)
	}
	full := gpt(t, slots.GPTChromeOS, append(all, 0)...)
	refuses(t, full, slots.Mark{Slot: "32", As: slots.AsGood}, slots.ErrNoSpace, "all 15 priorities")
}

// Bottlerocket's signpost takes a slot with tries for valid: cancelling leaves them, and takes the
// priority. A system that declares itself good leaves its mark on the private partition.
func TestBottlerocket(t *testing.T) {
	private := slots.GPTPartition{Number: 9, Type: [16]byte{0x44, 0x04, 0x08, 0xbb, 0xeb, 0x0b, 0x43, 0x28, 0xa6, 0xe5, 0xa2, 0x90, 0x38, 0xfa, 0xd7, 0x06}, Attributes: 5}
	boot := slots.GPTBottlerocket.SlotType()
	s, err := slots.NewGPTPrio(slots.GPTBottlerocket, []slots.GPTPartition{{Number: 2, Type: boot, Attributes: good3}, {Number: 4, Type: boot, Attributes: trying4}, private})
	require.NoError(t, err)
	require.Len(t, s.Slots(), 2)
	require.Equal(t, slots.AnswerYes, s.Properties().KeepsValid)
	c, err := s.Mark(slots.Mark{Slot: "4", As: slots.AsCancelled, Fallback: "2"})
	require.NoError(t, err)
	require.Equal(t, slots.GPTAttributes(2<<52), c.After.(*slots.GPTPrio).Partitions()[1].Attributes)
	c, err = s.Mark(slots.Mark{Slot: "4", As: slots.AsBad, Fallback: "2"})
	require.NoError(t, err)
	require.Zero(t, c.After.(*slots.GPTPrio).Partitions()[1].Attributes)
	c, err = s.Mark(slots.Mark{Slot: "4", As: slots.AsGood})
	require.NoError(t, err)
	after := c.After.(*slots.GPTPrio).Partitions()
	require.True(t, after[2].Attributes.HasBooted())
	require.Equal(t, slots.GPTAttributes(1<<57|5), after[2].Attributes)
	require.Equal(t, slots.GPTAttributes(1<<56|4<<48), after[1].Attributes)
	require.False(t, s.Partitions()[2].Attributes.HasBooted(), "a store is a value")
	// Of the others' cancelled slots nothing is left.
	c, err = gpt(t, slots.GPTFlatcar, good3, trying4).Mark(slots.Mark{Slot: "4", As: slots.AsCancelled, Fallback: "2"})
	require.NoError(t, err)
	require.Zero(t, c.After.(*slots.GPTPrio).Partitions()[1].Attributes)
}

func TestGPTPrioRefuses(t *testing.T) {
	kernel := slots.GPTChromeOS.SlotType()
	for want, make := range map[string]func() (*slots.GPTPrio, error){
		"profile GPTProfile(0): want ChromeOS, Flatcar or Bottlerocket": func() (*slots.GPTPrio, error) {
			return slots.NewGPTPrio(0, []slots.GPTPartition{{Number: 1}})
		},
		"no partition of type fe3a2a5d-4f32-41a7-b725-accc3285a309, which slots of ChromeOS have: ": func() (*slots.GPTPrio, error) {
			return slots.NewGPTPrio(slots.GPTChromeOS, []slots.GPTPartition{{Number: 1}})
		},
		"partition 1: want ascending numbers from 1": func() (*slots.GPTPrio, error) {
			return slots.NewGPTPrio(slots.GPTChromeOS, []slots.GPTPartition{{Number: 1, Type: kernel}, {Number: 1, Type: kernel}})
		},
		"513 partitions, want at most 512": func() (*slots.GPTPrio, error) {
			return slots.NewGPTPrio(slots.GPTChromeOS, make([]slots.GPTPartition, 513))
		},
	} {
		g, err := make()
		require.ErrorContains(t, err, "slots: "+want)
		require.Nil(t, g)
	}
	nothing := slots.Predict(gpt(t, slots.GPTFlatcar, 5<<48, 1<<56))
	require.Equal(t, "-", slotsOf(nothing))
	require.Equal(t, slots.AnswerNo, nothing.Reaches("2"))
	require.Equal(t, slots.AnswerNo, slots.Predict(gpt(t, slots.GPTFlatcar, good3, 0)).Reaches("4"))
}

// GRUB of Flatcar counts the tries of a successful slot, and firmware of ChromeOS does not.
func TestTriesOfTheSuccessful(t *testing.T) {
	const both = 1<<56 | 2<<52 | 3<<48
	require.Equal(t, "2 2 2", slotsOf(slots.Predict(gpt(t, slots.GPTFlatcar, both, 0))))
	require.Equal(t, "2", slotsOf(slots.Predict(gpt(t, slots.GPTChromeOS, both, 0))))
}

func bootOrder(t *testing.T, v slots.BootVariables) *slots.BootOrder {
	t.Helper()
	if v.Active == nil {
		v.Active = map[uint16]bool{1: true, 2: true, 7: true}
	}
	b, err := slots.NewBootOrder(v, 1, 2)
	require.NoError(t, err)
	return b
}

func TestBootOrder(t *testing.T) {
	try := slots.Mark{Slot: "Boot0002", As: slots.AsTrying, Tries: 1, Fallback: "Boot0001"}
	order := []byte{1, 0, 2, 0, 7, 0}
	b := bootOrder(t, slots.BootVariables{BootOrder: order, BootCurrent: []byte{1, 0}})
	require.Equal(t, []slots.Slot{{Name: "Boot0001", Bootable: slots.AnswerYes, Running: slots.AnswerYes, Tries: -1, Priority: 3},
		{Name: "Boot0002", Bootable: slots.AnswerYes, Running: slots.AnswerNo, Tries: -1, Priority: 2}}, b.Slots())
	c, err := b.Mark(try)
	require.NoError(t, err)
	require.Equal(t, slots.NeedsWhole, c.Needs)
	require.Equal(t, []slots.Write{{Object: "BootOrder", Before: order, After: []byte{1, 0, 7, 0, 2, 0}}, {Object: "BootNext", After: []byte{2, 0}}}, c.Writes)
	require.Equal(t, 1, c.After.Slots()[1].Tries)
	c, err = c.After.Mark(slots.Mark{Slot: "Boot0002", As: slots.AsCancelled, Fallback: "Boot0001"})
	require.NoError(t, err)
	require.Equal(t, []slots.Write{{Object: "BootNext", Before: []byte{2, 0}}}, c.Writes)

	c, err = b.Mark(slots.Mark{Slot: "Boot0002", As: slots.AsBad, Fallback: "Boot0001"})
	require.NoError(t, err)
	require.Equal(t, []slots.Write{{Object: "BootOrder", Before: order, After: []byte{1, 0, 7, 0}}}, c.Writes)
	c, err = c.After.Mark(slots.Mark{Slot: "Boot0002", As: slots.AsCancelled, Fallback: "Boot0001"})
	require.NoError(t, err)
	require.Empty(t, c.Writes, "it is not in BootOrder, and is not put there")

	// A person, or an updater of firmware, has asked for the next start.
	foreign := bootOrder(t, slots.BootVariables{BootOrder: order, BootNext: []byte{7, 0}})
	for _, m := range []slots.Mark{try, {Slot: "Boot0001", As: slots.AsGood}, {Slot: "Boot0002", As: slots.AsBad, Fallback: "Boot0001"}} {
		refuses(t, foreign, m, slots.ErrMark, "BootNext is Boot0007, which belongs to no slot")
	}
	require.Equal(t, slots.OutcomeOther, slots.Predict(foreign).Starts[0].Outcome)
	// Options that are off, or of which it is not known.
	for _, active := range []map[uint16]bool{{1: true}, {1: true, 2: false}} {
		refuses(t, bootOrder(t, slots.BootVariables{BootOrder: order, Active: active}), try, slots.ErrMark, "Boot0002 is missing, or whether it is active is unknown")
	}
	refuses(t, bootOrder(t, slots.BootVariables{BootOrder: order, Active: map[uint16]bool{2: true}}), try, slots.ErrNoFallback, "the loader would not start the slot to return to")
	off := bootOrder(t, slots.BootVariables{BootOrder: order, BootNext: []byte{1, 0}, Active: map[uint16]bool{1: false, 2: true}})
	require.Equal(t, "?", slotsOf(slots.Predict(off)))
	require.Contains(t, slots.Predict(off).Starts[0].Reason, "BootNext is Boot0001, which is missing or inactive: whether firmware starts that option or follows BootOrder is unknown")
	// BootNext goes before BootOrder changes: in between a slot that is bad is not started.
	pending := bootOrder(t, slots.BootVariables{BootOrder: order, BootNext: []byte{2, 0}})
	c, err = pending.Mark(slots.Mark{Slot: "Boot0002", As: slots.AsBad, Fallback: "Boot0001"})
	require.NoError(t, err)
	require.Equal(t, []string{"BootNext", "BootOrder"}, []string{c.Writes[0].Object, c.Writes[1].Object})
	require.Equal(t, "?", slotsOf(slots.Predict(bootOrder(t, slots.BootVariables{}))))
	// Something else comes before the slot to return to.
	refuses(t, bootOrder(t, slots.BootVariables{BootOrder: []byte{7, 0, 1, 0}}), try, slots.ErrNoFallback, "Boot0007 is next, but belongs to no slot")
	require.Equal(t, slots.AnswerNo, bootOrder(t, slots.BootVariables{BootOrder: []byte{7, 0}}).Slots()[0].Bootable)

	for _, v := range []slots.BootVariables{{BootOrder: []byte{1}}, {BootNext: []byte{}}, {BootNext: []byte{1, 0, 0}}, {BootCurrent: []byte{1}}} {
		_, err := slots.NewBootOrder(v, 1)
		refused(t, err, "bytes, want")
	}
	_, err = slots.NewBootOrder(slots.BootVariables{}, 1, 2, 1)
	require.ErrorContains(t, err, "slots: boot option Boot0001 belongs to two slots: want one option per slot")
	_, err = slots.NewBootOrder(slots.BootVariables{})
	require.ErrorIs(t, err, slots.ErrSlot)
	v := b.Variables()
	v.BootOrder[0], v.Active[1] = 9, false
	require.Equal(t, order, b.Variables().BootOrder, "a store is a value")
	require.True(t, b.Variables().Active[1])
}

func TestRAUCNames(t *testing.T) {
	env := slots.NewGRUBEnvironment()
	for _, names := range [][]string{{"A"}, {"A", "A"}, {"A", ""}, {"A", "B C"}, {"A", "x=y"}, {"A", "ü"}, nil} {
		_, err := slots.NewRAUCGRUB(env, names, slots.RAUCOptions{})
		require.ErrorContains(t, err, "slots: ", "%q", names)
	}
	uboot, err := slots.ParseUBootEnvironment(slots.UBootOptions{}, ubootCopy(512, false, 0, "x=y"))
	require.NoError(t, err)
	_, err = slots.NewRAUCUBoot(uboot, []string{"A", "B"}, slots.RAUCOptions{Attempts: 10})
	require.ErrorContains(t, err, "10 attempts, want 1 to 9")
	r, err := slots.NewRAUCUBoot(uboot, []string{"A", "B"}, slots.RAUCOptions{Attempts: 5})
	require.NoError(t, err)
	require.Equal(t, "?", slotsOf(slots.Predict(r)), "no BOOT_ORDER")
	require.Equal(t, slots.Slot{Name: "A", Tries: -1, Priority: -1}, r.Slots()[0], "nothing is known")
	c, err := r.Mark(slots.Mark{Slot: "B", As: slots.AsGood})
	require.NoError(t, err)
	left, _ := c.After.(*slots.RAUCUBoot).Environment().Get("BOOT_B_LEFT")
	require.Equal(t, "5", left)
	for _, item := range []string{"BOOT_A_LEFT=03", "BOOT_A_LEFT=-1", "BOOT_A_LEFT=a", "BOOT_A_LEFT="} {
		env, err := slots.ParseUBootEnvironment(slots.UBootOptions{}, ubootCopy(512, false, 0, "BOOT_ORDER=A B", item))
		require.NoError(t, err)
		r, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{})
		require.NoError(t, err)
		require.Equal(t, "?", slotsOf(slots.Predict(r)), item)
		require.Equal(t, slots.AnswerUnknown, r.Slots()[0].Bootable)
	}
	for _, lines := range [][]string{{"ORDER=A B", "A_OK=yes"}, {"ORDER=C A", "A_OK=1"}, {"A_OK=1"}} {
		env, err := slots.ParseGRUBEnvironment(grubBlock(0, lines...))
		require.NoError(t, err)
		g, err := slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{})
		require.NoError(t, err)
		require.Equal(t, "?", slotsOf(slots.Predict(g)), lines)
	}
}

// A script without a slot that has attempts left writes new ones. What it does if they do not fit
// into the environment differs from script to script.
func TestRAUCWithoutRoom(t *testing.T) {
	for size, want := range map[int]slots.Start{
		4 + 30: {Reason: "no slot has attempts left, and the environment has no room for new ones"},
		4 + 46: {Outcome: slots.OutcomeSlot, Slot: "A", Reason: "no slot had attempts left, so the script gave each slot three"},
	} {
		env, err := slots.ParseUBootEnvironment(slots.UBootOptions{}, ubootCopy(size, false, 0, "BOOT_ORDER=A", "BOOT_A_LEFT=0"))
		require.NoError(t, err)
		r, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
		require.NoError(t, err)
		start, _ := r.Boot()
		require.Equal(t, want, start, "%d bytes", size)
	}
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{}, ubootCopy(20, false, 0, "BOOT_ORDER= "))
	require.NoError(t, err)
	r, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
	require.NoError(t, err)
	start, _ := r.Boot()
	require.Equal(t, slots.Start{Outcome: slots.OutcomeNothing, Reason: "BOOT_ORDER is empty"}, start)
}

func TestKairos(t *testing.T) {
	k := slots.NewKairosGRUB(slots.NewGRUBEnvironment())
	require.Equal(t, "active", slotsOf(slots.Predict(k)))
	c, err := k.Mark(slots.Mark{Slot: slots.KairosActive, As: slots.AsTrying, Tries: 1, Fallback: slots.KairosPassive})
	require.NoError(t, err)
	require.Equal(t, "active passive", slotsOf(slots.Predict(c.After)))
	require.Equal(t, slots.NeedsSector, c.Needs)
	refuses(t, k, slots.Mark{Slot: slots.KairosPassive, As: slots.AsGood}, slots.ErrMark, "Kairos swaps the images of its slots and always starts active")
	// A tentative flag of a failed upgrade does not make the next one fall back at once.
	env, err := slots.ParseGRUBEnvironment(grubBlock(0, "enable_boot_assessment=yes", "boot_assessment_tentative=yes"))
	require.NoError(t, err)
	require.Equal(t, "passive", slotsOf(slots.Predict(slots.NewKairosGRUB(env))))
	c, err = slots.NewKairosGRUB(env).Mark(slots.Mark{Slot: slots.KairosActive, As: slots.AsTrying, Tries: 1, Fallback: slots.KairosPassive})
	require.NoError(t, err)
	require.Equal(t, "active passive", slotsOf(slots.Predict(c.After)))
	env, err = slots.ParseGRUBEnvironment(grubBlock(0, "selected_entry=cos"))
	require.NoError(t, err)
	refuses(t, slots.NewKairosGRUB(env), slots.Mark{Slot: slots.KairosActive, As: slots.AsGood}, slots.ErrMark, "which disables boot assessment")
	require.Equal(t, "?", slotsOf(slots.Predict(slots.NewKairosGRUB(env))))
	env, err = slots.ParseGRUBEnvironment(grubBlock(0, "enable_boot_assessment_always=yes"))
	require.NoError(t, err)
	require.Equal(t, "active passive", slotsOf(slots.Predict(slots.NewKairosGRUB(env))))
}

// What cannot be written has no marks, and says what is behind it.
func TestReadOnly(t *testing.T) {
	a, err := slots.ParseAndroidMisc(misc(slots.AndroidControl, func([]byte) {}))
	require.NoError(t, err)
	f, err := slots.ParseFWU(slots.FWUOptions{}, fwu(2, 0, 0, "\xfc\xfe"))
	require.NoError(t, err)
	c, err := slots.ParseSteamOSConfig("A", nil)
	require.NoError(t, err)
	s, err := slots.NewSteamOS(c)
	require.NoError(t, err)
	auto, err := slots.ParseAutoboot(nil, slots.AnswerNo)
	require.NoError(t, err)
	for _, r := range []slots.Reader{a, f, s, auto} {
		_, writable := r.(slots.Store)
		require.False(t, writable, r.Properties().Name)
		require.Equal(t, slots.EvidenceSource, r.Properties().Evidence, r.Properties().Name)
		require.Zero(t, r.Properties().MaxTries)
	}
}
