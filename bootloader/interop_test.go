package bootloader

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
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

// onFakeESP runs a shell script in a root of Debian forky whose /efi is dir/esp and whose EFI
// variables are the files of dir/vars.
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

// bootctl has a copy of the loader's rules, with differences that the cases here avoid (the machine
// type, the case of ids, the last step of the order) or undo: it names profile 0 as it does the
// others.
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

// filesIn are the files below dir/esp with their content; directories end in a slash.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := filepath.Join(dir, "esp")
	require.NoError(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || d.IsDir() {
			files[filepath.ToSlash(rel)+"/"] = ""
			return err
		}
		b, err := os.ReadFile(name)
		files[filepath.ToSlash(rel)] = string(b)
		return err
	}))
	return files
}

// onlyFiles leaves directories out.
func onlyFiles(files map[string]string) map[string]string {
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.HasSuffix(name, "/") })
	return files
}

// carryOutInDir does what a program does on a mounted ESP.
func carryOutInDir(t *testing.T, dir string, plan *InstallationPlan) {
	t.Helper()
	for _, c := range plan.Changes {
		name := filepath.Join(dir, "esp", filepath.FromSlash(c.Path))
		if c.Kind == ChangeRemove {
			require.NoError(t, os.Remove(name))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name+PartialSuffix, []byte(read(t, c.Content)), 0o644))
		require.NoError(t, os.Rename(name+PartialSuffix, name))
	}
}

// bootctl installs, updates and removes the same files, and refuses the same downgrade.
func TestBootctlChangesTheSameFiles(t *testing.T) {
	forky, trixie := testtools.Forky(t), testtools.Trixie(t)
	bootctl := func(r testtools.Root, dir, verb string) {
		t.Helper()
		// An update that skips a loader that is as new, or newer, has status 1.
		r.Run(t, dir, "/bin/sh", "-c", onFakeESP+"bootctl --esp-path=/efi --no-variables "+verb+" || [ $? = 1 ]")
	}
	loaderOf := func(r testtools.Root) *Installation {
		b, err := os.ReadFile(r.Part(t, "loader"))
		require.NoError(t, err)
		return &Installation{Loader: bytes.NewReader(b)}
	}
	plan := func(dir string, in *Installation, o InstallationOptions) *InstallationPlan {
		t.Helper()
		p, err := PlanInstallation(os.DirFS(filepath.Join(dir, "esp")), in, o)
		require.NoError(t, err)
		return p
	}
	theirs, ours := t.TempDir(), t.TempDir()
	for _, dir := range []string{theirs, ours} {
		writeESP(t, dir, fstest.MapFS{"EFI/Linux/os.efi": text("uki")})
		bootctl(trixie, dir, "install")
	}
	seed := bytes.Repeat([]byte("s"), 32)

	// A new installation.
	fresh := t.TempDir()
	writeESP(t, fresh, fstest.MapFS{"EFI/Linux/os.efi": text("uki")})
	carryOutInDir(t, fresh, plan(fresh, loaderOf(trixie), InstallationOptions{RandomSeed: seed}))
	want, got := onlyFiles(filesIn(t, theirs)), onlyFiles(filesIn(t, fresh))
	for _, files := range []map[string]string{want, got} {
		require.Len(t, files["loader/random-seed"], 32)
		files["loader/random-seed"], files["loader/loader.conf"] = "", "" // theirs has comments
	}
	require.Equal(t, want, got)

	// From 257 to 262.
	bootctl(forky, theirs, "update")
	carryOutInDir(t, ours, plan(ours, loaderOf(forky), InstallationOptions{}))
	same := func() {
		t.Helper()
		want, got := onlyFiles(filesIn(t, theirs)), onlyFiles(filesIn(t, ours))
		want["loader/random-seed"], got["loader/random-seed"] = "", "" // from two installations
		require.Equal(t, want, got)
		require.Contains(t, got, fallbackLoader)
	}
	same()
	version, err := LoaderVersion(strings.NewReader(filesIn(t, ours)[fallbackLoader]))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(version), "257"), version)

	// Again, and back.
	bootctl(forky, theirs, "update")
	require.Empty(t, plan(ours, loaderOf(forky), InstallationOptions{}).Changes)
	same()
	bootctl(trixie, theirs, "update")
	p := plan(ours, loaderOf(trixie), InstallationOptions{})
	require.Empty(t, p.Changes)
	require.Len(t, p.Findings, 2)
	for _, f := range p.Findings {
		down, ok := errors.AsType[*LoaderDowngradeError](f.Err)
		require.True(t, ok, f.Err)
		require.Negative(t, CompareVersions(string(down.Want), string(down.Have)))
	}
	same()

	// Another program in EFI/BOOT stays in an update.
	for _, dir := range []string{theirs, ours} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "esp", lastLoader), []byte("a shim"), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "esp", firstLoader), []byte(filesIn(t, dir)[fallbackLoader]), 0o644))
	}
	bootctl(forky, theirs, "update")
	carryOutInDir(t, ours, plan(ours, loaderOf(forky), InstallationOptions{}))
	same()
	require.Equal(t, "a shim", filesIn(t, ours)[lastLoader])

	// Removed, with the directories that are empty then.
	for _, dir := range []string{theirs, ours} {
		for _, name := range []string{"PK", "KEK", "db"} {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "esp/loader/keys/auto"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "esp/loader/keys/auto", name+".auth"), []byte(name), 0o644))
		}
	}
	bootctl(forky, theirs, "remove")
	removal, err := PlanRemoval(os.DirFS(filepath.Join(ours, "esp")), RemovalOptions{})
	require.NoError(t, err)
	carryOutInDir(t, ours, removal)
	require.Equal(t, filesIn(t, theirs), filesIn(t, ours))
}
