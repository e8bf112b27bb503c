package oracle

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/petest"
)

// directoryFS has its files in the order in which they were written, as the directories of FAT do.
type directoryFS struct {
	fstest.MapFS
	order []string
}

func newDirectoryFS(t testing.TB, files []labFile) *directoryFS {
	d := &directoryFS{MapFS: fstest.MapFS{}}
	for _, f := range bootFiles(t, files) {
		d.order = append(d.order, f.Path)
		if f.Dir {
			d.MapFS[f.Path] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			continue
		}
		b, err := f.bytes(0, f.Size)
		require.NoError(t, err)
		d.MapFS[f.Path] = &fstest.MapFile{Data: b}
	}
	return d
}

// ReadDir implements [fs.ReadDirFS].
func (d *directoryFS) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := d.MapFS.ReadDir(name)
	slices.SortStableFunc(list, func(a, b fs.DirEntry) int {
		return slices.Index(d.order, path.Join(name, a.Name())) - slices.Index(d.order, path.Join(name, b.Name()))
	})
	return list, err
}

// rename puts a file under its new name at the end of its directory, unless there is one of that
// name.
func (d *directoryFS) rename(from, to string) bool {
	for _, name := range d.order {
		if equalFold(name, to) {
			return equalFold(from, to)
		}
	}
	d.MapFS[to] = d.MapFS[from]
	delete(d.MapFS, from)
	d.order = append(slices.DeleteFunc(d.order, func(s string) bool { return s == from }), to)
	return true
}

// What systemd-boot 257 and 262 did with the recorded file systems is what package bootloader says
// for their versions: the menu, the choice, the rename.
func TestBootloaderAsSystemdBoot(t *testing.T) {
	text, err := os.ReadFile("testdata/loaderanswers.json")
	require.NoError(t, err)
	var answers map[string]map[string][]labBoot
	require.NoError(t, json.Unmarshal(text, &answers))
	starts := map[int]int{}
	for _, c := range loaderCases() {
		for _, release := range []int{257, 262} {
			t.Run(c.name+" "+strconv.Itoa(release), func(t *testing.T) {
				esp := newDirectoryFS(t, append([]labFile{{"EFI/BOOT/BOOTX64.EFI", string(petest.Loader(strconv.Itoa(release)))}}, c.esp...))
				o := bootloader.MenuOptions{Self: "EFI/BOOT/BOOTX64.EFI", LoaderVersion: osmith.Version(strconv.Itoa(release))}
				var xbootldr *directoryFS
				if c.xbootldr != nil {
					xbootldr = newDirectoryFS(t, c.xbootldr)
					o.XBOOTLDR = xbootldr
				}
				v := bootloader.Variables{EntryOneShot: c.vars["LoaderEntryOneShot"], EntryDefault: c.vars["LoaderEntryDefault"], EntryPreferred: c.vars["LoaderEntryPreferred"],
					EntryLastBooted: c.vars["LoaderEntryLastBooted"], EntrySysFail: c.vars["LoaderEntrySysFail"]}
				for i, want := range answers[c.name][strconv.Itoa(release)] {
					if want.File == "" {
						return // nothing was started that could say what it saw
					}
					starts[release]++
					m, err := bootloader.ReadMenu(esp, o)
					require.NoError(t, err)
					var ids []string
					for _, e := range m.Entries {
						ids = append(ids, e.ID)
					}
					require.Equal(t, want.Entries, ids, "start %d", i)
					e, _ := m.Default(v)
					require.NotNil(t, e)
					require.Equal(t, want.Selected, e.ID, "start %d", i)
					if e.Type == bootloader.EntryType2 && e.Profile > 0 {
						require.Equal(t, fmt.Sprintf("@%d", e.Profile), want.Options, "start %d", i)
					}
					fsys := esp
					if e.XBOOTLDR {
						fsys = xbootldr
					}
					path := ""
					if from, to := e.Boot(); from != to && fsys.rename(from, to) {
						path = `\` + strings.ReplaceAll(to, "/", `\`)
					}
					require.Equal(t, want.CountPath, path, "start %d", i)
					v.EntryOneShot, v.EntryLastBooted = want.OneShot, want.LastBooted
				}
			})
		}
	}
	require.Greater(t, starts[257], 300)
	require.Greater(t, starts[262], 300)
}
