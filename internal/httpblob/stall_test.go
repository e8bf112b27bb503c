package httpblob

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A server that falls silent is left, and asked for the rest.
func TestStall(t *testing.T) {
	silent := make(chan struct{})
	url, requests := serve(t, func(n int, w http.ResponseWriter, r *http.Request) bool {
		switch n {
		case 1: // no answer at all
		case 2: // and half of one
			w.Header().Set("Content-Length", "10000")
			_, _ = w.Write(content[:5000])
			_ = http.NewResponseController(w).Flush()
		default:
			return false
		}
		select {
		case <-silent:
		case <-r.Context().Done():
		}
		return true
	})
	t.Cleanup(func() { close(silent) }) // before the server waits for its requests
	c, log := client(3)
	c.Stall = 200 * time.Millisecond
	b, err := read(t, c, url, 0, 10000)
	require.NoError(t, err)
	require.Equal(t, content, b)
	require.Equal(t, 3, *requests)
	require.Len(t, *log, 2)
	for _, line := range *log {
		require.Contains(t, line, ErrStalled.Error())
	}

	*requests = 0
	c, _ = client(1)
	c.Stall = 50 * time.Millisecond
	_, err = c.Get(t.Context(), url, 10000)
	require.ErrorIs(t, err, ErrStalled)
}
