package fat

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	backend "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// piece is a range of a volume that is not zero.
type piece struct {
	Off  int64
	Data []byte
}

// storedVolume is a volume as testdata/makers.json.gz has it.
type storedVolume struct {
	Name   string
	Size   int64
	Pieces []piece
}

// storedMakers are the volumes that other makers made.
func storedMakers(t testing.TB) map[string]*faultio.Disk {
	t.Helper()
	b, err := os.ReadFile("testdata/makers.json.gz")
	require.NoError(t, err)
	z, err := gzip.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	var all []storedVolume
	require.NoError(t, json.NewDecoder(z).Decode(&all))
	require.NotEmpty(t, all)
	out := map[string]*faultio.Disk{}
	for _, v := range all {
		d := faultio.NewDisk(v.Size)
		for _, p := range v.Pieces {
			_, err := d.WriteAt(p.Data, p.Off)
			require.NoError(t, err)
		}
		out[v.Name] = d
	}
	return out
}

// makerFiles are in the volumes of all makers.
var makerFiles = map[string]string{
	"EFI/BOOT/BOOTX64.EFI": "boot loader", "EFI/systemd/systemd-bootx64.efi": "systemd-boot", "EFI/Linux/os_1.0+3-0.efi": "the first UKI",
	"EFI/Linux/os_1.1.efi": "the second UKI", "loader/loader.conf": "timeout 3\n", "loader/entries/Type One Entry.conf": "title x\n",
	"readme.txt": "lower case", "UPPER.TXT": "upper case", "Mixed Case Name.txt": "mixed", "empty": "",
}

// TestRecordMakers makes testdata/makers.json.gz with the tools themselves.
func TestRecordMakers(t *testing.T) {
	if os.Getenv("OSMITH_UPDATE") != "1" {
		t.Skip("OSMITH_UPDATE=1 makes the volumes of testdata/makers.json.gz anew")
	}
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for name, text := range makerFiles {
		p := filepath.Join(tree, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, []byte(text), 0o644))
	}
	var all []storedVolume
	record := func(name string, r io.ReaderAt, size int64) {
		v := storedVolume{Name: name, Size: size}
		b := make([]byte, 512)
		for off := int64(0); off < size; off += 512 {
			_, err := r.ReadAt(b, off)
			require.NoError(t, err)
			if bytes.Count(b, []byte{0}) == len(b) {
				continue
			}
			if k := len(v.Pieces) - 1; k >= 0 && v.Pieces[k].Off+int64(len(v.Pieces[k].Data)) == off {
				v.Pieces[k].Data = append(v.Pieces[k].Data, b...)
			} else {
				v.Pieces = append(v.Pieces, piece{off, bytes.Clone(b)})
			}
		}
		all = append(all, v)
	}
	recordFile := func(name, image string, off, size int64) {
		f, err := os.Open(image)
		require.NoError(t, err)
		defer f.Close()
		record(name, io.NewSectionReader(f, off, size), size)
	}
	empty := func(size int64) string {
		name := filepath.Join(dir, fmt.Sprint(len(all), ".img"))
		require.NoError(t, os.WriteFile(name, nil, 0o644))
		require.NoError(t, os.Truncate(name, size))
		return name
	}
	mtool := func(prog string, args ...string) {
		cmd := exec.Command(testtools.Require(t, prog), args...)
		cmd.Env = append(os.Environ(), "MTOOLSRC=/dev/null", "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	fill := func(image string) {
		entries, err := filepath.Glob(filepath.Join(tree, "*"))
		require.NoError(t, err)
		mtool("mcopy", append(append([]string{"-s", "-i", image}, entries...), "::")...)
	}
	for _, c := range []struct {
		name string
		size int64
		args []string
	}{
		{"mkfs.vfat FAT12", 4 << 20, []string{"-F", "12"}}, {"mkfs.vfat FAT16", 20 << 20, []string{"-F", "16"}}, {"mkfs.vfat FAT32", 36 << 20, []string{"-F", "32", "-s", "1"}},
	} {
		image := empty(c.size)
		testtools.Run(t, "mkfs.vfat", append(c.args, "-n", "MAKER", "-i", "1234abcd", image)...)
		fill(image)
		recordFile(c.name, image, 0, c.size)
	}
	image := empty(36 << 20)
	mtool("mformat", "-i", image, "-F", "-c", "1", "-T", fmt.Sprint(36<<11), "-v", "MAKER", "-N", "1234abcd", "::")
	fill(image)
	recordFile("mtools mformat", image, 0, 36<<20)

	// systemd-repart makes a FAT with sectors of 4096 bytes, whatever the disk has.
	root := testtools.Forky(t)
	defs := filepath.Join(dir, "repart")
	require.NoError(t, os.MkdirAll(filepath.Join(defs, "d"), 0o755))
	require.NoError(t, os.CopyFS(filepath.Join(defs, "tree"), os.DirFS(tree)))
	text := fmt.Sprintf("[Partition]\nType=esp\nFormat=vfat\nSizeMinBytes=272M\nSizeMaxBytes=272M\nCopyFiles=%s:/\n", "/tree")
	require.NoError(t, os.WriteFile(filepath.Join(defs, "d", "10-esp.conf"), []byte(text), 0o644))
	root.Run(t, defs, "systemd-repart", "--empty=create", "--size=280M", "--dry-run=no", "--offline=yes", "--definitions=d", "--copy-source=.",
		"--seed=11111111-2222-3333-4444-555555555555", "--sector-size=512", "disk.img")
	recordFile("systemd-repart", filepath.Join(defs, "disk.img"), 1<<20, 272<<20)

	f, err := os.OpenFile(empty(36<<20), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	v, err := fat32.Create(backend.New(f, false), 36<<20, 0, 512, "MAKER", true)
	require.NoError(t, err)
	for name, text := range makerFiles {
		if d := filepath.Dir(name); d != "." {
			require.NoError(t, v.Mkdir("/"+d))
		}
		w, err := v.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
		require.NoError(t, err)
		_, err = w.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	record("go-diskfs", f, 36<<20)

	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	require.NoError(t, json.NewEncoder(z).Encode(all))
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile("testdata/makers.json.gz", out.Bytes(), 0o644))
}
