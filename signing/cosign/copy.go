package cosign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// CopySignatures copies the signatures and attestations of an artifact from a source to a store, so that it
// can be verified there, too, and returns how many manifests held some. Nothing is judged but that they are
// about the artifact; what is damaged or missing stays behind, as Verify would reject it.
func CopySignatures(ctx context.Context, to Store, from ArtifactSource, artifact ocispec.Descriptor) (copied int, err error) {
	defer prefix.Add("cosign", &err)
	if err := ocilayout.CheckDescriptor(artifact); err != nil {
		return 0, err
	}
	candidates, err := findSignatures(ctx, from, artifact)
	if err != nil {
		return 0, err
	}
	for _, c := range candidates {
		some, err := copyManifest(ctx, to, from, artifact, c)
		if err != nil && !spoiled(err) {
			return copied, err
		}
		if some {
			copied++
		}
	}
	return copied, nil
}

// spoiled tells what is wrong with a blob from what is wrong with the way to it.
func spoiled(err error) bool {
	var digest *osmith.DigestError
	var format *osmith.FormatError
	return errors.As(err, &digest) || errors.As(err, &format) || errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist)
}

func copyManifest(ctx context.Context, to Store, from ArtifactSource, artifact, desc ocispec.Descriptor) (bool, error) {
	content, err := readBlob(ctx, from, desc, maxManifest)
	if err != nil {
		return false, err
	}
	m, err := parseManifest(content)
	if err != nil {
		return false, err
	}
	if m.Subject == nil {
		return copyTagged(ctx, to, from, artifact, m)
	}
	if !m.mayHoldSignatures(artifact.Digest, false) {
		return false, nil
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := copyBlob(ctx, to, from, d); err != nil {
			return false, err
		}
	}
	if _, err := to.WriteManifest(m.Manifest, ""); err != nil {
		return false, fmt.Errorf("manifest: %w", prefix.Bare(err))
	}
	return true, nil
}

// copyTagged adds the layers of a manifest without a subject to those that the store has under the tag.
func copyTagged(ctx context.Context, to Store, from ArtifactSource, artifact ocispec.Descriptor, m *manifest) (bool, error) {
	some := false
	for _, layer := range m.Layers {
		format := layerFormat(layer)
		if format != FormatSimpleSigning && format != FormatDSSE {
			continue
		}
		blob, err := readBlob(ctx, from, layer, maxPayload)
		if err != nil {
			return some, err
		}
		e, err := parseLayer(format, layer, blob, nil)
		if err != nil {
			continue
		}
		if _, err := e.read(e.payload, artifact.Digest); err != nil {
			continue
		}
		if err := copyBlob(ctx, to, from, layer); err != nil {
			return some, err
		}
		tag := signatureTag(artifact.Digest)
		if format == FormatDSSE {
			tag = attestationTag(artifact.Digest)
		}
		d := &Draft{format: format, artifact: artifact}
		if err := d.joinTagged(ctx, to, layer, tag); err != nil {
			return some, err
		}
		some = true
	}
	return some, nil
}

func copyBlob(ctx context.Context, to Store, from ArtifactSource, desc ocispec.Descriptor) error {
	content, err := readBlob(ctx, from, desc, maxPayload)
	if err != nil {
		return err
	}
	if _, err := to.WriteBlob(desc.MediaType, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, prefix.Bare(err))
	}
	return nil
}
