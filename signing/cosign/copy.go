package cosign

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// CopySignatures copies the signatures and attestations of an artifact from a source to a store, so
// that it can be verified there, too, and returns how many manifests held some. It checks only that
// they are about the artifact. Damaged or missing ones are not copied, since Verify would reject
// them.
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

// CopyVerified copies only the signatures and attestations that count in a result of Verify, from
// the source that was verified to a store, so that the artifact can be verified there, too. It
// returns their number.
func CopyVerified(ctx context.Context, to Store, from ArtifactSource, result *Result) (copied int, err error) {
	defer prefix.Add("cosign", &err)
	tagged := map[Format][]ocispec.Descriptor{}
	copyOne := func(s *Signature, predicateType string) error {
		layer := ocispec.Descriptor{MediaType: s.layer.MediaType, Digest: s.layer.Digest, Size: s.layer.Size}
		if layer.Digest == "" {
			return errors.New("copy: the result was not returned by Verify")
		}
		if err := copyBlob(ctx, to, from, layer, layer.Size); err != nil {
			return err
		}
		copied++
		if s.Format == FormatBundle {
			return writeReferrer(to, result.Subject, layer, predicateType)
		}
		// Nothing in a manifest is signed, so only what the format has is taken along.
		layer.Annotations = map[string]string{}
		for _, name := range []string{annotationSignature, annotationCertificate, annotationChain, annotationLogEntry, annotationTimestamp, "predicateType"} {
			if text, ok := s.layer.Annotations[name]; ok {
				layer.Annotations[name] = text
			}
		}
		tagged[s.Format] = append(tagged[s.Format], layer)
		return nil
	}
	for i := range result.Signatures {
		if err := copyOne(&result.Signatures[i], predicateType); err != nil {
			return copied, err
		}
	}
	for i := range result.Attestations {
		if err := copyOne(&result.Attestations[i].Signature, result.Attestations[i].PredicateType); err != nil {
			return copied, err
		}
	}
	for format, tag := range map[Format]string{FormatSimpleSigning: signatureTag(result.Subject.Digest), FormatDSSE: attestationTag(result.Subject.Digest)} {
		if len(tagged[format]) > 0 {
			d := &Draft{format: format, artifact: result.Subject}
			if err := d.joinTagged(ctx, to, tagged[format], tag); err != nil {
				return copied, err
			}
		}
	}
	return copied, nil
}

// spoiled tells what is wrong with a blob from what is wrong with the way to it.
func spoiled(err error) bool {
	var digest *osmith.DigestError
	var format *osmith.FormatError
	return errors.As(err, &digest) || errors.As(err, &format) || errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, ErrTooLarge)
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
		if err := copyBlob(ctx, to, from, d, Limits{}.layer(layerFormat(d))); err != nil {
			return false, err
		}
	}
	if _, err := to.WriteManifest(m.Manifest, ""); err != nil {
		return false, fmt.Errorf("manifest: %w", prefix.Bare(err))
	}
	return true, nil
}

// copyTagged adds the layers of a manifest without a subject to those that the store has under the
// tag.
func copyTagged(ctx context.Context, to Store, from ArtifactSource, artifact ocispec.Descriptor, m *manifest) (bool, error) {
	found := map[Format][]ocispec.Descriptor{}
	for _, layer := range m.Layers {
		format := layerFormat(layer)
		if format != FormatSimpleSigning && format != FormatDSSE {
			continue
		}
		blob, err := readBlob(ctx, from, layer, Limits{}.layer(format))
		if err != nil && spoiled(err) {
			continue
		} else if err != nil {
			return false, err
		}
		e, err := parseLayer(format, layer, blob, nil)
		if err != nil {
			continue
		}
		if _, err := e.read(e.payload, artifact.Digest); err != nil {
			continue
		}
		if err := copyBlob(ctx, to, from, layer, Limits{}.layer(format)); err != nil {
			return false, err
		}
		found[format] = append(found[format], layer)
	}
	for format, tag := range map[Format]string{FormatSimpleSigning: signatureTag(artifact.Digest), FormatDSSE: attestationTag(artifact.Digest)} {
		if len(found[format]) == 0 {
			continue
		}
		d := &Draft{format: format, artifact: artifact}
		if err := d.joinTagged(ctx, to, found[format], tag); err != nil {
			return false, err
		}
	}
	return len(found) > 0, nil
}

// copyBlob copies a blob of limited size without keeping it in memory.
func copyBlob(ctx context.Context, to Store, from ArtifactSource, desc ocispec.Descriptor, limit int64) error {
	if err := atMost("bytes of the blob "+string(desc.Digest), desc.Size, limit); err != nil {
		return err
	}
	blob, err := openBlob(ctx, from, desc)
	if err != nil {
		return err
	}
	if _, err := to.WriteBlob(desc.MediaType, blob); err != nil {
		return errors.Join(fmt.Errorf("blob %s: %w", desc.Digest, prefix.Bare(err)), blob.Close())
	}
	if err := blob.Close(); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return nil
}
