package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// vendor is that of the loader's variables.
var vendor = osmith.MustParseGUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")

// A bench is a directory with what a test calls the program on.
type bench struct {
	*testing.T
	dir string
}

func newBench(t *testing.T) *bench { return &bench{t, t.TempDir()} }

// expand puts the directory before what begins with @.
func (b *bench) expand(s string) string {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		return filepath.Join(b.dir, name)
	}
	return s
}

func (b *bench) call(line string) (status int, stdout, stderr string) {
	b.Helper()
	var out, err bytes.Buffer
	args := strings.Fields(line)
	for i, a := range args {
		args[i] = b.expand(a)
	}
	status = program.Run(b.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

// want calls the program, which must answer so, and returns what it has printed.
func (b *bench) want(status int, line string) (stdout, stderr string) {
	b.Helper()
	got, stdout, stderr := b.call(line)
	require.Equal(b, status, got, "%s\n%s%s", line, stdout, stderr)
	if status != 2 {
		require.LessOrEqual(b, strings.Count(stderr, "boot: "), 1, stderr)
	}
	return stdout, stderr
}

func (b *bench) ok(line string) string {
	b.Helper()
	stdout, stderr := b.want(0, line)
	require.Empty(b, stderr)
	return stdout
}

// refused is a call with that status and an error that says so.
func (b *bench) refused(status int, says, line string) {
	b.Helper()
	_, stderr := b.want(status, line)
	require.Contains(b, stderr, says)
	require.Regexp(b, "(?m)^boot: ", stderr)
}

// object is the one object of a call with -json.
func object[T any](b *bench, status int, line string) (o T) {
	b.Helper()
	stdout, _ := b.want(status, line+" -json")
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(b, d.Decode(&o), stdout)
	require.False(b, d.More())
	return o
}

func (b *bench) file(name string, content []byte) {
	b.Helper()
	name = filepath.Join(b.dir, filepath.FromSlash(name))
	require.NoError(b, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(b, os.WriteFile(name, content, 0o600))
}

func (b *bench) directory(dir string, files []osmith.ESPFile) {
	b.Helper()
	require.NoError(b, os.MkdirAll(filepath.Join(b.dir, dir), 0o755))
	for _, f := range files {
		content, err := io.ReadAll(io.NewSectionReader(f.Content, 0, f.Content.Size()))
		require.NoError(b, err)
		b.file(dir+"/"+f.Path, content)
	}
}

// image writes a disk with a FAT of some type for each list of files.
func (b *bench) image(name string, parts ...partition.Spec) {
	b.Helper()
	plan, err := partition.Plan(partition.Layout{Seed: osmith.GUID{7}, Partitions: parts})
	require.NoError(b, err)
	f, err := os.Create(filepath.Join(b.dir, name))
	require.NoError(b, err)
	defer f.Close()
	require.NoError(b, partition.WriteImage(f, plan, partition.WriteOptions{}))
	require.NoError(b, f.Truncate(plan.Size))
}

func (b *bench) fat(kind osmith.GUID, name string, files []osmith.ESPFile) partition.Spec {
	b.Helper()
	im, err := fat.Plan(files, fat.BuildOptions{Kind: 16, Size: 8 << 20})
	require.NoError(b, err)
	return partition.Spec{Type: kind, Name: name, Content: im}
}

// paths are the files of an ESP in an image or a directory.
func (b *bench) has(esp, name string) bool {
	b.Helper()
	set := flag.NewFlagSet("", flag.ContinueOnError)
	p := new(espvolume.Place)
	p.Flags(set)
	require.NoError(b, set.Parse([]string{"-esp", b.expand(esp)}))
	found := false
	opened(b.T, p, func(v *espvolume.Volumes) {
		f, err := v.ESP.Open(name)
		if found = err == nil; found {
			require.NoError(b, f.Close())
		}
	})
	return found
}

func text(path, s string) osmith.ESPFile {
	return osmith.ESPFile{Path: path, Content: strings.NewReader(s)}
}

func loaderFile(path, version string) osmith.ESPFile {
	return osmith.ESPFile{Path: path, Content: bytes.NewReader(petest.Loader(version))}
}

// ukiOf is as much of a UKI as the loader looks at.
func ukiOf(path, version string, more ...petest.Section) osmith.ESPFile {
	sections := append([]petest.Section{{Name: ".linux", Content: []byte("k")}, {Name: ".osrel", Content: []byte("ID=os\nIMAGE_VERSION=" + version + "\nPRETTY_NAME=\"OS " + version + "\"\n")}}, more...)
	return osmith.ESPFile{Path: path, Content: bytes.NewReader(petest.Image{SizeOfHeaders: 1024, Sections: sections}.Bytes())}
}

// emptyStore is the file of a variable store without variables, with room for so many bytes.
func emptyStore(size int) []byte {
	guid := func(s string) []byte { return efi.AppendGUID(nil, osmith.MustParseGUID(s)) }
	head := bytes.Join([][]byte{make([]byte, 16), guid("fff12b8d-7696-4c8b-a985-2747075b4f50"), make([]byte, 8), []byte("_FVH"), {0xff, 0xfe, 4, 0, 72, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 8)}, nil)
	binary.LittleEndian.PutUint64(head[32:], uint64(100+size))
	sum := uint16(0)
	for i := range 36 {
		sum -= binary.LittleEndian.Uint16(head[2*i:])
	}
	binary.LittleEndian.PutUint16(head[50:], sum)
	store := binary.LittleEndian.AppendUint32(guid("aaf32c78-947b-439a-a180-2e144ec37792"), uint32(28+size))
	return bytes.Join([][]byte{head, store, {0x5a, 0xfe, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, size)}, nil)
}

// store writes a variable store with variables of the loader, each with a text.
func (b *bench) store(name string, size int, nameText ...string) {
	b.Helper()
	v, err := bootloader.ParseVariableImage(emptyStore(size))
	require.NoError(b, err)
	for i := 0; i < len(nameText); i += 2 {
		require.NoError(b, v.Set(bootloader.EFIVariable{Name: nameText[i], Vendor: vendor, Attributes: bootloader.VariableKept, Data: efi.AppendUTF16(nil, nameText[i+1]+"\x00")}))
	}
	b.file(name, v.Bytes())
}
