package slots_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/slots"
)

// refused asks for a *osmith.FormatError with one prefix.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	require.ErrorContains(t, err, want)
	_, ok := errors.AsType[*osmith.FormatError](err)
	require.True(t, ok, "%v is no FormatError", err)
	require.Equal(t, 1, strings.Count(err.Error(), "slots: "), err)
}

func TestGRUBEnvironmentRefuses(t *testing.T) {
	block := grubBlock(0, "a=1")
	_, err := slots.ParseGRUBEnvironment(block[:511])
	refused(t, err, "511 bytes, want 512 to 65536")
	_, err = slots.ParseGRUBEnvironment(make([]byte, 1<<16+1))
	refused(t, err, "65537 bytes")
	_, err = slots.ParseGRUBEnvironment(make([]byte, 1024))
	refused(t, err, "first line")
	end := []byte(strings.Repeat("x", 30))
	_, err = slots.ParseGRUBEnvironment(append(block[:1024-30:1024-30], append([]byte("\n"), end...)...)[:1024])
	refused(t, err, "not terminated: GRUB does not read it")

	// What GRUB passes over is kept: blank lines, lines without =, and a line that a backslash has
	// made part of a comment.
	block = grubBlock(0, "", "words", "=x", "a=1", `#c=3\`, "b=2")
	env, err := slots.ParseGRUBEnvironment(block)
	require.NoError(t, err)
	require.Equal(t, []slots.Variable{{Name: "a", Value: "1"}}, env.Variables())
	after, writes, needs, err := env.Set(slots.Variable{Name: "a", Value: "2"})
	require.NoError(t, err)
	require.Len(t, writes, 1)
	require.Equal(t, slots.NeedsSector, needs)
	b, err := after.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, bytes.Replace(block, []byte("a=1"), []byte("a=2"), 1), b)

	env, err = slots.ParseGRUBEnvironment(grubBlock(0, "a=1", "a=2"))
	require.NoError(t, err)
	value, _ := env.Get("a")
	require.Equal(t, "2", value)
	_, _, _, err = env.Set(slots.Variable{Name: "a", Value: "3"})
	require.ErrorContains(t, err, "slots: variable a is set twice in the environment block: unset it with grub-editenv first")
	_, _, _, err = env.Set(slots.Variable{Name: "b", Value: strings.Repeat("x", 1024)})
	require.ErrorIs(t, err, slots.ErrNoSpace)
	for _, v := range []slots.Variable{{Name: ""}, {Name: "a b"}, {Name: "a=b"}, {Name: "#a"}, {Name: "a", Value: "\x00"}} {
		_, _, _, err = env.Set(v)
		require.Error(t, err, "%+v", v)
	}
	env, err = slots.ParseGRUBEnvironment(append(grubBlock(0, "a=1")[:1000:1000], []byte("comment#################")...))
	require.NoError(t, err)
	_, _, _, err = env.Set(slots.Variable{Name: "a", Value: "3"})
	require.ErrorIs(t, err, slots.ErrNoSpace, "grub-editenv does not write it either")
}

func TestUBootEnvironmentRefuses(t *testing.T) {
	single := slots.UBootOptions{}
	_, err := slots.ParseUBootEnvironment(single)
	require.ErrorContains(t, err, "0 copies of scheme single, want 1")
	_, err = slots.ParseUBootEnvironment(single, make([]byte, 5))
	refused(t, err, "5 bytes, want 6 to 4194304")
	_, err = slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, make([]byte, 512), make([]byte, 511))
	refused(t, err, "511 bytes")
	_, err = slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: 3}, make([]byte, 512), make([]byte, 512))
	require.ErrorContains(t, err, "UBootScheme(3)")
	_, err = slots.ParseUBootEnvironment(single, make([]byte, 512))
	refused(t, err, "checksum mismatch")
	require.ErrorIs(t, err, slots.ErrChecksum)
	for _, tail := range []string{"a=1", "a=1\x00"} {
		c := append(make([]byte, 4), tail...)
		c = append(c, 'x')
		binary.LittleEndian.PutUint32(c, crc32.ChecksumIEEE(c[4:]))
		_, err = slots.ParseUBootEnvironment(single, c)
		refused(t, err, "not end with a NUL")
	}
	env, err := slots.ParseUBootEnvironment(single, ubootCopy(40, false, 0, "a=1", "a=2", "b"))
	require.NoError(t, err)
	value, _ := env.Get("a")
	require.Equal(t, "2", value)
	require.Equal(t, []slots.Variable{{Name: "a", Value: "2"}}, env.Variables())
	_, _, _, err = env.Set(slots.Variable{Name: "a", Value: "3"})
	require.ErrorContains(t, err, "variable a is set twice")
	_, _, _, err = env.Set(slots.Variable{Name: "c", Value: strings.Repeat("x", 40)})
	require.ErrorIs(t, err, slots.ErrNoSpace)
	for _, v := range []slots.Variable{{Name: "c=", Value: "x"}, {Name: " c", Value: "x"}, {Name: `c\`, Value: "x"}, {Name: "c", Value: `x\y`}, {Name: "c", Value: "x\x00"}} {
		_, _, _, err = env.Set(v)
		require.ErrorContains(t, err, "want a name without blanks", "%q", v)
	}
	after, writes, needs, err := env.Set(slots.Variable{Name: "c", Value: "x"})
	require.NoError(t, err)
	require.Equal(t, slots.NeedsWhole, needs, "a torn write of one copy is U-Boot's built-in environment")
	require.Len(t, writes, 1)
	require.Equal(t, after.Copies()[0], writes[0].After)
	// An empty value unsets.
	unset, _, _, err := after.Set(slots.Variable{Name: "c"}, slots.Variable{Name: "d"})
	require.NoError(t, err)
	require.Equal(t, env.Copies(), unset.Copies())
	_, writes, _, err = env.Set(slots.Variable{Name: "d"})
	require.NoError(t, err)
	require.Empty(t, writes)
	// "b" alone unsets b: the variable is set in its place.
	after, _, _, err = env.Set(slots.Variable{Name: "b", Value: "x"})
	require.NoError(t, err)
	value, _ = after.Get("b")
	require.Equal(t, "x", value)
}

// One copy that is damaged is written first: the other one holds.
func TestUBootRepairsTheDamagedCopy(t *testing.T) {
	for damaged := range 2 {
		copies := [][]byte{ubootCopy(64, true, 1, "a=1"), ubootCopy(64, true, 1, "a=1")}
		copies[damaged][20] ^= 1
		env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, copies...)
		require.NoError(t, err)
		_, writes, needs, err := env.Set(slots.Variable{Name: "a", Value: "2"})
		require.NoError(t, err)
		require.Equal(t, slots.NeedsNothing, needs)
		require.Len(t, writes, 1)
		require.Equal(t, damaged+1, writes[0].Number)
	}
}

func misc(form slots.AndroidForm, head func([]byte)) []byte {
	m := bytes.Repeat([]byte{0xee}, 4096)
	b := m[2048:][:32]
	clear(b)
	if form == slots.AndroidControl {
		copy(b, "_a\x00\x00BCAB\x01\x12") // two slots, two tries of recovery
	} else {
		copy(b, "\x00AB0\x01")
	}
	head(b)
	if sum := crc32.ChecksumIEEE(b[:28]); form == slots.AndroidControl {
		binary.LittleEndian.PutUint32(b[28:], sum)
	} else {
		binary.BigEndian.PutUint32(b[28:], sum)
	}
	return m
}

func TestAndroidMisc(t *testing.T) {
	control := misc(slots.AndroidControl, func(b []byte) {
		// _a is successful with priority 14, _b has two tries with priority 15
		b[12], b[14] = 0x80|14, 2<<4|15
	})
	a, err := slots.ParseAndroidMisc(control)
	require.NoError(t, err)
	require.Equal(t, slots.AndroidControl, a.Form)
	require.Equal(t, 2, a.RecoveryTries)
	require.Equal(t, "_a", a.Suffix)
	require.Equal(t, []slots.Slot{
		{Name: "_a", Bootable: slots.AnswerYes, Good: slots.AnswerYes, Priority: 14},
		{Name: "_b", Bootable: slots.AnswerYes, Good: slots.AnswerNo, Tries: 2, Priority: 15},
	}, a.Slots())
	chain := slots.Predict(a)
	require.Equal(t, "_b _b _a", slotsOf(chain))
	require.Equal(t, 2, chain.Loop)
	_, after := a.Boot()
	b, err := after.(*slots.AndroidMisc).MarshalBinary()
	require.NoError(t, err)
	again, err := slots.ParseAndroidMisc(b)
	require.NoError(t, err)
	require.Equal(t, after, slots.Reader(again))
	b, err = a.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, control, b)

	old := misc(slots.AndroidLibAVB, func(b []byte) { copy(b[8:], []byte{15, 1, 0, 0, 14, 0, 1, 0}) })
	a, err = slots.ParseAndroidMisc(old)
	require.NoError(t, err)
	require.Equal(t, "_a _b", slotsOf(slots.Predict(a)))

	a, err = slots.ParseAndroidMisc(misc(slots.AndroidControl, func(b []byte) { b[12], b[13], b[14] = 0x80|15, 1, 0x70 }))
	require.NoError(t, err)
	require.Equal(t, slots.OutcomeNothing, slots.Predict(a).Starts[0].Outcome, "corrupted, and of priority 0")
	a, err = slots.ParseAndroidMisc(misc(slots.AndroidControl, func(b []byte) { b[12], b[14] = 0x80|15, 0x70|15 }))
	require.NoError(t, err)
	require.Equal(t, slots.OutcomeUnknown, slots.Predict(a).Starts[0].Outcome, "loaders differ about a tie")

	_, err = slots.ParseAndroidMisc(control[:2079])
	refused(t, err, "2079 bytes")
	_, err = slots.ParseAndroidMisc(make([]byte, 4096))
	refused(t, err, "misc: magic at 0x804")
	for i := range 28 {
		broken := bytes.Clone(control)
		broken[2048+i] ^= 0x40
		_, err = slots.ParseAndroidMisc(broken)
		refused(t, err, "misc: ")
	}
	_, err = slots.ParseAndroidMisc(misc(slots.AndroidControl, func(b []byte) { b[9] = 5 }))
	refused(t, err, "nb_slot at 0x809: 5, want at most 4")
}

// slotsOf has the slots of a chain, "?" for what is not known and "-" for what is none.
func slotsOf(c slots.Chain) string {
	var all []string
	for _, s := range c.Starts {
		switch s.Outcome {
		case slots.OutcomeSlot:
			all = append(all, s.Slot)
		case slots.OutcomeUnknown:
			all = append(all, "?")
		default:
			all = append(all, "-")
		}
	}
	return strings.Join(all, " ")
}

func TestSteamOS(t *testing.T) {
	const a, b = "boot-requested-at: 20260101000000\nboot-other: 0\ntitle: SteamOS: A\n", "# by hand\nboot-requested-at: 20260202000000\n"
	next := func(texts ...string) string {
		var all []*slots.SteamOSConfig
		for i, text := range texts {
			c, err := slots.ParseSteamOSConfig(string(rune('A'+i)), []byte(text))
			require.NoError(t, err)
			same, err := c.MarshalBinary()
			require.NoError(t, err)
			require.Equal(t, text, string(same))
			all = append(all, c)
		}
		s, err := slots.NewSteamOS(all...)
		require.NoError(t, err)
		return slotsOf(slots.Predict(s))
	}
	require.Equal(t, "B ?", next(a, b))
	require.Equal(t, "A ?", next(a, b+"image-invalid: 1\n"))
	require.Equal(t, "A ?", next(a, b+"boot-other: 1\n"))
	require.Equal(t, "?", next(a, a))
	require.Equal(t, "?", next(a+"image-invalid: 1\n"))
	require.Equal(t, "?", next(a+"boot-requested-at: 2\n", b), "twice")
	require.Equal(t, "?", next(a, "boot-requested-at: soon\n"))
	c, err := slots.ParseSteamOSConfig("A", []byte(a))
	require.NoError(t, err)
	title, ok := c.Get("title")
	require.True(t, ok)
	require.Equal(t, "SteamOS: A", title)
	_, ok = c.Get("none")
	require.False(t, ok)
	_, err = slots.NewSteamOS(c, c)
	require.ErrorContains(t, err, "two bootconf files")
	_, err = slots.NewSteamOS()
	require.ErrorIs(t, err, slots.ErrSlot)
	_, err = slots.ParseSteamOSConfig("A", []byte("a: b\nwords\n"))
	refused(t, err, `bootconf of image "A" at 0x5`)
	_, err = slots.ParseSteamOSConfig("A", make([]byte, 1<<16+1))
	refused(t, err, "65537 bytes")
}

// fwu makes metadata.
func fwu(version, active, previous uint32, states string, images ...[]bool) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0)
	for _, n := range []uint32{version, active, previous} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	entry := func(accepted []bool) {
		b = append(b, bytes.Repeat([]byte{0x11}, 16)...)
		b = append(b, bytes.Repeat([]byte{0x22}, 16)...)
		for _, ok := range accepted {
			b = append(b, bytes.Repeat([]byte{0x33}, 16)...)
			b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
			if ok {
				b[len(b)-8] = 1
			}
		}
	}
	if version == 2 {
		b = append(b, 0, 0, 0, 0, 32, 0, 0, 0)
		b = append(b, (states + "\xff\xff\xff\xff")[:4]...)
		b = append(b, 0, 0, 0, 0)
		if len(images) > 0 {
			b = append(b, byte(len(states)), 0, byte(len(images)), 0, byte(32+24*len(states)), 0, 24, 0)
		} else {
			b[20] = 0
		}
	}
	for _, i := range images {
		entry(i)
	}
	if version == 2 {
		binary.LittleEndian.PutUint32(b[16:], uint32(len(b)))
	}
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
	return b
}

func TestFWU(t *testing.T) {
	one := slots.FWUOptions{Banks: 2, Images: 2}
	first := fwu(1, 0, 1, "", []bool{true, false}, []bool{true, true})
	f, err := slots.ParseFWU(one, first, first)
	require.NoError(t, err)
	require.Equal(t, [][]byte{first, first}, f.Copies())
	require.Equal(t, []slots.Slot{{Name: "bank 0", Bootable: slots.AnswerYes, Good: slots.AnswerYes, Tries: -1, Priority: -1},
		{Name: "bank 1", Good: slots.AnswerNo, Tries: -1, Priority: -1}}, f.Slots())
	require.Equal(t, "bank 0", slotsOf(slots.Predict(f)))
	require.Equal(t, osmith.MustParseGUID("11111111-1111-1111-1111-111111111111"), f.Images[1].Type)

	trial := fwu(2, 1, 0, "\xfc\xfe", []bool{true, false})
	f, err = slots.ParseFWU(slots.FWUOptions{}, trial)
	require.NoError(t, err)
	require.Equal(t, 2, f.Banks)
	require.Equal(t, "bank 1 ?", slotsOf(slots.Predict(f)), "how often is not in the metadata")
	require.Equal(t, slots.AnswerUnknown, slots.Predict(f).Reaches("bank 0"))
	f, err = slots.ParseFWU(slots.FWUOptions{}, fwu(2, 1, 0, "\xfc\xff"))
	require.NoError(t, err)
	require.Len(t, f.Slots(), 4)
	require.Equal(t, "?", slotsOf(slots.Predict(f)))

	// Two copies: the one that is right holds, and two that differ are one too many.
	broken := bytes.Clone(trial)
	broken[40] ^= 1
	f, err = slots.ParseFWU(slots.FWUOptions{}, broken, trial)
	require.NoError(t, err)
	require.Equal(t, []int{1}, f.Damaged())
	_, err = slots.ParseFWU(slots.FWUOptions{}, broken, broken)
	refused(t, err, "checksum mismatch")
	_, err = slots.ParseFWU(slots.FWUOptions{}, fwu(2, 0, 0, "\xfc\xfe", []bool{true, false}), trial)
	require.ErrorContains(t, err, "both copies are valid but differ")

	for i, c := range []struct {
		b    []byte
		want string
	}{
		{trial[:15], "15 bytes"}, {trial[:20], "20 bytes"}, {trial[:60], "metadata_size at 0x10: 120, there are 60 bytes"},
		{fwu(3, 0, 0, ""), "3, want 1 or 2"}, {fwu(2, 2, 0, "\xfc\xfe", []bool{true, true}), "active_index at 0x8: 2, there are 2 banks"},
		{fwu(2, 0, 9, "\xfc\xfe"), "previous_active_index"}, {first, "does not say how many"},
		{fwu(2, 0, 0, "\xfc\xfe\xfe\xfe\xfe", []bool{true, true, true, true, true}), "5 banks"},
	} {
		_, err = slots.ParseFWU(slots.FWUOptions{}, c.b)
		refused(t, err, c.want)
		require.NotContains(t, err.Error(), "%!", i)
	}
	// Sizes of entries that do not hold what they have to, or more than there is.
	for at, value := range map[int]byte{32: 3, 34: 2, 36: 32, 38: 23} {
		lies := bytes.Clone(trial)
		lies[at] = value
		binary.LittleEndian.PutUint32(lies, crc32.ChecksumIEEE(lies[4:]))
		_, err = slots.ParseFWU(slots.FWUOptions{}, lies)
		refused(t, err, "fw_store_desc at 0x20")
	}
	_, err = slots.ParseFWU(slots.FWUOptions{})
	require.ErrorContains(t, err, "0 copies")
}

func TestAutoboot(t *testing.T) {
	const text = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
	parse := func(text string, tryboot slots.Answer) *slots.Autoboot {
		a, err := slots.ParseAutoboot([]byte(text), tryboot)
		require.NoError(t, err)
		b, err := a.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, text, string(b))
		return a
	}
	require.Equal(t, "3 2", slotsOf(slots.Predict(parse(text, slots.AnswerYes))))
	require.Equal(t, 1, slots.Predict(parse(text, slots.AnswerYes)).Loop)
	require.Equal(t, "2", slotsOf(slots.Predict(parse(text, slots.AnswerNo))))
	require.Equal(t, "?", slotsOf(slots.Predict(parse(text, slots.AnswerUnknown))))
	require.Equal(t, "?", slotsOf(slots.Predict(parse("[pi4]\nboot_partition=2\n", slots.AnswerNo))))
	require.Equal(t, "?", slotsOf(slots.Predict(parse(text+"[pi4]\nboot_partition=4\n", slots.AnswerNo))))
	require.Equal(t, "?", slotsOf(slots.Predict(parse("boot_partition=02\n", slots.AnswerNo))))
	require.Equal(t, "2 2", slotsOf(slots.Predict(parse("# none\nboot_partition=7\nboot_partition=2", slots.AnswerYes))))
	require.Equal(t, []slots.Slot{{Name: "2", Tries: -1, Priority: 2}, {Name: "3", Tries: 1, Priority: 1}}, parse(text, slots.AnswerYes).Slots())
	_, err := slots.ParseAutoboot([]byte("[all\n"), slots.AnswerNo)
	refused(t, err, "want [SECTION]")
	_, err = slots.ParseAutoboot([]byte("\nwords\n"), slots.AnswerNo)
	refused(t, err, "autoboot.txt at 0x1: want a line")
	_, err = slots.ParseAutoboot(make([]byte, 513), slots.AnswerNo)
	refused(t, err, "513 bytes")
}

func TestRAUCStatusRefuses(t *testing.T) {
	s, err := slots.ParseRAUCStatus([]byte("# by hand\n[slot]\nstatus = ok\nbundle.compatible=acme\nbundle.version=3\nsha256=ab\nsize=7\ninstalled.timestamp=t\ninstalled.count=1\nnew.key=x\n[other]\na=b\n"))
	require.NoError(t, err)
	require.Equal(t, []slots.RAUCSlot{{Status: "ok", Compatible: "acme", Version: "3", SHA256: "ab", Size: "7", Installed: "t", InstallCount: "1"}}, s.Slots())
	for text, want := range map[string]string{"a=b\n": "slot status at 0x0", "[slot\n": "want [GROUP]", "[slot]\nwords\n": "slot status at 0x7", "\xff": "want UTF-8", "\x00": "want UTF-8"} {
		_, err := slots.ParseRAUCStatus([]byte(text))
		refused(t, err, want)
	}
	_, err = slots.ParseRAUCStatus(make([]byte, 1<<20+1))
	refused(t, err, "1048577 bytes")
}

func TestStrings(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{"unknown": slots.AnswerUnknown, "Answer(9)": slots.Answer(9), "tool": slots.EvidenceTool, "other": slots.OutcomeOther,
		"trying": slots.AsTrying, "bad": slots.AsBad, "As(0)": slots.As(0), "whole": slots.Needs(0), "Flatcar": slots.GPTFlatcar, "active": slots.UBootActive,
		"libavb_ab": slots.AndroidLibAVB, `slot "A" (why)`: slots.Start{Outcome: slots.OutcomeSlot, Slot: "A", Reason: "why"}} {
		require.Equal(t, want, got.String())
	}
}
