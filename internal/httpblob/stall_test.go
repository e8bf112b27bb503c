package httpblob

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A server that falls silent is left, and asked for the rest.
func TestStall(t *testing.T) {
	silent := make(chan struct{})
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) {
		case 1: // no answer at all
		case 2: // and half of one
			w.Header().Set("Content-Length", "10000")
			_, _ = w.Write(content[:5000])
			_ = http.NewResponseController(w).Flush()
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
			return
		}
		select {
		case <-silent:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(silent) }) // before the server waits for its requests
	url := server.URL
	c, log := client(3)
	c.Stall = 200 * time.Millisecond
	b, err := read(t, c, url, 0, 10000)
	require.NoError(t, err)
	require.Equal(t, content, b)
	require.EqualValues(t, 3, requests.Load())
	require.Len(t, *log, 2)
	for _, line := range *log {
		require.Contains(t, line, ErrStalled.Error())
	}

	requests.Store(0)
	c, _ = client(1)
	c.Stall = 50 * time.Millisecond
	_, err = c.Get(t.Context(), url, 10000)
	require.ErrorIs(t, err, ErrStalled)
}
