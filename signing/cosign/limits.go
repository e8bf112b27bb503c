package cosign

import (
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
)

// Limits on what is read into memory, in bytes, and on how much is examined. A document that
// exceeds them is not written, since this package could not read it again.
const (
	maxManifest    = 4 << 20
	maxPayload     = 1 << 20  // of simple signing
	maxAttestation = 32 << 20 // by default
	maxLayers      = 256      // signatures of one manifest
	maxCandidates  = 1024     // manifests that one artifact's signatures are looked for in
	maxValues      = 1 << 16  // JSON values in an untrusted document
)

// Limits bound what is read for one artifact, whatever a source offers. A zero field stands for the
// default.
//
// With the defaults a verification holds less than 64 MiB. Once a limit is reached, the rest is not
// read: the policy is judged by what was found so far.
type Limits struct {
	// Attestation is the size of the largest statement, in bytes; 0: 32 MiB. Encoded in an
	// envelope, it takes a third more.
	Attestation int64

	// Held is how many bytes of signatures and attestations are held: of those that count, and of
	// the one that is being examined; 0: 46 MiB.
	Held int64

	// Bytes is how many bytes are read and hashed in total; 0: 512 MiB.
	Bytes int64

	// Manifests is how many manifests are examined in total; 0: 1,024. Signatures is how many
	// signatures are tried or found damaged in total; 0: 1,024.
	Manifests, Signatures int

	// More is how many further manifests, and eight times as many signatures, are examined and
	// listed once the policy is satisfied; 0: 64, negative: none.
	More int
}

func (l Limits) attestation() int64 {
	return orDefault(l.Attestation, maxAttestation)
}

func orDefault[N int | int64](n, otherwise N) N {
	if n > 0 {
		return n
	}
	return otherwise
}

// A budget is what is left of the limits.
type budget struct {
	held, bytes           int64
	manifests, signatures int
}

func (l Limits) budget() budget {
	return budget{held: orDefault(l.Held, 46<<20), bytes: orDefault(l.Bytes, 512<<20),
		manifests: orDefault(l.Manifests, maxCandidates), signatures: orDefault(l.Signatures, maxCandidates)}
}

// spend takes bytes that are read or hashed from the budget, if there are as many.
func (b *budget) spend(n int64) error {
	if n > b.bytes {
		return fmt.Errorf("%w: the limit on bytes that are read for one artifact", ErrNotRead)
	}
	b.bytes -= n
	return nil
}

// spendOne takes a manifest or signature from the budget.
func (b *budget) spendOne(left *int, what string) error {
	if *left <= 0 {
		return fmt.Errorf("%w: the limit on %s for one artifact", ErrNotRead, what)
	}
	*left--
	return nil
}

// layer is the size of the largest layer of a format: an envelope has its payload in base64, and
// some bytes around it.
func (l Limits) layer(f Format) int64 {
	if f == FormatSimpleSigning {
		return maxPayload
	}
	return (l.attestation()+2)/3*4 + maxPayload
}

// A LimitError says that a size or number exceeds what is read; the call has written nothing. It is
// ErrTooLarge.
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

// fewValues refuses a document with so many values that decoding it takes many times its size,
// before it is decoded.
func fewValues(document string, b []byte) error {
	return atMost("JSON values in "+document, ocilayout.Values(b), maxValues)
}
