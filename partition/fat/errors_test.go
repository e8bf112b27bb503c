package fat

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// badSource is content that cannot be read.
type badSource struct{ err error }

func (b badSource) ReadAt([]byte, int64) (int, error) { return 0, b.err }
func (b badSource) Size() int64                       { return 5000 }

// Every error begins with the name of the package, once; those of methods that take a path are a
// [*fs.PathError].
func TestErrorsAreNamedOnce(t *testing.T) {
	second := func(_ any, err error) error { return err }
	source := badSource{&fs.PathError{Op: "read", Path: "/host/file", Err: errors.New("input/output error")}}
	d := faultio.NewDisk(64 << 20)
	files := []osmith.ESPFile{{Path: "EFI/a.efi", Content: strings.NewReader("loader")}}
	require.NoError(t, Build(d, files, BuildOptions{Size: d.Size()}))
	f, err := Open(d)
	require.NoError(t, err)
	reader, err := OpenReader(d)
	require.NoError(t, err)
	bad := []osmith.ESPFile{{Path: "a", Content: source}}
	im, err := Plan(bad, BuildOptions{Size: d.Size()})
	require.NoError(t, err)
	dir, err := f.Open("EFI")
	require.NoError(t, err)
	file, err := f.Open("EFI/a.efi")
	require.NoError(t, err)
	require.NoError(t, file.Close())
	for name, err := range map[string]error{
		"OpenReader":    second(OpenReader(faultio.NewDisk(1 << 20))),
		"Open":          second(Open(faultio.NewDisk(512))),
		"Build":         Build(faultio.NewDisk(64<<20), bad, BuildOptions{Size: 64 << 20}),
		"Plan name":     second(Plan([]osmith.ESPFile{{Path: "a/?", Content: source}}, BuildOptions{})),
		"Plan size":     second(Plan(files, BuildOptions{Size: 1})),
		"Plan space":    second(Plan(files, BuildOptions{Size: 1 << 20, Kind: 32})),
		"MinSize":       second(MinSize([]osmith.ESPFile{{Path: "a"}}, BuildOptions{})),
		"Image.ReadAt":  second(im.ReadAt(make([]byte, im.Size()), 0)),
		"Image.ReadAt<": second(im.ReadAt(nil, -1)),
		"Repair":        second(reader.Repair()),
	} {
		require.Error(t, err, name)
		require.True(t, strings.HasPrefix(err.Error(), "fat: "), "%s: %v", name, err)
		require.Equal(t, 1, strings.Count(err.Error(), "fat: "), "%s: %v", name, err)
	}
	for name, err := range map[string]error{
		"Open":          second(f.Open("absent")),
		"ReadDir":       second(f.ReadDir("EFI/a.efi")),
		"ReadFile":      second(f.ReadFile("EFI")),
		"Stat":          second(f.Stat("/")),
		"WriteFile":     f.WriteFile("b", source),
		"WriteFile dir": f.WriteFile("EFI/a.efi/b", strings.NewReader("x")),
		"Rename":        f.Rename("EFI/a.efi", "a.efi"),
		"Remove":        f.Remove("EFI"),
		"MkdirAll":      f.MkdirAll("EFI/a.efi"),
		"read-only":     reader.Remove("EFI/a.efi"),
		"file.Read":     second(file.Read(make([]byte, 1))),
		"file.Close":    file.Close(),
		"dir.Read":      second(dir.Read(make([]byte, 1))),
	} {
		var path *fs.PathError
		require.ErrorAs(t, err, &path, name)
		require.True(t, strings.HasPrefix(err.Error(), "fat: "), "%s: %v", name, err)
		require.Equal(t, 1, strings.Count(err.Error(), "fat: "), "%s: %v", name, err)
	}
	n, err := file.(io.ReaderAt).ReadAt(make([]byte, 10), 0)
	require.Equal(t, io.EOF, err, "the end of a file is io.EOF itself")
	require.Equal(t, 6, n)
}
