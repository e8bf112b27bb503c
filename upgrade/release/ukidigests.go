package release

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/pinned"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/uki"
)

// UKIDigests are the digests that a UKI is judged by, taken in one pass over all of it, so that
// judging it later reads its headers and small sections only. [Open] and [Stream] take them in the
// pass in which they verify the UKI's layer; [HashUKI] takes them of any other. They are made of
// nothing but such a pass, and hold for the bytes that it has read: [UKIDigests.Bind] refuses
// others.
type UKIDigests struct {
	file         [sha256.Size]byte
	authenticode map[crypto.Hash][]byte
	measured     []uki.VariantMeasurements
	sums         pinned.Sums
	hashed       *pinned.Reader // of which they were taken
}

// HashUKI reads all of a UKI once. Digests are taken under SHA-256, and under those of SHA-1,
// SHA-384 and SHA-512 that are asked for; others are left out. A file that is not a PE image, or
// whose stub is unknown, has only the digests that can be taken of it; its verdict refuses it. The
// error is one of reading.
func HashUKI(ctx context.Context, src osmith.Source, hashes ...crypto.Hash) (*UKIDigests, error) {
	d, err := hashUKI(ctx, pinUKI(src), hashes, nil)
	return d, prefix.Error("release", err)
}

func hashUKI(ctx context.Context, src *pinned.Reader, hashes []crypto.Hash, progress func(n int)) (*UKIDigests, error) {
	hashes = slices.DeleteFunc(append([]crypto.Hash{crypto.SHA256}, hashes...), func(h crypto.Hash) bool { return !slices.Contains(pcrbank.Hashes(), h) })
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	d := &UKIDigests{hashed: src}
	headers := &watched{Reader: src}
	whole := sha256.New()
	to := []io.Writer{whole, writerFunc(func(b []byte) (int, error) {
		if progress != nil {
			progress(len(b))
		}
		return len(b), ctx.Err()
	})}
	var image *signedpe.Scanner
	if f, err := pe.Parse(headers, src.Size()); err == nil {
		if image, err = signedpe.NewScanner(f, headers, hashes...); err == nil {
			to = append(to, image)
		}
	}
	var measurer *uki.Measurer
	if f, err := uki.Open(headers); err == nil {
		if measurer, err = f.NewMeasurer(hashes...); err == nil {
			to = append(to, measurer)
		}
	}
	if headers.err != nil {
		return nil, headers.err
	}
	if err := pinned.Scan(src, to...); err != nil {
		return nil, err
	}
	whole.Sum(d.file[:0])
	if image != nil {
		d.authenticode, _ = image.Sums()
	}
	if measurer != nil {
		d.measured, _ = measurer.Variants()
	}
	if headers.err != nil { // what is hashed out of the order of the file was read again
		return nil, headers.err
	}
	var err error
	d.sums, err = src.Sums()
	return d, err
}

// watched remembers that a source could not be read, which is not the same as a UKI that is none.
type watched struct {
	*pinned.Reader
	err error
}

func (w *watched) ReadAt(b []byte, off int64) (int, error) {
	n, err := w.Reader.ReadAt(b, off)
	if err != nil && err != io.EOF && w.err == nil {
		w.err = err
	}
	return n, err
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// verify checks what was hashed against the descriptor of the layer.
func (d *UKIDigests) verify(want ocispec.Descriptor) error {
	return ocilayout.CheckDigest(want, digest.NewDigestFromBytes(digest.SHA256, d.file[:]), d.Size())
}

// Size is that of the UKI, in bytes.
func (d *UKIDigests) Size() int64 { return d.sums.Size() }

// SHA256 is the digest of the whole file.
func (d *UKIDigests) SHA256() [sha256.Size]byte { return d.file }

// Authenticode are the digests that firmware compares, by hash; nil if what was hashed is no PE
// image that could be started.
func (d *UKIDigests) Authenticode() map[crypto.Hash][]byte { return maps.Clone(d.authenticode) }

// Measurements are what the stub measures into PCR 11, as of [uki.File.MeasureVariants]; nil if
// that is not known.
func (d *UKIDigests) Measurements() []uki.VariantMeasurements { return slices.Clone(d.measured) }

// Bind is a source, which need not be the one that was hashed, of which no other bytes can be read
// than those that were: others are a [*ChangedUKIError].
func (d *UKIDigests) Bind(src osmith.Source) osmith.Source {
	if src == osmith.Source(d.hashed) {
		return src
	}
	bound := d.sums.Of(src, changedUKI)
	bound.Keep = keptOfUKI
	return bound
}

// keptOfUKI is how much of a UKI is kept in memory, in bytes.
const keptOfUKI = 2 << 20

func pinUKI(src osmith.Source) *pinned.Reader {
	p := pinned.New(src, changedUKI)
	p.Keep = keptOfUKI
	return p
}

// ChangedUKIError says that a UKI is not the one whose digests were taken: the file, or the one on
// the server, has changed since.
type ChangedUKIError struct {
	Offset, Size int64 // of bytes that are others, or some of which are
}

func (e *ChangedUKIError) Error() string {
	return fmt.Sprintf("the UKI changed since its digests were taken: %d bytes at %d differ: open the release again", e.Size, e.Offset)
}

func changedUKI(off, n int64) error { return &ChangedUKIError{off, n} }
