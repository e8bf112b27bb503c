package release

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Schema names the config's format.
const Schema = "osmith.release/1"

// config is the JSON document that binds the layers.
type config struct {
	Schema       string `json:"schema"`
	ID           string `json:"id"`
	Version      string `json:"version"`
	RootHash     string `json:"rootHash"`
	Architecture string `json:"architecture,omitempty"`
	Variant      string `json:"variant,omitempty"`

	SupportedUntil Date     `json:"supportedUntil,omitempty"`
	Fixes          []string `json:"fixes,omitempty"`
}

// A Store takes what a release consists of. Package cosign has some, and [Pack] makes one of a
// directory.
type Store interface {
	// WriteBlob stores a blob and describes it.
	WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error)
	// WriteManifest stores a manifest, and lets a tag name it if that is not empty.
	WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error)
}

// Pack writes the release into the OCI layout in dir, which is made if absent, and lists it under
// ref. The same contents give the same digest. A UKI that is a PE image gets an index of its
// sections as a layer, so that machines need not fetch what they have ([PatchUKI]).
func Pack(dir, ref string, r *Release) (d ocispec.Descriptor, err error) {
	defer prefix.Add("release", &err)
	w, err := ocilayout.Create(dir)
	if err != nil {
		return d, fmt.Errorf("pack: %w", err)
	}
	return pack(w, ref, r)
}

// PackInto is Pack into another store than a directory. Every part is read once, front to back, and
// the headers of the UKI before that.
func PackInto(w Store, ref string, r *Release) (ocispec.Descriptor, error) {
	d, err := pack(w, ref, r)
	return d, prefix.Error("release", err)
}

func pack(w Store, ref string, r *Release) (ocispec.Descriptor, error) {
	d, err := write(w, ref, r)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pack: %w", err)
	}
	return d, nil
}

func write(w Store, ref string, r *Release) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	switch {
	case r.ID == "" || r.Version == "":
		return none, errors.New("a release needs an ID and a version")
	case len(r.RootHash) == 0 && !r.alone():
		return none, errors.New("a release with a root file system needs its root hash")
	}
	if err := checkSupport(r.SupportedUntil, r.Fixes); err != nil {
		return none, err
	}
	list, err := r.parts()
	if err != nil {
		return none, err
	}
	doc, err := json.Marshal(config{Schema, r.ID, r.Version, hex.EncodeToString(r.RootHash), r.Architecture, r.Variant, r.SupportedUntil, r.Fixes})
	if err != nil {
		return none, err
	}
	if err := readable("config", doc); err != nil {
		return none, err
	}
	m := ocispec.Manifest{ArtifactType: ArtifactType, Annotations: map[string]string{
		ocispec.AnnotationTitle:   r.ID,
		ocispec.AnnotationVersion: r.Version,
	}}
	if m.Config, err = w.WriteBlob(MediaTypeConfig, bytes.NewReader(doc)); err != nil {
		return none, err
	}
	sections, err := newSectionHasher(r.UKI)
	if _, other := errors.AsType[*osmith.FormatError](err); err != nil && !other {
		return none, err
	}
	for _, p := range list {
		content := io.Reader(io.NewSectionReader(p.src, 0, p.src.Size()))
		if p.mediaType == MediaTypeUKI && sections != nil {
			content = io.TeeReader(content, sections)
		}
		d, err := w.WriteBlob(p.mediaType, content)
		if err != nil {
			return none, err
		}
		if d.Size != p.src.Size() {
			return none, fmt.Errorf("%s: read %d bytes, want %d", p.title, d.Size, p.src.Size())
		}
		d.Annotations = map[string]string{ocispec.AnnotationTitle: p.title}
		if p.extensionRelease != "" {
			d.Annotations[AnnotationExtensionRelease] = p.extensionRelease
		}
		m.Layers = append(m.Layers, d)
	}
	if sections != nil {
		d, err := writeSections(w, r, sections)
		if err != nil {
			return none, err
		}
		m.Layers = append(m.Layers, d)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return none, err
	}
	if err := readable("manifest", append(b, make([]byte, 256)...)); err != nil {
		// the store adds version and media type
		return none, err
	}
	return w.WriteManifest(m, ref)
}

// writeSections stores the index of a UKI that was written.
func writeSections(w Store, r *Release, h *sectionHasher) (ocispec.Descriptor, error) {
	doc, err := h.document()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := w.WriteBlob(MediaTypeUKISections, bytes.NewReader(doc))
	d.Annotations = map[string]string{ocispec.AnnotationTitle: r.ID + "_" + r.Version + ".efi.sections.json"}
	return d, err
}

// readable refuses a document that [Read] would not take.
func readable(document string, b []byte) error {
	if len(b) > maxDocument {
		return fmt.Errorf("%s: %w: %d bytes, want at most %d for a document", document, ErrTooLarge, len(b), maxDocument)
	}
	return nil
}

// PackIndex joins releases of the same version for several architectures, which are in the layout
// in dir already, under one name. manifests are what Pack returned, by architecture. The same
// manifests give the same digest.
func PackIndex(dir, ref string, manifests map[string]ocispec.Descriptor) (ocispec.Descriptor, error) {
	fail := func(err error) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, prefix.Error("release", fmt.Errorf("pack: %w", err))
	}
	if len(manifests) == 0 {
		return fail(errors.New("an index needs a release"))
	}
	w, err := ocilayout.Create(dir)
	if err != nil {
		return fail(err)
	}
	index := ocispec.Index{ArtifactType: ArtifactType}
	for architecture, d := range manifests {
		if architecture == "" {
			return fail(errors.New("an index needs the architecture of each release"))
		}
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: d.Digest, Size: d.Size, ArtifactType: ArtifactType,
			Platform: &ocispec.Platform{OS: "linux", Architecture: architecture},
		})
	}
	slices.SortFunc(index.Manifests, func(a, b ocispec.Descriptor) int {
		return strings.Compare(a.Platform.Architecture, b.Platform.Architecture)
	})
	d, err := w.WriteIndex(index, ref)
	if errors.Is(err, ocilayout.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		return fail(err)
	}
	return d, nil
}
