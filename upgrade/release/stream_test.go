package release_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func stream(t *testing.T, src release.RangeSource, a *release.Artifact, dir string, o release.PullOptions) *release.Release {
	t.Helper()
	r, err := release.Stream(t.Context(), src, a, dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// fetchedInto reports whether a layout has the first layer of a type.
func fetchedInto(dir string, a *release.Artifact, mediaType string) bool {
	d, _ := a.Layer(mediaType)
	_, err := os.Stat(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()))
	return !errors.Is(err, fs.ErrNotExist)
}

// The UKI stays on the server, is read once for its digests, and once for each reading of all of
// it, by few requests. What several readers look at is not fetched again.
func TestStreamUKI(t *testing.T) {
	image := large("quiet", noise(1, 20<<18))
	s, a := offer(t, image)
	dir := t.TempDir()
	var last, total int64
	r := stream(t, s, a, dir, release.PullOptions{Hashes: []crypto.Hash{crypto.SHA384, crypto.SHA256, crypto.MD5}, Progress: func(done, all int64) {
		require.GreaterOrEqual(t, done, last)
		last, total = done, all
	}})
	require.Equal(t, total, last)
	require.Equal(t, a.Size()+a.Config.Size, total)
	require.False(t, fetchedInto(dir, a, release.MediaTypeUKI))
	require.Less(t, s.served, int64(len(image))+1<<20)
	require.Less(t, len(s.requests), 20)
	require.Nil(t, r.UKIPatch)

	d := r.UKIDigests
	require.Equal(t, int64(len(image)), d.Size())
	require.Equal(t, sha256.Sum256(image), d.SHA256())
	f, err := uki.Open(bytes.NewReader(image))
	require.NoError(t, err)
	measured, err := f.MeasureVariants(crypto.SHA256, crypto.SHA384)
	require.NoError(t, err)
	require.Equal(t, measured, d.Measurements())
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		sum, err := authenticode.Digest(bytes.NewReader(image), h)
		require.NoError(t, err)
		require.Equal(t, sum, d.Authenticode()[h])
	}
	require.Len(t, d.Authenticode(), 2)

	s.served, s.requests = 0, nil
	_, err = uki.Open(r.UKI)
	require.NoError(t, err)
	require.Zero(t, s.served)
	require.Equal(t, image, read(t, r.UKI))
	require.Equal(t, int64(len(image)), s.served)
	require.LessOrEqual(t, len(s.requests), 3)
	require.Same(t, r.UKI, d.Bind(r.UKI))
}

// read returns all of a source.
func read(t testing.TB, src osmith.Source) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&b}, struct{ io.Reader }{io.NewSectionReader(src, 0, src.Size())}, make([]byte, 1<<20))
	require.NoError(t, err)
	return b.Bytes()
}

// A UKI that is there already is not fetched, a damaged one is, and one from a source of whole
// blobs is fetched into the layout.
func TestStreamUKIFromElsewhere(t *testing.T) {
	image := large("quiet", noise(1, 5<<18))
	s, a := offer(t, image)
	dir := t.TempDir()
	name, err := release.PullLayer(t.Context(), s, a, dir, release.MediaTypeUKI)
	require.NoError(t, err)
	s.served = 0
	r := stream(t, s, a, dir, release.PullOptions{})
	require.Equal(t, image, read(t, r.UKI))
	require.Less(t, s.served, int64(64<<10))
	require.Equal(t, sha256.Sum256(image), r.UKIDigests.SHA256())

	require.NoError(t, os.WriteFile(name, make([]byte, len(image)), 0o644))
	r = stream(t, s, a, dir, release.PullOptions{})
	require.Equal(t, image, read(t, r.UKI))
	require.Greater(t, s.served, int64(len(image)))

	dir = t.TempDir()
	r = stream(t, rangeless{s}, a, dir, release.PullOptions{})
	require.True(t, fetchedInto(dir, a, release.MediaTypeUKI))
	require.Equal(t, image, read(t, r.UKI))
	require.NotNil(t, r.UKIDigests)
}

// What an older UKI has is read there, whatever it has become, and what both are is what the
// release says.
func TestStreamOldUKI(t *testing.T) {
	base := noise(1, 16<<18)
	old, image := large("quiet", base), large("quiet splash", append(bytes.Clone(base), "more"...))
	for name, tt := range map[string]struct {
		old     func() osmith.Source
		fetched int64 // by Stream, at most
		patch   bool
	}{
		"the one before":       {func() osmith.Source { return bytes.NewReader(old) }, 256 << 10, true},
		"no UKI":               {func() osmith.Source { return bytes.NewReader(make([]byte, 5000)) }, int64(len(image)) + 1<<20, false},
		"another one":          {func() osmith.Source { return bytes.NewReader(large("", noise(2, 16<<18))) }, int64(len(image)) + 1<<20, true},
		"it ends early":        {func() osmith.Source { return &shrinking{Reader: bytes.NewReader(old), after: int64(len(old)) * 3 / 2} }, 2*int64(len(image)) + 1<<20, false},
		"it changes meanwhile": {func() osmith.Source { return &turning{Reader: bytes.NewReader(old), after: int64(len(old)) * 3 / 2} }, 2*int64(len(image)) + 1<<20, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := offer(t, image)
			r := stream(t, s, a, t.TempDir(), release.PullOptions{OldUKI: tt.old()})
			require.LessOrEqual(t, s.served, tt.fetched)
			require.Equal(t, tt.patch, r.UKIPatch != nil)
			if tt.patch {
				require.Equal(t, int64(len(image)), r.UKIPatch.Fetched+r.UKIPatch.Reused)
			}
			require.Equal(t, sha256.Sum256(image), r.UKIDigests.SHA256())
			require.Equal(t, image, read(t, r.UKI))
		})
	}

	// Behind Stream it is removed, and something else comes where it was.
	s, a := offer(t, image)
	mutable := bytes.Clone(old)
	r := stream(t, s, a, t.TempDir(), release.PullOptions{OldUKI: bytes.NewReader(mutable)})
	require.Less(t, r.UKIPatch.Fetched, int64(300<<10))
	copy(mutable[1<<20:], image[:2<<20])
	require.Equal(t, image, read(t, r.UKI))

	// The index is a hint: one that is another UKI's costs a second reading.
	b, err := json.Marshal(indexOf(t, large("quiet splash", noise(2, len(base)+4))))
	require.NoError(t, err)
	src, a := reindexed(t, image, b)
	r = stream(t, src, a, t.TempDir(), release.PullOptions{OldUKI: bytes.NewReader(large("quiet splash", noise(2, len(base)+4)))})
	require.Nil(t, r.UKIPatch)
	require.Equal(t, image, read(t, r.UKI))
	for _, index := range []string{"{}", string(bytes.Repeat([]byte(" "), 4<<20+1))} {
		src, a := reindexed(t, image, []byte(index))
		r = stream(t, src, a, t.TempDir(), release.PullOptions{OldUKI: bytes.NewReader(old)})
		require.Nil(t, r.UKIPatch)
		require.Equal(t, image, read(t, r.UKI))
	}
}

// turning has other bytes behind some reads.
type turning struct {
	*bytes.Reader
	after int64
}

func (s *turning) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.Reader.ReadAt(b, off)
	if s.after -= int64(n); s.after < 0 && n > 0 {
		b[0]++
	}
	return n, err
}

// Whatever the server has instead, at whatever time, no byte of it is handed out as one of the
// release.
func TestStreamServerLies(t *testing.T) {
	image := large("quiet", noise(1, 8<<18))
	flip := func(at int) func(b []byte) []byte {
		return func(b []byte) []byte {
			if len(b) == len(image) {
				b[at] ^= 1
			}
			return b
		}
	}
	for _, at := range []int{0, 3000, len(image) / 2, len(image) - 1} {
		s, a := offer(t, image)
		s.change = flip(at)
		_, err := release.Stream(t.Context(), s, a, t.TempDir(), release.PullOptions{})
		var wrong *osmith.DigestError
		require.ErrorAs(t, err, &wrong, "byte %d", at)

		s, a = offer(t, image)
		r := stream(t, s, a, t.TempDir(), release.PullOptions{})
		s.change = flip(at)
		b := make([]byte, len(image))
		n, err := io.ReadFull(io.NewSectionReader(r.UKI, 0, r.UKI.Size()), b)
		var changed *release.ChangedUKIError
		require.ErrorAs(t, err, &changed, "byte %d", at)
		require.LessOrEqual(t, changed.Offset, int64(at))
		require.Greater(t, changed.Offset+changed.Size, int64(at))
		require.Equal(t, image[:n], b[:n])
		require.ErrorContains(t, err, "the UKI changed since its digests were taken")
		s.change = nil
		require.Equal(t, image, read(t, r.UKI), "and back again")
	}

	// It ends early.
	s, a := offer(t, image)
	r := stream(t, s, a, t.TempDir(), release.PullOptions{})
	s.change = func(b []byte) []byte { return b[:len(b)/2] }
	_, err := io.ReadAll(io.NewSectionReader(r.UKI, 0, r.UKI.Size()))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = release.Stream(t.Context(), s, a, t.TempDir(), release.PullOptions{})
	require.Error(t, err)

	// It is never done.
	s.change = nil
	ctx, cancel := context.WithCancel(t.Context())
	_, err = release.Stream(ctx, s, a, t.TempDir(), release.PullOptions{Progress: func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
}

// Open takes the digests in its one pass. They hold for the bytes that were hashed, wherever these
// are.
func TestUKIDigests(t *testing.T) {
	image := large("quiet", noise(1, 3<<18))
	s, a := offer(t, image)
	dir := t.TempDir()
	require.NoError(t, release.Pull(t.Context(), s, a, dir, release.PullOptions{}))
	r := open(t, dir, a)
	require.Equal(t, sha256.Sum256(image), r.UKIDigests.SHA256())
	require.Equal(t, image, read(t, r.UKIDigests.Bind(bytes.NewReader(image))))
	for _, other := range [][]byte{image[:len(image)-1], append(bytes.Clone(image), 0), make([]byte, len(image)), make([]byte, 2*len(image))} {
		_, err := io.ReadAll(io.NewSectionReader(r.UKIDigests.Bind(bytes.NewReader(other)), 0, int64(len(other))))
		var changed *release.ChangedUKIError
		require.ErrorAs(t, err, &changed)
	}
	name, err := release.PullLayer(t.Context(), s, a, dir, release.MediaTypeUKI)
	require.NoError(t, err)
	for _, damaged := range [][]byte{image[:len(image)-1], append(bytes.Clone(image), 0), make([]byte, len(image))} {
		require.NoError(t, os.WriteFile(name, damaged, 0o644))
		_, err = release.Open(t.Context(), os.DirFS(dir), a.Descriptor)
		var wrong *osmith.DigestError
		require.ErrorAs(t, err, &wrong)
	}

	// What is no UKI, or one of an unknown stub, has the digests that can be taken of it.
	d, err := release.HashUKI(t.Context(), bytes.NewReader([]byte("no UKI")))
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256([]byte("no UKI")), d.SHA256())
	require.Nil(t, d.Authenticode())
	require.Nil(t, d.Measurements())
	unknown := uki.Image{Stub: bytes.NewReader(petest.Stub("999")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), OSRelease: []byte(osRelease)}
	d, err = release.HashUKI(t.Context(), bytes.NewReader(bytesOf(unknown.Assemble())))
	require.NoError(t, err)
	require.NotNil(t, d.Authenticode())
	require.Nil(t, d.Measurements())
	_, err = release.HashUKI(t.Context(), &shrinking{Reader: bytes.NewReader(image), after: 1})
	require.ErrorContains(t, err, "release: ")
}

// Whatever bytes there are can be hashed: only reading fails.
func FuzzHashUKI(f *testing.F) {
	f.Add(large("quiet", nil))
	f.Add(petest.Kernel("6.12.0"))
	f.Add([]byte("MZ"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, image []byte) {
		d, err := release.HashUKI(t.Context(), bytes.NewReader(image), crypto.SHA1)
		require.NoError(t, err)
		require.Equal(t, sha256.Sum256(image), d.SHA256())
		if sums := d.Authenticode(); sums != nil {
			want, err := authenticode.Digest(bytes.NewReader(image), crypto.SHA256)
			require.NoError(t, err)
			require.Equal(t, want, sums[crypto.SHA256])
		}
		require.True(t, bytes.Equal(image, read(t, d.Bind(bytes.NewReader(image)))))
	})
}

// Whatever the old UKI is and becomes, what is read is the new one.
func FuzzStreamOldUKI(f *testing.F) {
	image := large("quiet", noise(1, 1<<18))
	f.Add(image, 0, byte(0))
	f.Add(large("quiet splash", noise(1, 1<<18)), 200_000, byte(1))
	f.Add([]byte("MZ"), 5000, byte(255))
	f.Fuzz(func(t *testing.T, old []byte, at int, by byte) {
		s, a := offer(t, image)
		r, err := release.Stream(t.Context(), s, a, t.TempDir(), release.PullOptions{OldUKI: bytes.NewReader(old)})
		require.NoError(t, err)
		defer r.Close()
		if len(old) > 0 {
			old[uint(at)%uint(len(old))] ^= by
		}
		require.True(t, bytes.Equal(image, read(t, r.UKI)))
	})
}
