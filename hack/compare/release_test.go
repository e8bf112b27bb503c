package compare

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// releasePull fetches a release of 1.2 GB from a file server on this machine, holds it against its digests and syncs it; the reference fetches the same files.
func releasePull(b *testing.B) sides {
	_, _, r, _ := machine(b)
	dir := b.TempDir()
	served, pulled := filepath.Join(dir, "served"), filepath.Join(dir, "pulled")
	d, err := release.Pack(served, "2", r)
	require.NoError(b, err)
	server := httptest.NewServer(http.FileServer(http.Dir(served)))
	b.Cleanup(server.Close)
	src, err := weblayout.Open(server.URL, weblayout.OpenOptions{Client: server.Client()})
	require.NoError(b, err)
	artifact, err := release.Read(context.Background(), src, d)
	require.NoError(b, err)
	script := ""
	for _, l := range artifact.Layers {
		script += "curl -sf -o " + filepath.Join(dir, l.Digest.Encoded()) + " " + server.URL + "/blobs/sha256/" + l.Digest.Encoded() + "; "
	}
	return sides{
		ours: func() error {
			if err := os.RemoveAll(pulled); err != nil {
				return err
			}
			return release.Pull(context.Background(), src, artifact, pulled, release.PullOptions{Ref: "2"})
		},
		reference: host(b, "rm -f "+dir+"/????????????????????????????????????????????????????????????????; "+script, "curl"),
	}
}
