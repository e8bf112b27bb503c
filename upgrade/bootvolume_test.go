package upgrade_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// Changes of a program's own are as safe as those of an upgrade: whatever a power cut leaves, a
// file has one of its names and one of its contents.
func TestBootVolume(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		s := newSystem(t, "")
		s.bootAndRun()
		if mounted {
			s.mount()
		}
		open := func() *upgrade.BootVolume {
			t.Helper()
			v, err := upgrade.OpenBootVolume(s.disk, osmith.GUID{}, s.machine)
			require.NoError(t, err)
			return v
		}
		v := open()
		require.NoError(t, v.MkdirAll("loader/entries/x"))
		require.NoError(t, v.WriteFile("loader/entries/a+3.conf", source([]byte("title A\n"))))
		require.ErrorIs(t, v.WriteFile("loader/entries/a+3.conf", source(nil)), fs.ErrExist)
		require.NoError(t, v.Close())
		require.NoError(t, v.Close())

		for _, c := range []struct {
			name string
			do   func(v *upgrade.BootVolume) error
			may  []string // what of a*.conf there may be; the last one is there in the end
		}{
			{"rename", func(v *upgrade.BootVolume) error { return v.Rename("loader/entries/a+3.conf", "loader/entries/a.conf") },
				[]string{"a+3.conf: title A\n; ", "a+3.conf: title A\n; a.conf: ; ", "a+3.conf: title A\n; a.conf: title A\n; ", "a+3.conf: ; a.conf: title A\n; ", "a.conf: title A\n; "}},
			{"replace", func(v *upgrade.BootVolume) error {
				return v.ReplaceFile("loader/entries/a.conf", source([]byte("title B\n")))
			}, []string{"a.conf: title A\n; ", "a.conf: title B\n; "}},
			{"remove", func(v *upgrade.BootVolume) error { return v.Remove("loader/entries/a.conf") }, []string{"a.conf: title B\n; ", "a.conf: ; ", ""}},
		} {
			s.disk.Record()
			v := open()
			require.NoError(t, c.do(v), c.name)
			require.NoError(t, v.Close())
			look := func(on *system) (all string) {
				files, err := on.esp().ReadDir("loader/entries")
				require.NoError(t, err)
				for _, f := range files {
					if n := f.Name(); n[0] == 'a' && n[len(n)-1] == 'f' {
						b, err := on.esp().ReadFile("loader/entries/" + n)
						require.NoError(t, err)
						all += fmt.Sprintf("%s: %s; ", n, b)
					}
				}
				return all
			}
			require.Equal(t, c.may[len(c.may)-1], look(s), c.name)
			faults, err := s.disk.Faults(faultio.FaultOptions{Sector: 512, Limit: 64})
			require.NoError(t, err)
			for state := range faults.States() {
				require.Contains(t, c.may, look(s.on(state.Disk)), "%s: %v", c.name, describe(state))
			}
		}

		held := open()
		_, err := upgrade.OpenBootVolume(&usedDisk{Disk: s.disk, size: s.disk.Size()}, osmith.GUID{}, upgrade.Machine{})
		var used *upgrade.InUseError
		require.ErrorAs(t, err, &used)
		_, err = upgrade.OpenBootVolume(s.disk, osmith.GUID{5}, s.machine)
		require.ErrorContains(t, err, "no partition has the ID 05000000-0000-0000-0000-000000000000")
		b, err := fs.ReadFile(held, "loader/loader.conf")
		require.NoError(t, err)
		require.NotEmpty(t, b)
		_, err = held.Stat("EFI/Linux/acme_1.efi")
		require.NoError(t, err)
		table, err := partition.Read(s.disk, partition.ReadOptions{})
		require.NoError(t, err)
		beside, err := held.OpenBeside(table.Partitions[0].ID, s.machine)
		require.NoError(t, err)
		_, err = beside.Stat("EFI/Linux/acme_1.efi")
		require.NoError(t, err)
		_, err = held.OpenBeside(table.Partitions[1].ID, s.machine)
		require.Error(t, err, "a root file system")
		require.NoError(t, errors.Join(beside.Close(), held.Close()))
	}
}
