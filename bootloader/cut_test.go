package bootloader

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/partition/fat"
)

// espDisk is an ESP with the loader and these UKIs, whose version is what is behind the underscore.
func espDisk(t *testing.T, names ...string) *faultio.Disk {
	t.Helper()
	disk := faultio.NewDisk(4 << 20)
	files := []osmith.ESPFile{{Path: "EFI/BOOT/BOOTX64.EFI", Content: strings.NewReader(loader262)},
		{Path: "loader/loader.conf", Content: strings.NewReader("timeout 0\n")}}
	for _, name := range names {
		files = append(files, osmith.ESPFile{Path: "EFI/Linux/" + name, Content: strings.NewReader(string(releaseOf(name)))})
	}
	require.NoError(t, fat.Build(disk, files, fat.BuildOptions{Size: disk.Size(), VolumeID: 1}))
	return disk
}

func releaseOf(name string) []byte {
	_, version, _ := strings.Cut(name, "_")
	version, _, _ = strings.Cut(strings.TrimSuffix(version, ".efi"), "+")
	return release(version).Data
}

// A change is one step of an update of an ESP, with what may start when it is cut off.
type change struct {
	name   string
	before []string
	do     func(*fat.FS) error
	// starts are the names of the programs, without directory and counter, that may start first;
	// ends are those that are started in the end when no boot is marked good.
	starts, ends []string
}

func changes() []change {
	const dir = "EFI/Linux/"
	bless := func(from string, to Status) func(*fat.FS) error {
		return func(esp *fat.FS) error {
			from, to, err := Bless(esp, `\EFI\Linux\`+from, to)
			if err != nil {
				return err
			}
			return esp.Rename(from, to)
		}
	}
	write := func(name string) func(*fat.FS) error {
		return func(esp *fat.FS) error { return esp.WriteFile(dir+name, strings.NewReader(string(releaseOf(name)))) }
	}
	return []change{
		{"a new UKI under a name that does not count, then its own", []string{"os_1.efi"}, func(esp *fat.FS) error {
			if err := esp.WriteFile(dir+"os_2.new", strings.NewReader(string(releaseOf("os_2.efi")))); err != nil {
				return err
			}
			return esp.Rename(dir+"os_2.new", dir+"os_2+3.efi")
		}, []string{"os_1.efi", "os_2.efi"}, []string{"os_1.efi"}},
		{"a new UKI at once", []string{"os_1.efi"}, write("os_2+3.efi"), []string{"os_1.efi", "os_2.efi"}, []string{"os_1.efi"}},
		{"good", []string{"os_1.efi", "os_2+2-1.efi"}, bless("os_2+2-1.efi", StatusGood), []string{"os_2.efi"}, []string{"os_1.efi", "os_2.efi"}},
		{"bad", []string{"os_1.efi", "os_2+2-1.efi"}, bless("os_2+2-1.efi", StatusBad), []string{"os_1.efi", "os_2.efi"}, []string{"os_1.efi"}},
		{"the old one goes", []string{"os_1.efi", "os_2.efi"}, func(esp *fat.FS) error { return esp.Remove(dir + "os_1.efi") }, []string{"os_2.efi"}, []string{"os_2.efi"}},
		{"the loader is replaced", []string{"os_1.efi"}, func(esp *fat.FS) error {
			return esp.ReplaceFile("EFI/BOOT/BOOTX64.EFI", strings.NewReader(strings.Replace(loader262, "262", "263", 1)))
		}, []string{"os_1.efi"}, []string{"os_1.efi"}},
	}
}

// plainName is the name of an entry's file without the counter.
func plainName(path string) string {
	name := strings.TrimPrefix(path, "EFI/Linux/")
	if stem, _, ok := ParseName(name, ".efi"); ok {
		return stem + ".efi"
	}
	return name
}

// bootsAfterCut says why a disk does not start as it may after a change that was cut off: as
// firmware reads it, the loader chooses one of the programs that may start, all of it is there, and
// so it is at every start that follows.
func bootsAfterCut(d *faultio.Disk, c change) error {
	esp, err := oracle.ReadFAT(d, d.Size(), oracle.FATOptions{Reader: oracle.FATReaderEDK2, SectorSize: 512})
	if err != nil {
		return err
	}
	chain := oracle.Machine{ESP: esp.BootFiles()}.Chain(8)
	for i, choice := range chain {
		if choice.Outcome != oracle.OutcomeStarted {
			return fmt.Errorf("start %d: %v", i, choice)
		}
		got, err := choice.Next.ESP.ReadFile(choice.Image)
		if err != nil {
			return err
		}
		if name := plainName(choice.Image); string(got) != string(releaseOf(name)) {
			return fmt.Errorf("start %d: %v is not %s", i, choice, name)
		}
	}
	if first := plainName(chain[0].Image); !slices.Contains(c.starts, first) {
		return fmt.Errorf("%s starts first, want one of %v", first, c.starts)
	}
	if last := plainName(chain[len(chain)-1].Image); !slices.Contains(c.ends, last) {
		return fmt.Errorf("%s is left in the end, want one of %v", last, c.ends)
	}
	return nil
}

// Whatever a power cut leaves of a change to the ESP starts the old set or the new one, as the
// oracle sees it: firmware's view of the file system, then the loader's choice, start after start.
func TestESPChangesCutAnywhere(t *testing.T) {
	limit := 1 << 12
	if testing.Short() {
		limit = 1 << 8
	}
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			disk := espDisk(t, c.before...)
			esp, err := fat.Open(disk)
			require.NoError(t, err)
			disk.Record()
			require.NoError(t, c.do(esp))
			faults, err := disk.Faults(faultio.FaultOptions{Sector: 512, Limit: limit})
			require.NoError(t, err)
			seen := map[string]bool{}
			for state := range faults.States() {
				require.NoError(t, bootsAfterCut(state.Disk, c), state.String())
				v, err := oracle.ReadFAT(state.Disk, state.Disk.Size(), oracle.FATOptions{Reader: oracle.FATReaderEDK2})
				require.NoError(t, err)
				seen[plainName(oracle.Boot(v, nil, oracle.LoaderVariables{}).Image)] = true
			}
			require.Len(t, seen, len(c.starts), "what may start first did: %v", seen)
			t.Logf("%+v", faults.Counts())
		})
	}
}

// The test would notice: a UKI of which only a part was written is chosen by the loader and does
// not start.
func TestESPChangeOutOfOrder(t *testing.T) {
	disk := espDisk(t, "os_1.efi")
	esp, err := fat.Open(disk)
	require.NoError(t, err)
	content := releaseOf("os_2+3.efi")
	require.NoError(t, esp.WriteFile("EFI/Linux/os_2+3.efi", strings.NewReader(string(content[:len(content)-600]))))
	c := changes()[0]
	require.ErrorContains(t, bootsAfterCut(disk, c), "cannot be loaded EFI/Linux/os_2+2-1.efi")
}
