package sysupdate_test

import (
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// crowded is a file system of which every directory has n files in it.
type crowded struct {
	fstest.MapFS
	n int
}

type crowd struct {
	fs.DirEntry
	name string
}

func (c crowd) Name() string { return c.name }

func (c crowded) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := c.MapFS.ReadDir(name)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	list := make([]fs.DirEntry, c.n)
	for i := range list {
		list[i] = crowd{entries[0], fmt.Sprint("f_", i)}
	}
	return list, nil
}

// A directory with more files than anyone has is not known, and neither is what it has been asked
// for.
func TestCrowdedDirectories(t *testing.T) {
	d := readDefinitions(t, map[string]string{"10-a.transfer": definition("", "", "")})
	for n, known := range map[int]bool{1 << 16: true, 1<<16 + 1: false} {
		root := crowded{fstest.MapFS{"x/f_1": {}}, n}
		s, err := sysupdate.ReadState(d, sysupdate.Places{Root: root})
		require.NoError(t, err)
		require.Equal(t, known, s.Targets[0].Err == nil)
		require.Equal(t, known, len(s.Versions) > 0)
		c, err := sysupdate.FindOrphans(&sysupdate.Definitions{}, []sysupdate.Record{{Dir: "/x", Pattern: "f_@v"}}, sysupdate.Places{Root: root})
		require.NoError(t, err)
		require.Equal(t, known, len(c.Unknown) == 0)

		link := crowded{fstest.MapFS{"installdb/x": {Data: []byte("/x/./f_@v"), Mode: fs.ModeSymlink | 0o777}}, n}
		_, _, err = sysupdate.ReadRecords(link, "")
		if known {
			require.ErrorIs(t, err, fs.ErrNotExist) // the links that it makes up are not there
		} else {
			require.ErrorContains(t, err, "65537 records, at most 65536")
		}
	}
}

// What is on a partition that is not there is not there.
func TestOrphansWithoutPartition(t *testing.T) {
	disk := diskWith(t, part{slotType(2, 0), "x"})
	records := []sysupdate.Record{{Dir: "/efi/EFI/Linux", Pattern: "f_@v"}}
	c, err := sysupdate.FindOrphans(readDefinitions(t, map[string]string{"30-uki.transfer": ukiTransfer}), records, sysupdate.Places{Disk: disk, ESPMount: "/efi"})
	require.NoError(t, err)
	require.Equal(t, &sysupdate.Cleanup{}, c)
}
