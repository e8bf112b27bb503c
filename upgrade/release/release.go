package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
)

// Media types of a release. They are part of the format: a layer is found by its type.
const (
	ArtifactType    = "application/vnd.osmith.release.v1"
	MediaTypeConfig = "application/vnd.osmith.release.config.v1+json"
	MediaTypeUKI    = "application/vnd.osmith.release.uki.v1"
	MediaTypeRoot   = "application/vnd.osmith.release.root.v1"
	MediaTypeTree   = "application/vnd.osmith.release.verity.v1"
)

// Schema names the config's format.
const Schema = "osmith.release/1"

// maxDocument bounds a manifest and a config.
const maxDocument = 4 << 20

// Source is sized random-access input.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Contents is one version of an operating system.
type Contents struct {
	ID       string // os-release IMAGE_ID or ID of the system
	Version  string // os-release IMAGE_VERSION
	UKI      Source // signed
	Root     Source // root file system image
	Tree     Source // dm-verity superblock and hash tree of Root
	RootHash []byte
}

// config is the JSON document that binds the layers.
type config struct {
	Schema   string `json:"schema"`
	ID       string `json:"id"`
	Version  string `json:"version"`
	RootHash string `json:"rootHash"`
}

// Pack writes the release into the OCI layout in dir, which is made if absent, and lists it under ref. The same contents
// give the same digest.
func Pack(dir, ref string, c Contents) (ocispec.Descriptor, error) {
	fail := func(err error) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, fmt.Errorf("release: pack: %w", err)
	}
	switch {
	case c.UKI == nil || c.Root == nil || c.Tree == nil:
		return fail(errors.New("a release needs a UKI, a root file system and its hash tree"))
	case c.ID == "" || c.Version == "":
		return fail(errors.New("a release needs an ID and a version"))
	case len(c.RootHash) == 0:
		return fail(errors.New("a release needs a root hash"))
	}
	w, err := ocilayout.Create(dir)
	if err != nil {
		return fail(err)
	}
	doc, err := json.Marshal(config{Schema, c.ID, c.Version, hex.EncodeToString(c.RootHash)})
	if err != nil {
		return fail(err)
	}
	m := ocispec.Manifest{ArtifactType: ArtifactType, Annotations: map[string]string{
		ocispec.AnnotationTitle:   c.ID,
		ocispec.AnnotationVersion: c.Version,
	}}
	if m.Config, err = w.WriteBlob(MediaTypeConfig, bytes.NewReader(doc)); err != nil {
		return fail(err)
	}
	for _, l := range []struct {
		mediaType, title string
		src              Source
	}{
		{MediaTypeUKI, c.ID + "_" + c.Version + ".efi", c.UKI},
		{MediaTypeRoot, c.ID + "_" + c.Version + ".root.raw", c.Root},
		{MediaTypeTree, c.ID + "_" + c.Version + ".verity.raw", c.Tree},
	} {
		d, err := w.WriteBlob(l.mediaType, io.NewSectionReader(l.src, 0, l.src.Size()))
		if err != nil {
			return fail(err)
		}
		d.Annotations = map[string]string{ocispec.AnnotationTitle: l.title}
		m.Layers = append(m.Layers, d)
	}
	d, err := w.WriteManifest(m, ref)
	if err != nil {
		return fail(err)
	}
	return d, nil
}

// DigestError says that a blob is not what its descriptor promises.
type DigestError struct {
	Blob      digest.Digest // as promised
	Got       digest.Digest // of the bytes that are there; empty if the size differs
	Size, Has int64         // promised and found
}

func (e *DigestError) Error() string {
	if e.Size != e.Has {
		return fmt.Sprintf("release: blob %s has %d bytes, its descriptor says %d", e.Blob, e.Has, e.Size)
	}
	return fmt.Sprintf("release: blob %s has the digest %s", e.Blob, e.Got)
}

// Release is a release that was read and checked. Close it after use.
type Release struct {
	Contents
	Digest digest.Digest // of the manifest
	files  []fs.File
}

// Close closes the layers.
func (r *Release) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Open reads the release whose manifest has digest d from an OCI layout, and verifies every byte of it against its
// digest. The files of fsys must implement [io.ReaderAt], as those of [os.DirFS] do.
func Open(ctx context.Context, fsys fs.FS, d digest.Digest) (*Release, error) {
	r := &Release{Digest: d}
	if err := r.open(ctx, fsys); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Release) open(ctx context.Context, fsys fs.FS) error {
	b, err := document(fsys, ocispec.Descriptor{Digest: r.Digest, Size: -1})
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("release: manifest %s: %w", r.Digest, err)
	}
	if m.ArtifactType != ArtifactType {
		return fmt.Errorf("release: manifest %s: it is a %q, not a %q", r.Digest, m.ArtifactType, ArtifactType)
	}
	if err := r.readConfig(fsys, m.Config); err != nil {
		return err
	}
	for _, l := range []struct {
		mediaType string
		to        *Source
	}{{MediaTypeUKI, &r.UKI}, {MediaTypeRoot, &r.Root}, {MediaTypeTree, &r.Tree}} {
		d, err := oneLayer(m.Layers, l.mediaType)
		if err != nil {
			return fmt.Errorf("release: manifest %s: %w", r.Digest, err)
		}
		if *l.to, err = r.layer(ctx, fsys, d); err != nil {
			return err
		}
	}
	return nil
}

func (r *Release) readConfig(fsys fs.FS, d ocispec.Descriptor) error {
	if d.MediaType != MediaTypeConfig {
		return fmt.Errorf("release: manifest %s: config of type %q, want %q", r.Digest, d.MediaType, MediaTypeConfig)
	}
	b, err := document(fsys, d)
	if err != nil {
		return err
	}
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("release: config %s: %w", d.Digest, err)
	}
	if c.Schema != Schema {
		return fmt.Errorf("release: config %s: schema %q, want %q", d.Digest, c.Schema, Schema)
	}
	if c.ID == "" || c.Version == "" {
		return fmt.Errorf("release: config %s: no ID or no version", d.Digest)
	}
	if r.RootHash, err = hex.DecodeString(c.RootHash); err != nil || len(r.RootHash) == 0 {
		return fmt.Errorf("release: config %s: root hash %q is not hexadecimal", d.Digest, c.RootHash)
	}
	r.ID, r.Version = c.ID, c.Version
	return nil
}

func oneLayer(layers []ocispec.Descriptor, mediaType string) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, l := range layers {
		if l.MediaType == mediaType {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("%d layers of type %s, want one", len(found), mediaType)
	}
	return found[0], nil
}

// blobPath is where a layout keeps a blob. Only sha256 digests of canonical form become paths.
func blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("release: digest %q: want sha256 and 64 hexadecimal digits", d)
	}
	return path.Join(ocispec.ImageBlobsDir, "sha256", d.Encoded()), nil
}

// document reads a small blob whole. A size below zero is not checked (the digest is).
func document(fsys fs.FS, d ocispec.Descriptor) ([]byte, error) {
	p, err := blobPath(d.Digest)
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(p)
	if err != nil {
		return nil, fmt.Errorf("release: blob %s: %w", d.Digest, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("release: blob %s: %w", d.Digest, err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("release: blob %s: more than %d bytes", d.Digest, maxDocument)
	}
	if d.Size >= 0 && int64(len(b)) != d.Size {
		return nil, &DigestError{Blob: d.Digest, Size: d.Size, Has: int64(len(b))}
	}
	if got := digest.SHA256.FromBytes(b); got != d.Digest {
		return nil, &DigestError{Blob: d.Digest, Got: got, Size: int64(len(b)), Has: int64(len(b))}
	}
	return b, nil
}

// layer opens a blob and reads it once against its digest.
func (r *Release) layer(ctx context.Context, fsys fs.FS, d ocispec.Descriptor) (Source, error) {
	p, err := blobPath(d.Digest)
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(p)
	if err != nil {
		return nil, fmt.Errorf("release: blob %s: %w", d.Digest, err)
	}
	r.files = append(r.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("release: blob %s: %w", d.Digest, err)
	}
	if info.Size() != d.Size {
		return nil, &DigestError{Blob: d.Digest, Size: d.Size, Has: info.Size()}
	}
	ra, ok := f.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("release: blob %s: the layout's files cannot be read at an offset", d.Digest)
	}
	src := io.NewSectionReader(ra, 0, d.Size)
	h := sha256.New()
	if _, err := io.Copy(h, &cancelReader{ctx, io.NewSectionReader(src, 0, d.Size)}); err != nil {
		return nil, fmt.Errorf("release: blob %s: %w", d.Digest, err)
	}
	if got := digest.NewDigest(digest.SHA256, h); got != d.Digest {
		return nil, &DigestError{Blob: d.Digest, Got: got, Size: d.Size, Has: d.Size}
	}
	return src, nil
}

// cancelReader ends a long read when the context does.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
