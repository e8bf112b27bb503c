package httpblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	errNoRanges = errors.New("no ranges")
	errTooLarge = errors.New("too large")
)

var content = bytes.Repeat([]byte("0123456789"), 1000)

// serve answers with f until it returns false, and with the file after that.
func serve(t *testing.T, f func(n int, w http.ResponseWriter, r *http.Request) bool) (string, *int) {
	t.Helper()
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if f == nil || !f(n, w, r) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, &n
}

func client(attempts int) (Client, *[]string) {
	var log []string
	return Client{Do: http.DefaultClient, NoRanges: errNoRanges, Retry: Retry{Attempts: attempts,
		Wait:   func(int) time.Duration { return 0 },
		Notify: func(n int, _ time.Duration, err error) { log = append(log, fmt.Sprintf("%d: %v", n, err)) },
	}}, &log
}

func read(t *testing.T, c Client, url string, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := c.Open(t.Context(), url, off, n, int64(len(content)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestRanges(t *testing.T) {
	url, _ := serve(t, nil)
	c, _ := client(1)
	for _, x := range [][2]int64{{0, 10000}, {0, 0}, {0, 1}, {9999, 1}, {10000, 0}, {5, 9000}} {
		b, err := read(t, c, url, x[0], x[1])
		require.NoError(t, err)
		require.Equal(t, content[x[0]:x[0]+x[1]], append([]byte{}, b...))
	}
	for _, x := range [][2]int64{{-1, 1}, {0, -1}, {0, 10001}, {10000, 1}} {
		_, err := read(t, c, url, x[0], x[1])
		require.Error(t, err)
	}
}

// A transfer that breaks every 3000 bytes gets there, one range after the other.
func TestResume(t *testing.T) {
	var ranges []string
	url, n := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range"))
		http.ServeContent(&cutWriter{ResponseWriter: w, left: 3000}, r, "", time.Time{}, bytes.NewReader(content))
		return true
	})
	c, log := client(2)
	b, err := read(t, c, url, 0, 10000)
	require.NoError(t, err)
	require.Equal(t, content, b)
	require.Equal(t, 4, *n)
	require.Equal(t, []string{"", "bytes=3000-9999", "bytes=6000-9999", "bytes=9000-9999"}, ranges)
	require.Len(t, *log, 3)
	require.Contains(t, (*log)[0], "after 3000 of 10000 bytes")
}

// cutWriter breaks the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(b []byte) (int, error) {
	if len(b) > c.left {
		b = b[:c.left]
		if _, err := c.ResponseWriter.Write(b); err != nil {
			return 0, err
		}
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func TestRetries(t *testing.T) {
	status := func(codes ...int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n <= len(codes) {
				w.WriteHeader(codes[n-1])
			}
			return n <= len(codes)
		}
	}
	url, n := serve(t, status(503, 429, 500))
	c, log := client(4)
	_, err := read(t, c, url, 0, 10)
	require.NoError(t, err)
	require.Equal(t, 4, *n)
	require.Len(t, *log, 3)

	url, n = serve(t, status(503, 503, 503))
	c, _ = client(3)
	_, err = read(t, c, url, 0, 10)
	require.ErrorContains(t, err, "503 Service Unavailable")
	require.Equal(t, 3, *n)

	for _, code := range []int{404, 401, 416, 206} {
		url, n = serve(t, status(code))
		_, err = read(t, c, url, 0, 10)
		require.Error(t, err)
		require.Equal(t, code == 404, errors.Is(err, fs.ErrNotExist))
		require.Equal(t, 1, *n, "%d does not pass by itself", code)
	}
}

// A server with another idea of the file is not believed, and not asked again.
func TestLies(t *testing.T) {
	for message, answer := range map[string]func(w http.ResponseWriter){
		"no ranges":                     func(w http.ResponseWriter) { _, _ = w.Write(content) },
		"bytes 1 to 10 of 10000, asked": func(w http.ResponseWriter) { partial(w, "bytes 1-10/10000", 10) },
		"bytes 0 to 9 of 20000, asked":  func(w http.ResponseWriter) { partial(w, "bytes 0-9/20000", 10) },
		`Content-Range "" is not`:       func(w http.ResponseWriter) { partial(w, "", 10) },
		`Content-Range "bytes 0-9"`:     func(w http.ResponseWriter) { partial(w, "bytes 0-9", 10) },
		`"bytes 9-0/10000" is not`:      func(w http.ResponseWriter) { partial(w, "bytes 9-0/10000", 10) },
		`"bytes 0-9/9" is not`:          func(w http.ResponseWriter) { partial(w, "bytes 0-9/9", 10) },
		"more than the":                 func(w http.ResponseWriter) { partial(w, "bytes 0-9/10000", 11) },
	} {
		url, n := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool { answer(w); return true })
		c, _ := client(3)
		_, err := read(t, c, url, 0, 10)
		require.ErrorContains(t, err, message)
		require.Equal(t, 1, *n)
	}
	url, _ := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "9999")
		_, _ = w.Write(content[1:])
		return true
	})
	c, _ := client(3)
	_, err := read(t, c, url, 0, 10000)
	require.ErrorContains(t, err, "9999 bytes, want 10000")
	// "*" is an answer, too.
	url, _ = serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool { partial(w, "bytes 0-9/*", 10); return true })
	_, err = read(t, c, url, 0, 10)
	require.NoError(t, err)
}

func partial(w http.ResponseWriter, span string, n int) {
	w.Header().Set("Content-Range", span)
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(content[:n])
}

func TestGet(t *testing.T) {
	url, n := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 1 {
			w.WriteHeader(502)
		}
		return n == 1
	})
	c, _ := client(3)
	b, err := c.Get(t.Context(), url, 10000)
	require.NoError(t, err)
	require.Equal(t, content, b)
	b, err = c.Get(t.Context(), url, 9999)
	require.ErrorContains(t, err, "more than 9999 bytes")
	require.Nil(t, b)
	require.Equal(t, 3, *n)
	_, err = c.Get(t.Context(), "://", 1)
	require.ErrorContains(t, err, "missing protocol")
}

// Waiting ends with the context, and a reader that was closed has nothing to say.
func TestCancel(t *testing.T) {
	url, _ := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
	c := Client{Do: http.DefaultClient, Retry: Retry{Wait: func(int) time.Duration { return time.Hour }}}
	ctx, cancel := context.WithCancel(t.Context())
	c.Retry.Notify = func(int, time.Duration, error) { cancel() }
	_, err := c.Open(ctx, url, 0, 1, 10)
	require.ErrorIs(t, err, context.Canceled)

	url, _ = serve(t, nil)
	c, _ = client(1)
	r, err := c.Open(t.Context(), url, 0, 10000, 10000)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)

	for attempt := 1; attempt < 20; attempt++ {
		w := Retry{}.wait(attempt)
		require.Greater(t, w, time.Duration(0))
		require.LessOrEqual(t, w, 40*time.Second)
	}
	_, _, _, err = parseContentRange("bytes 0-" + strings.Repeat("9", 30) + "/*")
	require.Error(t, err)
}
