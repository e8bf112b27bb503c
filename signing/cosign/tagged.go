package cosign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// joinSimpleSigning adds the signature to those that the artifact has: in this
// format all of them are in the one manifest under the tag.
func (d *Draft) joinSimpleSigning(ctx context.Context, store Store, sig []byte) error {
	layer, err := store.WriteBlob(mediaTypeSimpleSigning, bytes.NewReader(d.payload))
	if err != nil {
		return fmt.Errorf("cosign: payload: %w", err)
	}
	layer.Annotations = map[string]string{annotationSignature: base64.StdEncoding.EncodeToString(sig)}
	return d.joinTagged(ctx, store, layer, signatureTag(d.artifact.Digest))
}

// joinDSSE adds an attestation to those under the tag.
func (d *Draft) joinDSSE(ctx context.Context, store Store, sig []byte) error {
	content, err := json.Marshal(newEnvelope(d.payload, sig))
	if err != nil {
		return fmt.Errorf("cosign: attestation: %w", err)
	}
	layer, err := store.WriteBlob(mediaTypeDSSE, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("cosign: attestation: %w", err)
	}
	// The signature is in the envelope; cosign wants the annotation all the same.
	layer.Annotations = map[string]string{annotationSignature: "", "predicateType": d.predicateType}
	return d.joinTagged(ctx, store, layer, attestationTag(d.artifact.Digest))
}

// joinTagged writes the manifest under the tag anew, with one more layer.
func (d *Draft) joinTagged(ctx context.Context, store Store, layer ocispec.Descriptor, tag string) error {
	layers, err := d.tagged(ctx, store)
	if err != nil {
		return err
	}
	layers = appendLayer(layers, layer)
	content, err := newConfig(layers)
	if err != nil {
		return fmt.Errorf("cosign: config: %w", err)
	}
	config, err := store.WriteBlob(ocispec.MediaTypeImageConfig, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("cosign: config: %w", err)
	}
	_, err = store.WriteManifest(ocispec.Manifest{Config: config, Layers: layers}, tag)
	if err != nil {
		return fmt.Errorf("cosign: manifest: %w", err)
	}
	return nil
}

// tagged returns the layers of the draft's format that the artifact has.
func (d *Draft) tagged(ctx context.Context, store Store) ([]ocispec.Descriptor, error) {
	candidates, err := store.Signatures(ctx, d.artifact)
	if err != nil {
		return nil, fmt.Errorf("cosign: %s: find signatures: %w", d.artifact.Digest, err)
	}
	var layers []ocispec.Descriptor
	for _, c := range candidates {
		content, err := readBlob(ctx, store, c, maxManifest)
		if err != nil {
			return nil, err
		}
		m, err := parseManifest(content)
		if err != nil {
			return nil, err
		}
		for _, layer := range m.Layers {
			if layerFormat(layer) != d.format {
				continue
			}
			blob, err := readBlob(ctx, store, layer, maxPayload)
			if err != nil {
				return nil, err
			}
			e, err := parseLayer(d.format, layer, blob, nil)
			if err != nil {
				continue // not worth keeping; Verify would reject it
			}
			if _, err := e.read(e.payload, d.artifact.Digest); err == nil {
				layers = appendLayer(layers, layer)
			}
		}
	}
	return layers, nil
}

// appendLayer appends a signature unless it is there already.
func appendLayer(layers []ocispec.Descriptor, layer ocispec.Descriptor) []ocispec.Descriptor {
	for _, have := range layers {
		if have.Digest == layer.Digest && have.Annotations[annotationSignature] == layer.Annotations[annotationSignature] {
			return layers
		}
	}
	return append(layers, layer)
}

// An imageConfig is the image configuration that tools expect even of a manifest
// that holds signatures.
type imageConfig struct {
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	RootFS       ocispec.RootFS `json:"rootfs"`
	Config       struct{}       `json:"config"`
}

func newConfig(layers []ocispec.Descriptor) ([]byte, error) {
	c := imageConfig{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, layer := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.Digest)
	}
	return json.Marshal(c)
}
