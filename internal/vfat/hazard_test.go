package vfat_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/vfat"
)

// outcomes runs an operation and has a power cut at every place of it. It counts what look says
// about what Linux finds then.
func outcomes(t *testing.T, d *wholeSectors, operation func() error, look func(v *oracle.Volume) string) map[string]int {
	t.Helper()
	require.NoError(t, d.Sync())
	d.Record()
	require.NoError(t, operation())
	faults, err := d.Faults(faultio.FaultOptions{Sector: d.sector})
	require.NoError(t, err)
	all := map[string]int{}
	for state := range faults.States() {
		v, err := oracle.ReadFAT(state.Disk, state.Disk.Size(), oracle.FATOptions{SectorSize: d.sector})
		require.NoError(t, err, state)
		all[look(v)]++
	}
	require.Zero(t, faults.Counts().Sampled, "all states were made")
	return all
}

// upTo fills a directory that is empty up to a slot.
func upTo(t *testing.T, v *vfat.Volume, dir string, slot int) {
	t.Helper()
	for i := 2; i < slot; i++ { // "." and ".." come first
		require.NoError(t, v.Create(fmt.Sprintf("%s/FILLER%02d", dir, i), bytes.NewReader(nil)))
	}
}

// there says which of two names are there, and what one of the second has.
func there(v *oracle.Volume, first, second string, want []byte) string {
	var all []string
	if _, ok := v.File(first); ok {
		all = append(all, "old")
	}
	if f, ok := v.File(second); ok {
		b, err := v.ReadFile(second)
		switch {
		case err == nil && bytes.Equal(b, want):
			all = append(all, "new")
		case err == nil && f.Size == 0:
			all = append(all, "new and empty")
		default:
			all = append(all, "new and broken")
		}
	}
	return strings.Join(all, ", ")
}

var twoClusters = bytes.Repeat([]byte("what a file has. "), 60)

// A rename onto a name that is free may lose the file under both, show it under both, or as an
// empty one.
func TestHazardRename(t *testing.T) {
	d := build(t, kinds[0])
	v := mount(t, d)
	const from, to = "loader/entries/old name.conf", "loader/entries/new name.conf"
	require.NoError(t, v.Create(from, bytes.NewReader(twoClusters)))
	require.NoError(t, v.Create("loader/entries/second", bytes.NewReader(nil)))
	upTo(t, v, "loader/entries", 12) // and so the first sector is full
	all := outcomes(t, d, func() error { return v.Rename(from, to) }, func(v *oracle.Volume) string { return there(v, from, to, twoClusters) })
	for _, outcome := range []string{"", "old", "new", "old, new", "new and empty", "old, new and empty"} {
		require.Positive(t, all[outcome], "outcome %q of %v", outcome, all)
	}
	require.Len(t, all, 6, "%v", all)
}

// A rename onto a file may leave that one with its old cluster, which is free already; its name
// alone is always there.
func TestHazardReplace(t *testing.T) {
	d := build(t, kinds[0])
	v := mount(t, d)
	const from, to = "loader/entries/new", "loader/loader.conf"
	old := bytes.ToUpper(twoClusters)
	require.NoError(t, v.Unlink(to))
	require.NoError(t, v.Create(to, bytes.NewReader(old)))
	require.NoError(t, v.Create(from, bytes.NewReader(twoClusters)))
	all := outcomes(t, d, func() error { return v.Rename(from, to) }, func(v *oracle.Volume) string {
		f, ok := v.File(to)
		b, err := v.ReadFile(to)
		switch {
		case !ok:
			return "none"
		case f.Err != "" || err != nil:
			return "broken"
		case bytes.Equal(b, old):
			return "old"
		case bytes.Equal(b, twoClusters):
			return "new"
		}
		return "other"
	})
	require.Positive(t, all["old"], "%v", all)
	require.Positive(t, all["new"], "%v", all)
	require.Positive(t, all["broken"], "%v", all)
	require.Len(t, all, 3, "%v", all)
}

// An exchange leaves each name with what one of the two had: nothing is broken, and no name is
// gone.
func TestExchangeHasNoHazard(t *testing.T) {
	d := build(t, kinds[0])
	v := mount(t, d)
	const a, b = "loader/entries/a long name.conf", "loader/loader.conf"
	old := bytes.ToUpper(twoClusters)
	require.NoError(t, v.Unlink(b))
	require.NoError(t, v.Create(b, bytes.NewReader(old)))
	upTo(t, v, "loader/entries", 15)
	require.NoError(t, v.Create(a, bytes.NewReader(twoClusters)))
	all := outcomes(t, d, func() error { return v.Exchange(a, b) }, func(v *oracle.Volume) string {
		var has []string
		for _, name := range []string{a, b} {
			content, err := v.ReadFile(name)
			switch {
			case err == nil && bytes.Equal(content, old):
				has = append(has, "old")
			case err == nil && bytes.Equal(content, twoClusters):
				has = append(has, "new")
			default:
				has = append(has, "broken")
			}
		}
		return strings.Join(has, ", ")
	})
	require.Equal(t, map[string]int{"new, old": 1, "old, old": 1, "new, new": 1, "old, new": 1}, all)
}

// A removal that is cut between the sectors of a name leaves the 8.3 name, and with it the file.
func TestHazardRemove(t *testing.T) {
	d := build(t, kinds[0])
	v := mount(t, d)
	const name = "loader/entries/a name of two pieces.conf"
	upTo(t, v, "loader/entries", 14)
	// two slots in one sector, one in the next
	require.NoError(t, v.Create(name, bytes.NewReader(twoClusters)))
	all := outcomes(t, d, func() error { return v.Unlink(name) }, func(v *oracle.Volume) string {
		f, ok := v.File("loader/entries/ANAMEO~1.CON")
		switch {
		case !ok:
			return "gone"
		case f.Err != "":
			return "broken"
		case f.Long:
			return "there"
		}
		return "alias"
	})
	for _, outcome := range []string{"gone", "there", "alias", "broken"} {
		require.Positive(t, all[outcome], "outcome %q of %v", outcome, all)
	}
}

// A new file may be there in part, with data that never came, or without its data, until the next
// Sync.
func TestHazardCreate(t *testing.T) {
	d := build(t, kinds[0])
	v := mount(t, d)
	const name = "loader/entries/NEW"
	all := outcomes(t, d, func() error { return v.Create(name, bytes.NewReader(twoClusters)) }, func(v *oracle.Volume) string {
		f, ok := v.File(name)
		b, err := v.ReadFile(name)
		switch {
		case !ok:
			return "none"
		case f.Err != "" || err != nil:
			return "broken"
		case bytes.Equal(b, twoClusters):
			return "whole"
		case int64(len(b)) == int64(len(twoClusters)):
			return "other data"
		}
		return fmt.Sprint(len(b))
	})
	for _, outcome := range []string{"none", "0", "512", "whole", "broken", "other data"} {
		require.Positive(t, all[outcome], "outcome %q of %v", outcome, all)
	}
	require.NoError(t, v.Sync())
	all = outcomes(t, d, func() error { return v.Truncate(name) }, func(v *oracle.Volume) string { return there(v, "none", name, twoClusters) })
	for _, outcome := range []string{"new", "new and empty", "new and broken"} {
		require.Positive(t, all[outcome], "outcome %q of %v", outcome, all)
	}
}

// A file of one cluster may have it before it has a size.
func TestHazardSizeLater(t *testing.T) {
	d := build(t, kinds[0])
	v := mount(t, d)
	all := outcomes(t, d, func() error { return v.Create("NEW", strings.NewReader("text")) }, func(v *oracle.Volume) string {
		f, _ := v.File("NEW")
		return fmt.Sprint(f.Start != 0, f.Size)
	})
	for _, outcome := range []string{"false 0", "true 0", "true 4"} {
		require.Positive(t, all[outcome], "outcome %q of %v", outcome, all)
	}
}
