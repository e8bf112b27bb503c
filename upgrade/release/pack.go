package release

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
)

// Contents is one version of an operating system for one architecture. The fields after RootHash may be empty.
type Contents struct {
	ID       string        // os-release IMAGE_ID or ID of the system
	Version  string        // os-release IMAGE_VERSION
	UKI      osmith.Source // signed
	Root     osmith.Source // root file system image
	Tree     osmith.Source // dm-verity superblock and hash tree of Root
	RootHash []byte

	Architecture      string        // as Go and OCI name it: amd64, arm64, riscv64...
	RootHashSignature osmith.Source // the content of a verity-sig partition
	Loader            osmith.Source // signed boot loader that the release was tested with
	Addons            []File        // signed add-ons of the UKI
	PCRs              osmith.Source // JSON: predicted PCRs
	SBOMs             []Document    // software bills of materials
}

// Schema names the config's format.
const Schema = "osmith.release/1"

// config is the JSON document that binds the layers.
type config struct {
	Schema       string `json:"schema"`
	ID           string `json:"id"`
	Version      string `json:"version"`
	RootHash     string `json:"rootHash"`
	Architecture string `json:"architecture,omitempty"`
}

// A Store takes what a release consists of. Package cosign has some, and [Pack] makes one of a directory.
type Store interface {
	// WriteBlob stores a blob and describes it.
	WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error)
	// WriteManifest stores a manifest, and lets a tag name it if that is not empty.
	WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error)
}

// Pack writes the release into the OCI layout in dir, which is made if absent, and lists it under ref. The same contents
// give the same digest.
func Pack(dir, ref string, c Contents) (ocispec.Descriptor, error) {
	w, err := ocilayout.Create(dir)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("release: pack: %w", err)
	}
	return PackInto(w, ref, c)
}

// PackInto is Pack into another store than a directory. Every part is read once, front to back.
func PackInto(w Store, ref string, c Contents) (ocispec.Descriptor, error) {
	d, err := pack(w, ref, c)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("release: pack: %w", err)
	}
	return d, nil
}

func pack(w Store, ref string, c Contents) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	switch {
	case c.ID == "" || c.Version == "":
		return none, errors.New("a release needs an ID and a version")
	case len(c.RootHash) == 0:
		return none, errors.New("a release needs a root hash")
	}
	list, err := c.parts()
	if err != nil {
		return none, err
	}
	doc, err := json.Marshal(config{Schema, c.ID, c.Version, hex.EncodeToString(c.RootHash), c.Architecture})
	if err != nil {
		return none, err
	}
	m := ocispec.Manifest{ArtifactType: ArtifactType, Annotations: map[string]string{
		ocispec.AnnotationTitle:   c.ID,
		ocispec.AnnotationVersion: c.Version,
	}}
	if m.Config, err = w.WriteBlob(MediaTypeConfig, bytes.NewReader(doc)); err != nil {
		return none, err
	}
	for _, p := range list {
		d, err := w.WriteBlob(p.mediaType, io.NewSectionReader(p.src, 0, p.src.Size()))
		if err != nil {
			return none, err
		}
		if d.Size != p.src.Size() {
			return none, fmt.Errorf("%s: %d bytes could be read, %d were promised", p.title, d.Size, p.src.Size())
		}
		d.Annotations = map[string]string{ocispec.AnnotationTitle: p.title}
		m.Layers = append(m.Layers, d)
	}
	return w.WriteManifest(m, ref)
}
