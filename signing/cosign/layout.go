package cosign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// A Layout is an OCI image layout that is read from a file system.
type Layout struct {
	fsys fs.FS
}

var _ ArtifactSource = (*Layout)(nil)

// OpenLayout opens the layout at the root of a file system, such as os.DirFS(dir).
func OpenLayout(fsys fs.FS) (*Layout, error) {
	l, err := openLayout(fsys)
	return l, prefix.Error("cosign", err)
}

func openLayout(fsys fs.FS) (*Layout, error) {
	l := &Layout{fsys: fsys}
	b, err := l.readFile(ocispec.ImageLayoutFile)
	if err != nil {
		return nil, err
	}
	var header ocispec.ImageLayout
	if err := json.Unmarshal(b, &header); err != nil {
		return nil, malformed(ocispec.ImageLayoutFile, "%w", err)
	}
	if header.Version != ocispec.ImageLayoutVersion {
		return nil, malformed(ocispec.ImageLayoutFile+": imageLayoutVersion", "%q, want %q", header.Version, ocispec.ImageLayoutVersion)
	}
	if _, err := l.index(); err != nil {
		return nil, err
	}
	return l, nil
}

// OpenTar opens the layout in an uncompressed tar archive, such as "skopeo copy ...
// oci-archive:FILE" writes. Nothing is unpacked.
func OpenTar(r io.ReaderAt, size int64) (*Layout, error) {
	fsys, err := ocilayout.TarFS(r, size)
	if err != nil {
		return nil, prefix.Error("cosign", fmt.Errorf("layout: %w", err))
	}
	return OpenLayout(fsys)
}

func (l *Layout) readFile(name string) ([]byte, error) {
	f, err := l.fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("layout: %s: %w: more than %d bytes", name, ErrTooLarge, maxManifest)
	}
	return b, nil
}

func (l *Layout) index() (*ocispec.Index, error) {
	b, err := l.readFile(ocispec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	return parseIndex(b)
}

func parseIndex(b []byte) (*ocispec.Index, error) {
	index := new(ocispec.Index)
	if err := ocilayout.CheckIndex(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err := json.Unmarshal(b, index); err != nil {
		return nil, malformed("index", "%w", err)
	}
	if index.SchemaVersion != 2 {
		return nil, malformed("index: schemaVersion", "%d, want 2", index.SchemaVersion)
	}
	return index, nil
}

// Resolve returns the descriptor of an artifact by name (the annotation
// org.opencontainers.image.ref.name) or by digest, as "sha256:...". The empty name
// stands for the only artifact of the index. Names and descriptors are not trusted;
// Verify decides.
func (l *Layout) Resolve(name string) (ocispec.Descriptor, error) {
	desc, err := l.resolve(name)
	return desc, prefix.Error("cosign", err)
}

func (l *Layout) resolve(name string) (ocispec.Descriptor, error) {
	index, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var found []ocispec.Descriptor
	for _, d := range index.Manifests {
		ref := d.Annotations[ocispec.AnnotationRefName]
		switch {
		case name == "" && !isSignature(d), name != "" && (ref == name || string(d.Digest) == name):
			found = append(found, d)
		}
	}
	switch {
	case len(found) > 1:
		return ocispec.Descriptor{}, fmt.Errorf("layout: %q: %d artifacts have the name", name, len(found))
	case len(found) == 1:
		if err := ocilayout.CheckDescriptor(found[0]); err != nil {
			return ocispec.Descriptor{}, err
		}
		return found[0], nil
	case strings.Contains(name, ":"):
		return l.unlisted(digest.Digest(name))
	}
	return ocispec.Descriptor{}, fmt.Errorf("layout: %q: %w", name, ErrNotFound)
}

// ResolveTag returns the descriptor of the manifest that the index lists under a tag.
func (l *Layout) ResolveTag(_ context.Context, tag string) (desc ocispec.Descriptor, err error) {
	defer prefix.Add("cosign", &err)
	if tag == "" || strings.Contains(tag, ":") {
		return desc, fmt.Errorf("layout: %q is not a tag", tag)
	}
	return l.resolve(tag)
}

// isSignature reports whether an entry of the index does not look like an artifact
// of its own.
func isSignature(d ocispec.Descriptor) bool {
	ref := d.Annotations[ocispec.AnnotationRefName]
	return d.Annotations[annotationKind] == kindSignatures || d.Annotations[annotationKind] == kindAttestations ||
		strings.HasSuffix(ref, ".sig") || strings.HasSuffix(ref, ".att") ||
		strings.HasPrefix(d.ArtifactType, bundlePrefix)
}

// unlisted describes a manifest that the index does not list.
func (l *Layout) unlisted(d digest.Digest) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{Digest: d}
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return ocispec.Descriptor{}, err
	}
	info, err := fs.Stat(l.fsys, blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, fmt.Errorf("layout: %q: %w", d, ErrNotFound)
	} else if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layout: %w", err)
	}
	desc.Size = info.Size()
	content, err := readBlob(context.Background(), l, desc, maxManifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m, err := parseManifest(content)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc.MediaType = m.MediaType
	return desc, nil
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, string(d.Algorithm()), d.Encoded())
}

// Blob opens a blob.
func (l *Layout) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, prefix.Error("cosign", err)
	}
	f, err := l.fsys.Open(blobPath(desc.Digest))
	if err != nil {
		return nil, prefix.Error("cosign", err)
	}
	return f, nil
}

// BlobRange opens n bytes of a blob from an offset on, if the files of the layout implement
// io.ReaderAt as those of os.DirFS do. A part has no digest to check.
func (l *Layout) BlobRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (r io.ReadCloser, err error) {
	defer prefix.Add("cosign", &err)
	if off < 0 || n < 0 || n > desc.Size-off {
		return nil, fmt.Errorf("layout: blob %s: %d bytes at %d of %d", desc.Digest, n, off, desc.Size)
	}
	f, err := l.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	ra, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("layout: blob %s: the files of the layout do not support reading at an offset", desc.Digest), f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(ra, off, n), f}, nil
}

// Signatures finds manifests by looking at every blob, because cosign save stores
// manifests that it does not list in the index.
func (l *Layout) Signatures(ctx context.Context, subject ocispec.Descriptor) (found []ocispec.Descriptor, err error) {
	defer prefix.Add("cosign", &err)
	if err := ocilayout.CheckDescriptor(subject); err != nil {
		return nil, err
	}
	index, err := l.index()
	if err != nil {
		return nil, err
	}
	// Simple-signing manifests do not say whose they are. The tag does, and cosign
	// save, which keeps no tags, saves one artifact only.
	own, tagged := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, d := range index.Manifests {
		tag := d.Annotations[ocispec.AnnotationRefName]
		if tag == "" || tag == signatureTag(subject.Digest) || tag == attestationTag(subject.Digest) {
			own[d.Digest] = true
			tagged[d.Digest] = tagged[d.Digest] || tag != ""
		}
	}
	entries, err := fs.ReadDir(l.fsys, path.Join(ocispec.ImageBlobsDir, string(digest.SHA256)))
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := digest.NewDigestFromEncoded(digest.SHA256, entry.Name())
		if d.Validate() != nil || d == subject.Digest {
			continue
		}
		desc, ok, err := l.candidate(d, subject.Digest, own[d])
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		switch {
		case tagged[d]:
			found = slices.Insert(found, 0, desc)
		case len(found) <= maxCandidates: // one more shows that there are more
			found = append(found, desc)
		}
	}
	return found, nil
}

// candidate reports whether a blob is a manifest that may hold signatures of the
// subject; if it does not name a subject, that depends on whether it is its own.
func (l *Layout) candidate(d, subject digest.Digest, own bool) (ocispec.Descriptor, bool, error) {
	var none ocispec.Descriptor
	f, err := l.fsys.Open(blobPath(d))
	if err != nil {
		return none, false, fmt.Errorf("layout: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return none, false, fmt.Errorf("layout: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxManifest {
		return none, false, nil
	}
	// Most blobs are not JSON, and one read shows it.
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return none, false, fmt.Errorf("layout: %w", err)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(head[:n], " \t\r\n"), []byte("{")) {
		return none, false, nil
	}
	rest, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return none, false, fmt.Errorf("layout: %w", err)
	}
	content := append(head[:n], rest...)
	// Only a manifest that is listed under the artifact's tag need not name it, and most others are
	// told by that.
	if !own && !bytes.Contains(content, []byte(subject.Encoded())) {
		return none, false, nil
	}
	m, err := parseManifest(content)
	if err != nil || !m.mayHoldSignatures(subject, own) {
		return none, false, nil
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: info.Size(), ArtifactType: m.ArtifactType}, true, nil
}

// A Dir is an OCI image layout in a directory, to read and to write.
type Dir struct {
	*Layout
	writer *ocilayout.Writer
}

var (
	_ Store       = (*Dir)(nil)
	_ TagResolver = (*Dir)(nil)
)

// OpenDir opens the layout in a directory, and makes the layout if there is none yet. Two writers
// must not use it at the same time.
func OpenDir(dir string) (*Dir, error) {
	w, err := ocilayout.Create(dir)
	if err != nil {
		return nil, prefix.Error("cosign", fmt.Errorf("layout: %w", err))
	}
	l, err := OpenLayout(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	return &Dir{Layout: l, writer: w}, nil
}

// WriteBlob stores a blob.
func (d *Dir) WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error) {
	desc, err := d.writer.WriteBlob(mediaType, content)
	return desc, prefix.Error("cosign", err)
}

// WriteManifest stores a manifest and lists it in the index. The tag is removed from the manifest
// that had it before.
func (d *Dir) WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error) {
	desc, err := d.writer.WriteManifest(m, tag)
	if errors.Is(err, ocilayout.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return desc, prefix.Error("cosign", err)
}
