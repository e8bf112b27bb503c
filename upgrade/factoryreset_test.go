package upgrade_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/upgrade"
)

// seeded is randomness that is the same each time.
type seeded struct{ *rand.ChaCha8 }

func newSeeded() seeded { return seeded{rand.NewChaCha8([32]byte{1})} }

// withVolume is an installation whose state partition is encrypted.
func withVolume(t *testing.T, size int64) *installation {
	t.Helper()
	i := newInstallation(t, size)
	i.options.Volumes = []upgrade.NewVolume{{Partition: "state", Passphrase: []byte("first"), Format: luks.FormatOptions{
		Rand: newSeeded(), KeyslotsSize: 1 << 20, DataOffset: 2 << 20, Key: luks.KeyOptions{Rand: newSeeded(), KDF: luks.RandomKeyKDF},
	}, Keys: func(v *luks.Volume, key *luks.Key) error {
		_, err := v.AddKey(key, []byte("second"), luks.KeyOptions{Rand: newSeeded(), KDF: luks.RandomKeyKDF})
		return err
	}}}
	return i
}

func statePartition(t *testing.T, d osmith.Source) (table *partition.Table, index int) {
	t.Helper()
	table, err := partition.Read(d, partition.ReadOptions{})
	require.NoError(t, err)
	for i, p := range table.Partitions {
		if p.Name == "state" {
			return table, i
		}
	}
	t.Fatal("no state partition")
	return nil, 0
}

var declaredState = []upgrade.StatePartition{{Type: partition.Var, Name: "state"}}

// A reset leaves the state or nothing of it that opens, at every power cut, and touches nothing
// else.
func TestFactoryResetProof(t *testing.T) {
	ext4 := func(on *partition.Window) {
		b := make([]byte, 1<<20)
		copy(b[4096:], noise(1<<19))
		b[1024+56], b[1024+57] = 0x53, 0xef
		_, err := on.WriteAt(b, 0)
		require.NoError(t, err)
	}
	for _, k := range []struct {
		name string
		held string
		put  func(on *partition.Window)
	}{
		{"volume", "a LUKS volume", nil},
		{"file system", "an ext2, ext3 or ext4 file system", ext4},
		{"not recognised", "", func(on *partition.Window) {
			_, err := on.WriteAt(noise(1<<19), 4096)
			require.NoError(t, err)
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			limit := 40
			if testing.Short() {
				limit = 8
			}
			i := newInstallation(t, 40*mib)
			if k.put == nil {
				i = withVolume(t, 40*mib)
			}
			i.mustInstall("1")
			table, n := statePartition(t, i.disk)
			if k.put != nil {
				k.put(table.Window(i.disk, n))
			}
			off, size := table.Extent(n)
			before := contentOf(t, i.disk)
			var areas [][2]int64
			if k.put == nil {
				areas = keyAreasOf(t, before[off:])
				require.Len(t, areas, 2)
			}
			i.disk.Record()
			done, err := upgrade.FactoryReset(i.disk, i.machine, declaredState)
			require.NoError(t, err)
			require.Equal(t, []upgrade.ResetPartition{{Number: table.Partitions[n].Number, ID: table.Partitions[n].ID, Name: "state", Held: k.held}}, done)
			require.Equal(t, "1", i.boot().Version)

			gone, kept := 0, 0
			faults, err := i.disk.Faults(faultio.FaultOptions{Limit: limit})
			require.NoError(t, err)
			for state := range faults.States() {
				where := describe(state)
				now := contentOf(t, state.Disk)
				require.True(t, bytes.Equal(before[:off], now[:off]) && bytes.Equal(before[off+size:], now[off+size:]), "%s: nothing else is touched", where)
				part, was := now[off:off+size], before[off:off+size]
				switch k.name {
				case "volume":
					opens, header := 0, bytes.Equal(part[:6], []byte("LUKS\xba\xbe")) || bytes.Equal(part[16<<10:][:6], []byte("SKUL\xba\xbe"))
					for _, a := range areas {
						if bytes.Equal(part[a[0]:a[0]+a[1]], was[a[0]:a[0]+a[1]]) {
							opens++
						}
					}
					require.True(t, header || opens == 0, "%s: no header goes before the keys", where)
					if opens > 0 {
						kept++
					} else {
						gone++
					}
				case "file system":
					if part[1024+56] == 0x53 {
						require.Equal(t, was, part, "%s: nothing of it goes before that by which it is recognised", where)
						kept++
					} else {
						gone++
					}
				default:
					gone++
				}
				left := i.on(state.Disk)
				_, err := upgrade.FactoryReset(left.disk, i.machine, declaredState)
				require.NoError(t, err, where)
				require.Equal(t, contentOf(t, i.disk), contentOf(t, left.disk), "%s: goes on to the same bytes", where)
			}
			require.Positive(t, gone)
			if k.held != "" {
				require.Positive(t, kept)
			}
			c, err := upgrade.ReadContents(i.disk)
			require.NoError(t, err)
			require.Equal(t, "nothing", c.Found[len(c.Found)-1].What)
		})
	}
}

// keyAreasOf reads the areas of key slots from the JSON of a LUKS2 header (LUKS2 On-Disk Format
// Specification 1.1.4, 3.1 and 3.2), without package luks.
func keyAreasOf(t *testing.T, b []byte) (list [][2]int64) {
	t.Helper()
	require.Equal(t, "LUKS\xba\xbe", string(b[:6]))
	text := b[4096 : 16<<10]
	var h struct {
		Keyslots map[string]struct {
			Area struct{ Offset, Size string }
		}
	}
	require.NoError(t, json.Unmarshal(text[:bytes.IndexByte(text, 0)], &h))
	for _, s := range h.Keyslots {
		off, err := strconv.ParseInt(s.Area.Offset, 10, 64)
		require.NoError(t, err)
		size, err := strconv.ParseInt(s.Area.Size, 10, 64)
		require.NoError(t, err)
		list = append(list, [2]int64{off, size})
	}
	return list
}

// Only what is declared and can be state is reset; if one is not, none is.
func TestFactoryResetRefuses(t *testing.T) {
	i := withVolume(t, 40*mib)
	i.mustInstall("1")
	table, n := statePartition(t, i.disk)
	before := sha256.Sum256(contentOf(t, i.disk))
	for _, tt := range []struct {
		name string
		s    upgrade.StatePartition
		want string
	}{
		{"esp", upgrade.StatePartition{ID: table.Partitions[0].ID}, "from which a system boots"},
		{"root", upgrade.StatePartition{ID: table.Partitions[1].ID}, "from which a system boots"},
		{"tree", upgrade.StatePartition{ID: table.Partitions[2].ID}, "from which a system boots"},
		{"empty slot", upgrade.StatePartition{ID: table.Partitions[3].ID}, "from which a system boots"},
		{"none", upgrade.StatePartition{ID: osmith.GUID{9}}, "the disk has 0 such partitions: want one"},
		{"two", upgrade.StatePartition{Type: partition.RootX8664Verity, Name: "x"}, "the disk has 0 such partitions"},
		{"other type", upgrade.StatePartition{ID: table.Partitions[n].ID, Type: partition.Home}, "the disk has 0 such partitions"},
		{"not said", upgrade.StatePartition{Type: partition.Var}, "want its ID, or its type and its label"},
	} {
		_, err := upgrade.FactoryReset(i.disk, i.machine, append([]upgrade.StatePartition{{Type: partition.Var, Name: "state"}}, tt.s))
		require.ErrorAs(t, err, new(*upgrade.NotStateError), tt.name)
		require.ErrorContains(t, err, tt.want, tt.name)
		require.Equal(t, before, sha256.Sum256(contentOf(t, i.disk)), tt.name)
	}
	_, err := upgrade.FactoryReset(i.disk, i.machine, nil)
	require.ErrorContains(t, err, "no partition is declared")
	_, err = upgrade.FactoryReset(struct{ osmith.Disk }{i.disk}, i.machine, declaredState)
	require.ErrorIs(t, err, upgrade.ErrNoSync)
	_, err = upgrade.FactoryReset(heldDisk{i.disk, off(table, n)}, i.machine, declaredState)
	require.ErrorAs(t, err, new(*upgrade.InUseError))
	require.Equal(t, before, sha256.Sum256(contentOf(t, i.disk)))
}

func off(t *partition.Table, i int) int64 { off, _ := t.Extent(i); return off }

// heldDisk is one of which the kernel uses what is at a place.
type heldDisk struct {
	*faultio.Disk
	at int64
}

func (d heldDisk) Exclusive(off, n int64) (func() error, error) {
	if off <= d.at && d.at < off+n {
		return nil, &blockdev.InUseError{Name: "/dev/sda6", MountPoint: "/var"}
	}
	return func() error { return nil }, nil
}

// What systemd asks for is read as systemd reads it, and what is asked for here systemd takes.
func TestResetRequestAsSystemdReadsIt(t *testing.T) {
	forky := testtools.Forky(t)
	const vendor = "8cf2644b-4b0b-428f-9387-6d876050dc67"
	osRelease := map[string]string{"ID": "acme", "IMAGE_ID": "acme-image", "VERSION_ID": "7", "IMAGE_VERSION": "42"}
	boot := osmith.MustParseGUID("11111111-2222-4333-8444-555555555555")
	other := "00000000111122223333444444444444"
	cases := []string{
		`{"osReleaseId":"acme","osReleaseImageId":"acme-image","bootId":"` + other + `"}`,
		`{"osReleaseId":"acme","osReleaseImageId":"acme-image","bootId":"` + boot.String() + `"}`,
		`{"osReleaseId":"acme","osReleaseImageId":"acme-image","bootId":"` + strings.ReplaceAll(boot.String(), "-", "") + `"}`,
		`{"osReleaseId":"acme","bootId":"` + other + `"}`,
		`{"osReleaseId":"acme","osReleaseImageId":"other","bootId":"` + other + `"}`,
		`{"osReleaseId":"other","osReleaseImageId":"acme-image","bootId":"` + other + `"}`,
		`{"osReleaseId":"acme","osReleaseImageId":"acme-image","osReleaseVersionId":"1","osReleaseImageVersion":"2","x":[1],"bootId":"` + other + `"}`,
		`{"osReleaseImageId":"acme-image","bootId":"` + other + `"}`,
		`{"osReleaseId":"acme","osReleaseImageId":"acme-image"}`,
		`{"osReleaseId":"acme","osReleaseImageId":null,"bootId":"` + other + `"}`,
		`{"osReleaseId":5,"osReleaseImageId":"acme-image","bootId":"` + other + `"}`,
		`{"osReleaseId":"acme","osReleaseImageId":"acme-image","bootId":"xyz"}`,
		`{}`, `none`, ``,
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(path("os-release"), []byte("ID=acme\nIMAGE_ID=acme-image\nVERSION_ID=7\nIMAGE_VERSION=42\n"), 0o644))
	require.NoError(t, os.WriteFile(path("boot_id"), []byte(boot.String()+"\n"), 0o644))
	var script strings.Builder
	// A system of its own: firmware variables, a boot and an os-release. As process 1 with an empty
	// $container, the tool believes that it is in none.
	fmt.Fprintf(&script, "set -e; cd %s; mount -t tmpfs t /sys; mkdir -p /sys/firmware/efi/efivars; mount --bind os-release /usr/lib/os-release; mount --bind boot_id /proc/sys/kernel/random/boot_id; V=/sys/firmware/efi/efivars/FactoryResetRequest-%s; tool='unshare --pid --fork /usr/lib/systemd/systemd-factory-reset'; export container=\n", dir, vendor)
	variable := func(text string) []byte {
		b := []byte{7, 0, 0, 0}
		for _, c := range text {
			b = append(b, byte(c), 0)
		}
		return b
	}
	for n, text := range cases {
		require.NoError(t, os.WriteFile(path(fmt.Sprint(n)), variable(text), 0o644))
		fmt.Fprintf(&script, "cat %d > $V; $tool status > status%d || true\n", n, n)
	}
	store := &bootloader.MemoryVariables{}
	require.NoError(t, (&upgrade.ResetRequest{OS: "acme", Image: "acme-image", OSVersion: "7", ImageVersion: "42", Boot: boot}).Ask(store))
	asked, err := fs.ReadFile(store, "FactoryResetRequest-"+vendor)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path("ours"), asked, 0o644))
	fmt.Fprintf(&script, "cat ours > $V; $tool status > statusours || true; rm $V; $tool request; cat $V > theirs\n")
	forky.Run(t, dir, "/bin/sh", "-c", script.String())

	status := func(name string) string {
		b, err := os.ReadFile(path("status" + name))
		require.NoError(t, err)
		return strings.TrimSpace(string(b))
	}
	for n, text := range cases {
		require.NoError(t, os.MkdirAll(path("vars"), 0o755))
		require.NoError(t, os.WriteFile(path("vars/FactoryResetRequest-"+vendor), variable(text), 0o644))
		mode := upgrade.ResetUnspecified
		r, err := upgrade.ReadResetRequest(os.DirFS(path("vars")))
		if err == nil {
			mode = r.Mode(osRelease, boot)
		}
		require.Equal(t, status(fmt.Sprint(n)), string(mode), "%s: %v", text, err)
	}
	require.Equal(t, "pending", status("ours"))
	theirs, err := os.ReadFile(path("theirs"))
	require.NoError(t, err)
	require.Equal(t, theirs, asked, "the same bytes as systemd writes")
}
