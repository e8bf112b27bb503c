package bootloader_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/testtools"
)

const oursFile = `\EFI\systemd\systemd-bootx64.efi`

// ours is the loader on the ESP of the machine, where option has it.
var (
	ours     = bootloader.BootProgram{File: "EFI/systemd/systemd-bootx64.efi", Partition: firstESP, PartitionNumber: 1, FirstLBA: 0x800, LastLBA: 0x17ff}
	thirdESP = osmith.MustParseGUID("bbbbbbbb-cccc-dddd-eeee-ffffffffffff")
)

// store has variables of the boot menu.
func store(t testing.TB, variables map[string][]byte) *bootloader.MemoryVariables {
	t.Helper()
	m := &bootloader.MemoryVariables{}
	for name, data := range variables {
		require.NoError(t, m.Set(kept(name, data...)))
	}
	m.Writes = 0
	return m
}

// planned is the plan for ours in a store.
func planned(t testing.TB, store bootloader.VariableStore, o bootloader.BootPlanOptions) *bootloader.BootPlan {
	t.Helper()
	plan, err := bootloader.PlanBootOption(read(t, store), ours, o)
	require.NoError(t, err)
	return plan
}

func read(t testing.TB, store bootloader.VariableStore) *bootloader.MachineVariables {
	t.Helper()
	v, err := bootloader.ReadVariables(store)
	if errors.Is(err, fs.ErrNotExist) {
		return &bootloader.MachineVariables{}
	}
	require.NoError(t, err)
	return v
}

func order(numbers ...uint16) (b []byte) {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return b
}

// good is our option as it should be; moved has the partition elsewhere.
func good() []byte { return option(1, "Linux Boot Manager", firstESP, oursFile, nil) }

func moved() []byte {
	b := option(1, "my own title", firstESP, oursFile, []byte("data"))
	i := bytes.Index(b, []byte{4, 1, 42, 0})
	b[i+4], b[i+9], b[i+17] = 2, 0x77, 0x66
	return b
}

var windows = option(1, "Linux Boot Manager", secondESP, `\EFI\Microsoft\Boot\bootmgfw.efi`, []byte("BCD"))

func TestPlanBootOption(t *testing.T) {
	app := option(0x101, "tool", firstESP, oursFile, nil)
	for name, tt := range map[string]struct {
		have    map[string][]byte
		options bootloader.BootPlanOptions
		want    map[string][]byte // what is changed; nil is deleted
		changes string
		plan    bootloader.BootPlan // Number, Inactive, Dangling and Left
	}{
		"nothing there": {nil, bootloader.BootPlanOptions{}, map[string][]byte{"Boot0000": good(), "BootOrder": order(0)}, "create Boot0000, create BootOrder", bootloader.BootPlan{}},
		"others are": {map[string][]byte{"Boot0000": windows, "Boot0002": windows, "BootOrder": order(2, 0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0001": good(), "BootOrder": order(1, 2, 0)}, "create Boot0001, change BootOrder", bootloader.BootPlan{Number: 1}},
		"all is well": {map[string][]byte{"Boot0000": windows, "Boot0002": good(), "BootOrder": order(0, 2)}, bootloader.BootPlanOptions{}, nil, "", bootloader.BootPlan{Number: 2}},
		"to the front": {map[string][]byte{"Boot0000": windows, "Boot0002": good(), "BootOrder": order(0, 2)}, bootloader.BootPlanOptions{First: true},
			map[string][]byte{"BootOrder": order(2, 0)}, "change BootOrder", bootloader.BootPlan{Number: 2}},
		"capitals, slashes and title do not matter": {map[string][]byte{"Boot0000": option(1, "Acme", firstESP, `EFI\SYSTEMD\systemd-bootX64.EFI`, nil), "BootOrder": order(0)},
			bootloader.BootPlanOptions{}, nil, "", bootloader.BootPlan{}},
		"title alone is not ours": {map[string][]byte{"Boot0000": windows, "BootOrder": order(0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0001": good(), "BootOrder": order(1, 0)}, "create Boot0001, change BootOrder", bootloader.BootPlan{Number: 1}},
		"the same path on another disk is not": {map[string][]byte{"Boot0000": option(1, "Linux Boot Manager", secondESP, oursFile, nil), "BootOrder": order(0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0001": good(), "BootOrder": order(1, 0)}, "create Boot0001, change BootOrder", bootloader.BootPlan{Number: 1}},
		"nor on no disk": {map[string][]byte{"Boot0000": option(1, "Linux Boot Manager", osmith.GUID{}, oursFile, nil), "BootOrder": order(0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0001": good(), "BootOrder": order(1, 0)}, "create Boot0001, change BootOrder", bootloader.BootPlan{Number: 1}},
		"nor another category": {map[string][]byte{"Boot0000": app, "BootOrder": order(0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0001": good(), "BootOrder": order(1, 0)}, "create Boot0001, change BootOrder", bootloader.BootPlan{Number: 1}},
		"not in the order": {map[string][]byte{"Boot0000": windows, "Boot0003": good(), "BootOrder": order(0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"BootOrder": order(3, 0)}, "change BootOrder", bootloader.BootPlan{Number: 3}},
		"firmware has lost it": {map[string][]byte{"Boot0001": windows, "BootOrder": order(1, 0)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0002": good(), "BootOrder": order(2, 1, 0)}, "create Boot0002, change BootOrder", bootloader.BootPlan{Number: 2, Dangling: []uint16{0}}},
		"a number that is next": {map[string][]byte{"BootNext": order(0)}, bootloader.BootPlanOptions{}, map[string][]byte{"Boot0001": good(), "BootOrder": order(1)}, "create Boot0001, create BootOrder",
			bootloader.BootPlan{Number: 1}},
		"the partition has moved": {map[string][]byte{"Boot0001": windows, "Boot0004": moved(), "BootOrder": order(1, 4)}, bootloader.BootPlanOptions{},
			map[string][]byte{"Boot0004": option(1, "my own title", firstESP, oursFile, []byte("data"))}, "change Boot0004", bootloader.BootPlan{Number: 4}},
		"switched off": {map[string][]byte{"Boot0001": windows, "Boot0004": option(0, "x", firstESP, oursFile, nil), "BootOrder": order(1)}, bootloader.BootPlanOptions{First: true},
			nil, "", bootloader.BootPlan{Number: 4, Inactive: true}},
		"switched on": {map[string][]byte{"Boot0001": windows, "Boot0004": option(8, "x", firstESP, oursFile, nil), "BootOrder": order(1)}, bootloader.BootPlanOptions{Activate: true},
			map[string][]byte{"Boot0004": option(9, "x", firstESP, oursFile, nil), "BootOrder": order(4, 1)}, "change Boot0004, change BootOrder", bootloader.BootPlan{Number: 4}},
		"duplicates": {map[string][]byte{"Boot0000": good(), "Boot0001": windows, "Boot0002": option(0, "other title", firstESP, oursFile, nil), "Boot0003": good(), "BootOrder": order(2, 1, 3, 0)},
			bootloader.BootPlanOptions{}, map[string][]byte{"Boot0000": nil, "Boot0002": nil, "BootOrder": order(1, 3)}, "change BootOrder, delete Boot0000, delete Boot0002", bootloader.BootPlan{Number: 3}},
		"the one that is switched off counts, not one in no order": {map[string][]byte{"Boot0000": good(), "Boot0001": windows, "Boot0002": option(0, "Linux Boot Manager", firstESP, oursFile, nil), "BootOrder": order(1, 2)},
			bootloader.BootPlanOptions{}, map[string][]byte{"Boot0000": nil}, "delete Boot0000", bootloader.BootPlan{Number: 2, Inactive: true}},
		"duplicates with other data": {map[string][]byte{"Boot0000": good(), "Boot0002": option(1, "x", firstESP, oursFile, []byte("data")), "BootOrder": order(2, 0)}, bootloader.BootPlanOptions{},
			nil, "", bootloader.BootPlan{Number: 2, Left: []uint16{0}}},
		"a duplicate that is next": {map[string][]byte{"Boot0000": good(), "Boot0002": good(), "BootOrder": order(0, 2), "BootNext": order(2)}, bootloader.BootPlanOptions{},
			nil, "", bootloader.BootPlan{Left: []uint16{2}}},
		"of former partitions": {map[string][]byte{"Boot0000": windows, "Boot0001": option(1, "x", secondESP, oursFile, []byte("data")), "Boot0002": option(1, "x", thirdESP, oursFile, nil), "BootOrder": order(1, 0, 2)},
			bootloader.BootPlanOptions{Former: []osmith.GUID{secondESP}}, map[string][]byte{"Boot0003": good(), "Boot0001": nil, "BootOrder": order(3, 0, 2)}, "create Boot0003, change BootOrder, delete Boot0001",
			bootloader.BootPlan{Number: 3}},
		"dangling": {map[string][]byte{"Boot0000": windows, "Boot0001": good(), "BootOrder": order(7, 0, 9, 1, 7)}, bootloader.BootPlanOptions{}, nil, "", bootloader.BootPlan{Number: 1, Dangling: []uint16{7, 9}}},
		"dangling, dropped": {map[string][]byte{"Boot0000": windows, "Boot0001": good(), "BootOrder": order(7, 0, 9, 1, 7)}, bootloader.BootPlanOptions{DropDangling: true},
			map[string][]byte{"BootOrder": order(0, 1)}, "change BootOrder", bootloader.BootPlan{Number: 1, Dangling: []uint16{7, 9}}},
		"dangling, and next": {map[string][]byte{"Boot0001": good(), "BootOrder": order(1), "BootNext": order(5)}, bootloader.BootPlanOptions{DropDangling: true}, nil, "", bootloader.BootPlan{Number: 1}},
		"twice in the order": {map[string][]byte{"Boot0000": windows, "Boot0001": good(), "BootOrder": order(0, 1, 0, 1)}, bootloader.BootPlanOptions{},
			map[string][]byte{"BootOrder": order(0, 1, 0)}, "change BootOrder", bootloader.BootPlan{Number: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			m := store(t, tt.have)
			plan := planned(t, m, tt.options)
			var changes []string
			for _, c := range plan.Changes {
				changes = append(changes, c.String())
			}
			require.Equal(t, tt.changes, strings.Join(changes, ", "))
			want := map[string][]byte{}
			for name, b := range tt.have {
				want[name] = b
			}
			for name, b := range tt.want {
				if want[name] = b; b == nil {
					delete(want, name)
				}
			}
			results, err := plan.Apply(m)
			require.NoError(t, err)
			require.Len(t, results, len(plan.Changes))
			require.Equal(t, len(plan.Changes), m.Writes)
			got := map[string][]byte{}
			files, err := fs.ReadDir(m, ".")
			require.NoError(t, err)
			for _, f := range files {
				b, err := fs.ReadFile(m, f.Name())
				require.NoError(t, err)
				require.Equal(t, []byte{7, 0, 0, 0}, b[:4])
				got[strings.TrimSuffix(f.Name(), "-"+globalVendor)] = b[4:]
			}
			require.Equal(t, want, got)
			plan.Changes = nil
			require.Equal(t, tt.plan, *plan)

			// Once more: nothing is left to do, and what was done is not done again.
			again := planned(t, m, tt.options)
			require.Empty(t, again.Changes)
			require.Equal(t, plan.Number, again.Number)
			for _, r := range results {
				_, err := (&bootloader.BootPlan{Changes: []bootloader.VariableChange{r.Change}}).Apply(m)
				require.NoError(t, err)
			}
			require.Equal(t, len(results), m.Writes)
		})
	}
}

// What is not known is not taken for granted.
func TestPlanBootOptionUnknown(t *testing.T) {
	have := func(change func(v *bootloader.MachineVariables)) *bootloader.MachineVariables {
		v := read(t, store(t, map[string][]byte{"Boot0000": windows, "Boot0001": good(), "BootOrder": order(0, 1)}))
		change(v)
		return v
	}
	problem := func(name string, err error) func(v *bootloader.MachineVariables) {
		return func(v *bootloader.MachineVariables) {
			v.Problems = append(v.Problems, &bootloader.VariableError{Name: name, Err: err})
		}
	}
	cut := &osmith.FormatError{Offset: 6, Field: "Description", Err: errors.New("not terminated")}
	for name, tt := range map[string]struct {
		change func(v *bootloader.MachineVariables)
		want   string
	}{
		"an option that cannot be read": {problem("Boot0007", errUnreadable), "variable Boot0007: input/output error"},
		"an order that cannot":          {problem("BootOrder", errUnreadable), "variable BootOrder: input/output error"},
		"an order of another form":      {problem("BootOrder", cut), "variable BootOrder: Description"},
		"what is next":                  {problem("BootNext", errUnreadable), "what firmware starts is unknown: variable BootNext"},
		"anything":                      {func(v *bootloader.MachineVariables) { v.Problems = []error{errUnreadable} }, "input/output error"},
		"made by hand":                  {func(v *bootloader.MachineVariables) { v.Options[1].Raw = nil }, "variable Boot0001: its Raw: "},
	} {
		plan, err := bootloader.PlanBootOption(have(tt.change), ours, bootloader.BootPlanOptions{})
		require.ErrorContains(t, err, tt.want, name)
		require.Nil(t, plan)
	}
	plan, err := bootloader.PlanBootOption(have(problem("LoaderInfo", errUnreadable)), ours, bootloader.BootPlanOptions{})
	require.NoError(t, err, "what is not about the boot menu")
	require.Empty(t, plan.Changes)

	// An option without the form of one was read: it has its number and its place, and belongs to
	// no system.
	plan = planned(t, store(t, map[string][]byte{"Boot0000": {1, 2, 3}, "BootOrder": order(0)}), bootloader.BootPlanOptions{DropDangling: true})
	require.Len(t, plan.Malformed, 1)
	require.ErrorContains(t, plan.Malformed[0], "variable Boot0000")
	require.Empty(t, plan.Dangling)
	require.Equal(t, uint16(1), plan.Number)
	require.Equal(t, order(1, 0), plan.Changes[1].After)

	full := &bootloader.MachineVariables{}
	for n := range 65536 {
		full.Options = append(full.Options, bootloader.LoadOption{Number: uint16(n), Raw: windows})
	}
	_, err = bootloader.PlanBootOption(full, ours, bootloader.BootPlanOptions{})
	require.ErrorContains(t, err, "no boot option number is free: all 65536 are in use")
	full.Options = full.Options[:65535]
	plan, err = bootloader.PlanBootOption(full, ours, bootloader.BootPlanOptions{})
	require.NoError(t, err)
	require.Equal(t, uint16(65535), plan.Number)

	for want, change := range map[string]func(p *bootloader.BootProgram){
		`program ""`:              func(p *bootloader.BootProgram) { p.File = "" },
		`program "/EFI/x.efi"`:    func(p *bootloader.BootProgram) { p.File = "/EFI/x.efi" },
		`program "EFI/../x"`:      func(p *bootloader.BootProgram) { p.File = "EFI/../x" },
		`program "EFI\\x"`:        func(p *bootloader.BootProgram) { p.File = `EFI\x` },
		"program \".\"":           func(p *bootloader.BootProgram) { p.File = "." },
		"path of a file":          func(p *bootloader.BootProgram) { p.File = strings.Repeat("x", 40000) },
		"partition 00000000-0000": func(p *bootloader.BootProgram) { p.Partition = osmith.GUID{} },
		"number 0":                func(p *bootloader.BootProgram) { p.PartitionNumber = 0 },
		"LBA 0 to":                func(p *bootloader.BootProgram) { p.FirstLBA = 0 },
		"to 2047":                 func(p *bootloader.BootProgram) { p.LastLBA = 2047 },
		"to 18446744073709551615": func(p *bootloader.BootProgram) { p.LastLBA = 1<<64 - 1 },
		"description":             func(p *bootloader.BootProgram) { p.Description = "a\x00" },
	} {
		p := ours
		change(&p)
		plan, err := bootloader.PlanBootOption(&bootloader.MachineVariables{}, p, bootloader.BootPlanOptions{})
		require.ErrorContains(t, err, want)
		require.Nil(t, plan)
	}
	p := ours
	p.Description = "Acmé OS"
	plan, err = bootloader.PlanBootOption(&bootloader.MachineVariables{}, p, bootloader.BootPlanOptions{})
	require.NoError(t, err)
	require.Equal(t, option(1, "Acmé OS", firstESP, oursFile, nil), plan.Changes[0].After)
}

// Refused writes are told change by change, and nothing is done that counts on them.
func TestApplyRefused(t *testing.T) {
	variables := map[string][]byte{"Boot0000": windows, "Boot0001": option(1, "x", secondESP, oursFile, nil), "BootOrder": order(1, 0)}
	former := bootloader.BootPlanOptions{Former: []osmith.GUID{secondESP}}
	m := store(t, variables)
	m.Quota = 1
	results, err := planned(t, m, former).Apply(m)
	require.ErrorIs(t, err, bootloader.ErrNoSpace)
	require.ErrorIs(t, err, bootloader.ErrVariableRefused, "which need not end an installation")
	require.ErrorContains(t, err, "bootloader: variable Boot0002: refused by the firmware: not enough room in the variable store")
	require.Len(t, results, 3)
	require.ErrorIs(t, results[0].Err, bootloader.ErrNoSpace)
	require.ErrorIs(t, results[1].Err, bootloader.ErrNotAttempted)
	require.ErrorIs(t, results[2].Err, bootloader.ErrNotAttempted)
	require.Zero(t, m.Writes)

	// What was changed since the plan was made is not written over, and nothing else is.
	for name, change := range map[string]func(m *bootloader.MemoryVariables) error{
		"Boot0002":  func(m *bootloader.MemoryVariables) error { return m.Set(kept("Boot0002", windows...)) },
		"BootOrder": func(m *bootloader.MemoryVariables) error { return m.Set(kept("BootOrder", order(0, 1)...)) },
		"Boot0001":  func(m *bootloader.MemoryVariables) error { return m.Set(kept("Boot0001", windows...)) },
	} {
		m := store(t, variables)
		plan := planned(t, m, former)
		require.NoError(t, change(m))
		results, err := plan.Apply(m)
		var mismatch *bootloader.VariableMismatchError
		require.ErrorAs(t, err, &mismatch)
		require.ErrorContains(t, err, "variable "+name+": got attributes 0x7 with the")
		require.Equal(t, 1, m.Writes, name)
		require.Len(t, results, 3)
		for _, r := range results {
			require.Error(t, r.Err)
			require.Equal(t, r.Change.Name != name, errors.Is(r.Err, bootloader.ErrNotAttempted))
		}
	}
	// Variables that are gone with the power are none of the boot menu.
	m, err = bootloader.CopyVariables(efivars(map[string][]byte{"Boot0000": windows, "BootOrder": order(0)}))
	require.NoError(t, err)
	_, err = planned(t, m, former).Apply(m)
	require.ErrorContains(t, err, "variable BootOrder: got attributes 0x6 with the 2 bytes 0000, want attributes 0x7 with the 2 bytes 0000")
	require.Zero(t, m.Writes)
	_, err = planned(t, store(t, variables), former).Apply(failing{store(t, variables)})
	require.ErrorIs(t, err, errUnreadable)
}

// starts is what a firmware starts with these variables: BootNext, then the options of BootOrder
// that are active and whose file is there, then the fallback of the first ESP (UEFI Specification
// 2.10, section 3.1.1, 3.5).
func starts(t *testing.T, m *bootloader.MemoryVariables, there map[osmith.GUID][]string) string {
	t.Helper()
	v := read(t, m)
	numbers := v.Order
	if v.Next != nil {
		numbers = append([]uint16{*v.Next}, numbers...)
	}
	for _, n := range numbers {
		o, ok := v.Option(n)
		if !ok || !o.Active {
			continue
		}
		h, _ := efi.PathHardDrive(o.RawPath)
		for _, file := range there[h.ID] {
			if strings.EqualFold(strings.TrimPrefix(o.File, `\`), strings.ReplaceAll(file, "/", `\`)) && (h.ID != firstESP || h.FirstLBA == 0x800 && h.SizeLBA == 0x1000 && h.Number == 1) {
				return h.ID.String() + " " + file
			}
		}
	}
	return firstESP.String() + " fallback"
}

// cutAfter is a store whose machine loses power after some writes.
type cutAfter struct {
	*bootloader.MemoryVariables
	left int
}

var errCut = errors.New("power cut")

func (c *cutAfter) Set(v bootloader.EFIVariable) error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return c.MemoryVariables.Set(v)
}

func (c *cutAfter) Delete(name string, vendor osmith.GUID) error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return c.MemoryVariables.Delete(name, vendor)
}

// Whatever variables a machine has, and after whichever write the power goes: it starts what it
// started before, or what it starts in the end; and with the plan made again it gets there.
func TestBootOptionsCutAnywhere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...[]byte) []byte { return all[random.IntN(len(all))] }
	there := map[osmith.GUID][]string{firstESP: {ours.File}, secondESP: {"EFI/Microsoft/Boot/bootmgfw.efi"}}
	cuts, kinds, ends := 0, map[string]int{}, map[string]int{}
	machines := 1500
	if testing.Short() {
		machines = 300
	}
	for range machines {
		variables := map[string][]byte{}
		var numbers []uint16
		for n := range uint16(6) {
			b := pick(nil, nil, windows, good(), moved(), option(0, "off", firstESP, oursFile, nil), option(1, "former", thirdESP, oursFile, nil), option(0, "off", secondESP, `\EFI\Microsoft\Boot\bootmgfw.efi`, nil),
				option(1, "data", firstESP, oursFile, []byte("data")), []byte{1})
			if b != nil {
				variables[fmt.Sprintf("Boot%04X", n)] = b
			}
			if random.IntN(3) > 0 {
				numbers = append(numbers, n)
			}
		}
		random.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
		if len(numbers) > 0 {
			variables["BootOrder"] = order(numbers...)
		}
		if random.IntN(4) == 0 {
			variables["BootNext"] = order(uint16(random.IntN(6)))
		}
		o := bootloader.BootPlanOptions{First: random.IntN(2) == 0, Activate: random.IntN(2) == 0, DropDangling: random.IntN(2) == 0}
		if random.IntN(2) == 0 {
			o.Former = []osmith.GUID{thirdESP}
		}
		whole := store(t, variables)
		before := starts(t, whole, there)
		plan := planned(t, whole, o)
		_, err := plan.Apply(whole)
		require.NoError(t, err)
		after := starts(t, whole, there)
		ends[after]++
		if !plan.Inactive {
			require.Contains(t, read(t, whole).LoaderPaths(firstESP), ours.File)
		}
		for n := range len(plan.Changes) {
			m := store(t, variables)
			results, err := plan.Apply(&cutAfter{m, n})
			require.ErrorIs(t, err, errCut)
			require.Equal(t, n, slices.IndexFunc(results, func(r bootloader.ChangeResult) bool { return r.Err != nil }))
			got := starts(t, m, there)
			require.Contains(t, []string{before, after}, got, "%v after %d of %v", variables, n, plan.Changes)
			v := read(t, m)
			for _, listed := range v.Order {
				if _, ok := v.Option(listed); !ok {
					require.Contains(t, numbers, listed, "nothing that was not there before leads to an option that is not written")
				}
			}
			kinds[strings.Fields(plan.Changes[n].String())[0]]++
			cuts++

			_, err = planned(t, m, o).Apply(m)
			require.NoError(t, err)
			require.Equal(t, after, starts(t, m, there))
			_, err = plan.Apply(m)
			require.NoError(t, err, "and the plan itself can be made an end of")
		}
	}
	require.Greater(t, cuts, machines)
	require.Len(t, kinds, 3, "%v", kinds)
	require.Greater(t, len(ends), 2, "%v", ends)
}

// Options of others, and what a person has decided, are as they were, whatever the plan.
func FuzzPlanBootOption(f *testing.F) {
	f.Add(good(), windows, order(0, 1), uint8(0))
	f.Add(moved(), option(0, "off", firstESP, oursFile, nil), order(1, 0, 9), uint8(7))
	f.Add(option(1, "x", thirdESP, oursFile, []byte("data")), []byte{1}, []byte{1}, uint8(15))
	f.Fuzz(func(t *testing.T, one, two, sequence []byte, flags uint8) {
		variables := map[string][]byte{}
		for name, b := range map[string][]byte{"Boot0000": one, "Boot0001": two, "BootOrder": sequence} {
			if len(b) > 0 {
				variables[name] = b
			}
		}
		m := store(t, variables)
		o := bootloader.BootPlanOptions{First: flags&1 != 0, Activate: flags&2 != 0, DropDangling: flags&4 != 0}
		if flags&8 != 0 {
			o.Former = []osmith.GUID{thirdESP}
		}
		plan, err := bootloader.PlanBootOption(read(t, m), ours, o)
		if err != nil {
			require.Nil(t, plan)
			return
		}
		_, err = plan.Apply(m)
		require.NoError(t, err)
		v := read(t, m)
		got, ok := v.Option(plan.Number)
		require.True(t, ok)
		require.Equal(t, firstESP, got.Partition)
		require.Equal(t, "efi/systemd/systemd-bootx64.efi", strings.ToLower(strings.ReplaceAll(strings.Trim(got.File, `\`), `\`, "/")))
		require.Equal(t, got.Active, !plan.Inactive)
		require.True(t, plan.Inactive || slices.Contains(v.Order, plan.Number))
		again, err := bootloader.PlanBootOption(v, ours, o)
		require.NoError(t, err)
		require.Empty(t, again.Changes)
		for name, b := range variables {
			if parsed, err := efi.ParseLoadOption(b); err == nil && name != "BootOrder" {
				if h, ok := efi.PathHardDrive(parsed.Path); ok && (h.ID == firstESP || h.ID == thirdESP && flags&8 != 0) {
					continue
				}
			}
			if name != "BootOrder" {
				kept, err := bootloader.ReadVariable(m, name, global)
				require.NoError(t, err)
				require.Equal(t, b, kept.Data)
			}
		}
	})
}

// efibootmgr sees in the files of efivarfs, written as such, what was planned.
func TestEfibootmgrReadsBootOption(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	m := store(t, map[string][]byte{"Boot0000": windows, "Boot0004": moved(), "BootOrder": order(0)})
	_, err := planned(t, m, bootloader.BootPlanOptions{}).Apply(m)
	require.NoError(t, err)
	plan, err := bootloader.PlanBootOption(read(t, m), bootloader.BootProgram{File: "EFI/acme/loader.efi", Partition: thirdESP, PartitionNumber: 130, FirstLBA: 1 << 33, LastLBA: 1 << 34},
		bootloader.BootPlanOptions{})
	require.NoError(t, err)
	_, err = plan.Apply(m)
	require.NoError(t, err)
	files, err := fs.ReadDir(m, ".")
	require.NoError(t, err)
	for _, f := range files {
		b, err := fs.ReadFile(m, f.Name())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, f.Name()), b, 0o600))
	}
	out := r.Run(t, dir, "env", "EFIVARFS_PATH="+dir+"/", "efibootmgr", "-v")
	for _, want := range []string{"BootOrder: 0001,0004,0000\n", "Boot0004* my own title\tHD(1,GPT,11111111-2222-3333-4444-555555555555,0x800,0x1000)/" + oursFile,
		"Boot0001* Linux Boot Manager\tHD(130,GPT,bbbbbbbb-cccc-dddd-eeee-ffffffffffff,0x200000000,0x200000001)/\\EFI\\acme\\loader.efi\n"} {
		require.Contains(t, out, want)
	}
}
