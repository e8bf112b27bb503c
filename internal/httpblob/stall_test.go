package httpblob

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
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

// A byte now and then, or for each connection, is not progress: it would take a server of four
// gigabytes years to end.
func TestDrip(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10000")
		for i := range content {
			if _, err := w.Write(content[i : i+1]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}))
	t.Cleanup(server.Close)
	c, log := client(2)
	c.Stall = 100 * time.Millisecond
	_, err := c.Get(t.Context(), server.URL, 10000)
	require.ErrorIs(t, err, ErrSlow)
	require.Len(t, *log, 1)

	var requests atomic.Int64
	url, _ := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		requests.Add(1)
		http.ServeContent(&cutWriter{ResponseWriter: w, left: 1}, r, "", time.Time{}, bytes.NewReader(content))
		return true
	})
	c, _ = client(3)
	_, err = read(t, c, url, 0, 10000)
	require.ErrorContains(t, err, "of 10000 bytes")
	require.EqualValues(t, 3, requests.Load())

	// Headers without end are an error of the client, of the type that it was given, and not asked
	// for again.
	requests.Store(0)
	url, _ = serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		requests.Add(1)
		for i := range 200000 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("a", 100))
		}
		return true
	})
	c, _ = client(2)
	_, err = c.Get(t.Context(), url, 10000)
	require.ErrorContains(t, err, "header")
	c.TooLarge = errTooLarge
	_, err = c.Get(t.Context(), url, 10000)
	require.ErrorIs(t, err, errTooLarge)
	require.EqualValues(t, 2, requests.Load())
	url, _ = serve(t, nil)
	_, err = c.Get(t.Context(), url, 9999)
	require.ErrorIs(t, err, errTooLarge)
}
