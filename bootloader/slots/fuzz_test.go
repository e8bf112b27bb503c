package slots_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/slots"
)

// parsed asks for a result exactly where there is no error, and for errors that say where.
func parsed(t *testing.T, ok bool, err error) bool {
	t.Helper()
	require.Equal(t, err == nil, ok)
	if err != nil {
		_, format := errors.AsType[*osmith.FormatError](err)
		require.True(t, format, "%v", err)
	}
	return ok
}

// walk follows a store, and checks it against its judge where it has one.
func walk(t *testing.T, r slots.Reader, m machine) {
	t.Helper()
	chain := slots.Predict(r)
	require.NotEmpty(t, chain.Starts)
	require.LessOrEqual(t, len(chain.Starts), slots.MaxStarts+1)
	if m != nil {
		sameStarts(t, r, m)
	}
	for _, s := range r.Slots() {
		require.NotEmpty(t, s.Name)
	}
	_ = r.Properties()
}

// marks makes all marks on a store. What is marked is what its judge starts.
func marks(t *testing.T, s slots.Store, of func(*slots.Change) machine) {
	t.Helper()
	all := s.Slots()
	for _, as := range []slots.As{slots.AsTrying, slots.AsGood, slots.AsCancelled, slots.AsBad} {
		for i := range all {
			mark := slots.Mark{Slot: all[i].Name, As: as, Tries: 1, Fallback: all[(i+1)%len(all)].Name}
			c, err := s.Mark(mark)
			require.Equal(t, err == nil, c != nil)
			if err != nil {
				continue
			}
			want := []string{mark.Slot, mark.Fallback}
			if as == slots.AsCancelled || as == slots.AsBad {
				want = want[1:]
			} else if as == slots.AsGood {
				want = want[:1]
			}
			require.Equal(t, want, starts(of(c), len(want)), "%+v", mark)
		}
	}
}

func FuzzGRUBEnvironment(f *testing.F) {
	f.Add(vector(f, "grubenv"))
	f.Add(grubBlock(0, "a=1", "", "words", `#c=3\`, "b=2", `v=b\\`))
	f.Add(grubBlock(450, "ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=1", "B_TRY=1"))
	f.Add(grubBlock(0, "enable_boot_assessment=yes", "boot_assessment_tentative=yes"))
	f.Fuzz(func(t *testing.T, b []byte) {
		env, err := slots.ParseGRUBEnvironment(b)
		if !parsed(t, env != nil, err) {
			return
		}
		same, err := env.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, b, same)
		for _, v := range env.Variables() {
			after, _, _, err := env.Set(v)
			if err != nil {
				continue // twice, or a name that GRUB reads and nothing should write
			}
			got, _ := after.Get(v.Name)
			require.Equal(t, v.Value, got)
		}
		rauc, err := slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{})
		require.NoError(t, err)
		walk(t, rauc, nil)
		marks(t, rauc, func(c *slots.Change) machine { return raucGRUBMachine{variablesOf(c.After)} })
		kairos := slots.NewKairosGRUB(env)
		walk(t, kairos, nil)
		marks(t, kairos, func(c *slots.Change) machine { return kairosMachine{variablesOf(c.After)} })
	})
}

// variablesOf are those of an environment block, by the package: the judge of a block, which reads
// lines, does not know backslashes.
func variablesOf(s slots.Store) map[string]string {
	env := s.(interface {
		Environment() *slots.GRUBEnvironment
	}).Environment()
	m := map[string]string{}
	for _, v := range env.Variables() {
		m[v.Name] = v.Value
	}
	return m
}

func FuzzUBootEnvironment(f *testing.F) {
	f.Add(vector(f, "uboot-copy1.bin"), vector(f, "uboot-copy2.bin"), byte(1))
	f.Add(ubootCopy(64, false, 0, "BOOT_ORDER=A B", "BOOT_A_LEFT=3", "BOOT_B_LEFT=0"), []byte{}, byte(0))
	f.Add(ubootCopy(64, true, 255, "BOOT_ORDER=B"), ubootCopy(64, true, 0, "BOOT_ORDER=A B", "BOOT_A_LEFT=1"), byte(7))
	f.Add(ubootCopy(34, false, 0, "BOOT_ORDER=A", "BOOT_A_LEFT=0"), []byte{}, byte(0)) // full
	f.Fuzz(func(t *testing.T, one, two []byte, how byte) {
		o := slots.UBootOptions{Scheme: slots.UBootScheme(how % 3)}
		copies := [][]byte{one, two}
		if o.Scheme == slots.UBootSingle {
			copies = copies[:1]
		}
		for i, c := range copies { // without, hardly a copy would get further
			if header := 4 + min(len(copies)-1, 1); how>>(6+i)&1 == 0 && len(c) > header {
				copies[i] = bytes.Clone(c)
				binary.LittleEndian.PutUint32(copies[i], crc32.ChecksumIEEE(c[header:]))
			}
		}
		env, err := slots.ParseUBootEnvironment(o, copies...)
		if !parsed(t, env != nil, err) {
			return
		}
		require.Equal(t, copies, env.Copies())
		rauc, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{})
		require.NoError(t, err)
		m, ok := newUBootMachine(copies)
		require.True(t, ok)
		walk(t, rauc, m)
		marks(t, rauc, func(c *slots.Change) machine {
			m, ok := newUBootMachine(c.After.(*slots.RAUCUBoot).Environment().Copies())
			require.True(t, ok)
			return m
		})
	})
}

func FuzzGPTPrio(f *testing.F) {
	f.Add(uint64(good3), uint64(trying4), uint64(0), byte(1))
	f.Add(uint64(1<<56|15<<48), uint64(1<<56|15<<52|15<<48), uint64(1<<52|15<<48), byte(2))
	f.Fuzz(func(t *testing.T, a, b, c uint64, profile byte) {
		p := slots.GPTProfile(1 + profile%3)
		s := gpt(t, p, a, b, c)
		m := func(s *slots.GPTPrio) machine {
			m := gptMachine{grub: p != slots.GPTChromeOS}
			for i, p := range s.Partitions() {
				m.names = append(m.names, []string{"2", "4", "6"}[i])
				m.bits = append(m.bits, uint64(p.Attributes))
			}
			return m
		}
		walk(t, s, m(s))
		marks(t, s, func(c *slots.Change) machine {
			for i, p := range c.After.(*slots.GPTPrio).Partitions() {
				require.Equal(t, s.Partitions()[i].Attributes&^(0x1ff<<48), p.Attributes&^(0x1ff<<48), "bits of others are kept")
			}
			return m(c.After.(*slots.GPTPrio))
		})
	})
}

func FuzzBootOrder(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 7, 0}, []byte{2, 0}, byte(7))
	f.Add([]byte{7, 0, 1, 0}, []byte{}, byte(3))
	f.Fuzz(func(t *testing.T, order, next []byte, active byte) {
		if len(next) == 0 {
			next = nil
		}
		on := map[uint16]bool{}
		names := map[string]bool{}
		for n := range uint16(8) {
			on[n] = active>>n&1 == 1
			names["Boot000"+string(rune('0'+n))] = on[n]
		}
		b, err := slots.NewBootOrder(slots.BootVariables{BootOrder: order, BootNext: next, Active: on}, 1, 2)
		if !parsed(t, b != nil, err) {
			return
		}
		walk(t, b, efiMachine{medium{"BootOrder": order, "BootNext": next}, names})
		marks(t, b, func(c *slots.Change) machine {
			v := c.After.(*slots.BootOrder).Variables()
			return efiMachine{medium{"BootOrder": v.BootOrder, "BootNext": v.BootNext}, names}
		})
	})
}

func FuzzAndroidMisc(f *testing.F) {
	f.Add(misc(slots.AndroidControl, func(b []byte) { b[12], b[14] = 0x80|14, 2<<4|15 })[2048:2080])
	f.Add(misc(slots.AndroidLibAVB, func(b []byte) { copy(b[8:], []byte{15, 1, 0, 0, 14, 0, 1, 0}) })[2048:2080])
	f.Fuzz(func(t *testing.T, b []byte) {
		m := append(make([]byte, 2048), b...)
		if len(b) >= 32 && b[0] == 0 {
			binary.BigEndian.PutUint32(m[2048+28:], crc32.ChecksumIEEE(b[:28]))
		} else if len(b) >= 32 {
			binary.LittleEndian.PutUint32(m[2048+28:], crc32.ChecksumIEEE(b[:28]))
		}
		a, err := slots.ParseAndroidMisc(m)
		if !parsed(t, a != nil, err) {
			return
		}
		same, err := a.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, m, same)
		walk(t, a, nil)
	})
}

func FuzzFWU(f *testing.F) {
	f.Add(fwu(1, 0, 1, "", []bool{true, false}, []bool{true, true}), byte(2), byte(2))
	f.Add(fwu(2, 1, 0, "\xfc\xfe", []bool{true, false}), byte(0), byte(0))
	f.Add(fwu(2, 1, 0, "\xfc\xfe"), byte(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, banks, images byte) {
		fixed := bytes.Clone(b)
		if size := len(b); size >= 20 {
			switch binary.LittleEndian.Uint32(b[4:]) {
			case 1:
				size = min(size, 16+int(images)*(32+24*int(banks)))
			case 2:
				size = min(size, int(binary.LittleEndian.Uint32(b[16:])&0xffffff))
			}
			if size > 4 {
				binary.LittleEndian.PutUint32(fixed, crc32.ChecksumIEEE(b[4:size]))
			}
		}
		m, err := slots.ParseFWU(slots.FWUOptions{Banks: int(banks), Images: int(images)}, fixed)
		if !parsed(t, m != nil, err) {
			return
		}
		require.Equal(t, [][]byte{fixed}, m.Copies())
		walk(t, m, nil)
	})
}

func FuzzSteamOS(f *testing.F) {
	f.Add([]byte("boot-requested-at: 20260101000000\nboot-other: 0\n"), []byte("boot-requested-at: 20260202000000\nimage-invalid: 1\n"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		a, err := slots.ParseSteamOSConfig("A", one)
		if !parsed(t, a != nil, err) {
			return
		}
		b, err := slots.ParseSteamOSConfig("B", two)
		if !parsed(t, b != nil, err) {
			return
		}
		same, err := b.MarshalBinary()
		require.NoError(t, err)
		require.True(t, bytes.Equal(two, same))
		s, err := slots.NewSteamOS(a, b)
		require.NoError(t, err)
		walk(t, s, nil)
	})
}

func FuzzAutoboot(f *testing.F) {
	f.Add([]byte("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"), byte(1))
	f.Fuzz(func(t *testing.T, text []byte, tryboot byte) {
		a, err := slots.ParseAutoboot(text, slots.Answer(tryboot%3))
		if !parsed(t, a != nil, err) {
			return
		}
		same, err := a.MarshalBinary()
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, same))
		walk(t, a, nil)
	})
}

func FuzzRAUCStatus(f *testing.F) {
	f.Add(vector(f, "rauc-central.raucs"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := slots.ParseRAUCStatus(text)
		if !parsed(t, s != nil, err) {
			return
		}
		same, err := s.MarshalBinary()
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, same))
		_ = s.Slots()
	})
}
