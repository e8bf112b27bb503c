package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a link in the layout leads to outside of it is not served.
func TestServeLinks(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), []byte("{}"), 0o600))
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, dir) }()
	for name, want := range map[string]bool{"index.json": true, "link": false} {
		response, err := http.Get("http://" + listener.Addr().String() + "/" + name)
		require.NoError(t, err)
		b, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode == http.StatusOK, name)
		require.NotContains(t, string(b), "secret")
	}
	stop()
	require.NoError(t, <-ended)
}

// An address is printed without name and password.
func TestShownPlace(t *testing.T) {
	for in, want := range map[string]string{
		"https://reader:s3cret@updates.example/acme/": "https://updates.example/acme/",
		"http://s3cret@updates.example":               "http://updates.example",
		"https://updates.example/a@b":                 "https://updates.example/a@b",
		"layout@2":                                    "layout@2",
	} {
		require.Equal(t, want, shownPlace(in))
	}
}
