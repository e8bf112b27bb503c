package bootloader

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// onFakeESP runs a shell script in a root of Debian forky whose /efi is dir/esp and whose EFI variables are the files
// of dir/vars.
const onFakeESP = `set -e
mount -t tmpfs tmpfs /sys
mkdir -p /sys/firmware/efi/efivars /efi
mount -t tmpfs tmpfs /sys/firmware/efi/efivars
cp vars/* /sys/firmware/efi/efivars/ 2>/dev/null || true
mount --bind esp /efi
export SYSTEMD_RELAX_ESP_CHECKS=1
`

func writeESP(t *testing.T, dir string, files fstest.MapFS) {
	t.Helper()
	for name, f := range files {
		p := filepath.Join(dir, "esp", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, f.Data, 0o644))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "vars"), 0o755))
}

// bootctl has a copy of the loader's rules, with differences that the cases here avoid (the machine type, the case of
// ids, the last step of the order) or undo: it names profile 0 as it does the others.
func TestBootctlListsTheSameMenu(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	esp := fstest.MapFS{
		"EFI/Linux/os_1.efi":       release("1"),
		"EFI/Linux/os_2+3.efi":     release("2"),
		"EFI/Linux/os_10+0-3.efi":  release("10"),
		"EFI/Linux/os_9-rc1.efi":   release("9~rc1"),
		"EFI/Linux/os_9.efi":       release("9"),
		"EFI/Linux/multi.efi":      ukiFile(".linux", "k", ".osrel", "IMAGE_ID=img\nNAME=Multi\nVERSION='3 b'\n", ".profile", "ID=main\n", ".profile", "ID=debug\nTITLE=Debug it\n"),
		"loader/entries/old.conf":  text("title Old\nlinux /k\nversion 5\noptions a b\noptions c\n"),
		"loader/entries/new.conf":  text("title New\nlinux /k\nversion 6\nsort-key a\nmachine-id 0123456789abcdef0123456789abcdef\n"),
		"loader/entries/n2+1.conf": text("title New\nlinux /k\nversion 7\nsort-key a\nmachine-id 0123456789abcdef0123456789abcdef\n"),
		"k":                        text("k"),
	}
	writeESP(t, dir, esp)
	out := r.Output(t, dir, "/bin/sh", "-c", onFakeESP+"bootctl --esp-path=/efi list --json=short")
	var theirs []struct {
		ID        string `json:"id"`
		Title     string `json:"title"`
		SortKey   string `json:"sortKey"`
		Version   string `json:"version"`
		Options   string `json:"options"`
		TriesLeft *int   `json:"triesLeft"`
		TriesDone *int   `json:"triesDone"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &theirs), out)
	ours := readMenu(t, os.DirFS(filepath.Join(dir, "esp")), MenuOptions{})
	var theirIDs []string
	for i := range theirs {
		e := &theirs[i]
		e.ID, e.Title = strings.TrimSuffix(e.ID, "@main"), strings.TrimSuffix(e.Title, " (main)")
		theirIDs = append(theirIDs, e.ID)
	}
	assert.Equal(t, theirIDs, ids(ours))
	for _, e := range theirs {
		our, ok := ours.Entry(e.ID)
		require.True(t, ok, e.ID)
		assert.Equal(t, e.Title, our.Title, e.ID)
		assert.Equal(t, e.SortKey, our.SortKey, e.ID)
		assert.Equal(t, e.Version, our.Version, e.ID)
		assert.Equal(t, strings.ReplaceAll(e.Options, "\t", " "), our.Options, e.ID)
		assert.Equal(t, e.TriesLeft != nil, our.Counted, e.ID)
		if e.TriesLeft != nil {
			assert.Equal(t, *e.TriesLeft, our.TriesLeft, e.ID)
		}
	}
}

func TestBlessBootRenamesTheSame(t *testing.T) {
	r := testtools.Forky(t)
	for _, name := range []string{"os+2-1.efi", "os+0-3.efi", "os+3.efi"} {
		for _, to := range []Status{StatusGood, StatusBad} {
			t.Run(name+" "+to.String(), func(t *testing.T) {
				dir := t.TempDir()
				writeESP(t, dir, fstest.MapFS{"EFI/Linux/" + name: text("x")})
				bootCountPath := `\EFI\Linux\` + name
				v := append([]byte{6, 0, 0, 0}, efi.AppendUTF16(nil, bootCountPath+"\x00")...)
				require.NoError(t, os.WriteFile(filepath.Join(dir, "vars", "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"), v, 0o644))

				esp := os.DirFS(filepath.Join(dir, "esp"))
				status, err := BootStatus(esp, bootCountPath)
				require.NoError(t, err)
				from, target, err := Bless(esp, bootCountPath, to)
				require.NoError(t, err)
				assert.Equal(t, "EFI/Linux/"+name, from)

				// As process 1 with an empty $container, the tool believes that it is in none.
				bless := "container= unshare --pid --fork /usr/lib/systemd/systemd-bless-boot --path=/efi "
				out := r.Output(t, dir, "/bin/sh", "-c", onFakeESP+bless+"status; "+bless+to.String()+"; "+bless+"status")
				assert.Equal(t, status.String(), strings.Fields(out)[0])
				list, err := os.ReadDir(filepath.Join(dir, "esp", "EFI", "Linux"))
				require.NoError(t, err)
				require.Len(t, list, 1)
				assert.Equal(t, target, "EFI/Linux/"+list[0].Name())
			})
		}
	}
}
