package upgrade_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity"
)

// slotMachine is a machine whose slots are kept by another store than an ESP.
type slotMachine struct {
	t      *testing.T
	disk   *faultio.Disk
	names  [2]string // of the slots, in the order of their partitions
	layout upgrade.SlotLayout
	store  func(disk *faultio.Disk) upgrade.SlotStore

	// starts are the slots that are started one after the other if each fails, by the rule of that
	// store, and by nothing of osmith.
	starts func(t *testing.T, disk *faultio.Disk) []string
}

const (
	slotBytes = 512 << 10
	envBytes  = 4096
)

// newSlotDisk has two slots of a file system with a hash tree, and two copies of an environment.
func newSlotDisk(t *testing.T, slotType osmith.GUID, attributes ...uint64) (*faultio.Disk, *partition.Table) {
	t.Helper()
	disk := faultio.NewDisk(6 << 20)
	table := &partition.Table{DiskID: osmith.GUID{99}, SectorSize: 512, Size: disk.Size()}
	lba := uint64(2048)
	for i, p := range []struct {
		typ  osmith.GUID
		size uint64
	}{{slotType, slotBytes}, {slotType, slotBytes}, {partition.LinuxGeneric, 64 << 10}, {partition.LinuxGeneric, 64 << 10}, {partition.LinuxGeneric, envBytes}, {partition.LinuxGeneric, envBytes}} {
		entry := partition.Partition{Type: p.typ, ID: osmith.GUID{byte(i + 1)}, Name: fmt.Sprint("part", i+1), Number: i + 1, FirstLBA: lba, LastLBA: lba + p.size/512 - 1}
		if i < len(attributes) {
			entry.Attributes = attributes[i]
		}
		table.Partitions = append(table.Partitions, entry)
		lba += (p.size + 1<<20 - 1) / (1 << 20) * 2048
		if i >= 2 {
			lba = entry.LastLBA + 1
		}
	}
	require.NoError(t, table.Write(disk))
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	return disk, table
}

// slotSet is a version, with the bytes of its images.
func slotSet(t *testing.T, version byte) (*upgrade.SlotSet, [2][]byte) {
	t.Helper()
	root := make([]byte, 200<<10)
	_, err := rand.NewChaCha8([32]byte{version}).Read(root)
	require.NoError(t, err)
	tree := faultio.NewDisk(32 << 10)
	hash, err := verity.Format(context.Background(), tree, source(root), verity.Params{Salt: []byte{1}})
	require.NoError(t, err)
	hashes := contentOf(t, tree)
	return &upgrade.SlotSet{Version: fmt.Sprint(version), Images: []upgrade.SlotImage{
		{Name: "root", Content: source(root), Tree: source(hashes), RootHash: hash}, {Name: "tree", Content: source(hashes)}}}, [2][]byte{root, hashes}
}

// gptprioMachine is one of Flatcar.
func gptprioMachine(t *testing.T) *slotMachine {
	const usr = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"
	// The first one has priority 1 and was successful; the second is empty.
	disk, _ := newSlotDisk(t, osmith.MustParseGUID(usr), 1<<48|1<<56, 0)
	return &slotMachine{t: t, disk: disk, names: [2]string{"1", "2"},
		store: func(disk *faultio.Disk) upgrade.SlotStore {
			return upgrade.GPTSlots{Disk: disk, Profile: slots.GPTFlatcar}
		},
		starts: func(t *testing.T, disk *faultio.Disk) (chain []string) {
			found, err := oracle.ReadGPT(oracle.ReaderLinux, disk, disk.Size(), 512)
			require.NoError(t, err)
			var bits [2]uint64
			for i := range bits {
				bits[i] = found.Partitions[i].Attributes
			}
			for range 8 {
				best := -1
				for i, b := range bits {
					if b>>48&15 > 0 && (b>>52&15 > 0 || b>>56&1 == 1) && (best < 0 || b>>48&15 > bits[best]>>48&15) {
						best = i
					}
				}
				if best < 0 {
					return append(chain, "nothing")
				}
				if bits[best]>>52&15 > 0 {
					bits[best] -= 1 << 52
				}
				chain = append(chain, fmt.Sprint(best+1))
			}
			return chain
		},
	}
}

// ubootMachine is a board with RAUC's boot script and two copies of the environment.
func ubootMachine(t *testing.T) *slotMachine {
	disk, table := newSlotDisk(t, partition.LinuxGeneric)
	env := func(serial byte, variables string) []byte {
		b := make([]byte, envBytes)
		b[4] = serial
		copy(b[5:], variables+"\x00")
		binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[5:]))
		return b
	}
	for i, serial := range []byte{1, 2} {
		_, err := table.Window(disk, 4+i).WriteAt(env(serial, "BOOT_ORDER=A\x00BOOT_A_LEFT=3\x00BOOT_B_LEFT=0\x00other=kept\x00"), 0)
		require.NoError(t, err)
	}
	return &slotMachine{t: t, disk: disk, names: [2]string{"A", "B"},
		store: func(disk *faultio.Disk) upgrade.SlotStore {
			return upgrade.CopySlots{Copies: []osmith.Disk{table.Window(disk, 4), table.Window(disk, 5)}, Parse: func(copies ...[]byte) (slots.Store, error) {
				env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, copies...)
				if err != nil {
					return nil, err
				}
				return slots.NewRAUCUBoot(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
			}}
		},
		starts: func(t *testing.T, disk *faultio.Disk) (chain []string) {
			var newest []byte
			for i := range 2 {
				b := make([]byte, envBytes)
				_, err := table.Window(disk, 4+i).ReadAt(b, 0)
				require.NoError(t, err)
				if binary.LittleEndian.Uint32(b) == crc32.ChecksumIEEE(b[5:]) && (newest == nil || int8(b[4]-newest[4]) > 0) {
					newest = b
				}
			}
			require.NotNil(t, newest, "no copy of the environment is whole")
			v := map[string]string{}
			for _, line := range strings.Split(string(newest[5:]), "\x00") {
				if name, value, ok := strings.Cut(line, "="); ok {
					v[name] = value
				}
			}
			require.Equal(t, "kept", v["other"])
		start:
			for len(chain) < 8 {
				for range 2 {
					for _, slot := range strings.Fields(v["BOOT_ORDER"]) {
						if left := v["BOOT_"+slot+"_LEFT"]; left > "0" {
							v["BOOT_"+slot+"_LEFT"] = string(left[0] - 1)
							chain = append(chain, slot)
							continue start
						}
					}
					v["BOOT_A_LEFT"], v["BOOT_B_LEFT"] = "3", "3"
				}
				return append(chain, "nothing")
			}
			return chain
		},
	}
}

// A system whose slots are kept elsewhere than on an ESP is upgraded, committed and rolled back.
// Whatever a power cut leaves, a slot is started that holds a version whole, and before the commit
// what ran before returns by itself.
func TestSlotPlan(t *testing.T) {
	for name, machine := range map[string]func(t *testing.T) *slotMachine{"gptprio": gptprioMachine, "U-Boot": ubootMachine} {
		t.Run(name, func(t *testing.T) {
			m := machine(t)
			m.layout = upgrade.SlotLayout{m.names[0]: {"root": {1}, "tree": {3}}, m.names[1]: {"root": {2}, "tree": {4}}}
			versions := map[byte][2][]byte{}
			table, err := partition.Read(m.disk, partition.ReadOptions{})
			require.NoError(t, err)
			for v := byte(1); v <= 3; v++ {
				_, versions[v] = slotSet(t, v)
			}
			for i, part := range []int{0, 2} {
				_, err := table.Window(m.disk, part).WriteAt(versions[1][i], 0)
				require.NoError(t, err)
			}
			require.NoError(t, m.disk.Sync())
			// holds is the version that a slot holds whole, 0 for none.
			holds := func(disk *faultio.Disk, slot string) byte {
				at := slices.Index(m.names[:], slot)
				for v, want := range versions {
					same := true
					for i := range want {
						got := make([]byte, len(want[i]))
						_, err := table.Window(disk, at+2*i).ReadAt(got, 0)
						require.NoError(t, err)
						same = same && bytes.Equal(got, want[i])
					}
					if same {
						return v
					}
				}
				return 0
			}
			// prove does something to the machine that runs a slot, and judges what cuts leave of
			// it.
			prove := func(what, running string, returns bool, do func(disk *faultio.Disk) error) {
				t.Helper()
				m.disk.Record()
				require.NoError(t, do(m.disk), what)
				faults, err := m.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 16})
				require.NoError(t, err)
				n := 0
				for state := range faults.States() {
					chain := m.starts(t, state.Disk)
					for _, slot := range chain {
						require.NotEqual(t, "nothing", slot, "%s: %v: %v", what, describe(state), chain)
						require.NotZero(t, holds(state.Disk, slot), "%s: %v: slot %s is started and holds no version whole: %v", what, describe(state), slot, chain)
					}
					if returns {
						require.Contains(t, chain, running, "%s: %v", what, describe(state))
					}
					n++
				}
				require.NotZero(t, n, what)
			}
			apply := func(version byte, running string) func(*faultio.Disk) error {
				return func(disk *faultio.Disk) error {
					set, _ := slotSet(t, version)
					p, err := upgrade.NewSlotPlan(t.Context(), disk, m.store(disk), m.layout, set, upgrade.SlotPlanOptions{Running: running})
					if err != nil {
						return err
					}
					require.Equal(t, upgrade.OutcomePass, p.Verdicts[2].Outcome, "%s", p)
					var last, total int64
					err = p.Apply(t.Context(), func(_ int, done, all int64) { last, total = done, all })
					require.Equal(t, total, last)
					return err
				}
			}
			a, b := m.names[0], m.names[1]
			require.Equal(t, a, m.starts(t, m.disk)[0])
			prove("upgrade", a, true, apply(2, a))
			require.Equal(t, []string{b, b, b, a}, m.starts(t, m.disk)[:4])
			require.EqualValues(t, 2, holds(m.disk, b))

			// It is taken back, and comes again.
			prove("cancel", a, true, func(disk *faultio.Disk) error { return upgrade.CancelSlot(m.store(disk), b, a) })
			require.NotContains(t, m.starts(t, m.disk)[:2], b)
			prove("upgrade again", a, true, apply(2, a))
			prove("commit", b, true, func(disk *faultio.Disk) error { return upgrade.CommitSlot(m.store(disk), b) })
			require.Equal(t, []string{b, b, b}, m.starts(t, m.disk)[:3])
			prove("upgrade to 3", b, true, apply(3, b))
			require.EqualValues(t, 3, holds(m.disk, a))
			require.Equal(t, []string{a, a, a, b}, m.starts(t, m.disk)[:4])
			prove("roll back", b, true, func(disk *faultio.Disk) error { return upgrade.RollBackSlot(m.store(disk), a, b) })
			require.Equal(t, b, m.starts(t, m.disk)[0])
		})
	}
}

// What does not fit, what would not return, what has changed since, and what the medium does not
// keep is not made bootable.
func TestSlotPlanRefuses(t *testing.T) {
	fresh := func() *slotMachine {
		m := gptprioMachine(t)
		m.layout = upgrade.SlotLayout{"1": {"root": {1}, "tree": {3}}, "2": {"root": {2}, "tree": {4}}}
		return m
	}
	plan := func(m *slotMachine, set *upgrade.SlotSet, o upgrade.SlotPlanOptions) *upgrade.SlotPlan {
		p, err := upgrade.NewSlotPlan(t.Context(), m.disk, m.store(m.disk), m.layout, set, o)
		require.NoError(t, err)
		return p
	}
	requireRefused := func(m *slotMachine, p *upgrade.SlotPlan, why string) {
		t.Helper()
		before := contentOf(t, m.disk)
		require.ErrorContains(t, p.Apply(t.Context(), nil), why)
		require.Equal(t, before, contentOf(t, m.disk))
	}
	one := upgrade.SlotPlanOptions{Running: "1"}
	set, content := slotSet(t, 2)

	m := fresh()
	_, err := upgrade.NewSlotPlan(t.Context(), m.disk, m.store(m.disk), m.layout, set, upgrade.SlotPlanOptions{Running: "7"})
	require.ErrorIs(t, err, slots.ErrSlot)
	_, err = upgrade.NewSlotPlan(t.Context(), m.disk, m.store(m.disk), m.layout, set, upgrade.SlotPlanOptions{Running: "1", Target: "1"})
	require.ErrorContains(t, err, "cannot be written")
	large := *set
	large.Images = []upgrade.SlotImage{{Name: "root", Content: source(make([]byte, slotBytes+4096))}}
	requireRefused(m, plan(m, &large, one), "4096 bytes are missing")
	large.Images = []upgrade.SlotImage{{Name: "kernel", Content: source(nil)}}
	requireRefused(m, plan(m, &large, one), "has no such partition")
	requireRefused(m, plan(m, &upgrade.SlotSet{}, one), "has no images")
	wrong := *set
	wrong.Images = slices.Clone(set.Images)
	wrong.Images[0].RootHash = make([]byte, 32)
	requireRefused(m, plan(m, &wrong, one), "root")
	m.layout["2"]["root"] = osmith.GUID{1}
	requireRefused(m, plan(m, set, one), "which runs")

	// The slot that runs is not good yet: there would be nothing to return to.
	m = fresh()
	table, err := partition.Read(m.disk, partition.ReadOptions{})
	require.NoError(t, err)
	table.Partitions[0].Attributes = 1<<48 | 2<<52
	require.NoError(t, table.Write(m.disk))
	p := plan(m, set, one)
	requireRefused(m, p, "mark it good if it is running")
	require.ErrorIs(t, p.Refused(), slots.ErrNoFallback)
	require.NoError(t, upgrade.CommitSlot(m.store(m.disk), "1"))
	require.NoError(t, plan(m, set, one).Apply(t.Context(), nil))

	// A tampered block, and a tampered image without a tree.
	for i := range set.Images {
		m = fresh()
		bad := *set
		bad.Images = slices.Clone(set.Images)
		changing := bytes.Clone(content[i])
		bad.Images[i].Content = source(changing)
		p = plan(m, &bad, one)
		require.NoError(t, p.Refused(), "%s", p)
		changing[len(changing)/2] ^= 1
		require.Error(t, p.Apply(t.Context(), nil))
		require.Equal(t, []string{"1", "1"}, m.starts(t, m.disk)[:2])
	}

	// The table changes after the plan, and the medium loses what is written.
	m = fresh()
	p = plan(m, set, one)
	table, err = partition.Read(m.disk, partition.ReadOptions{})
	require.NoError(t, err)
	table.Partitions[3].Name = "other"
	require.NoError(t, table.Write(m.disk))
	require.ErrorAs(t, p.Apply(t.Context(), nil), new(*upgrade.ChangedError))
	m = fresh()
	p = plan(m, set, one)
	off, _ := table.Extent(3)
	err = p.Apply(t.Context(), func(image int, done, _ int64) {
		if image == 1 && done > int64(2*len(content[0])+len(content[1])/2) {
			_, err := m.disk.WriteAt([]byte{1, 2, 3}, off+8192)
			require.NoError(t, err)
		}
	})
	require.ErrorContains(t, err, "it may be failing")
	require.Equal(t, []string{"1", "1"}, m.starts(t, m.disk)[:2])
	require.ErrorIs(t, p.Apply(t.Context(), nil), upgrade.ErrApplied)

	// An image without a tree, too large for its writes to be read back one by one.
	m = fresh()
	plain := &upgrade.SlotSet{Version: "2", Images: []upgrade.SlotImage{{Name: "root", Content: source(content[0])}}}
	p = plan(m, plain, one)
	off, _ = table.Extent(1)
	err = p.Apply(t.Context(), func(_ int, done, _ int64) {
		if done == int64(len(content[0])) {
			_, err := m.disk.WriteAt([]byte{1, 2, 3}, off+8192)
			require.NoError(t, err)
		}
	})
	require.ErrorAs(t, err, new(*upgrade.ReadBackError))
	require.Equal(t, []string{"1", "1"}, m.starts(t, m.disk)[:2])

	// The table changes while the images are written.
	m = fresh()
	p = plan(m, set, one)
	err = p.Apply(t.Context(), func(image int, done, _ int64) {
		if image == 1 && done > int64(2*len(content[0])) {
			other, err := partition.Read(m.disk, partition.ReadOptions{})
			require.NoError(t, err)
			other.Partitions[5].Name = "other"
			require.NoError(t, other.Write(m.disk))
		}
	})
	require.ErrorAs(t, err, new(*upgrade.ChangedError))
	require.Equal(t, []string{"1", "1"}, m.starts(t, m.disk)[:2])
}

// Boot options of firmware are slots, too; a cut between its variables leaves what runs, or a try
// of the other.
func TestVariableSlots(t *testing.T) {
	variables := func() *bootloader.MemoryVariables {
		m := new(bootloader.MemoryVariables)
		for name, data := range map[string][]byte{"BootOrder": {1, 0, 9, 0}, "BootCurrent": {1, 0}, "Boot0001": option("A"), "Boot0002": option("B"), "Boot0009": option("other")} {
			require.NoError(t, m.Set(bootloader.EFIVariable{Name: name, Vendor: efi.GlobalVariable, Attributes: 7, Data: data}))
		}
		return m
	}
	m := variables()
	store := upgrade.VariableSlots{Store: m, Options: []uint16{1, 2}}
	layout := upgrade.SlotLayout{"Boot0001": {"root": {1}, "tree": {3}}, "Boot0002": {"root": {2}, "tree": {4}}}
	disk, _ := newSlotDisk(t, partition.LinuxGeneric)
	set, _ := slotSet(t, 2)
	p, err := upgrade.NewSlotPlan(t.Context(), disk, store, layout, set, upgrade.SlotPlanOptions{Running: "Boot0001"})
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context(), nil), "%s", p)
	read := func(name string) []byte {
		v, err := bootloader.ReadVariable(m, name, efi.GlobalVariable)
		if err != nil {
			return nil
		}
		return v.Data
	}
	require.Equal(t, []byte{2, 0}, read("BootNext"))
	require.Equal(t, []byte{1, 0, 9, 0, 2, 0}, read("BootOrder"))
	require.NoError(t, upgrade.CommitSlot(store, "Boot0002"))
	require.Equal(t, []byte{2, 0, 1, 0, 9, 0}, read("BootOrder"))
	require.Nil(t, read("BootNext"))

	// What was judged has changed.
	m = variables()
	store.Store = m
	now, err := store.Slots()
	require.NoError(t, err)
	change, err := now.Mark(slots.Mark{Slot: "Boot0002", As: slots.AsTrying, Tries: 1, Fallback: "Boot0001"})
	require.NoError(t, err)
	require.NoError(t, m.Set(bootloader.EFIVariable{Name: "BootOrder", Vendor: efi.GlobalVariable, Attributes: 7, Data: []byte{9, 0, 1, 0}}))
	require.ErrorAs(t, store.Change(change), new(*upgrade.ChangedError))
}

// option is a boot option without a device.
func option(title string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = append(efi.AppendUTF16(b, title), 0, 0)
	return append(b, 0x7f, 0xff, 4, 0)
}

// A store whose object has to change as a whole does not get that from bytes on a medium.
func TestCopySlotsOfAFile(t *testing.T) {
	block := append([]byte("# GRUB Environment Block\nORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\n"), bytes.Repeat([]byte("#"), 1024)...)[:1024]
	disk := faultio.DiskOf(bytes.Clone(block))
	store := upgrade.CopySlots{Copies: []osmith.Disk{disk}, Parse: func(copies ...[]byte) (slots.Store, error) {
		env, err := slots.ParseGRUBEnvironment(copies[0])
		if err != nil {
			return nil, err
		}
		return slots.NewRAUCGRUB(env, []string{"A", "B"}, slots.RAUCOptions{Script: slots.AnswerYes})
	}}
	now, err := store.Slots()
	require.NoError(t, err)
	change, err := now.Mark(slots.Mark{Slot: "B", As: slots.AsTrying, Tries: 1, Fallback: "A"})
	require.NoError(t, err)
	whole := *change
	whole.Needs = slots.NeedsWhole
	require.ErrorIs(t, store.Change(&whole), upgrade.ErrNotWhole)
	require.Equal(t, block, contentOf(t, disk))
	if change.Needs != slots.NeedsWhole {
		require.NoError(t, store.Change(change))
		require.NotEqual(t, block, contentOf(t, disk))
		require.ErrorAs(t, store.Change(change), new(*upgrade.ChangedError))
	}
}
