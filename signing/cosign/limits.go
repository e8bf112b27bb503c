package cosign

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
)

// Limits on what is read into memory, in bytes, and on what is looked at. Whoever writes a document of these kinds is refused beyond
// them, since this package would not read it again.
const (
	maxManifest    = 4 << 20
	maxPayload     = 1 << 20  // of simple signing
	maxAttestation = 32 << 20 // by default
	maxLayers      = 256      // signatures of one manifest
	maxCandidates  = 1024     // manifests that one artifact's signatures are looked for in
	maxValues      = 1 << 16  // JSON values in a document that anybody may have written
)

// Limits bound what is read for one artifact, whatever a source offers. A zero field stands for the default.
type Limits struct {
	// Attestation is the size of the largest statement, in bytes; 0: 32 MiB. Encoded in an envelope, it takes a third more.
	Attestation int64
}

func (l Limits) attestation() int64 {
	if l.Attestation > 0 {
		return l.Attestation
	}
	return maxAttestation
}

// layer is the size of the largest layer of a format: an envelope has its payload in base64, and some bytes around it.
func (l Limits) layer(f Format) int64 {
	if f == FormatSimpleSigning {
		return maxPayload
	}
	return (l.attestation()+2)/3*4 + maxPayload
}

// A LimitError says that something is larger, or there are more of it, than is read; nothing was written then. It is ErrTooLarge.
type LimitError struct {
	What     string // such as "signatures in the manifest sha256-HEX.sig"
	Got, Max int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %v: %d, at most %d are read", e.What, ErrTooLarge, e.Got, e.Max)
}

// Is reports whether the target is ErrTooLarge.
func (e *LimitError) Is(target error) bool { return target == ErrTooLarge }

// atMost returns a *LimitError if there is more than allowed.
func atMost[N int | int64](what string, got, limit N) error {
	if got > limit {
		return &LimitError{What: what, Got: int64(got), Max: int64(limit)}
	}
	return nil
}

// checkManifest refuses a manifest that would not be read again.
func checkManifest(what string, m ocispec.Manifest) error {
	if err := atMost("signatures in the manifest "+what, len(m.Layers), maxLayers); err != nil {
		return err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	// A store adds the version and the media type.
	if err := atMost("bytes of the manifest "+what, len(b)+256, maxManifest); err != nil {
		return err
	}
	return fewValues(what, b)
}

// fewValues refuses a document with so many values that decoding it takes many times its size, before it is decoded.
func fewValues(document string, b []byte) error {
	return atMost("JSON values in "+document, ocilayout.Values(b), maxValues)
}
