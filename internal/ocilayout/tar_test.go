package ocilayout

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func archive(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o644}))
		_, err := w.Write([]byte(f[1]))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestTarFS(t *testing.T) {
	b := archive(t, [2]string{"./oci-layout", "{}"}, [2]string{"index.json", "index"}, [2]string{"blobs/sha256/aa", string(make([]byte, 700))},
		[2]string{"blobs/sha256/bb", ""})
	fsys, err := TarFS(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(fsys, "oci-layout", "index.json", "blobs/sha256/aa", "blobs/sha256/bb"))
	f, err := fsys.Open("index.json")
	require.NoError(t, err)
	at := make([]byte, 3)
	_, err = f.(io.ReaderAt).ReadAt(at, 2)
	require.NoError(t, err)
	require.Equal(t, "dex", string(at))
}

func TestTarRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"twice":        archive(t, [2]string{"a", "1"}, [2]string{"./a", "2"}),
		"file and dir": archive(t, [2]string{"a", "1"}, [2]string{"a/b", "2"}),
		"above":        archive(t, [2]string{"../a", "1"}),
		"absolute":     archive(t, [2]string{"/a", "1"}),
		"truncated":    archive(t, [2]string{"a", string(make([]byte, 5000))})[:2000],
		"no tar":       bytes.Repeat([]byte("x"), 1024),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := TarFS(bytes.NewReader(b), int64(len(b)))
			require.Error(t, err)
		})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}))
	require.NoError(t, w.Close())
	_, err := TarFS(bytes.NewReader(b.Bytes()), int64(b.Len()))
	require.ErrorContains(t, err, "want a file or a directory")
}

func FuzzTarFS(f *testing.F) {
	f.Add(archive(f, [2]string{"blobs/sha256/aa", "12345"}, [2]string{"index.json", "{}"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys, err := TarFS(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		require.NoError(t, fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := fs.ReadFile(fsys, name)
			require.LessOrEqual(t, len(content), len(b))
			return err
		}))
	})
}
