package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// listAll has bootctl list, and tell the default, of one ESP with its variables after the other.
const listAll = `set -e
mount -t tmpfs tmpfs /sys
mkdir -p /sys/firmware/efi/efivars /efi
export SYSTEMD_RELAX_ESP_CHECKS=1 container=
for d in [0-9]*; do
	mount -t tmpfs tmpfs /sys/firmware/efi/efivars
	cp $d/vars/* /sys/firmware/efi/efivars/ 2>/dev/null || true
	mount --bind $d/efi /efi
	unshare --pid --fork bootctl --esp-path=/efi list --json=short >$d/list
	unshare --pid --fork bootctl --esp-path=/efi status >$d/status 2>&1 || true
	umount /efi /sys/firmware/efi/efivars
done
`

// randomFiles are entries of all kinds that agree in much. No two of them are told apart by their
// counters alone: there bootctl does not do what the loader does. Nor does it take the id of an
// image with profiles for one, which the loader does, so no variable names one.
func randomFiles(r *rand.Rand) (files []osmith.ESPFile) {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	counter := func() string { return pick("", "", "+3", "+2-1", "+0-3", "+0") }
	version := func() string { return pick("1", "2", "10", "2.1", "2-rc", "3.0") }
	files = []osmith.ESPFile{loaderFile("EFI/systemd/systemd-bootx64.efi", "262-1"), text("k", "k")}
	taken := map[string]bool{}
	for range 2 + r.IntN(5) {
		v := version()
		stem := pick("os", "b") + "_" + v
		if taken[stem] {
			continue
		}
		taken[stem] = true
		var more []petest.Section
		if stem[0] == 'b' && r.IntN(3) == 0 {
			more = []petest.Section{{Name: ".profile", Content: []byte("ID=main\n")}, {Name: ".profile", Content: []byte("ID=debug\nTITLE=Debug\n")}}
		}
		files = append(files, ukiOf("EFI/Linux/"+stem+counter()+".efi", pick(v, "7"), more...))
	}
	for range r.IntN(5) {
		v := version()
		stem := pick("x", "y") + "-" + v
		if taken[stem] {
			continue
		}
		taken[stem] = true
		lines := "title T " + v + "\nlinux /k\nversion " + v + "\n" + pick("", "sort-key os\n", "sort-key zz\n") + pick("", "machine-id 0123456789abcdef0123456789abcdef\n")
		files = append(files, text("loader/entries/"+stem+counter()+".conf", lines))
	}
	if r.IntN(2) == 0 {
		files = append(files, text("loader/loader.conf", "timeout 2\n"+pick("", "default os_*\n", "default x-*\n", "default nothing\n")))
	}
	return files
}

// bootctl lists the same entries in the same order, and takes the same one for the default.
func TestBootctl(t *testing.T) {
	root := testtools.Forky(t)
	r, long := testtools.Seed(t)
	n := 40
	if long {
		n = 200
	}
	b := newBench(t)
	at := func(i int) string { return fmt.Sprintf("%03d", i) }
	for i := range n {
		b.directory(at(i)+"/efi", randomFiles(r))
		require.NoError(t, os.MkdirAll(filepath.Join(b.dir, at(i), "vars"), 0o755))
		for _, name := range []string{"LoaderEntryOneShot", "LoaderEntryDefault"} {
			if value := []string{"", "", "os_1.efi", "x-2.conf", "os_2.efi", "gone.efi"}[r.IntN(6)]; value != "" {
				b.file(at(i)+"/vars/"+name+"-"+vendor.String(), append([]byte{7, 0, 0, 0}, efi.AppendUTF16(nil, value+"\x00")...))
			}
		}
	}
	root.Run(t, b.dir, "/bin/sh", "-c", listAll)
	chosen := map[string]int{}
	defaultLine := regexp.MustCompile(`(?s)Default Boot Loader Entry:\n.*?\n +id: (\S+)`)
	for i := range n {
		var theirs []struct {
			ID        string `json:"id"`
			IsDefault bool   `json:"isDefault"`
		}
		read := func(name string) string {
			content, err := os.ReadFile(filepath.Join(b.dir, at(i), name))
			require.NoError(t, err)
			return string(content)
		}
		require.NoError(t, json.Unmarshal([]byte(read("list")), &theirs), read("list"))
		var want, got []string
		defaults := map[string]bool{}
		for _, e := range theirs {
			// it names the first profile as it does the others
			id := strings.TrimSuffix(e.ID, "@main")
			want = append(want, id)
			defaults[id] = e.IsDefault
		}
		line := "list -esp @" + at(i) + "/efi"
		if list, err := os.ReadDir(filepath.Join(b.dir, at(i), "vars")); err == nil && len(list) > 0 {
			b.variablesOf(at(i)+"/vars", at(i)+"/store")
			line += " -vars @" + at(i) + "/store"
		}
		ours := object[listResult](b, 0, line)
		for _, e := range ours.Entries {
			got = append(got, e.ID)
			require.Equal(t, defaults[e.ID], e.Default, "%s %s\n%s\n%s", at(i), e.ID, b.ok(line), read("list"))
		}
		require.Equal(t, want, got, at(i))
		chosen[ours.Reason]++
		m := defaultLine.FindStringSubmatch(read("status"))
		require.NotNil(t, m, read("status"))
		require.Equal(t, ours.Default, strings.TrimSuffix(m[1], "@main"), read("status"))
	}
	t.Log(chosen)
	require.GreaterOrEqual(t, len(chosen), 4, "each rule decides somewhere: %v", chosen)
}

// variablesOf puts the variables of a directory in the form of efivarfs into a variable store.
func (b *bench) variablesOf(dir, store string) {
	b.Helper()
	from, err := bootloader.CopyVariables(os.DirFS(filepath.Join(b.dir, dir)))
	require.NoError(b, err)
	var nameText []string
	v, err := bootloader.ReadVariables(from)
	require.NoError(b, err)
	for name, text := range map[string]string{"LoaderEntryOneShot": v.EntryOneShot, "LoaderEntryDefault": v.EntryDefault} {
		if text != "" {
			nameText = append(nameText, name, text)
		}
	}
	b.store(store, 2000, nameText...)
}
