// Package ocilayout writes OCI image layouts (OCI Image Format Specification 1.1, image-layout.md,
// https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md): a directory of blobs
// named by digest and an index that lists the manifests people start from.
//
// Blobs are written beside and renamed, so a blob that exists is whole. The index is rewritten in a
// fixed order: the same calls leave the same bytes.
package ocilayout

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of what readers of a layout take, in bytes: nothing larger is written.
const (
	maxIndex    = 4 << 20 // index.json
	maxManifest = 4 << 20 // a manifest or an index of manifests
)

// ErrTooLarge says that a document would be larger than any that is read, so it was not written.
var ErrTooLarge = errors.New("too large")

// AnnotationSubject of an entry in index.json is the digest of the manifest that the entry's refers
// to: readers of a layout on a web server need not fetch every manifest to find those about one
// artifact.
const AnnotationSubject = "dev.osmith.subject"

// Writer adds to one layout directory. It is not safe for two processes at once.
type Writer struct {
	dir string
}

// Create opens the layout in dir and makes it if there is none yet.
func Create(dir string) (*Writer, error) {
	w := &Writer{dir}
	if err := os.MkdirAll(filepath.Join(dir, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return nil, err
	}
	header, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	if err := w.replace(ocispec.ImageLayoutFile, header); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, ocispec.ImageIndexFile)); errors.Is(err, os.ErrNotExist) {
		return w, w.writeIndex(&ocispec.Index{})
	}
	return w, nil
}

// WriteBlob copies r into the layout and returns its descriptor.
func (w *Writer) WriteBlob(mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	// Not os.CreateTemp, whose files only their owner can read: a web server is another user.
	tmp, err := os.OpenFile(filepath.Join(w.dir, ".blob-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer os.Remove(tmp.Name())
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), r)
	if err == nil {
		err = tmp.Sync() // a power cut leaves no name with half of its content
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("blob: %w", err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, h), Size: n}
	if err := os.Rename(tmp.Name(), filepath.Join(w.dir, ocispec.ImageBlobsDir, "sha256", d.Digest.Encoded())); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("blob: %w", err)
	}
	return d, nil
}

// WriteManifest stores m and lists it in the index, under ref if that is not empty. A manifest that
// had the name before loses it; one with the same digest is listed once.
func (w *Writer) WriteManifest(m ocispec.Manifest, ref string) (ocispec.Descriptor, error) {
	m.Versioned = specs.Versioned{SchemaVersion: 2}
	m.MediaType = ocispec.MediaTypeImageManifest
	b, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("manifest: %w", err)
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, ArtifactType: m.ArtifactType}
	if m.Subject != nil {
		d.Annotations = map[string]string{AnnotationSubject: string(m.Subject.Digest)}
	}
	d, err = w.write(d, b, ref)
	d.Annotations = nil
	return d, err
}

// WriteIndex stores an index of manifests and lists it as WriteManifest does.
func (w *Writer) WriteIndex(index ocispec.Index, ref string) (ocispec.Descriptor, error) {
	index.Versioned = specs.Versioned{SchemaVersion: 2}
	index.MediaType = ocispec.MediaTypeImageIndex
	b, err := json.Marshal(index)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("index: %w", err)
	}
	return w.write(ocispec.Descriptor{MediaType: index.MediaType, ArtifactType: index.ArtifactType}, b, ref)
}

// WriteRaw stores a manifest or index whose bytes are known, and lists it as WriteManifest does.
// The descriptor must be that of the bytes.
func (w *Writer) WriteRaw(d ocispec.Descriptor, b []byte, ref string) error {
	if got := digest.SHA256.FromBytes(b); got != d.Digest || int64(len(b)) != d.Size {
		return fmt.Errorf("%d bytes with digest %s, described as %d with %s", len(b), got, d.Size, d.Digest)
	}
	_, err := w.write(d, b, ref)
	return err
}

// write stores a manifest and lists it, if both can be read again.
func (w *Writer) write(d ocispec.Descriptor, b []byte, ref string) (ocispec.Descriptor, error) {
	if len(b) > maxManifest {
		return ocispec.Descriptor{}, fmt.Errorf("manifest: %w: %d bytes, at most %d are read", ErrTooLarge, len(b), maxManifest)
	}
	d.Digest, d.Size = digest.SHA256.FromBytes(b), int64(len(b))
	index, err := w.listing(d, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := w.WriteBlob(d.MediaType, bytes.NewReader(b)); err != nil {
		return ocispec.Descriptor{}, err
	}
	return d, w.replace(ocispec.ImageIndexFile, index)
}

// listing is the content of index.json with one more entry.
func (w *Writer) listing(d ocispec.Descriptor, ref string) ([]byte, error) {
	index, err := w.readIndex()
	if err != nil {
		return nil, err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(o ocispec.Descriptor) bool {
		return o.Digest == d.Digest || ref != "" && o.Annotations[ocispec.AnnotationRefName] == ref
	})
	if ref != "" {
		d.Annotations = maps.Clone(d.Annotations)
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[ocispec.AnnotationRefName] = ref
	}
	index.Manifests = append(index.Manifests, d)
	return marshalIndex(index)
}

func (w *Writer) readIndex() (*ocispec.Index, error) {
	f, err := os.Open(filepath.Join(w.dir, ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if err := CheckIndex(b); err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return &index, nil
}

func (w *Writer) writeIndex(index *ocispec.Index) error {
	b, err := marshalIndex(index)
	if err != nil {
		return err
	}
	return w.replace(ocispec.ImageIndexFile, b)
}

// maxValues bounds the JSON values of an index: an entry has eight or so, and an empty one takes
// many times its text.
const maxValues = 1 << 17

// Values counts the commas and opening brackets of a JSON document outside of strings: of
// containers and members there are no more.
func Values(b []byte) int {
	n, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '{' || c == '['):
			n++
		}
	}
	return n
}

// CheckIndex refuses an index that is too large to be decoded.
func CheckIndex(b []byte) error {
	if n := Values(b); len(b) > maxIndex || n > maxValues {
		return fmt.Errorf("index: %w: %d bytes with %d values, at most %d with %d are read", ErrTooLarge, len(b), n, maxIndex, maxValues)
	}
	return nil
}

func marshalIndex(index *ocispec.Index) ([]byte, error) {
	index.Versioned = specs.Versioned{SchemaVersion: 2}
	index.MediaType = ocispec.MediaTypeImageIndex
	if index.Manifests == nil {
		index.Manifests = []ocispec.Descriptor{}
	}
	b, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return b, CheckIndex(b)
}

func (w *Writer) replace(name string, b []byte) error {
	path := filepath.Join(w.dir, name)
	// A name at which no attacker can have put a link, which would be written through.
	f, err := os.OpenFile(filepath.Join(w.dir, ".new-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
