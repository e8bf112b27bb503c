package compare

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// releasePull fetches a release of 1.2 GB from a file server on this machine, checks it against its
// digests and syncs it; the reference fetches the same files.
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

// cosignVerify is the program verify with a release on a file server, and cosign with the same on a
// registry, signed by one key in one format; each time with the start of a process.
func cosignVerify(format cosign.Format, root func(testing.TB) testtools.Root) func(b *testing.B) sides {
	return func(b *testing.B) sides {
		r := root(b)
		dir, layout := b.TempDir(), b.TempDir()
		d, err := release.Pack(layout, "2", &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki")})
		require.NoError(b, err)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(b, err)
		store, err := cosign.OpenDir(layout)
		require.NoError(b, err)
		require.NoError(b, cosign.Sign(context.Background(), store, d, key, cosign.SignOptions{Formats: []cosign.Format{format}}))
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		require.NoError(b, err)
		require.NoError(b, os.WriteFile(filepath.Join(dir, "key.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
		program := filepath.Join(dir, "verify")
		out, err := exec.Command("go", "build", "-o", program, "github.com/osmith-dev/osmith/hack/compare/verify").CombinedOutput()
		require.NoError(b, err, string(out))

		files := httptest.NewServer(http.FileServer(http.Dir(layout)))
		b.Cleanup(files.Close)
		registry := httptest.NewServer(registryOf(layout))
		b.Cleanup(registry.Close)
		image := strings.TrimPrefix(registry.URL, "http://") + "/acme@" + d.Digest.String()
		var peak string
		return sides{
			ours: func() error {
				cmd := exec.Command(program, files.URL, "2", filepath.Join(dir, "key.pub"))
				out, err := cmd.CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				peak = childPeak(cmd.ProcessState)
				return nil
			},
			peak:      func() string { return peak },
			reference: inTree(b, r, dir, "cosign", "verify", "--key", "key.pub", "--insecure-ignore-tlog=true", image),
		}
	}
}

// registryOf serves a layout by the OCI distribution protocol, as far as verifying needs it.
func registryOf(layout string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, name := path.Base(path.Dir(r.URL.Path)), path.Base(r.URL.Path)
		var index ocispec.Index
		b, err := os.ReadFile(filepath.Join(layout, "index.json"))
		if err == nil {
			err = json.Unmarshal(b, &index)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		switch kind {
		case "referrers":
			found := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
			found.SchemaVersion = 2
			for _, m := range index.Manifests {
				if m.Annotations["dev.osmith.subject"] == name {
					found.Manifests = append(found.Manifests, m)
				}
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_ = json.NewEncoder(w).Encode(found) // to a client that may be gone
			return
		case "manifests":
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			for _, m := range index.Manifests {
				if m.Annotations[ocispec.AnnotationRefName] == name {
					name = m.Digest.String()
				}
			}
			w.Header().Set("Docker-Content-Digest", name)
		}
		if strings.HasSuffix(r.URL.Path, "/v2/") {
			return
		}
		http.ServeFile(w, r, filepath.Join(layout, "blobs", "sha256", strings.TrimPrefix(name, "sha256:")))
	})
}
