package slots_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"go/parser"
	"go/token"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// A medium is what a store is kept on: its objects by their names. What is nil is not there.
type medium map[string][]byte

func (m medium) with(w slots.Write, content []byte) medium {
	c := medium{}
	for k, v := range m {
		c[k] = v
	}
	if w.After == nil || w.Before == nil {
		c[w.Object] = content
		return c
	}
	b := bytes.Clone(c[w.Object])
	if strings.HasPrefix(w.Object, "Boot") {
		b = nil // a variable changes as a whole, and its length with it
	}
	b = append(b[:min(int(w.Offset), len(b))], append(bytes.Clone(content), b[min(int(w.Offset)+len(content), len(b)):]...)...)
	c[w.Object] = b
	return c
}

// cuts are the states that a power cut may leave of a change, by what it needs of the medium. done
// are those in which everything is written.
func cuts(t *testing.T, m medium, c *slots.Change) (all []medium, done medium) {
	t.Helper()
	all = append(all, m)
	for _, w := range c.Writes {
		if w.Before == nil {
			require.Nil(t, m[w.Object], "%s is there already", w.Object)
		} else {
			require.Equal(t, w.Before, m[w.Object][w.Offset:][:len(w.Before)], "%s is not what the change was made for", w.Object)
		}
		if c.Needs == slots.NeedsNothing {
			step := 1
			if len(w.After) > 512 && testing.Short() {
				step = 9
			}
			for n := 1; n < len(w.After); n += step {
				// cut off in the middle, also of a sector
				all = append(all, m.with(w, append(bytes.Clone(w.After[:n]), w.Before[n:]...)),
					// written from the end
					m.with(w, append(bytes.Clone(w.Before[:n]), w.After[n:]...)),
					// flash that was erased
					m.with(w, append(bytes.Clone(w.After[:n]), bytes.Repeat([]byte{0xff}, len(w.After)-n)...)))
			}
			sectors := (len(w.After) + 511) / 512
			for some := range 1 << min(sectors, 10) {
				b := bytes.Clone(w.Before)
				for s := range sectors {
					if some>>s&1 == 1 {
						copy(b[512*s:], w.After[512*s:min(512*s+512, len(b))])
					}
				}
				all = append(all, m.with(w, b))
			}
		}
		if c.Needs == slots.NeedsSector {
			require.Zero(t, w.Offset%512)
			require.LessOrEqual(t, len(w.After), 512)
		}
		m = m.with(w, w.After)
		all = append(all, m)
	}
	return all, m
}

// A kind is a store for the tests of this file.
type kind struct {
	name    string
	machine func(t *testing.T, m medium) machine
	again   func(m medium) (slots.Store, error) // parses what is on the medium
	// what is on the medium, of a store that was started
	on      func(s slots.Reader) medium
	tries   int
	names   [2]string
	forever bool // a good slot is started for ever, without a system that says so at each start
}

// prove holds every state that a power cut may leave of a mark against the judge.
func prove(t *testing.T, k kind, m medium, s slots.Store, mark slots.Mark) (medium, slots.Store) {
	t.Helper()
	c, err := s.Mark(mark)
	require.NoError(t, err, "%s: %+v", k.name, mark)
	all, done := cuts(t, m, c)
	other := k.names[0]
	if other == mark.Slot {
		other = k.names[1]
	}
	known := map[string][]string{}
	chainOf := func(state medium) []string {
		m := k.machine(t, state)
		key := fmt.Sprint(m)
		if known[key] == nil {
			known[key] = starts(m, 3*k.tries+12)
		}
		return known[key]
	}
	returned := slices.Contains(chainOf(m), other)
	for i, state := range all {
		chain := chainOf(state)
		for _, s := range chain {
			if s == "" && k.forever || s != "" && s != mark.Slot && s != other {
				t.Fatalf("%s: %+v, state %d of %d: starts %q", k.name, mark, i, len(all), chain)
			}
		}
		require.NotEqual(t, "", chain[0], "%s: %+v, state %d of %d starts nothing", k.name, mark, i, len(all))
		if mark.As != slots.AsGood && (i > 0 || returned) {
			require.Contains(t, chain, other, "%s: %+v, state %d of %d never returns", k.name, mark, i, len(all))
		}
	}
	chain := starts(k.machine(t, done), k.tries+1)
	switch mark.As {
	case slots.AsTrying:
		require.Equal(t, append(slices.Repeat([]string{mark.Slot}, mark.Tries), mark.Fallback), chain[:mark.Tries+1], "%s: %+v", k.name, mark)
	case slots.AsGood:
		require.Equal(t, mark.Slot, chain[0])
		if k.forever {
			require.Equal(t, slices.Repeat([]string{mark.Slot}, k.tries+1), chain)
		}
	default:
		require.Equal(t, mark.Fallback, chain[0])
		if mark.As == slots.AsBad {
			require.NotContains(t, chainOf(done), mark.Slot)
		}
	}
	// What is on the medium now is the store that the change has promised, and its model starts
	// what the judge starts.
	read, err := k.again(done)
	require.NoError(t, err)
	require.Equal(t, c.After, read)
	sameStarts(t, read, k.machine(t, done))
	again, err := read.Mark(mark)
	require.NoError(t, err)
	require.Empty(t, again.Writes, "%s: %+v is not done by having been done", k.name, mark)
	return done, read
}

// sameStarts checks Predict against the judge.
func sameStarts(t *testing.T, r slots.Reader, m machine) {
	t.Helper()
	chain := slots.Predict(r)
	want := starts(m, len(chain.Starts))
	for i, s := range chain.Starts {
		switch s.Outcome {
		case slots.OutcomeSlot:
			require.Equal(t, want[i], s.Slot, "start %d of %v", i, chain)
		case slots.OutcomeNothing:
			require.Empty(t, want[i])
		}
	}
}

// upgrades runs upgrades of one slot after the other over a store: prepared, staged, started some
// times, then committed, cancelled or given up.
func upgrades(t *testing.T, k kind, m medium, rounds int, r *rand.Rand) {
	t.Helper()
	s, err := k.again(m)
	require.NoError(t, err)
	running, other := k.names[0], k.names[1]
	for range rounds {
		m, s = prove(t, k, m, s, slots.Mark{Slot: running, As: slots.AsGood})
		if k.names != [2]string{slots.KairosActive, slots.KairosPassive} {
			m, s = prove(t, k, m, s, slots.Mark{Slot: other, As: slots.AsBad, Fallback: running})
		} else {
			running, other = slots.KairosPassive, slots.KairosActive
		}
		tries := 1 + r.IntN(k.tries)
		m, s = prove(t, k, m, s, slots.Mark{Slot: other, As: slots.AsTrying, Tries: tries, Fallback: running})
		for range r.IntN(tries + 1) { // starts, of which the firmware or the loader takes tries
			before := k.machine(t, m)
			start, after := s.Boot()
			want, next := before.start()
			require.Equal(t, want, start.Slot)
			m = k.on(after)
			require.Equal(t, starts(next, 12), starts(k.machine(t, m), 12), "%s: the judge takes another try", k.name)
			s, err = k.again(m)
			require.NoError(t, err)
			require.Equal(t, after, slots.Reader(s))
		}
		switch r.IntN(4) {
		case 0:
			m, s = prove(t, k, m, s, slots.Mark{Slot: other, As: slots.AsCancelled, Fallback: running})
		case 1:
			m, s = prove(t, k, m, s, slots.Mark{Slot: other, As: slots.AsBad, Fallback: running})
		default:
			m, s = prove(t, k, m, s, slots.Mark{Slot: other, As: slots.AsGood})
			running, other = other, running
		}
		if k.names[0] == slots.KairosActive {
			m, s = prove(t, k, m, s, slots.Mark{Slot: slots.KairosActive, As: slots.AsGood})
			running, other = slots.KairosActive, slots.KairosPassive
		}
	}
}

func rounds(t *testing.T) (int, *rand.Rand) {
	r, long := testtools.Seed(t)
	if long {
		return 60, r
	}
	return 20, r
}

func ubootKind(scheme slots.UBootScheme, names ...string) (kind, func([][]byte) medium) {
	object := func(i, n int) string {
		if n == 1 {
			return "environment"
		}
		return fmt.Sprintf("copy %d", i+1)
	}
	on := func(copies [][]byte) medium {
		m := medium{}
		for i, c := range copies {
			m[object(i, len(copies))] = c
		}
		return m
	}
	off := func(m medium) (copies [][]byte) {
		for i := range len(m) {
			copies = append(copies, m[object(i, len(m))])
		}
		return copies
	}
	return kind{
		name: "U-Boot " + scheme.String(), tries: 9, names: [2]string{"A", "B"},
		machine: func(t *testing.T, m medium) machine {
			read, ok := newUBootMachine(off(m))
			require.True(t, ok, "U-Boot would take its built-in environment")
			return read
		},
		again: func(m medium) (slots.Store, error) {
			env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: scheme}, off(m)...)
			if err != nil {
				return nil, err
			}
			return slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
		},
		on: func(s slots.Reader) medium { return on(s.(*slots.RAUCUBoot).Environment().Copies()) },
	}, on
}

func TestCutsOfUBoot(t *testing.T) {
	n, r := rounds(t)
	for _, scheme := range []slots.UBootScheme{slots.UBootSingle, slots.UBootSerial, slots.UBootActive} {
		for _, flags := range [][]byte{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {254, 255}, {255, 254}, {255, 0}} {
			k, on := ubootKind(scheme)
			if scheme == slots.UBootSingle {
				flags = flags[:1]
			} else if scheme == slots.UBootActive && max(flags[0], flags[1]) > 1 {
				continue
			}
			size := 130 // every byte of which a write may end at
			if flags[0] == 255 || scheme == slots.UBootSingle {
				size = 1040 // three sectors
			}
			var copies [][]byte
			for _, flag := range flags {
				copies = append(copies, ubootCopy(size, scheme != slots.UBootSingle, flag, "bootcmd=run x", "BOOT_ORDER=A B", "BOOT_A_LEFT=3", "BOOT_B_LEFT=3", "odd"))
			}
			upgrades(t, k, on(copies), 1+n/20, r)
		}
	}
}

// ubootCopy makes a copy as U-Boot does.
func ubootCopy(size int, redundant bool, flag byte, items ...string) []byte {
	c := make([]byte, 4, size)
	if redundant {
		c = append(c, flag)
	}
	header := len(c)
	for _, i := range items {
		c = append(append(c, i...), 0)
	}
	c = c[:size]
	binary.LittleEndian.PutUint32(c, crc32.ChecksumIEEE(c[header:]))
	return c
}

func TestCutsOfGPTPrio(t *testing.T) {
	n, r := rounds(t)
	types := map[slots.GPTProfile]bool{slots.GPTChromeOS: false, slots.GPTFlatcar: true, slots.GPTBottlerocket: true}
	for profile, grub := range types {
		k := gptKind(profile, grub)
		upgrades(t, k, gptMedium(0x01_15_0000_0000_0003, 0), n, r)
		// Every priority of both slots; the other one as tries and success of earlier upgrades may
		// have left it.
		for a := range uint64(16) {
			for b := range uint64(16) {
				for i, bits := range []uint64{0, 1 << 56, 3 << 52, 1<<56 | 15<<52} {
					if a == 0 || testing.Short() && (a*b+uint64(i))%7 != 0 {
						continue
					}
					m := gptMedium(1<<56|a<<48|uint64(i%2)<<52|0xf0, bits|b<<48|0xf00)
					s, err := k.again(m)
					require.NoError(t, err)
					sameStarts(t, s, k.machine(t, m))
					for _, mark := range []slots.Mark{{As: slots.AsTrying, Tries: 1 + i}, {As: slots.AsCancelled}, {As: slots.AsBad}, {As: slots.AsGood}} {
						mark.Slot, mark.Fallback = "4", "2"
						if c, err := s.Mark(mark); grub && i%2 == 1 && err != nil {
							require.ErrorIs(t, err, slots.ErrNoFallback)
							require.Nil(t, c)
							continue
						}
						done, _ := prove(t, k, m, s, mark)
						for object, before := range m {
							require.Equal(t, binary.LittleEndian.Uint64(before)&^(0x1ff<<48), binary.LittleEndian.Uint64(done[object])&^(0x1ff<<48))
						}
					}
				}
			}
		}
	}
}

func gptMedium(a, b uint64) medium {
	le := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	return medium{"attributes of partition 2": le(a), "attributes of partition 4": le(b)}
}

func gptKind(profile slots.GPTProfile, grub bool) kind {
	read := func(m medium, i int) uint64 {
		return binary.LittleEndian.Uint64(m[fmt.Sprintf("attributes of partition %d", i)])
	}
	return kind{
		name: "gptprio of " + profile.String(), tries: 15, names: [2]string{"2", "4"}, forever: true,
		machine: func(t *testing.T, m medium) machine {
			return gptMachine{[]string{"2", "4"}, []uint64{read(m, 2), read(m, 4)}, grub}
		},
		again: func(m medium) (slots.Store, error) {
			return slots.NewGPTPrio(profile, []slots.GPTPartition{{Number: 1}, {Number: 2, Type: profile.SlotType(), Attributes: slots.GPTAttributes(read(m, 2))},
				{Number: 4, Type: profile.SlotType(), Attributes: slots.GPTAttributes(read(m, 4))}})
		},
		on: func(s slots.Reader) medium {
			all := s.(*slots.GPTPrio).Partitions()
			return gptMedium(uint64(all[1].Attributes), uint64(all[2].Attributes))
		},
	}
}

func efiKind() kind {
	active := map[string]bool{"Boot0003": true, "Boot00AB": true, "Boot0001": false}
	return kind{
		name: "BootOrder", tries: 1, names: [2]string{"Boot0003", "Boot00AB"}, forever: true,
		machine: func(t *testing.T, m medium) machine { return efiMachine{m, active} },
		again: func(m medium) (slots.Store, error) {
			return slots.NewBootOrder(slots.BootVariables{BootOrder: m["BootOrder"], BootNext: m["BootNext"],
				Active: map[uint16]bool{3: true, 0xab: true, 1: false}}, 3, 0xab)
		},
		on: func(s slots.Reader) medium {
			v := s.(*slots.BootOrder).Variables()
			return medium{"BootOrder": v.BootOrder, "BootNext": v.BootNext}
		},
	}
}

func TestCutsOfBootOrder(t *testing.T) {
	n, r := rounds(t)
	for _, order := range [][]byte{{3, 0, 0xab, 0}, {0xab, 0, 3, 0}, {1, 0, 0xab, 0, 9, 0, 3, 0}, {3, 0}, {3, 0, 9, 0}} {
		upgrades(t, efiKind(), medium{"BootOrder": order}, n, r)
	}
}

func grubKind(name string, names [2]string, of func(map[string]string) machine, store func(*slots.GRUBEnvironment) (slots.Store, error)) kind {
	return kind{
		name: name, tries: 1, names: names,
		machine: func(t *testing.T, m medium) machine { return of(grubVariables(m["environment block"])) },
		again: func(m medium) (slots.Store, error) {
			env, err := slots.ParseGRUBEnvironment(m["environment block"])
			if err != nil {
				return nil, err
			}
			return store(env)
		},
		on: func(s slots.Reader) medium {
			block, err := s.(interface {
				Environment() *slots.GRUBEnvironment
			}).Environment().MarshalBinary()
			if err != nil {
				panic(err)
			}
			return medium{"environment block": block}
		},
	}
}

// grubBlock has variables in a block, so many bytes of comment in front of them.
func grubBlock(comment int, lines ...string) []byte {
	text := "# GRUB Environment Block\n#" + strings.Repeat("-", comment) + "\n"
	for _, l := range lines {
		text += l + "\n"
	}
	return []byte(text + strings.Repeat("#", 1024-len(text)))
}

func TestCutsOfRAUCWithGRUB(t *testing.T) {
	n, r := rounds(t)
	k := grubKind("RAUC with GRUB", [2]string{"A", "B"}, func(v map[string]string) machine { return raucGRUBMachine{v} },
		func(env *slots.GRUBEnvironment) (slots.Store, error) {
			return slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
		})
	for _, comment := range []int{0, 445, 450, 455, 600} {
		upgrades(t, k, medium{"environment block": grubBlock(comment, "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=1", "other=kept")}, n, r)
	}
	upgrades(t, k, medium{"environment block": grubBlock(10, "ORDER=B A", "A_OK=1")}, n, r)
}

func TestCutsOfKairos(t *testing.T) {
	n, r := rounds(t)
	k := grubKind("Kairos", [2]string{slots.KairosActive, slots.KairosPassive}, func(v map[string]string) machine { return kairosMachine{v} },
		func(env *slots.GRUBEnvironment) (slots.Store, error) { return slots.NewKairosGRUB(env), nil })
	for _, comment := range []int{0, 455, 470, 600} {
		upgrades(t, k, medium{"environment block": grubBlock(comment, "next=1", "enable_boot_assessment=", "boot_assessment_tentative=")}, n, r)
	}
	upgrades(t, k, medium{"environment block": grubBlock(10)}, n, r)
}

func TestJudgesShareNothing(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "judge_test.go", nil, parser.ImportsOnly)
	require.NoError(t, err)
	require.NotEmpty(t, f.Imports)
	for _, i := range f.Imports {
		require.NotContains(t, i.Path.Value, ".", "a judge has the standard library alone")
	}
}
