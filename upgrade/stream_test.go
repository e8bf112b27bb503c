package upgrade_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// releaseServer serves a release in whole and in ranges, counts, and may change its mind.
type releaseServer struct {
	*cosign.Layout
	dir      string
	artifact *release.Artifact

	mu     sync.Mutex
	served map[string]int64      // bytes of ranges, by media type
	change func(b []byte) []byte // what is served in place of the UKI; nil: that
}

// serve packs a release.
func serve(t *testing.T, r *release.Release) *releaseServer {
	t.Helper()
	dir := t.TempDir()
	d, err := release.Pack(dir, "v"+r.Version, r)
	require.NoError(t, err)
	layout, err := cosign.OpenLayout(os.DirFS(dir))
	require.NoError(t, err)
	s := &releaseServer{Layout: layout, dir: dir, served: map[string]int64{}}
	s.artifact, err = release.Read(t.Context(), layout, d)
	require.NoError(t, err)
	return s
}

func (s *releaseServer) BlobRange(_ context.Context, d ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(s.dir, "blobs", "sha256", d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	content := io.Reader(io.NewSectionReader(f, off, n))
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.MediaType == release.MediaTypeUKI && s.change != nil {
		b, err := io.ReadAll(f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		b = s.change(b)
		content = io.NewSectionReader(bytes.NewReader(b), off, n)
	}
	return &servedReader{content, f, s, d.MediaType}, nil
}

// servedReader counts what is taken of a range: who hangs up early gets less.
type servedReader struct {
	io.Reader
	io.Closer
	server    *releaseServer
	mediaType string
}

func (r *servedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.server.served[r.mediaType] += int64(n)
	return n, err
}

// stream opens the release, with a directory for what is fetched.
func (s *releaseServer) stream(t *testing.T, dir string, o release.PullOptions) *release.Release {
	t.Helper()
	r, err := release.Stream(t.Context(), s, s.artifact, dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// writtenDisk counts what is written.
type writtenDisk struct {
	*faultio.Disk
	bytes atomic.Int64
}

func (d *writtenDisk) WriteAt(b []byte, off int64) (int, error) {
	n, err := d.Disk.WriteAt(b, off)
	d.bytes.Add(int64(n))
	return n, err
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // it has no errors
	return b
}

// largeSystem runs version 1 of a system whose UKI and root file system have that many bytes,
// nearly. Version 2 has another half of the initrd, and 3 % of other blocks.
func largeSystem(t *testing.T, uki, root int) (s *system, set *acmeos.Set) {
	t.Helper()
	initrd, data := random(1, uki), random(2, root)
	k, err := keys()
	require.NoError(t, err)
	parts := acmeos.StandIns()
	parts.Initrd = source(initrd)
	s = newSystemOfParts(t, parts, k, data, acmeos.DiskOptions{Slots: 2, RootSize: int64(root) + 8<<20})
	s.bootAndRun()
	changed, other := bytes.Clone(initrd), bytes.Clone(data)
	copy(changed[len(changed)/2:], random(3, len(changed)))
	copy(other[len(other)/2:], random(4, len(other)*3/100))
	s.builder.Parts.Initrd = source(changed)
	return s, s.buildWith("2", other)
}

// Of a streamed release each byte is written once, to where it belongs: with what is fetched into a
// directory, and the tables of file systems and partitions, it is 1.05 times the release at most.
func TestStreamWritesOnce(t *testing.T) {
	smaller := 16 // than what the benchmark has
	if testing.Short() {
		smaller = 64
	}
	s, set := largeSystem(t, 118<<20/smaller, 1<<30/smaller)
	for _, delta := range []bool{false, true} {
		server, cache := serve(t, set.Release()), t.TempDir()
		disk := &writtenDisk{Disk: s.disk.Clone()}
		o := release.PullOptions{}
		state, err := upgrade.Inspect(disk, s.machine)
		require.NoError(t, err)
		if delta {
			o.OldUKI, err = state.OpenUKI(state.Running)
			require.NoError(t, err)
		}
		r := server.stream(t, cache, o)
		p, err := upgrade.NewPlan(t.Context(), disk, r, s.machine, upgrade.PlanOptions{Delta: delta})
		require.NoError(t, err)
		require.Zero(t, disk.bytes.Load())
		require.NoError(t, p.Apply(t.Context(), nil))
		require.Equal(t, "2", s.on(disk.Disk).boot().Version)

		cached := int64(0)
		require.NoError(t, filepath.WalkDir(cache, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				var info fs.FileInfo
				info, err = d.Info()
				cached += info.Size()
			}
			return err
		}))
		size, uki := server.artifact.Size(), r.UKI.Size()
		written := disk.bytes.Load() + cached
		t.Logf("delta %v: release of %d bytes; %d written to the disk, %d to the cache: %.3f; fetched: %v", delta, size, disk.bytes.Load(), cached, float64(written)/float64(size), server.served)
		require.LessOrEqual(t, float64(written), 1.05*float64(size))

		i := slices.IndexFunc(p.Steps, func(s upgrade.Step) bool { return s.Kind == upgrade.StepStageUKI })
		if !delta {
			require.LessOrEqual(t, server.served[release.MediaTypeUKI], 2*uki+1<<20)
			require.Zero(t, p.Steps[i].Fetched)
			continue
		}
		require.Equal(t, p.Steps[i].Fetched, r.UKIPatch.Fetched)
		require.Less(t, r.UKIPatch.Fetched, uki*6/10)
		require.LessOrEqual(t, server.served[release.MediaTypeUKI], 2*r.UKIPatch.Fetched+1<<20)
		require.Contains(t, p.String(), "from the release)")
		require.Less(t, server.served[release.MediaTypeRoot], int64(4<<20))
	}
}

// A plan of a release whose digests were taken when it was pulled or streamed reads headers and
// small sections of the UKI, and is the same plan.
func TestPlanReusesDigests(t *testing.T) {
	s, set := largeSystem(t, 5<<20, 8<<20)
	server := serve(t, set.Release())
	plan := func(r *release.Release) (string, int64) {
		t.Helper()
		own := *r
		counted := &countedSource{Source: r.UKI}
		own.UKI = counted
		p, err := upgrade.NewPlan(t.Context(), s.disk, &own, s.machine, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
		require.NoError(t, err)
		require.NoError(t, p.Refused(), "%s", p)
		b, err := json.Marshal(p)
		require.NoError(t, err)
		return string(b), counted.bytes.Load()
	}
	want, all := plan(set.Release())
	require.GreaterOrEqual(t, all, set.UKI.Size())

	streamed := server.stream(t, t.TempDir(), release.PullOptions{Hashes: s.machine.UKIHashes()})
	dir := t.TempDir()
	require.NoError(t, release.Pull(t.Context(), server, server.artifact, dir, release.PullOptions{}))
	pulled, err := release.Open(t.Context(), os.DirFS(dir), server.artifact.Descriptor)
	require.NoError(t, err)
	defer pulled.Close()
	for name, r := range map[string]*release.Release{"streamed": streamed, "pulled": pulled} {
		got, n := plan(r)
		require.JSONEq(t, want, got, name)
		require.Less(t, n, int64(1<<20), name)
		t.Logf("%s: %d of %d bytes of the UKI", name, n, r.UKI.Size())
	}

	// A digest that was not taken is no digest: the UKI is read for it, unless the machine has said
	// that it would be needed.
	banks, unknown := s.machine, s.machine
	banks.Banks = []crypto.Hash{crypto.SHA256, crypto.SHA384}
	unknown.Firmware = nil
	for name, m := range map[string]upgrade.Machine{"another bank": banks, "firmware that is not known": unknown} {
		want, err := upgrade.NewPlan(t.Context(), s.disk, set.Release(), m, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
		require.NoError(t, err)
		enough := server.stream(t, t.TempDir(), release.PullOptions{Hashes: m.UKIHashes()})
		for _, r := range []*release.Release{pulled, enough} {
			own := *r
			counted := &countedSource{Source: r.UKI}
			own.UKI = counted
			got, err := upgrade.NewPlan(t.Context(), s.disk, &own, m, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
			require.NoError(t, err)
			require.Equal(t, want.String(), got.String(), name)
			require.Equal(t, want.Predicted, got.Predicted, name)
			require.Equal(t, r == pulled, counted.bytes.Load() >= own.UKI.Size(), name)
		}
	}
}

// Digests decide about the bytes that they were taken of, and about no others: another UKI beside
// them is refused when it is read at the latest, and that is before it is used.
func TestDigestsOfAnotherUKI(t *testing.T) {
	s, set := largeSystem(t, 5<<20, 8<<20)
	own := contentOf(t, set.UKI)
	digests, err := release.HashUKI(t.Context(), source(own))
	require.NoError(t, err)
	for name, change := range map[string]func(b []byte) []byte{
		"headers":       func(b []byte) []byte { b[200] ^= 1; return b },
		"in the middle": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"the signature": func(b []byte) []byte { b[len(b)-100] ^= 1; return b },
		"cut":           func(b []byte) []byte { return b[:len(b)-8] },
		"more":          func(b []byte) []byte { return append(b, make([]byte, 8)...) },
		"another one":   func(b []byte) []byte { return contentOf(t, s.build("3").UKI) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := s.disk.Clone()
			r := set.Release()
			r.UKI, r.UKIDigests = source(change(bytes.Clone(own))), digests
			p, err := upgrade.NewPlan(t.Context(), disk, r, s.machine, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
			if err == nil {
				require.Contains(t, []string{"in the middle", "the signature"}, name)
				err = p.Apply(t.Context(), nil)
			}
			var changed *upgrade.ChangedError
			require.ErrorAs(t, err, &changed)
			require.Equal(t, "the release", changed.What)
			require.Equal(t, "1", s.on(disk).boot().Version)
		})
	}
}

// A server that changes its mind about the UKI between the reading by which it was judged and the
// copy is found out, and no byte that was not judged gets to the disk; then the upgrade goes on
// from what there is.
func TestStreamOfChangedUKI(t *testing.T) {
	s, set := largeSystem(t, 5<<20, 8<<20)
	server := serve(t, set.Release())
	mark := []byte("this was never judged")
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   func(t *testing.T, err error)
	}{
		"other bytes": {func(b []byte) []byte {
			b = bytes.Clone(b)
			copy(b[len(b)/3:], mark)
			return b
		}, func(t *testing.T, err error) {
			var changed *upgrade.ChangedError
			require.ErrorAs(t, err, &changed)
			require.ErrorAs(t, err, new(*release.ChangedUKIError))
		}},
		"the first byte": {func(b []byte) []byte {
			b = bytes.Clone(b)
			copy(b, mark)
			return b
		}, func(t *testing.T, err error) { require.ErrorAs(t, err, new(*upgrade.ChangedError)) }},
		"it ends early": {func(b []byte) []byte { return b[:len(b)/2] }, func(t *testing.T, err error) { require.ErrorIs(t, err, io.ErrUnexpectedEOF) }},
	} {
		t.Run(name, func(t *testing.T) {
			disk := s.disk.Clone()
			r := server.stream(t, t.TempDir(), release.PullOptions{})
			p, err := upgrade.NewPlan(t.Context(), disk, r, s.machine, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
			require.NoError(t, err)
			server.change = c.change
			err = p.Apply(t.Context(), nil)
			server.change = nil
			require.Error(t, err)
			c.want(t, err)
			require.False(t, bytes.Contains(contentOf(t, disk), mark))
			left := s.on(disk)
			require.Equal(t, "1", left.boot().Version)

			r = server.stream(t, t.TempDir(), release.PullOptions{})
			p, err = upgrade.NewPlan(t.Context(), disk, r, s.machine, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
			require.NoError(t, err)
			require.NoError(t, p.Apply(t.Context(), nil))
			require.Equal(t, "2", left.boot().Version)
		})
	}

	// A server that is too slow is left by the context, and what it has sent counts for the next
	// plan.
	ctx, cancel := context.WithCancel(t.Context())
	disk := s.disk.Clone()
	r, err := release.Stream(ctx, server, server.artifact, t.TempDir(), release.PullOptions{})
	require.NoError(t, err)
	defer r.Close()
	p, err := upgrade.NewPlan(ctx, disk, r, s.machine, upgrade.PlanOptions{TrustFallbackWithoutReadingIt: true})
	require.NoError(t, err)
	i := slices.IndexFunc(p.Steps, func(s upgrade.Step) bool { return s.Kind == upgrade.StepStageUKI })
	require.ErrorIs(t, p.Apply(ctx, func(step int, _, _ int64) {
		if step == i {
			cancel()
		}
	}), context.Canceled)
	require.Equal(t, "1", s.on(disk).boot().Version)
	server.served = map[string]int64{}
	r = server.stream(t, t.TempDir(), release.PullOptions{})
	p, err = upgrade.NewPlan(t.Context(), disk, r, s.machine, upgrade.PlanOptions{Delta: true, TrustFallbackWithoutReadingIt: true})
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Less(t, server.served[release.MediaTypeRoot], int64(1<<20))
	require.Equal(t, "2", s.on(disk).boot().Version)
}

// A release is streamed into slot and ESP: what is fetched is what the running set lacks, and
// nothing of it takes room elsewhere. The second time, nothing is to be done.
func TestStream(t *testing.T) {
	s, set := deltaSystem(t)
	server, to := serve(t, set.Release()), t.TempDir()
	r := server.stream(t, to, release.PullOptions{})
	require.Zero(t, server.served[release.MediaTypeRoot])
	p := s.planOf(r, upgrade.PlanOptions{Delta: true})
	require.NoError(t, p.Apply(t.Context(), nil))
	require.Equal(t, "3", s.boot().Version)
	require.Less(t, server.served[release.MediaTypeRoot], int64(600<<10))
	for _, l := range server.artifact.Layers {
		_, err := os.Stat(filepath.Join(to, "blobs", "sha256", l.Digest.Encoded()))
		stays := l.MediaType == release.MediaTypeRoot || l.MediaType == release.MediaTypeUKI
		require.Equal(t, stays, errors.Is(err, os.ErrNotExist), l.MediaType)
	}
	s.bootAndRun()
	require.True(t, s.planOf(r, upgrade.PlanOptions{Delta: true}).Installed)
}

// The UKI of what runs can be opened by its entry, and a set that is gone cannot.
func TestOpenUKI(t *testing.T) {
	s := newSystem(t, "")
	set := s.build("1")
	s.bootAndRun()
	state, err := upgrade.Inspect(s.disk, s.machine)
	require.NoError(t, err)
	src, err := state.OpenUKI(state.Running)
	require.NoError(t, err)
	require.Equal(t, contentOf(t, set.UKI), contentOf(t, src))
	gone := *state.Running
	entry := *gone.Entry
	entry.Path, entry.Loader = "EFI/Linux/gone.efi", "EFI/Linux/gone.efi"
	gone.Entry = &entry
	_, err = state.OpenUKI(&gone)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.True(t, strings.HasPrefix(err.Error(), "upgrade: "), err)
}
