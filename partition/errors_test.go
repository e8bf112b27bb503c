package partition

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// Every error begins with the name of the package, once.
func TestErrorsAreNamedOnce(t *testing.T) {
	second := func(_ any, err error) error { return err }
	im, d := image(t, abLayout())
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	hybrid := *table
	hybrid.HybridMBR = true
	slots, err := FindSlots(table, SlotOptions{})
	require.NoError(t, err)
	slot := slots.Slots[0]
	other := faultio.NewDisk(d.Size())
	onto, err := PlanOnto(table, Layout{})
	require.NoError(t, err)
	_, _, short := VerityIDs([]byte{1})
	_, outside := im.Table.Window(d, 0).WriteAt([]byte{1}, -1)
	for name, err := range map[string]error{
		"Read":             second(Read(other, ReadOptions{})),
		"Read sectors":     second(Read(d, ReadOptions{SectorSize: 4096})),
		"Read sector size": second(Read(d, ReadOptions{SectorSize: 7})),
		"Plan":             second(Plan(Layout{Partitions: []Spec{{Name: "x"}}})),
		"Plan space":       second(Plan(Layout{Size: 1 << 20, Seed: osmith.GUID{1}, Partitions: []Spec{{Type: ESP, Size: 2 << 20}}})),
		"PlanOnto":         second(PlanOnto(&hybrid, Layout{})),
		"WriteImage":       WriteImage(other, onto, WriteOptions{}),
		"SetContent":       onto.SetContent(0, bytes.NewReader(nil)),
		"Repair":           second(Repair(other, RepairOptions{})),
		"ReadLayout":       second(ReadLayout(strings.NewReader("{"))),
		"UnmarshalJSON":    new(Layout).UnmarshalJSON([]byte("[]")),
		"ReadRepart":       second(ReadRepart(fstest.MapFS{}, RepartOptions{})),
		"ReadRepart line":  second(ReadRepart(fstest.MapFS{"a.conf": {Data: []byte("[Partition]\nType=tea\n")}}, RepartOptions{})),
		"FindSlots":        second(FindSlots(&Table{}, SlotOptions{})),
		"Target":           second(slots.Target(TargetOptions{Running: bytes.Repeat([]byte{9}, 32)})),
		"Begin":            slots.Begin(slot, Labels{Data: EmptyName}),
		"Pend":             slots.Pend(slot, Labels{Data: "x_1"}, []byte{1}),
		"Install":          slots.Install(slot, Labels{Data: "x_1"}, nil),
		"Check":            hybrid.Check(),
		"Write":            hybrid.Write(other),
		"Resize":           table.Resize(512),
		"VerityIDs":        short,
		"Window.WriteAt":   outside,
	} {
		require.Error(t, err, name)
		require.True(t, strings.HasPrefix(err.Error(), "partition: "), "%s: %v", name, err)
		require.Equal(t, 1, strings.Count(err.Error(), "partition: "), "%s: %v", name, err)
	}
	damaged := faultio.NewDisk(1 << 20)
	_, err = damaged.WriteAt([]byte(signature), 512)
	require.NoError(t, err)
	var format *osmith.FormatError
	require.True(t, errors.As(second(Read(damaged, ReadOptions{})), &format))
	require.False(t, strings.Contains(format.Error(), "partition: "))
}
