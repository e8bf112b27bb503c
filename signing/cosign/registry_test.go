package cosign_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A registry is as much of the OCI Distribution Specification 1.1 as cosign uses:
// one repository, blobs uploaded in one or several pieces, and referrers.
type registry struct {
	mu        sync.Mutex
	host      string
	blobs     map[string][]byte
	manifests map[string][]byte // by digest
	tags      map[string]string // to digests
}

const repository = "os"

func newRegistry(t testing.TB) *registry {
	r := &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}, tags: map[string]string{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// reference is what cosign calls an artifact of the registry.
func (r *registry) reference(digest string) string {
	return r.host + "/" + repository + "@" + digest
}

func sum(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind, name, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"+repository+"/"), "/")
	switch {
	case req.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
	case !ok:
		http.NotFound(w, req)
	case kind == "manifests":
		r.manifest(w, req, name)
	case kind == "blobs":
		r.blob(w, req, name)
	case kind == "referrers":
		r.referrers(w, name)
	default:
		http.NotFound(w, req)
	}
}

func (r *registry) manifest(w http.ResponseWriter, req *http.Request, name string) {
	if req.Method == http.MethodPut {
		content, _ := io.ReadAll(req.Body)
		digest := r.putManifest(content, name)
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Location", req.URL.Path)
		w.WriteHeader(http.StatusCreated)
		return
	}
	if digest, ok := r.tags[name]; ok {
		name = digest
	}
	content, ok := r.manifests[name]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}`)
		return
	}
	var m ocispec.Manifest
	_ = json.Unmarshal(content, &m)
	w.Header().Set("Content-Type", m.MediaType)
	w.Header().Set("Docker-Content-Digest", name)
	serve(w, req, content)
}

// putManifest stores a manifest, under a tag if the name is one.
func (r *registry) putManifest(content []byte, name string) string {
	digest := sum(content)
	r.manifests[digest] = content
	if !strings.Contains(name, ":") && name != "" {
		r.tags[name] = digest
	}
	return digest
}

func (r *registry) blob(w http.ResponseWriter, req *http.Request, name string) {
	const uploads = "uploads/"
	switch req.Method {
	case http.MethodPost:
		id := fmt.Sprint("upload-", len(r.blobs))
		r.blobs[id] = nil
		w.Header().Set("Location", "/v2/"+repository+"/blobs/"+uploads+id)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch, http.MethodPut:
		id := strings.TrimPrefix(name, uploads)
		content, _ := io.ReadAll(req.Body)
		r.blobs[id] = append(r.blobs[id], content...)
		w.Header().Set("Location", req.URL.Path)
		if req.Method == http.MethodPatch {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		r.blobs[sum(r.blobs[id])] = r.blobs[id]
		w.WriteHeader(http.StatusCreated)
	default:
		content, ok := r.blobs[name]
		if !ok {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		serve(w, req, content)
	}
}

func (r *registry) referrers(w http.ResponseWriter, subject string) {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	for name, content := range r.manifests {
		var m ocispec.Manifest
		if json.Unmarshal(content, &m) == nil && m.Subject != nil && string(m.Subject.Digest) == subject {
			index.Manifests = append(index.Manifests, ocispec.Descriptor{
				MediaType: m.MediaType, Digest: digest.Digest(name), Size: int64(len(content)), ArtifactType: m.ArtifactType,
			})
		}
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(index)
}

func serve(w http.ResponseWriter, req *http.Request, content []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if req.Method != http.MethodHead {
		_, _ = w.Write(content)
	}
}
