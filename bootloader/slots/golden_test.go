package slots_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/slots"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	require.NotEmpty(t, b)
	return b
}

// What grub-editenv has written is read, and is the same bytes again.
func TestGoldenGRUBEnvironment(t *testing.T) {
	env, err := slots.ParseGRUBEnvironment(vector(t, "grubenv"))
	require.NoError(t, err)
	require.Equal(t, []slots.Variable{{Name: "ORDER", Value: "B A"}, {Name: "A_OK", Value: "1"}, {Name: "A_TRY", Value: "0"}, {Name: "B_OK", Value: "1"},
		{Name: "B_TRY", Value: "1"}, {Name: "note", Value: `back\slash`}}, env.Variables())
	b, err := env.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, vector(t, "grubenv"), b)
	r, err := slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{})
	require.NoError(t, err)
	require.Equal(t, []slots.Slot{{Name: "A", Bootable: slots.AnswerYes, Tries: 1, Priority: 1}, {Name: "B", Bootable: slots.AnswerNo, Priority: 2}}, r.Slots())
	chain := slots.Predict(r)
	require.Equal(t, "A", chain.Starts[0].Slot, "B was tried")
	require.Equal(t, slots.OutcomeUnknown, chain.Starts[1].Outcome, "then it is for grub.cfg")
	require.Equal(t, slots.AnswerUnknown, chain.Reaches("B"))
	require.Equal(t, slots.AnswerUnknown, r.Properties().Counts)
}

// What fw_setenv has written.
func TestGoldenUBootEnvironment(t *testing.T) {
	one, two := vector(t, "uboot-copy1.bin"), vector(t, "uboot-copy2.bin")
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, one, two)
	require.NoError(t, err)
	require.Equal(t, [][]byte{one, two}, env.Copies())
	require.Empty(t, env.Damaged())
	order, ok := env.Get("BOOT_ORDER")
	require.True(t, ok)
	require.Equal(t, "B A", order)
	require.Len(t, env.Variables(), 4)
	// The older copy, or the newer one damaged, has what was before.
	for i := range two {
		for _, active := range [][]byte{one, two}[env.Active()-1:][:1] {
			broken := append([]byte(nil), active...)
			broken[i] ^= 0x10
			copies := [][]byte{one, two}
			copies[env.Active()-1] = broken
			old, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, copies...)
			require.NoError(t, err)
			order, _ := old.Get("BOOT_ORDER")
			if i != 4 { // the byte that tells the newer copy has no checksum
				require.Equal(t, "A B", order, "byte %d", i)
				require.Equal(t, []int{env.Active()}, old.Damaged())
			}
		}
	}
	big := vector(t, "uboot-single-be.bin")
	env, err = slots.ParseUBootEnvironment(slots.UBootOptions{BigEndian: true}, big)
	require.NoError(t, err)
	require.Equal(t, [][]byte{big}, env.Copies())
	_, err = slots.ParseUBootEnvironment(slots.UBootOptions{}, big)
	require.ErrorIs(t, err, slots.ErrChecksum)
}

// What U-Boot's printenv shows of an environment in flash; testdata/README.md says how it was
// asked.
func TestUBootImports(t *testing.T) {
	for _, row := range []struct {
		items []string
		want  []string // nil: "Cannot import environment: errno = 22", the built-in one is used
	}{
		{[]string{"e1=1", "e1=", "e2=1", "e2", "e4=1", "e4=2", "e5=", "e6=x=y", "e9=after"}, []string{"e4=2", "e6=x=y", "e9=after"}},
		{[]string{"\te1=1", "  e2=1", " \te3=1", "e6==1", "e8 =1", "e9=last"}, []string{"e1=1", "e2=1", "e3=1", "e6==1", "e8 =1", "e9=last"}},
		// printenv doubles a backslash of a value.
		{[]string{`e3=a\nb\\c`, `e\a=1`, `e7=\`, `e8=a\`}, []string{`e3=anb\c`, `e\a=1`, `e7=\`, `e8=a\`}},
		{[]string{"=", "e9=last"}, []string{"e9=last"}},
		{[]string{"  ", " =", "e1=1", " e1", "e2=1", " e2=", "e9=last"}, []string{"e9=last"}},
		{[]string{"=x", "e9=last"}, nil},
		{[]string{" =x", "e9=last"}, nil},
	} {
		env, err := slots.ParseUBootEnvironment(slots.UBootOptions{}, ubootCopy(128, false, 0, row.items...))
		if row.want == nil {
			refused(t, err, "has no name: U-Boot would use its built-in environment")
			continue
		}
		require.NoError(t, err)
		var got []string
		for _, v := range env.Variables() {
			got = append(got, v.Name+"="+v.Value)
		}
		require.Equal(t, row.want, got)
	}
}

// What cgpt has written.
func TestGoldenGPTPrio(t *testing.T) {
	b := vector(t, "cgpt-entries.bin")
	kernel := slots.GPTChromeOS.SlotType()
	text := [16]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}
	copy(text[8:], b[8:])
	require.Equal(t, osmith.GUID(text), kernel)
	g, err := slots.NewGPTPrio(slots.GPTChromeOS, []slots.GPTPartition{
		{Number: 2, Type: kernel, Attributes: slots.GPTAttributes(binary.LittleEndian.Uint64(b[48:]))},
		{Number: 4, Type: kernel, Attributes: slots.GPTAttributes(binary.LittleEndian.Uint64(b[128+48:]))},
	})
	require.NoError(t, err)
	require.Equal(t, []slots.Slot{
		{Name: "2", Bootable: slots.AnswerYes, Good: slots.AnswerYes, Tries: -1, Priority: 1},
		{Name: "4", Bootable: slots.AnswerYes, Good: slots.AnswerNo, Tries: 6, Priority: 2},
	}, g.Slots())
	chain := slots.Predict(g)
	require.Len(t, chain.Starts, 7)
	require.Equal(t, "4", chain.Starts[5].Slot)
	require.Equal(t, "2", chain.Starts[6].Slot)
	require.Equal(t, 6, chain.Loop)
	require.Equal(t, slots.AnswerYes, chain.Reaches("2"))
	require.Equal(t, slots.AnswerNo, chain.Reaches("5"))
}

// What rauc has written.
func TestGoldenRAUCStatus(t *testing.T) {
	b := vector(t, "rauc-central.raucs")
	s, err := slots.ParseRAUCStatus(b)
	require.NoError(t, err)
	again, err := s.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, b, again)
	require.Equal(t, []slots.RAUCSlot{
		{Name: "rootfs.1", Activated: "2026-12-02T00:30:51Z", ActivateCount: "2"},
		{Name: "rootfs.0", Activated: "2026-12-02T00:30:51Z", ActivateCount: "1"},
	}, s.Slots())
}
