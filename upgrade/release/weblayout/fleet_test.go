package weblayout_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
	"github.com/osmith-dev/osmith/verity"
)

// direct hands requests to a handler without a network in between, and counts.
type direct struct {
	handler         http.Handler
	requests, bytes atomic.Int64
}

func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	d.requests.Add(1)
	w := &answer{header: http.Header{}, status: http.StatusOK}
	d.handler.ServeHTTP(w, r)
	d.bytes.Add(int64(w.body.Len()))
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r}, nil
}

type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// memory is an image or a partition.
type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(b, m[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }

// version is a root image and its tree.
type version struct {
	root, tree memory
	hash       []byte
}

func newVersion(t testing.TB, root memory) version {
	t.Helper()
	size, err := verity.TreeSize(root.Size(), verity.Params{})
	require.NoError(t, err)
	v := version{root: root, tree: make(memory, size)}
	v.hash, err = verity.Format(t.Context(), v.tree, root, verity.Params{})
	require.NoError(t, err)
	return v
}

// fleet is a file server with version 2, and what a machine with version 1 has.
type fleet struct {
	server *direct
	from   version
	to     version
	src    *weblayout.Layout
	rel    *release.Artifact
}

// newFleet makes an upgrade that changes the given share of the root's files, each of 16 blocks, at
// their places, and moves the rest behind a new file near the start, as an image builder does.
func newFleet(t testing.TB, blocks int, changed float64) *fleet {
	t.Helper()
	const file = 16 * 4096
	random := rand.NewChaCha8([32]byte{1})
	old := make(memory, blocks*4096)
	_, _ = random.Read(old)
	next := append(memory(nil), old[:file]...)
	added := make([]byte, file)
	_, _ = random.Read(added)
	next = append(append(next, added...), old[file:len(old)-file]...)
	pick := rand.New(random)
	for off := 0; off < len(next); off += file {
		if pick.Float64() < changed {
			_, _ = random.Read(next[off : off+file])
		}
	}
	f := &fleet{from: newVersion(t, old), to: newVersion(t, next)}
	dir := t.TempDir()
	d, err := release.Pack(dir, "v2", &release.Release{ID: "acme", Version: "2", UKI: bytes.NewReader(make([]byte, 64<<10)),
		Root: f.to.root, Tree: f.to.tree, RootHash: f.to.hash})
	require.NoError(t, err)
	f.server = &direct{handler: http.FileServer(http.Dir(dir))}
	f.src, err = weblayout.Open("http://updates.example", weblayout.OpenOptions{Client: &http.Client{Transport: f.server}, Attempts: 1})
	require.NoError(t, err)
	f.rel, err = release.Read(t.Context(), f.src, d)
	require.NoError(t, err)
	return f
}

// blob reads a whole layer.
func (f *fleet) blob(ctx context.Context, mediaType string) (memory, error) {
	d, _ := f.rel.Layer(mediaType)
	r, err := f.src.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// whole is a machine that fetches everything.
func (f *fleet) whole(ctx context.Context) (memory, error) {
	for _, l := range []string{release.MediaTypeUKI, release.MediaTypeTree} {
		if _, err := f.blob(ctx, l); err != nil {
			return nil, err
		}
	}
	return f.blob(ctx, release.MediaTypeRoot)
}

// patch is a machine that fetches the tree, and of the root what it does not have.
func (f *fleet) patch(ctx context.Context) (memory, error) {
	if _, err := f.blob(ctx, release.MediaTypeUKI); err != nil {
		return nil, err
	}
	tree, err := f.blob(ctx, release.MediaTypeTree)
	if err != nil {
		return nil, err
	}
	have := verity.Tree{Source: f.from.tree, RootHash: f.from.hash}
	want := verity.Tree{Source: tree, RootHash: f.rel.RootHash}
	delta, err := verity.Diff(ctx, have, want, verity.DiffOptions{})
	if err != nil {
		return nil, err
	}
	d, _ := f.rel.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(ctx, f.src, d)
	if err != nil {
		return nil, err
	}
	slot := make(memory, d.Size)
	_, err = verity.Patch(ctx, slot, f.from.root, remote, want, delta, verity.PatchOptions{MaxGap: 64 << 10})
	return slot, err
}

// run sends machines through the upgrade and returns what one of them cost.
func (f *fleet) run(t testing.TB, machines int, upgrade func(context.Context) (memory, error)) (requests, bytes float64) {
	t.Helper()
	r0, b0 := f.server.requests.Load(), f.server.bytes.Load()
	for range machines {
		slot, err := upgrade(t.Context())
		require.NoError(t, err)
		require.True(t, string(slot) == string(f.to.root))
	}
	n := float64(machines)
	return float64(f.server.requests.Load()-r0) / n, float64(f.server.bytes.Load()-b0) / n
}

// A fleet that patches costs its server a fraction of the bytes, for a few requests more.
func TestFleet(t *testing.T) {
	f := newFleet(t, 1024, 0.03)
	_, all := f.run(t, 2, f.whole)
	requests, some := f.run(t, 2, f.patch)
	require.Less(t, some, all/4)
	require.Less(t, requests, 60.0)
	t.Logf("whole %.0f bytes, patched %.0f bytes in %.0f requests", all, some, requests)
}

// BenchmarkFleet is 1,000 machines that take one upgrade of a 16 MiB root from one file server,
// whole and by its tree. An operation is the upgrade of all of them.
func BenchmarkFleet(b *testing.B) {
	for _, changed := range []float64{0.01, 0.03, 0.10} {
		f := newFleet(b, 4096, changed)
		for _, way := range []struct {
			name    string
			upgrade func(context.Context) (memory, error)
		}{{"whole", f.whole}, {"patch", f.patch}} {
			b.Run(fmt.Sprintf("changed=%.0f%%/%s", changed*100, way.name), func(b *testing.B) {
				for b.Loop() {
					requests, bytes := f.run(b, 1000, way.upgrade)
					b.ReportMetric(requests, "requests/machine")
					b.ReportMetric(bytes/1e6, "MB/machine")
					b.ReportMetric(bytes*1000/1e9, "GB/fleet")
				}
			})
		}
	}
}
