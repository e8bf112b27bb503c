package verity

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// httpRanges is what it takes to have HTTP behind Patch: a read is a range request.
type httpRanges struct {
	ctx    context.Context
	client *http.Client
	url    string

	requests, bytes atomic.Int64
}

func (h *httpRanges) ReadAt(b []byte, off int64) (int, error) {
	h.requests.Add(1)
	h.bytes.Add(int64(len(b)))
	request, err := http.NewRequestWithContext(h.ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(b))-1))
	response, err := h.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusPartialContent {
		return 0, fmt.Errorf("%s: %s, want a partial content", h.url, response.Status)
	}
	return io.ReadFull(response.Body, b)
}

func TestPatchHTTP(t *testing.T) {
	ctx := context.Background()
	// 600 blocks; 40 are new in runs of 4, each 11 blocks behind the one before.
	old := numbered{600}
	to := newMemory(600 * 4096)
	_, err := old.ReadAt(to, 0)
	require.NoError(t, err)
	for run := range 10 {
		for n := range 4 {
			copy(to[(100+run*15+n)*4096:], bytes.Repeat([]byte{byte(run*4 + n + 1)}, 4096))
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "new.img"), to, 0o600))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()

	oldTree, oldRoot := formatMemory(t, old, testParams)
	tree := treeOf(t, to, testParams)
	d, err := Diff(ctx, Tree{Source: oldTree, RootHash: oldRoot}, tree, DiffOptions{})
	require.NoError(t, err)
	require.Equal(t, int64(40), d.Total(OriginFetch))
	for _, c := range []struct {
		o        PatchOptions
		requests int64
		blocks   int64
	}{
		{PatchOptions{}, 10, 40},
		{PatchOptions{MaxRequest: 3 * 4096}, 20, 40},
		{PatchOptions{MaxGap: 64 << 10}, 1, 139},
		{PatchOptions{MaxGap: 64 << 10, MaxRequest: 20 * 4096}, 5, 95},
	} {
		remote := &httpRanges{ctx: ctx, client: server.Client(), url: server.URL + "/new.img"}
		dst := newMemory(to.Size())
		got, err := Patch(ctx, dst, old, remote, tree, d, c.o)
		require.NoError(t, err)
		require.True(t, bytes.Equal(to, dst))
		assert.Equal(t, &PatchResult{
			Copied: 560, Fetched: 40, Requests: c.requests, RequestedBytes: c.blocks * 4096,
		}, got, "%+v", c.o)
		assert.Equal(t, c.requests, remote.requests.Load())
		assert.Equal(t, c.blocks*4096, remote.bytes.Load())
	}

	missing := &httpRanges{ctx: ctx, client: server.Client(), url: server.URL + "/none.img"}
	_, err = Patch(ctx, newMemory(to.Size()), old, missing, tree, d, PatchOptions{})
	assert.ErrorContains(t, err, "404 Not Found, want a partial content")
}
