package cosign

import (
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
)

// A Dir is an OCI image layout in a directory, to read and to write.
type Dir struct {
	*Layout
	writer *ocilayout.Writer
}

var _ Store = (*Dir)(nil)

// OpenDir opens the layout in a directory, and makes it if there is none yet. It is
// not safe for two writers at once.
func OpenDir(dir string) (*Dir, error) {
	w, err := ocilayout.Create(dir)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	l, err := OpenLayout(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	return &Dir{Layout: l, writer: w}, nil
}

// WriteBlob stores a blob.
func (d *Dir) WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error) {
	return d.writer.WriteBlob(mediaType, content)
}

// WriteManifest stores a manifest and lists it in the index. A manifest that had the
// tag before loses it.
func (d *Dir) WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error) {
	return d.writer.WriteManifest(m, tag)
}
